// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The one error type: every variant says what and where, and what to do where that is not plain; and
//! maps to one errno.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Whatever can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{}: cannot {action}: {}", show_path(path), reason(source))]
    Io {
        /// What was being done, as a verb phrase.
        action: &'static str,
        /// File concerned.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The image contradicts the format.
    #[error("{what} at offset {offset:#x}: expected {expected}, found {found}")]
    Corrupt {
        /// Field or structure.
        what: &'static str,
        /// Image offset in bytes.
        offset: u64,
        /// What the format demands.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The whole-image proof found errors.
    #[error(
        "image is not sound: {first} ({count} error{} in all; fsck.daxfs lists them)",
        if *count == 1 { "" } else { "s" }
    )]
    Unsound {
        /// Number of errors.
        count: u64,
        /// The first of them.
        first: String,
    },
    /// The image needs something that this version does not know.
    #[error("unsupported: {what}")]
    Unsupported {
        /// What is needed.
        what: String,
    },
    /// No such file in the image.
    #[error("no such file or directory: {}", show(path))]
    NotFound {
        /// Path in the image.
        path: Vec<u8>,
    },
    /// A directory was needed.
    #[error("not a directory: {}", show(path))]
    NotDirectory {
        /// Path in the image.
        path: Vec<u8>,
    },
    /// A file was needed and a directory found.
    #[error("is a directory: {}", show(path))]
    IsDirectory {
        /// Path in the image.
        path: Vec<u8>,
    },
    /// A file of another type was needed.
    #[error("not a {wanted}: {}", show(path))]
    WrongType {
        /// The type that was needed.
        wanted: &'static str,
        /// Path in the image.
        path: Vec<u8>,
    },
    /// Too many symbolic links on the way.
    #[error("too many levels of symbolic links: {}", show(path))]
    Loop {
        /// Path in the image.
        path: Vec<u8>,
    },
    /// A name or target is longer than the format can hold.
    #[error("{what} of {length} bytes, at most {limit} are possible: {}", show(path))]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Its bytes.
        length: u64,
        /// The most that fits.
        limit: u64,
        /// Path concerned.
        path: Vec<u8>,
    },
    /// No such branch.
    #[error("no such branch: {name}")]
    NoBranch {
        /// Name asked for.
        name: String,
    },
    /// The image does not fit.
    #[error("{what} needs {needed} bytes, only {available} are available{advice}")]
    NoSpace {
        /// What does not fit.
        what: &'static str,
        /// Bytes needed.
        needed: u64,
        /// Bytes there are.
        available: u64,
        /// What to do, beginning with a semicolon, or empty.
        advice: &'static str,
    },
    /// The table of branches is full.
    #[error(
        "no record is left for another branch; abort or delete branches, or end what still reads \
         old ones"
    )]
    NoRecord,
    /// The output exists.
    #[error("{}: exists; `force` replaces it", show_path(path))]
    Exists {
        /// File concerned.
        path: PathBuf,
    },
    /// A request makes no sense.
    #[error("{what}")]
    Invalid {
        /// What is wrong with it.
        what: String,
    },
    /// Parts of the input could not be taken.
    #[error("{}", InputList(problems))]
    Input {
        /// Every problem found.
        problems: Vec<InputProblem>,
    },
    /// The machine lacks memory or threads that the work needs.
    #[error("{what}{}{advice}", if advice.is_empty() { "" } else { "; " })]
    Backing {
        /// What failed.
        what: String,
        /// What to do about it, or empty.
        advice: String,
        /// The errno that showed it.
        errno: i32,
    },
    /// The caller cancelled the work.
    #[error("interrupted")]
    Interrupted,
    /// The branch is no longer what it was: another was committed, or this one was ended.
    #[error("branch {name} is stale: {why}")]
    Stale {
        /// The branch.
        name: String,
        /// What happened to it.
        why: &'static str,
    },
    /// Somebody else is at work there.
    #[error("branch {name} is busy: {why}")]
    Busy {
        /// The branch.
        name: String,
        /// Who holds it, and what to do.
        why: String,
    },
    /// Nobody else may use the image now, or this process may not.
    #[error("image {name} is busy: {why}")]
    ImageBusy {
        /// The image.
        name: String,
        /// Why, and what to do.
        why: String,
    },
    /// Nothing may be written there now.
    #[error("branch {name} is read-only: {why}")]
    ReadOnly {
        /// The branch.
        name: String,
        /// Why, and what to do.
        why: String,
    },
    /// The name of a branch is taken.
    #[error("branch {name} exists")]
    BranchExists {
        /// The name.
        name: String,
    },
    /// The name is taken.
    #[error("file exists: {}", show(path))]
    FileExists {
        /// Name or path in the image.
        path: Vec<u8>,
    },
    /// A directory with entries cannot go.
    #[error("directory not empty: {}", show(path))]
    NotEmpty {
        /// Name or path in the image.
        path: Vec<u8>,
    },
    /// This is not done to such a file.
    #[error("operation not permitted: {what}: {}", show(path))]
    NotPermitted {
        /// What was asked.
        what: &'static str,
        /// Name or path in the image.
        path: Vec<u8>,
    },
    /// The inode has no such extended attribute.
    #[error("no such attribute: {}: {}", show(name), show(path))]
    NoAttribute {
        /// Name of the attribute.
        name: Vec<u8>,
        /// Name or path in the image.
        path: Vec<u8>,
    },
    /// A file cannot grow so far.
    #[error("file too large: {size} bytes, at most {limit} are possible")]
    FileTooBig {
        /// The size asked for.
        size: u64,
        /// The largest.
        limit: u64,
    },
    /// An inode cannot have more names.
    #[error("too many links: {}", show(path))]
    TooManyLinks {
        /// Name or path in the image.
        path: Vec<u8>,
    },
}

