// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The mount options that do not depend on the file system: those that mount(8) documents for all.

use rustix::mount::MountFlags;

/// Flags of mount(2) by the names that mount(8) has for them: what it sets or clears.
const FLAGS: [(&str, MountFlags, bool); 26] = [
    ("suid", MountFlags::NOSUID, false),
    ("nosuid", MountFlags::NOSUID, true),
    ("dev", MountFlags::NODEV, false),
    ("nodev", MountFlags::NODEV, true),
    ("exec", MountFlags::NOEXEC, false),
    ("noexec", MountFlags::NOEXEC, true),
    ("symfollow", MountFlags::NOSYMFOLLOW, false),
    ("nosymfollow", MountFlags::NOSYMFOLLOW, true),
    ("atime", MountFlags::NOATIME, false),
    ("noatime", MountFlags::NOATIME, true),
    ("diratime", MountFlags::NODIRATIME, false),
    ("nodiratime", MountFlags::NODIRATIME, true),
    ("relatime", MountFlags::RELATIME, true),
    ("norelatime", MountFlags::RELATIME, false),
    ("strictatime", MountFlags::STRICTATIME, true),
    ("nostrictatime", MountFlags::STRICTATIME, false),
    ("lazytime", MountFlags::LAZYTIME, true),
    ("nolazytime", MountFlags::LAZYTIME, false),
    ("iversion", I_VERSION, true),
    ("noiversion", I_VERSION, false),
    ("sync", MountFlags::SYNCHRONOUS, true),
    ("async", MountFlags::SYNCHRONOUS, false),
    ("dirsync", MountFlags::DIRSYNC, true),
    ("silent", MountFlags::SILENT, true),
    ("loud", MountFlags::SILENT, false),
    ("nomand", MountFlags::PERMIT_MANDATORY_FILE_LOCKING, false),
];

/// `MS_I_VERSION`.
const I_VERSION: MountFlags = MountFlags::from_bits_retain(1 << 23);

/// What mount(8) and others who read /etc/fstab mean for themselves.
const FOR_OTHERS: [&str; 11] = [
    "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "defaults",
    "remount",
];

/// The options of SELinux: what labels the files of a mount have, or the whole.
const LABELS: [&str; 4] = ["context", "defcontext", "fscontext", "rootcontext"];

/// The options of a list, which commas divide. A backslash before a comma keeps it, as do quotes
/// around a whole value; both are left where they are.
pub fn split(list: &str) -> Vec<&str> {
    let mut options = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        let (option, behind) = rest.split_at(first_len(rest));
        options.push(option);
        rest = behind.strip_prefix(',').unwrap_or(behind);
    }
    options.retain(|option| !option.is_empty());
    options
}

/// Bytes of the first option of a list.
fn first_len(list: &str) -> usize {
    let mut characters = list.char_indices();
    let mut before = None;
    while let Some((at, character)) = characters.next() {
        match character {
            ',' => return at,
            '\\' => _ = characters.next(),
            '"' if before == Some('=') => {
                let value = &list[at + 1..];
                if let Some(len) = value.find('"')
                    && matches!(value.as_bytes().get(len + 1), None | Some(b','))
                {
                    return at + len + 2;
                }
            }
            _ => {}
        }
        before = Some(character);
    }
    list.len()
}

/// An option without the backslashes, which take the meaning of what is behind them away.
pub fn unescaped(option: &str) -> String {
    let mut characters = option.chars();
    std::iter::from_fn(|| match characters.next() {
        Some('\\') => characters.next(),
        character => character,
    })
    .collect()
}

/// A value without the quotes around it.
pub fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

/// Whether an option of this name gives files a label of SELinux.
pub fn is_label(name: &str) -> bool {
    LABELS.contains(&name)
}

/// The flag of mount(2) that a word sets or, if the second is false, clears.
pub fn flag(word: &str) -> Option<(MountFlags, bool)> {
    FLAGS.iter().find(|(name, ..)| *name == word).map(|(_, flag, set)| (*flag, *set))
}

/// Whether an option, with a value or without, is meant for mount(8) or others who read /etc/fstab.
pub fn is_for_others(option: &str) -> bool {
    if option.starts_with("x-") || option.starts_with("X-") {
        return true;
    }
    match option.split_once('=') {
        // Who may unmount it, as mount(8) notes it down.
        Some((name, _)) => matches!(name, "user" | "comment"),
        None => FOR_OTHERS.contains(&option),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_divide_but_where_they_are_kept() {
        for (list, options) in [
            (r",ro,branch=a\,b\\,,rw,", &["ro", r"branch=a\,b\\", "rw"][..]),
            (r#"context="u:r:t:s0:c1,c2",ro"#, &[r#"context="u:r:t:s0:c1,c2""#, "ro"]),
            (r#"branch="a,b"c,d"#, &[r#"branch="a"#, r#"b"c"#, "d"]),
            (r#"branch=a"b,c",ro"#, &[r#"branch=a"b"#, r#"c""#, "ro"]),
            (r#"a="\"#, &[r#"a="\"#]),
        ] {
            assert_eq!(split(list), options, "{list}");
        }
    }
}
