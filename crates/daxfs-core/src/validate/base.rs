// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Proof of the base image: base superblock, inode table, data, and the shape of the tree.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

use super::{Counts, Depth, Report, directory, xattr};
use crate::base::{Base, Inode};
use crate::error::Result;
use crate::finding::Findings;
use crate::format::{
    BLOCK_SIZE, BaseInode, DIRENT_SIZE, INODE_SIZE, ROOT_INO, Superblock, feature, mode,
};
use crate::holes::sum_zeroes;
use crate::progress::Progress;

/// Inodes judged by one task.
const BATCH: u32 = 2048;
/// Tasks between two looks at how much is wrong: inodes for a few tenths of a second.
const BATCHES_PER_WAVE: u32 = 256;
/// Directories judged before their findings are gathered.
const DIRECTORIES_PER_WAVE: usize = 8192;
/// Bytes of file data summed by one task.
const PIECE: u64 = 4 << 20;

/// What later steps need to know of an inode, from the one copy that was judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Type and permissions, 0 when the record is unusable.
    pub(super) mode: u32,
    /// Number of names that the record claims.
    pub(super) nlink: u32,
}

/// A directory that will be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Directory {
    pub(super) inode: Inode,
    pub(super) checksum: u32,
}

/// The inode table, judged.
pub(super) struct Table<'a> {
    pub(super) base: &'a Base,
    /// Whether link counts must be right: plain v3 does not keep them.
    pub(super) strict: bool,
    pub(super) seen: Vec<Seen>,
    /// Names found for each inode.
    pub(super) names: Vec<AtomicU32>,
    /// Directory that holds each directory, 0 = none; of several the highest.
    pub(super) parents: Vec<AtomicU32>,
}

#[derive(Default)]
struct Batch {
    findings: Findings,
    counts: Counts,
    seen: Vec<Seen>,
    directories: Vec<Directory>,
    files: Vec<(Inode, u32)>,
    extents: Vec<(u64, u64)>,
    xattrs: Vec<(u64, u64)>,
}

/// Judges the base image; where `progress` says to stop, not all of it.
pub(super) fn check(
    superblock: &Superblock,
    base: &Base,
    depth: Depth,
    progress: &Progress,
    report: &mut Report,
) {
    let findings = &mut report.findings;
    let (mut extents, set_starts) = check_header(superblock, base, findings);

    let count = base.inode_count();
    progress.begin(count.into(), 0);
    let mut seen = Vec::new();
    let mut directories = Vec::new();
    let mut files = Vec::new();
    // In waves, and no further once too much is wrong: findings, and what is kept for each inode,
    // never take more memory than a sound table would.
    for wave in waves(count.div_ceil(BATCH), BATCHES_PER_WAVE) {
        let batches: Vec<Batch> =
            wave.into_par_iter().map(|batch| check_batch(base, batch * BATCH, depth)).collect();
        for batch in batches {
            progress.advance(batch.counts.inodes, 0);
            findings.merge(batch.findings);
            report.counts.add(&batch.counts);
            seen.extend(batch.seen);
            directories.extend(batch.directories);
            files.extend(batch.files);
            extents.extend(batch.extents);
            for (ino, set) in batch.xattrs {
                if set_starts.binary_search(&set).is_err() {
                    let at = base.inode_offset(ino) + 48;
                    findings.error("attribute set of an inode", at, "the start of a set", set);
                }
            }
        }
        if findings.errors() >= Findings::KEPT as u64 || progress.is_cancelled() {
            return;
        }
    }
    let errors = findings.errors();
    check_overlaps(extents, findings);
    // Contents that overlap could be summed as often as there are inodes.
    if findings.errors() == errors && !files.is_empty() {
        let bytes = files.iter().fold(0_u64, |sum, (file, _)| sum.saturating_add(file.size));
        progress.begin(files.len() as u64, bytes);
        let judge = |(file, checksum): &(Inode, u32)| check_data(base, file, *checksum, progress);
        let judged: Vec<Findings> = files.par_iter().map(judge).collect();
        for found in judged {
            findings.merge(found);
        }
    }

    // Arrays that lie apart fit together; sharing one would make the work quadratic.
    let claimed = directories
        .iter()
        .fold(0_u64, |sum, found| sum.saturating_add(base.dirent_count(&found.inode)));
    // Names are counted in 32 bits.
    let room = ((base.range().end - base.range().start) / DIRENT_SIZE).min(u32::MAX.into());
    if claimed > room {
        let at = base.range().start;
        return findings.error(
            "entries of all directories",
            at,
            format!("at most {room}"),
            claimed,
        );
    }
    let zeroes = || (0..count).map(|_| AtomicU32::new(0)).collect();
    // Who writes branches drops what a file holds once it has no name left by this count.
    let strict = superblock.has(feature::INODE_EXT) || superblock.has(feature::BRANCHES);
    let table = Table { base, strict, seen, names: zeroes(), parents: zeroes() };
    report.counts.dirents = claimed;
    for wave in directories.chunks(DIRECTORIES_PER_WAVE) {
        if progress.is_cancelled() {
            return;
        }
        let judged: Vec<Findings> =
            wave.par_iter().map(|found| directory::check(&table, found)).collect();
        for found in judged {
            findings.merge(found);
        }
    }
    check_shape(&table, &directories, findings);
}