/// One part of a builder's input that could not be taken into the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputProblem {
    /// Path, relative to the root of the tree; of a directory whose entries it is about, with a
    /// slash behind.
    pub path: Vec<u8>,
    /// Why.
    pub reason: String,
}

impl fmt::Display for InputProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", show(&self.path), self.reason)
    }
}

struct InputList<'a>(&'a [InputProblem]);

impl fmt::Display for InputList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

/// The system's words for an error, without the number that Rust puts behind them.
pub fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) if error.raw_os_error().is_some() => text[..end].to_string(),
        _ => text,
    }
}

/// A path's bytes as text on one line: what is not printable is escaped, as Python has it.
pub fn show(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_printable(c) { text.push(c) } else { text.push_str(&escaped(c)) }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// The same in quotation marks, for what may be empty or hold anything.
pub fn quote(name: &[u8]) -> String {
    format!("\"{}\"", show(name))
}

/// A path of the host as text on one line; an empty one as shells write it.
pub fn show_path(path: &Path) -> String {
    if path.as_os_str().is_empty() { "''".into() } else { show(path.as_os_str().as_bytes()) }
}

fn is_printable(c: char) -> bool {
    // The library has no such test, but this: marks count as such behind another character alone.
    matches!(c, ' '..='~') || !c.is_ascii() && format!("a{c}").escape_debug().count() == 2
}

fn escaped(c: char) -> String {
    match u32::from(c) {
        0x09 | 0x0a | 0x0d => c.escape_default().to_string(),
        code @ ..=0xff => format!("\\x{code:02x}"),
        code @ ..=0xffff => format!("\\u{code:04x}"),
        code => format!("\\U{code:08x}"),
    }
}

impl Error {
    /// For `map_err` on system calls: names the action and the file.
    pub fn io<E: Into<std::io::Error>>(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { action, path: path.as_ref().to_owned(), source: source.into() }
    }

    /// The image contradicts the format at `offset`.
    pub fn corrupt(
        what: &'static str,
        offset: u64,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Self {
        Self::Corrupt { what, offset, expected: expected.to_string(), found: found.to_string() }
    }

    /// A request makes no sense.
    pub fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid { what: what.into() }
    }

    /// The system starts no thread.
    pub fn no_thread(error: &std::io::Error) -> Self {
        Self::Backing {
            what: format!("cannot start a thread: {}", reason(error)),
            advice: "raise the limits on processes (ulimit -u, pids.max) and memory (ulimit -v)"
                .into(),
            errno: error.raw_os_error().unwrap_or(Errno::AGAIN.raw_os_error()),
        }
    }

    /// The errno that stands for this error, here and in the kernel.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Io { source, .. } => source.raw_os_error().unwrap_or(Errno::IO.raw_os_error()),
            Self::Backing { errno, .. } => *errno,
            Self::Corrupt { .. } | Self::Unsound { .. } => Errno::UCLEAN.raw_os_error(),
            Self::Unsupported { .. } => Errno::OPNOTSUPP.raw_os_error(),
            Self::NotFound { .. } | Self::NoBranch { .. } => Errno::NOENT.raw_os_error(),
            Self::NotDirectory { .. } => Errno::NOTDIR.raw_os_error(),
            Self::IsDirectory { .. } => Errno::ISDIR.raw_os_error(),
            Self::Loop { .. } => Errno::LOOP.raw_os_error(),
            Self::TooLong { .. } => Errno::NAMETOOLONG.raw_os_error(),
            Self::NoSpace { .. } | Self::NoRecord => Errno::NOSPC.raw_os_error(),
            Self::Exists { .. } => Errno::EXIST.raw_os_error(),
            Self::Invalid { .. } | Self::WrongType { .. } => Errno::INVAL.raw_os_error(),
            Self::Input { .. } => Errno::IO.raw_os_error(),
            Self::Interrupted => Errno::INTR.raw_os_error(),
            Self::Stale { .. } => Errno::STALE.raw_os_error(),
            Self::Busy { .. } | Self::ImageBusy { .. } => Errno::BUSY.raw_os_error(),
            Self::ReadOnly { .. } => Errno::ROFS.raw_os_error(),
            Self::BranchExists { .. } | Self::FileExists { .. } => Errno::EXIST.raw_os_error(),
            Self::NotEmpty { .. } => Errno::NOTEMPTY.raw_os_error(),
            Self::NotPermitted { .. } => Errno::PERM.raw_os_error(),
            Self::NoAttribute { .. } => Errno::NODATA.raw_os_error(),
            Self::FileTooBig { .. } => Errno::FBIG.raw_os_error(),
            Self::TooManyLinks { .. } => Errno::MLINK.raw_os_error(),
        }
    }
}

/// Gives every variant its name: its own, or that of another which means the same to callers.
macro_rules! names {
    ($($variant:ident),* $(,)?; $($other:ident => $same:ident),*) => {
        impl Error {
            /// Name of the variant, for bindings that have a class for each.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => stringify!($variant),)*
                    $(Self::$other { .. } => stringify!($same),)*
                }
            }

            /// Every name that [`Error::name`] can give.
            pub const NAMES: &[&str] = &[$(stringify!($variant)),*];
        }
    };
}

names! {
    Io,
    Corrupt,
    Unsound,
    Unsupported,
    NotFound,
    NotDirectory,
    IsDirectory,
    WrongType,
    Loop,
    TooLong,
    NoBranch,
    NoSpace,
    Exists,
    Invalid,
    Input,
    Backing,
    Interrupted,
    Stale,
    Busy,
    ReadOnly,
    BranchExists,
    FileExists,
    NotEmpty,
    NotPermitted,
    NoAttribute,
    FileTooBig,
    TooManyLinks;
    NoRecord => NoSpace,
    ImageBusy => Busy
}
