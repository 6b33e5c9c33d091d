// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Shell patterns of what to leave out.

use regex::{Regex, RegexSet};

use crate::error::{Error, Result};

/// Names of classes of ASCII characters.
const CLASSES: [&str; 12] = [
    "alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "xdigit",
];

/// Shell patterns of what to leave out: `*`, `?`, `[…]` and `\` as in glob(7), and `**` for any
/// number of directories. They are of characters; a byte of a name that is not UTF-8 is one of them.
/// Named classes such as `[[:digit:]]` are of ASCII.
///
/// A pattern without a slash is compared with names, one with a slash with paths relative to the
/// root; one that ends in a slash is for directories only. Leaving out a directory leaves out what
/// is below it.
#[derive(Debug, Clone, Default)]
pub struct Exclude {
    everything: Patterns,
    directories: Patterns,
}

#[derive(Debug, Clone, Default)]
struct Patterns {
    names: RegexSet,
    paths: RegexSet,
}

impl Exclude {
    /// Compiles patterns.
    pub fn new(patterns: &[String]) -> Result<Self> {
        let (directories, everything): (Vec<&String>, Vec<&String>) =
            patterns.iter().partition(|pattern| pattern.ends_with('/'));
        Ok(Self {
            everything: Patterns::new(&everything)?,
            directories: Patterns::new(&directories)?,
        })
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.everything.is_empty() && self.directories.is_empty()
    }

    /// Whether the file at `path`, relative to the root, is left out.
    pub fn matches(&self, path: &[u8], directory: bool) -> bool {
        let path = String::from_utf8_lossy(path);
        self.everything.match_with(&path) || directory && self.directories.match_with(&path)
    }
}

impl Patterns {
    fn new(patterns: &[&String]) -> Result<Self> {
        let (mut names, mut paths) = (Vec::new(), Vec::new());
        for pattern in patterns {
            let wrong =
                |error| Error::invalid(format!("exclude pattern {pattern:?}: {}", reason(&error)));
            let anchored = pattern.trim_end_matches('/').contains('/');
            let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
            let expression = translate(pattern.trim_matches('/'));
            // Of a set nobody would know which one is wrong.
            Regex::new(&expression).map_err(wrong)?;
            if anchored { &mut paths } else { &mut names }.push(expression);
        }
        let build = |expressions: Vec<String>| {
            RegexSet::new(&expressions)
                .map_err(|error| Error::invalid(format!("exclude patterns: {}", reason(&error))))
        };
        Ok(Self { names: build(names)?, paths: build(paths)? })
    }

    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.paths.is_empty()
    }

    fn match_with(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        self.names.is_match(name) || self.paths.is_match(path)
    }
}

/// What can be wrong with a pattern that was translated.
fn reason(error: &regex::Error) -> &'static str {
    match error {
        regex::Error::CompiledTooBig(_) => "too long",
        _ => "a range in brackets ends before it begins",
    }
}

/// A shell pattern as a regular expression.
fn translate(pattern: &str) -> String {
    let mut expression = String::from("(?s)^");
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let at_start = rest.len() == pattern.len() || expression.ends_with('/');
        let (part, len) = match first {
            '*' if at_start && rest.starts_with("**/") => ("(?:.*/)?".into(), 3),
            '*' if at_start && rest == "**" => (".+".into(), 2),
            '*' => ("[^/]*".into(), rest.len() - rest.trim_start_matches('*').len()),
            '?' => ("[^/]".into(), 1),
            '[' => translate_class(rest).unwrap_or_else(|| (regex::escape("["), 1)),
            _ => {
                // A backslash at the end stands for itself.
                let quoted = rest.strip_prefix('\\').and_then(|rest| rest.chars().next());
                let literal = quoted.unwrap_or(first);
                let quote = if quoted.is_some() { 1 } else { 0 };
                (regex::escape(literal.encode_utf8(&mut [0; 4])), quote + literal.len_utf8())
            }
        };
        expression.push_str(&part);
        rest = &rest[len..];
    }
    expression + "$"
}