/// The numbers below `end` in runs of `len`.
fn waves(end: u32, len: u32) -> impl Iterator<Item = Range<u32>> {
    (0..end).step_by(len as usize).map(move |start| start..start.saturating_add(len).min(end))
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.inodes += other.inodes;
        self.directories += other.directories;
        self.files += other.files;
        self.symlinks += other.symlinks;
        self.dirents += other.dirents;
        self.data_bytes = self.data_bytes.saturating_add(other.data_bytes);
    }
}

/// The base superblock; gives the extents of the tables and where attribute sets start.
fn check_header(
    superblock: &Superblock,
    base: &Base,
    findings: &mut Findings,
) -> (Vec<(u64, u64)>, Vec<u64>) {
    let start = base.range().start;
    if start == 0 {
        return Default::default();
    }
    let header = base.header();
    let size = superblock.base_size.get();
    findings.equal("size of the base image", start + 16, size, header.total_size.get());
    findings.equal("flags of the base image", start + 8, 0, header.flags.get());
    let data = header.data_offset.get();
    let table_size = u64::from(base.inode_count()) * INODE_SIZE;
    let table_end = base.inode_offset(ROOT_INO) - start + table_size;
    if !(table_end..=size).contains(&data) || !data.is_multiple_of(BLOCK_SIZE) {
        let limit = format!("a block boundary from {table_end:#x} to {size:#x}");
        findings.error("start of the data", start + 40, limit, format_args!("{data:#x}"));
    }
    if !header.inode_offset.get().is_multiple_of(BLOCK_SIZE) {
        findings.error("inode table", start + 24, "a block boundary", header.inode_offset);
    }
    if superblock.has(feature::CHECKSUMS) {
        let expected = crc32c::crc32c(&header.as_bytes()[..4092]);
        let found = header.checksum.get();
        findings.equal("checksum of the base superblock", start + 4092, expected, found);
    } else {
        findings.equal("checksum without its feature bit", start + 4092, 0, header.checksum.get());
    }
    findings.zeroes("reserved bytes of the base superblock", start + 64, &header.reserved);
    if !superblock.has(feature::XATTRS) {
        findings.zeroes(
            "attributes without their feature bit",
            start + 48,
            &header.as_bytes()[48..64],
        );
    }
    if superblock.branch_table_entries == 0 {
        let next = u64::from(base.inode_count()) + 1;
        findings.equal("next inode number", 64, next, superblock.next_inode_id.get());
    }
    let table = base.inode_offset(ROOT_INO);
    let mut extents = vec![(start, BLOCK_SIZE), (table, table_size)];
    let sets = base.xattr_range();
    if !sets.is_empty() {
        if !sets.start.is_multiple_of(8) {
            findings.error("extended attributes", start + 48, "a multiple of 8", sets.start);
        }
        extents.push((sets.start, sets.end - sets.start));
    }
    (extents, xattr::check_sets(base, superblock.has(feature::CHECKSUMS), findings))
}

