// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Entries encoded.

use std::ops::Range;

use zerocopy::IntoBytes;
use zerocopy::little_endian::U16;

use super::Change;
use crate::format::{
    ContinueBody, CreateBody, DeleteBody, EntryHeader, ExtentBody, LinkBody, MknodBody, PunchBody,
    RenameBody, SetattrBody, SetattrTimes, SymlinkBody, TruncateBody, WriteBody, XattrBody, entry,
    extent, mode, rename, setattr, xattr,
};

/// Bytes that a CONTINUE entry takes; a segment keeps so many for the next one.
pub const CONTINUE_SIZE: u64 = (size_of::<EntryHeader>() + size_of::<ContinueBody>()) as u64;

/// Appends an entry to `into`, padded to a multiple of 8. `data` are the bytes of a WRITE, and
/// empty for everything else.
pub fn encode(into: &mut Vec<u8>, ino: u64, time: i64, change: &Change, data: &[u8]) {
    match change {
        Change::Write { offset, len, .. } => {
            debug_assert_eq!(*len, data.len() as u64);
            let len = u32::try_from(data.len()).expect("a WRITE has less than 4 GiB");
            let body = WriteBody { offset: (*offset).into(), len: len.into(), flags: 0.into() };
            append(into, entry::WRITE, ino, time, &[body.as_bytes(), data]);
        }
        Change::Create { parent, ino: new, mode, name } => {
            let body = CreateBody {
                parent_ino: (*parent).into(),
                new_ino: (*new).into(),
                mode: (*mode).into(),
                name_len: name_len(name),
                flags: 0.into(),
            };
            let directory = mode & mode::TYPE == mode::DIRECTORY;
            let kind = if directory { entry::MKDIR } else { entry::CREATE };
            append(into, kind, ino, time, &[body.as_bytes(), name]);
        }
        Change::Delete { parent, name } => {
            let body = DeleteBody {
                parent_ino: (*parent).into(),
                name_len: name_len(name),
                ..DeleteBody::zeroed()
            };
            append(into, entry::DELETE, ino, time, &[body.as_bytes(), name]);
        }
        Change::Truncate { size } => {
            let body = TruncateBody { new_size: (*size).into() };
            append(into, entry::TRUNCATE, ino, time, &[body.as_bytes()]);
        }
        Change::Rename { ino: moved, old_parent, new_parent, old_name, new_name, exchange } => {
            let body = RenameBody {
                old_parent: (*old_parent).into(),
                new_parent: (*new_parent).into(),
                ino: (*moved).into(),
                old_name_len: name_len(old_name),
                new_name_len: name_len(new_name),
                flags: if *exchange { rename::EXCHANGE } else { 0 }.into(),
            };
            append(into, entry::RENAME, ino, time, &[body.as_bytes(), old_name, new_name]);
        }
        Change::SetAttr { mode, uid, gid, size, atime, mtime, ctime } => {
            let bit = |is: bool, bit: u32| if is { bit } else { 0 };
            let valid = bit(mode.is_some(), setattr::MODE)
                | bit(uid.is_some(), setattr::UID)
                | bit(gid.is_some(), setattr::GID)
                | bit(size.is_some(), setattr::SIZE)
                | bit(atime.is_some(), setattr::ATIME)
                | bit(mtime.is_some(), setattr::MTIME)
                | bit(ctime.is_some(), setattr::CTIME);
            let body = SetattrBody {
                mode: mode.unwrap_or(0).into(),
                uid: uid.unwrap_or(0).into(),
                gid: gid.unwrap_or(0).into(),
                valid: valid.into(),
                size: size.unwrap_or(0).into(),
            };
            let times = SetattrTimes {
                atime: atime.unwrap_or(0).into(),
                mtime: mtime.unwrap_or(0).into(),
                ctime: ctime.unwrap_or(0).into(),
            };
            let times = if valid & setattr::TIMES == 0 { &[] } else { times.as_bytes() };
            append(into, entry::SETATTR, ino, time, &[body.as_bytes(), times]);
        }
        Change::Symlink { parent, ino: new, name, target } => {
            let body = SymlinkBody {
                parent_ino: (*parent).into(),
                new_ino: (*new).into(),
                name_len: name_len(name),
                target_len: (target.len() as u16).into(),
                reserved: 0.into(),
            };
            append(into, entry::SYMLINK, ino, time, &[body.as_bytes(), name, target, &[0]]);
        }
        Change::Mknod { parent, mode, uid, gid, rdev, name, target } => {
            let nul: &[u8] = if target.is_some() { &[0] } else { &[] };
            let target = target.as_deref().unwrap_or_default();
            let body = MknodBody {
                parent_ino: (*parent).into(),
                mode: (*mode).into(),
                uid: (*uid).into(),
                gid: (*gid).into(),
                rdev: (*rdev).into(),
                name_len: name_len(name),
                target_len: (target.len() as u16).into(),
                reserved: [0; 4],
            };
            append(into, entry::MKNOD, ino, time, &[body.as_bytes(), name, target, nul]);
        }
        Change::Link { parent, name } => {
            let body = LinkBody {
                parent_ino: (*parent).into(),
                name_len: name_len(name),
                reserved: [0; 6],
            };
            append(into, entry::LINK, ino, time, &[body.as_bytes(), name]);
        }
        Change::Extent { offset, len, image_offset, keep_size } => {
            let body = ExtentBody {
                offset: (*offset).into(),
                len: (*len).into(),
                image_offset: (*image_offset).into(),
                flags: if *keep_size { extent::KEEP_SIZE } else { 0 }.into(),
                reserved: [0; 4],
            };
            append(into, entry::EXTENT, ino, time, &[body.as_bytes()]);
        }
        Change::Punch { offset, len } => {
            let body = PunchBody { offset: (*offset).into(), len: (*len).into() };
            append(into, entry::PUNCH, ino, time, &[body.as_bytes()]);
        }
        Change::SetXattr { name, value } => {
            let bytes = value.as_deref().unwrap_or_default();
            let body = XattrBody {
                name_len: name_len(name),
                flags: if value.is_some() { 0 } else { xattr::REMOVE }.into(),
                value_len: (bytes.len() as u32).into(),
            };
            append(into, entry::XATTR, ino, time, &[body.as_bytes(), name, bytes]);
        }
    }
}

/// Appends the entry that leads to the next segment.
pub fn encode_continue(into: &mut Vec<u8>, time: i64, segment: Range<u64>) {
    let capacity = segment.end - segment.start;
    let body = ContinueBody { next: segment.start.into(), capacity: capacity.into() };
    append(into, entry::CONTINUE, 0, time, &[body.as_bytes()]);
}

fn name_len(name: &[u8]) -> U16 {
    U16::new(name.len() as u16)
}

fn append(into: &mut Vec<u8>, kind: u32, ino: u64, time: i64, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let size = (size_of::<EntryHeader>() + len).next_multiple_of(8);
    let end = into.len() + size;
    let header = EntryHeader {
        kind: kind.into(),
        total_size: u32::try_from(size).expect("an entry has less than 4 GiB").into(),
        ino: ino.into(),
        timestamp: (time.max(0) as u64).into(),
    };
    into.reserve(size);
    into.extend_from_slice(header.as_bytes());
    parts.iter().for_each(|part| into.extend_from_slice(part));
    into.resize(end, 0);
}