/// The class of characters that `text` begins with, and its length; none if it does not end.
fn translate_class(text: &str) -> Option<(String, usize)> {
    let inside = &text[1..];
    let negated = inside.starts_with(['!', '^']);
    let members = if negated { &inside[1..] } else { inside };
    let mut class = String::from(if negated { "[[^" } else { "[[" });
    let mut rest = members;
    loop {
        let first = rest.chars().next()?;
        // A bracket in front is one of the members.
        if first == ']' && rest.len() < members.len() {
            break;
        }
        if let Some(named) = named_class(rest) {
            class.push_str(named);
            rest = &rest[named.len()..];
            continue;
        }
        rest = &rest[first.len_utf8()..];
        push_member(&mut class, first);
        let last = rest.strip_prefix('-').and_then(|rest| rest.chars().next());
        if let Some(last) = last.filter(|last| *last != ']') {
            class.push('-');
            push_member(&mut class, last);
            rest = &rest[1 + last.len_utf8()..];
        }
    }
    // A range, or what is not in a class, may have a slash in it, which no class matches.
    class.push_str("]&&[^/]]");
    Some((class, text.len() - rest.len() + 1))
}

/// The named class that `text` begins with, which is written the same in an expression.
fn named_class(text: &str) -> Option<&str> {
    let end = text.strip_prefix("[:")?.find(":]")?;
    let named = &text[..end + 4];
    CLASSES.contains(&&named[2..end + 2]).then_some(named)
}

fn push_member(class: &mut String, member: char) {
    class.push_str(&regex::escape(member.encode_utf8(&mut [0; 4])));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(pattern: &str, path: &[u8]) -> bool {
        Exclude::new(&[pattern.into()]).unwrap().matches(path, false)
    }

    #[test]
    fn patterns_are_of_characters() {
        for (pattern, path, expected) in [
            ("caf?", "café", true),
            ("caf[é]", "a/café", true),
            ("caf??", "café", false),
            ("caf[!a-e]", "café", true),
            ("caf[^é]", "café", false),
            ("[]a]", "]", true),
            ("[]-a]", "_", true),
            ("[--0]", ".", true),
            ("[--0]", "1", false),
            ("[<–]", "–", true),
            ("[+--]", ",", true),
            ("[[?*\\]", "\\", true),
            ("[[:digit:]_]*", "7a", true),
            ("[[:digit:]_]*", "_a", true),
            ("[[:digit:]_]*", "a", false),
            ("[![:upper:][:space:]]", "E", false),
            ("[![:upper:][:space:]]", "é", true),
            ("[[:none:]]", "n]", true),
            ("top/dir[ -~]a", "top/dir/a", false),
            ("top/dir[!x]a", "top/dir/a", false),
            ("top/dir[!x]a", "top/dirya", true),
            ("[a-]", "-", true),
            ("[", "[", true),
            ("[.+]", "x", false),
            ("{a}", "{a}", true),
            ("a.o", "axo", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("\\é", "é", true),
            ("x\\", "x\\", true),
            ("*.o", "dir/a.o", true),
            ("/*.o", "dir/a.o", false),
            ("./dir/a", "dir/a", true),
            ("./a", "a", true),
            ("./a", "dir/a", false),
            ("dir/*", "dir/a/b", false),
            ("dir/**", "dir/a/b", true),
            ("**/b", "b", true),
            ("**/b", "dir/a/b", true),
            ("dir/**/b", "dir/b", true),
            ("dir/**/b", "dir/a/c/b", true),
            ("dir/**/b", "dir/ab", false),
            ("a?b", "a\nb", true),
        ] {
            assert_eq!(excluded(pattern, path.as_bytes()), expected, "{pattern} {path}");
        }
        assert!(excluded("a?", b"a\xff"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let error = Exclude::new(&["*.o".into(), "[z-a]".into()]).unwrap_err().to_string();
        assert_eq!(error, "exclude pattern \"[z-a]\": a range in brackets ends before it begins");
    }
}