/// Judges the inodes from index `first` on.
fn check_batch(base: &Base, first: u32, depth: Depth) -> Batch {
    let mut batch = Batch { findings: Findings::of_task(), ..Batch::default() };
    let last = first.saturating_add(BATCH).min(base.inode_count());
    let at = base.inode_offset(u64::from(first) + 1);
    let bytes = match base.region().read_vec(at, u64::from(last - first) * INODE_SIZE) {
        Ok(bytes) => bytes,
        Err(error) => {
            batch.findings.absorb(error);
            batch.seen = vec![Seen { mode: 0, nlink: 0 }; (last - first) as usize];
            return batch;
        }
    };
    for (index, raw) in (first..last).zip(bytes.chunks_exact(INODE_SIZE as usize)) {
        let raw = BaseInode::ref_from_bytes(raw).expect("a chunk has the size of an inode");
        batch.check_inode(base, u64::from(index) + 1, raw, depth);
    }
    batch
}

impl Batch {
    fn check_inode(&mut self, base: &Base, ino: u64, raw: &BaseInode, depth: Depth) {
        let at = base.inode_offset(ino);
        let findings = &mut self.findings;
        self.counts.inodes += 1;
        if base.has(feature::CHECKSUMS) {
            let expected = crc32c::crc32c(&raw.as_bytes()[..60]);
            findings.equal("checksum of an inode", at + 60, expected, raw.checksum.get());
        }
        let inode = match base.decode(at, ino, raw) {
            Ok(inode) => inode,
            Err(error) => {
                findings.absorb(error);
                self.seen.push(Seen { mode: 0, nlink: 0 });
                return;
            }
        };
        let mut mode = inode.mode;
        match inode.kind() {
            mode::REGULAR => {
                self.counts.files += 1;
                self.counts.data_bytes = self.counts.data_bytes.saturating_add(inode.size);
                if depth == Depth::Data && base.has(feature::DATA_CHECKSUMS) {
                    self.files.push((inode, raw.data_checksum.get()));
                }
            }
            mode::DIRECTORY => {
                self.counts.directories += 1;
                if inode.size.is_multiple_of(DIRENT_SIZE) {
                    let checksum = raw.data_checksum.get();
                    self.directories.push(Directory { inode, checksum });
                } else {
                    findings.error("size of a directory", at + 16, "a multiple of 144", inode.size);
                }
            }
            mode::SYMLINK => {
                self.counts.symlinks += 1;
                check_symlink(base, &inode, raw.data_checksum.get(), findings);
            }
            mode::CHAR | mode::BLOCK | mode::FIFO | mode::SOCKET => {
                findings.equal("size of a special file", at + 16, 0, inode.size);
            }
            _ => mode = 0,
        }
        if mode == 0 || mode & !0o177777 != 0 {
            findings.error(
                "mode of an inode",
                at + 4,
                "a file type",
                format_args!("{:#o}", inode.mode),
            );
            mode = 0;
        }
        if ino == ROOT_INO && !inode.is_dir() {
            findings.error("root inode", at + 4, "a directory", format_args!("{:#o}", inode.mode));
        }
        check_unused(base, at, raw, &inode, findings);
        if inode.size > 0 {
            let first = base.range().start.saturating_add(base.header().data_offset.get());
            if inode.data < first || !inode.data.is_multiple_of(BLOCK_SIZE) {
                let expected = format!("a block boundary from {first:#x}");
                let found = format!("{:#x}", inode.data);
                findings.error("data of an inode", at + 24, expected, found);
            }
            self.extents.push((inode.data, inode.stored()));
        }
        if inode.xattrs != 0 {
            self.xattrs.push((ino, inode.xattrs));
        }
        self.seen.push(Seen { mode, nlink: inode.nlink });
    }
}

