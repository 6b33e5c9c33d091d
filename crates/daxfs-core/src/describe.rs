// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What log entries do, in words.

use std::fmt;

use crate::delta::Change;
use crate::error::show;
use crate::source::pax::format_time;

impl Change {
    /// Name of the kind, for machines.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Write { .. } => "write",
            Self::Create { .. } => "create",
            Self::Delete { .. } => "delete",
            Self::Truncate { .. } => "truncate",
            Self::Rename { exchange: false, .. } => "rename",
            Self::Rename { exchange: true, .. } => "exchange",
            Self::SetAttr { .. } => "setattr",
            Self::Symlink { .. } => "symlink",
            Self::Mknod { .. } => "mknod",
            Self::Link { .. } => "link",
            Self::Extent { .. } => "extent",
            Self::Punch { .. } => "punch",
            Self::SetXattr { value: Some(_), .. } => "setxattr",
            Self::SetXattr { value: None, .. } => "removexattr",
        }
    }
}

/// What an entry did, but for the names that it concerned.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { offset, len, .. } => write!(f, "{len} bytes at {offset}"),
            Self::Extent { offset, len, image_offset, .. } => {
                write!(f, "{len} bytes at {offset}, in blocks from {image_offset:#x}")
            }
            Self::Punch { offset, len } => write!(f, "{len} bytes at {offset}"),
            Self::Create { mode, .. } => write!(f, "mode {mode:o}"),
            Self::Mknod { mode, uid, gid, target, .. } => {
                write!(f, "mode {mode:o}, owner {uid}:{gid}")?;
                target.as_ref().map_or(Ok(()), |target| write!(f, ", to {}", show(target)))
            }
            Self::Symlink { target, .. } => write!(f, "to {}", show(target)),
            // The paths say it all.
            Self::Delete { .. } | Self::Link { .. } | Self::Rename { .. } => Ok(()),
            Self::Truncate { size } => write!(f, "{size} bytes"),
            Self::SetAttr { mode, uid, gid, size, atime, mtime, .. } => {
                let number = |value: &Option<u32>| value.map(|value| value.to_string());
                let time = |time: &Option<i64>| time.map(format_time);
                let parts = [
                    ("mode", mode.map(|mode| format!("{mode:o}"))),
                    ("uid", number(uid)),
                    ("gid", number(gid)),
                    ("size", size.map(|size| size.to_string())),
                    ("atime", time(atime)),
                    ("mtime", time(mtime)),
                ];
                let parts = parts.into_iter().filter_map(|(name, value)| Some((name, value?)));
                let parts: Vec<_> = parts.map(|(name, value)| format!("{name} {value}")).collect();
                f.write_str(&parts.join(", "))
            }
            Self::SetXattr { name, value } => match value {
                Some(value) => write!(f, "{}={}", show(name), show(value)),
                None => f.write_str(&show(name)),
            },
        }
    }
}
