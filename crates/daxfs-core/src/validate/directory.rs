// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Proof of one directory: dirents well-formed, unique, naming inodes that exist and match.

use std::sync::atomic::Ordering;

use zerocopy::FromBytes;

use super::base::{Directory, Table};
use crate::finding::Findings;
use crate::format::{DIRENT_SIZE, NAME_MAX, RawDirent, feature, mode};
use crate::name::is_name;

/// Dirents copied out at a time.
const PIECE: u64 = 512;

pub(super) fn check(table: &Table<'_>, directory: &Directory) -> Findings {
    let base = table.base;
    let inode = &directory.inode;
    let mut findings = Findings::of_task();
    let sorted = base.has(feature::SORTED_DIRS);
    let mut names = Vec::new();
    let mut last: Vec<u8> = Vec::new();
    let (mut sum, mut position) = (0, 0);
    let count = base.dirent_count(inode);
    while position < count {
        let at = inode.data + position * DIRENT_SIZE;
        let step = (count - position).min(PIECE);
        let bytes = match base.region().read_vec(at, step * DIRENT_SIZE) {
            Ok(bytes) => bytes,
            Err(error) => {
                findings.absorb(error);
                return findings;
            }
        };
        sum = crc32c::crc32c_append(sum, &bytes);
        for (raw, at) in
            bytes.chunks_exact(DIRENT_SIZE as usize).zip((at..).step_by(DIRENT_SIZE as usize))
        {
            let raw = RawDirent::ref_from_bytes(raw).expect("a chunk has the size of a dirent");
            let Some(name) = check_name(table, at, raw, &mut findings) else { continue };
            check_target(table, inode.ino, at, raw, &mut findings);
            if !sorted {
                names.push((name.to_vec(), at));
            } else if last.as_slice() >= name {
                let expected = format!("a name after {}", crate::error::show(&last));
                findings.error("order of names", at + 16, expected, crate::error::show(name));
            }
            if sorted {
                last.clear();
                last.extend_from_slice(name);
            }
        }
        position += step;
    }
    names.sort_unstable();
    for pair in names.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        let name = crate::error::show(&pair[1].0);
        findings.error("name", pair[1].1 + 16, "each name once in a directory", name);
    }
    if base.has(feature::CHECKSUMS) {
        let at = base.inode_offset(inode.ino) + 56;
        findings.equal("checksum of a directory", at, sum, directory.checksum);
    }
    findings
}

/// The name, if it is one.
fn check_name<'a>(
    table: &Table<'_>,
    at: u64,
    raw: &'a RawDirent,
    findings: &mut Findings,
) -> Option<&'a [u8]> {
    let len = usize::from(raw.name_len.get());
    if len == 0 || len > NAME_MAX {
        findings.error("length of a name", at + 8, "1 to 128", len);
        return None;
    }
    let (name, padding) = raw.name.split_at(len);
    if !is_name(name) {
        let found = crate::error::show(name);
        findings.error("name", at + 16, "neither . nor .., no slash, no NUL", found);
        return None;
    }
    let clean = raw.reserved == [0; 6] && padding.iter().all(|byte| *byte == 0);
    if !clean && table.base.has(feature::SORTED_DIRS) {
        findings.error("padding of a dirent", at, "zeroes", "other bytes");
    } else if !clean {
        findings.warning("padding of a dirent", at, "zeroes", "other bytes");
    }
    Some(name)
}

/// The inode that a dirent names exists and has the type it says; the name is counted.
fn check_target(
    table: &Table<'_>,
    directory: u64,
    at: u64,
    raw: &RawDirent,
    findings: &mut Findings,
) {
    let ino = u64::from(raw.ino.get());
    let Some(seen) = ino.checked_sub(1).and_then(|index| table.seen.get(index as usize)) else {
        let limit = format!("1 to {}", table.seen.len());
        return findings.error("inode of a dirent", at, limit, ino);
    };
    let index = ino as usize - 1;
    table.names[index].fetch_add(1, Ordering::Relaxed);
    // Plain v3 keeps the type right; permissions there may lag behind.
    let mask = if table.strict { u32::MAX } else { mode::TYPE };
    if seen.mode != 0 && (seen.mode ^ raw.mode.get()) & mask != 0 {
        let expected = format!("{:#o}, as inode {ino} says", seen.mode);
        findings.error("mode of a dirent", at + 4, expected, format_args!("{:#o}", raw.mode));
    }
    if seen.mode & mode::TYPE == mode::DIRECTORY {
        // Of several parents the same one counts in every run. Inode numbers have 32 bits here.
        table.parents[index].fetch_max(directory as u32, Ordering::Relaxed);
    }
}