/// Fields that no feature bit gives a meaning are zero; plain v3 is not held to it.
fn check_unused(base: &Base, at: u64, raw: &BaseInode, inode: &Inode, findings: &mut Findings) {
    let device = mode::is_device(inode.mode);
    let summed = match inode.kind() {
        mode::REGULAR => base.has(feature::DATA_CHECKSUMS),
        _ => base.has(feature::CHECKSUMS),
    };
    let fields = [
        ("device number", 36, raw.rdev != 0 && !(device && base.has(feature::INODE_EXT))),
        ("modification time", 40, raw.mtime != 0 && !base.has(feature::INODE_EXT)),
        ("attribute set", 48, raw.xattr_offset != 0 && !base.has(feature::XATTRS)),
        ("checksum of data", 56, raw.data_checksum != 0 && !summed),
        ("checksum of an inode", 60, raw.checksum != 0 && !base.has(feature::CHECKSUMS)),
    ];
    for (what, offset, wrong) in fields {
        if wrong && base.has(feature::INODE_EXT) {
            findings.error(what, at + offset, "zero, as it has no meaning here", "another value");
        } else if wrong {
            findings.warning(what, at + offset, "zero, as its bit is not set", "another value");
        }
    }
}

fn check_symlink(base: &Base, link: &Inode, checksum: u32, findings: &mut Findings) {
    if link.size == 0 {
        let at = base.inode_offset(link.ino) + 16;
        return findings.error("size of a symlink", at, "at least 1", 0);
    }
    let stored = match base.region().read_vec(link.data, link.stored()) {
        Ok(stored) => stored,
        Err(error) => return findings.absorb(error),
    };
    let end = stored.iter().position(|byte| *byte == 0);
    if end != Some(stored.len() - 1) {
        let found = end.map_or("none".into(), |end| format!("a NUL after {end} bytes"));
        let expected = format!("a NUL after {} bytes", link.size);
        findings.error("target of a symlink", link.data, expected, found);
    }
    if base.has(feature::CHECKSUMS) {
        let at = base.inode_offset(link.ino) + 56;
        findings.equal("checksum of a symlink", at, crc32c::crc32c(&stored), checksum);
    }
}

/// Compares a file's bytes with its checksum; the pieces of large files are summed in parallel.
fn check_data(base: &Base, file: &Inode, checksum: u32, progress: &Progress) -> Findings {
    let mut findings = Findings::of_task();
    // Reading holes of what the image lies in takes time for nothing, and tmpfs would fill them.
    let runs = base.region().data_within(file.data..file.data.saturating_add(file.size));
    let runs = runs.into_iter().map(|run| run.start - file.data..run.end - file.data);
    let pieces: Vec<Range<u64>> = runs
        .flat_map(|run| {
            let starts = run.clone().step_by(PIECE as usize);
            starts.map(move |start| start..(start + PIECE).min(run.end))
        })
        .collect();
    let sums: Result<Vec<u32>> = pieces
        .par_iter()
        .map(|piece| {
            progress.check()?;
            let mut buffer = vec![0; (piece.end - piece.start) as usize];
            let len = base.read(file, piece.start, &mut buffer)?;
            progress.advance(0, len as u64);
            Ok(crc32c::crc32c(&buffer))
        })
        .collect();
    match sums {
        Ok(sums) => {
            let (mut sum, mut end, mut holes) = (0, 0, 0);
            for (piece, next) in pieces.iter().zip(sums) {
                holes += piece.start - end;
                sum = sum_zeroes(sum, piece.start - end);
                sum = crc32c::crc32c_combine(sum, next, (piece.end - piece.start) as usize);
                end = piece.end;
            }
            sum = sum_zeroes(sum, file.size - end);
            holes += file.size - end;
            let at = base.inode_offset(file.ino) + 56;
            findings.equal("checksum of a file", at, sum, checksum);
            progress.advance(1, holes);
        }
        Err(error) => findings.absorb(error),
    }
    findings
}

