// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Log entries in words.

use std::fmt;

use crate::branch::Table;
use crate::delta::{Change, Entry, LogSpace, scan};
use crate::error::{Result, show};
use crate::image::Image;
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

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { offset, len, .. } => write!(f, "{len} bytes at {offset}"),
            Self::Extent { offset, len, image_offset, .. } => {
                write!(f, "{len} bytes at {offset}, in blocks from {image_offset:#x}")
            }
            Self::Punch { offset, len } => write!(f, "{len} bytes at {offset}"),
            Self::Create { parent, mode, name, .. } => {
                write!(f, "{} in {parent}, mode {mode:o}", show(name))
            }
            Self::Mknod { parent, mode, uid, gid, name, target, .. } => {
                write!(f, "{} in {parent}, mode {mode:o}, owner {uid}:{gid}", show(name))?;
                target.as_ref().map_or(Ok(()), |target| write!(f, " -> {}", show(target)))
            }
            Self::Symlink { parent, name, target, .. } => {
                write!(f, "{} in {parent} -> {}", show(name), show(target))
            }
            Self::Delete { parent, name } | Self::Link { parent, name } => {
                write!(f, "{} in {parent}", show(name))
            }
            Self::Truncate { size } => write!(f, "{size} bytes"),
            Self::Rename { old_parent, new_parent, old_name, new_name, .. } => {
                let (old, new) = (show(old_name), show(new_name));
                write!(f, "{old} in {old_parent}, {new} in {new_parent}")
            }
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

/// What a branch's own log holds, oldest entry first: nothing of the branches below it.
pub fn log(image: &Image, branch: &str) -> Result<Vec<Entry>> {
    let table = Table::read(image.region(), image.superblock())?;
    let Some(record) = table.find(branch)? else { return Ok(Vec::new()) };
    let space = LogSpace::of(image.superblock());
    scan(image.region(), &space, record.log, record.log_size).collect()
}
