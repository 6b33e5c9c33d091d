// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel's table of mounts says of a mount, as proc(5) describes it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use daxfs_core::error::{Error, Result};
use daxfs_core::mount_options::flag;
use rustix::fs::{AtFlags, CWD, Statx, StatxAttributes, StatxFlags};
use rustix::mount::MountFlags;

const TABLE: &str = "/proc/self/mountinfo";

/// A mount, as far as mounting it anew must know.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MountInfo {
    /// Type of the file system.
    pub(crate) kind: String,
    /// Flags of mount(2), of which one says when access times change.
    pub(crate) flags: MountFlags,
}

impl MountInfo {
    /// The mount that `path` is in.
    pub(crate) fn of(path: &Path) -> Result<Option<Self>> {
        let found = look(path).map_err(Error::io("look at", path))?;
        let table = std::fs::read(TABLE).map_err(Error::io("read", TABLE))?;
        Ok(find(&String::from_utf8_lossy(&table), found.stx_mnt_id))
    }
}

/// Whether something is mounted on `path` itself.
pub(crate) fn is_point(path: &Path) -> bool {
    look(path).is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// What the kernel knows by itself, and tells everybody: the server may be gone, or for others.
fn look(path: &Path) -> rustix::io::Result<Statx> {
    rustix::fs::statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::empty())
}

/// Major and minor number of a mounted file system.
pub(crate) type Device = (u32, u32);

/// Where the file system of a device is mounted as a whole.
pub(crate) fn points(device: Device) -> Vec<PathBuf> {
    let table = std::fs::read(TABLE).unwrap_or_default();
    let lines = lines(&table).filter(|line| line.device == device && line.root == b"/");
    lines.map(|line| line.point).collect()
}

/// Where something is mounted below the mounts of a device.
pub(crate) fn below(device: Device) -> Vec<PathBuf> {
    find_below(&std::fs::read(TABLE).unwrap_or_default(), device)
}

fn find_below(table: &[u8], device: Device) -> Vec<PathBuf> {
    let tops: HashMap<u64, PathBuf> = lines(table)
        .filter(|line| line.device == device)
        .map(|line| (line.id, line.point))
        .collect();
    // What covers a whole mount is under none of its names.
    let below = |line: &Line<'_>| tops.get(&line.parent).is_some_and(|top| *top != line.point);
    lines(table).filter(below).map(|line| line.point).collect()
}

/// A mount, as a line of the table has it.
struct Line<'a> {
    id: u64,
    parent: u64,
    device: Device,
    root: &'a [u8],
    point: PathBuf,
}

fn lines(table: &[u8]) -> impl Iterator<Item = Line<'_>> {
    table.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let number = |field: &[u8]| str::from_utf8(field).ok()?.parse().ok();
        let (id, parent) = (number(fields.next()?)?, number(fields.next()?)?);
        let (major, minor) = str::from_utf8(fields.next()?).ok()?.split_once(':')?;
        let device = (major.parse().ok()?, minor.parse().ok()?);
        let root = fields.next()?;
        let point = OsString::from_vec(unescape(fields.next()?)).into();
        Some(Line { id, parent, device, root, point })
    })
}

/// Spaces and the like are three octal digits in the table.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let code = (*first == b'\\').then(|| after.get(..3)).flatten();
        let code = code.and_then(|code| u8::from_str_radix(str::from_utf8(code).ok()?, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    bytes
}

fn find(table: &str, id: u64) -> Option<MountInfo> {
    let line = table.lines().find(|line| line.split(' ').next() == Some(&id.to_string()))?;
    // id parent device root mountpoint options optional... - type source options
    let (mount, file_system) = line.split_once(" - ")?;
    let options = mount.split(' ').nth(5)?;
    let mut file_system = file_system.split(' ');
    let (kind, _, more) = (file_system.next()?, file_system.next()?, file_system.next()?);
    let mut flags = MountFlags::empty();
    for option in options.split(',').chain(more.split(',')) {
        match (option, flag(option)) {
            ("ro", _) => flags |= MountFlags::RDONLY,
            (_, Some((flag, true))) => flags |= flag,
            _ => {}
        }
    }
    if !flags.intersects(MountFlags::NOATIME | MountFlags::RELATIME) {
        flags |= MountFlags::STRICTATIME;
    }
    Some(MountInfo { kind: kind.into(), flags })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_whole() {
        assert_eq!(unescape(b"/a\\040b\\134\\012"), b"/a b\\\n");
        assert_eq!(unescape(b"/\\9\\04"), b"/\\9\\04");
    }

    #[test]
    fn what_is_below_is_found_by_its_parent() {
        let table = b"20 1 0:7 / /m rw - fuse.daxfs /i rw\n\
                      21 20 0:8 / /m/a/b\\040c rw - tmpfs none rw\n\
                      22 21 0:9 / /m/a/b\\040c/d rw - tmpfs none rw\n\
                      23 20 0:9 / /m rw - tmpfs none rw\n\
                      24 1 0:9 / /m2 rw - tmpfs none rw\n";
        assert_eq!(find_below(table, (0, 7)), [Path::new("/m/a/b c")]);
    }

    #[test]
    fn both_kinds_of_options_count() {
        let table = "21 1 0:5 / /proc rw,relatime shared:12 - proc proc rw\n\
                     210 1 0:7 / /a\\040b ro,nosuid,noatime shared:7 - fuse.daxfs /i rw,sync\n\
                     2 1 0:8 / /c rw,nodev - tmpfs none rw\n";
        let flags =
            MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOATIME | MountFlags::SYNCHRONOUS;
        assert_eq!(find(table, 210), Some(MountInfo { kind: "fuse.daxfs".into(), flags }));
        let flags = MountFlags::NODEV | MountFlags::STRICTATIME;
        assert_eq!(find(table, 2), Some(MountInfo { kind: "tmpfs".into(), flags }));
        assert_eq!(find(table, 1), None);
    }
}