/// No byte of the base image belongs to two owners.
fn check_overlaps(mut extents: Vec<(u64, u64)>, findings: &mut Findings) {
    // A stable sort merges the runs that a builder leaves instead of sorting anew.
    extents.sort();
    let mut end = 0;
    for (start, size) in extents {
        if start < end {
            let expected = format!("to start at or after {end:#x}, where the one before ends");
            findings.error("data of an inode", start, expected, "an overlap");
        }
        end = end.max(start.saturating_add(size));
    }
}

/// Every inode reached from the root, directories by one name, link counts right.
fn check_shape(table: &Table<'_>, directories: &[Directory], findings: &mut Findings) {
    let base = table.base;
    let count = |findings: &mut Findings, ino: u64, expected: u32, found: u32| {
        if expected != found {
            let at = base.inode_offset(ino) + 32;
            if table.strict {
                findings.error("link count", at, expected, found);
            } else {
                findings.warning("link count", at, expected, found);
            }
        }
    };
    for (index, seen) in table.seen.iter().enumerate() {
        let ino = index as u64 + 1;
        let names = table.names[index].load(Ordering::Relaxed);
        let directory = seen.mode & mode::TYPE == mode::DIRECTORY;
        if ino != ROOT_INO && names == 0 {
            findings.error("inode", base.inode_offset(ino), "a name in a directory", "none");
        } else if directory && names != u32::from(ino != ROOT_INO) {
            let expected = if ino == ROOT_INO { "no name, as the root" } else { "one name" };
            findings.error("directory", base.inode_offset(ino), expected, names);
        } else if !directory && seen.mode != 0 {
            count(findings, ino, names, seen.nlink);
        }
    }
    let mut subdirectories = vec![0_u32; table.seen.len()];
    for parent in &table.parents {
        if let Some(parent) = parent.load(Ordering::Relaxed).checked_sub(1) {
            subdirectories[parent as usize] += 1;
        }
    }
    for found in directories {
        let index = found.inode.ino as usize - 1;
        count(findings, found.inode.ino, 2 + subdirectories[index], table.seen[index].nlink);
    }
    check_cycles(table, directories, findings);
}

/// Every directory leads up to the root: each is walked once, what is known to arrive is marked.
fn check_cycles(table: &Table<'_>, directories: &[Directory], findings: &mut Findings) {
    const UNKNOWN: u8 = 0;
    const WALKED: u8 = 1;
    const ARRIVES: u8 = 2;
    const LOST: u8 = 3;
    let mut marks = vec![UNKNOWN; table.seen.len()];
    if let Some(root) = marks.first_mut() {
        *root = ARRIVES;
    }
    let mut way = Vec::new();
    for found in directories {
        let mut index = found.inode.ino as usize - 1;
        while marks[index] == UNKNOWN {
            marks[index] = WALKED;
            way.push(index);
            match table.parents[index].load(Ordering::Relaxed).checked_sub(1) {
                Some(parent) => index = parent as usize,
                // No name at all: reported where names are counted.
                None => marks[index] = LOST,
            }
        }
        if marks[index] == WALKED {
            let at = table.base.inode_offset(index as u64 + 1);
            findings.error("directory", at, "a way up to the root", "a cycle");
        }
        let mark = if marks[index] == ARRIVES { ARRIVES } else { LOST };
        for index in way.drain(..) {
            marks[index] = mark;
        }
    }
}
