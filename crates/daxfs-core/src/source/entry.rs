// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The entries of a tar archive: v7, ustar, GNU and PAX.

use tar_core::parse::{Limits, ParseEvent, ParsedEntry, Parser};
use tar_core::{Header, SparseEntry};

use super::Attributes;
use super::amend::{amend, unsign};
use super::pax::Records;
use super::spool::Archive;
use crate::error::{Error, InputProblem, Result};
use crate::format::{TARGET_MAX, device, mode};

/// Unit of an archive.
const BLOCK: u64 = 512;
/// Bytes read at first for the headers of an entry.
const WINDOW: usize = 4096;
/// Most bytes of headers, extended attributes and sparse map of one entry.
const WINDOW_MAX: usize = 64 << 20;
/// Most bytes of global records; every entry looks through them.
const GLOBAL_MAX: usize = 64 << 10;
/// Most pieces of one sparse file.
const SEGMENTS_MAX: usize = 1 << 22;
/// Records that make no sense for a whole archive, as the start of their keyword.
const OF_ONE_ENTRY: [&str; 4] = ["path", "linkpath", "size", "GNU.sparse."];

/// What an entry makes.
#[derive(Debug)]
pub(super) enum Entry {
    /// A file, with the map of its contents if they are sparse.
    Node(Attributes, Option<Box<Sparse>>),
    /// One more name for the file of this path.
    HardLink(Vec<u8>),
}

/// A file whose pieces lie packed in the archive.
#[derive(Debug)]
pub(super) struct Sparse {
    /// Bytes of the file.
    pub(super) size: u64,
    /// Where the first piece lies in the archive.
    pub(super) position: u64,
    /// The pieces, in order.
    pub(super) segments: Vec<SparseEntry>,
}

impl Sparse {
    /// Checks a map: pieces in order and inside the file.
    fn check(self) -> std::result::Result<Self, String> {
        let mut end = 0;
        for SparseEntry { offset, length } in &self.segments {
            let stop = offset.checked_add(*length);
            let stop = stop.filter(|stop| *offset >= end && *stop <= self.size);
            end = stop.ok_or("sparse file whose pieces overlap or lie outside")?;
        }
        Ok(self)
    }
}

/// Reads the entries of an archive in order.
#[derive(Debug)]
pub(super) struct Reader {
    parser: Parser,
    at: u64,
    window: Vec<u8>,
    /// PAX records of all entries from here on.
    global: Vec<u8>,
}

/// Path of an entry, and what it makes or what is wrong with it.
type Found = (Vec<u8>, std::result::Result<Entry, String>);

impl Reader {
    pub(super) fn new() -> Self {
        let mut parser = Parser::new(Limits {
            max_metadata_size: WINDOW_MAX as u32,
            max_sparse_entries: SEGMENTS_MAX,
            ..Limits::default()
        });
        parser.set_allow_empty_path(true);
        // It knows no times before 1970 and no empty values; all numbers are checked here.
        parser.set_ignore_pax_errors(true);
        Self { parser, at: 0, window: Vec::new(), global: Vec::new() }
    }

    /// The next entry; an error when the rest cannot be read either.
    pub(super) fn next(&mut self, archive: &Archive) -> Result<Option<Found>> {
        let Self { parser, at, window, global } = self;
        let mut len = WINDOW;
        loop {
            let start = *at;
            archive.window(start, len, window)?;
            let unmasked = amend(window);
            let bad = |reason: String| damaged(archive, reason);
            let event = parser.parse(window).map_err(|error| {
                let is_tar = Header::from_bytes(window.first_chunk().expect("at least one block"));
                bad(if start == 0 && is_tar.verify_checksum().is_err() {
                    "not a tar archive".into()
                } else {
                    format!("no sound entry at {start:#x}: {error}")
                })
            })?;
            let (consumed, entry, map) = match event {
                ParseEvent::NeedData { min_bytes } => {
                    if window.len() == len {
                        len = min_bytes.max(2 * len);
                        if len > 2 * WINDOW_MAX {
                            return Err(bad(format!("headers without an end at {start:#x}")));
                        }
                        continue;
                    }
                    return if window.len() == BLOCK as usize && window.iter().all(|byte| *byte == 0)
                    {
                        // POSIX asks for two blocks; as for other readers one is enough.
                        Ok(None)
                    } else {
                        Err(bad(cut_off(archive, start)))
                    };
                }
                ParseEvent::End { .. } => return Ok(None),
                ParseEvent::GlobalExtensions { consumed, pax_data } => {
                    let records = Records::parse(&[pax_data]);
                    if records.is_none_or(|all| OF_ONE_ENTRY.iter().any(|one| all.has(one))) {
                        return Err(bad(format!(
                            "a global PAX header at {start:#x} unfit for all"
                        )));
                    }
                    global.extend_from_slice(pax_data);
                    if global.len() > GLOBAL_MAX {
                        return Err(bad("too many global PAX headers".into()));
                    }
                    *at += consumed as u64;
                    len = WINDOW;
                    continue;
                }
                ParseEvent::Entry { consumed, entry } => (consumed, entry, None),
                ParseEvent::SparseEntry { consumed, entry, sparse_map, real_size } => {
                    (consumed, entry, Some((sparse_map, real_size)))
                }
            };
            let position = start + consumed as u64;
            let own = unmasked.as_deref().or(entry.pax).unwrap_or_default();
            let records = Records::parse(&[global, own])
                .ok_or_else(|| bad(format!("a PAX header at {start:#x} that makes no sense")))?;
            records.number("size").map_err(bad)?;
            let stored = match entry.entry_type.to_byte() {
                b'1' if !brings_data(&entry, archive, position)? => 0,
                b'2'..=b'6' => 0,
                b'0' if is_v7_directory(&entry) => 0,
                _ => entry.size,
            };
            if let Some((map, _)) = &map {
                check_map(&entry, map, stored).map_err(bad)?;
            }
            // The padding of the last entry may be missing, its data not.
            *at = match position.checked_add(stored) {
                Some(end) if end <= archive.len => end.next_multiple_of(BLOCK),
                _ => {
                    let what = format!("{stored} bytes from {position:#x} on are not all there");
                    return Err(bad(what + ": truncated"));
                }
            };
            // The name of a GNU volume.
            if entry.entry_type.to_byte() == b'V' {
                len = WINDOW;
                continue;
            }
            let sparse = map.map(|(segments, size)| Sparse { size, position, segments });
            let path = entry.path.to_vec();
            return Ok(Some((path, describe(&entry, &records, (position, stored), sparse))));
        }
    }
}

/// Whether an entry is a directory of v7, which has no type for it, only names that end in a slash.
fn is_v7_directory(entry: &ParsedEntry<'_>) -> bool {
    entry.path.ends_with(b"/")
}

/// Whether a hard link brings the data of its file. POSIX lets it, and many give the size alone: what
/// begins as an entry does is one, and something comes behind the data, if only the end.
fn brings_data(entry: &ParsedEntry<'_>, archive: &Archive, position: u64) -> Result<bool> {
    let next = position.checked_add(entry.size).and_then(|end| end.checked_next_multiple_of(BLOCK));
    let has_next = next.is_some_and(|next| next < archive.len);
    if entry.size == 0 || !entry.header.is_ustar() || !has_next {
        return Ok(false);
    }
    let mut block = Vec::new();
    archive.window(position, BLOCK as usize, &mut block)?;
    let Some(block) = block.first_chunk_mut() else { return Ok(true) };
    unsign(block);
    Ok(Header::from_bytes(block).verify_checksum().is_err())
}

/// Checks that a sparse map is of all the bytes that an entry has in the archive.
fn check_map(
    entry: &ParsedEntry<'_>,
    map: &[SparseEntry],
    stored: u64,
) -> std::result::Result<(), String> {
    match map.iter().try_fold(0u64, |sum, piece| sum.checked_add(piece.length)) {
        Some(sum) if sum == stored => Ok(()),
        _ => Err(format!(
            "{}: sparse file whose map does not fit its data; write the archive with tar \
             --format=gnu",
            crate::error::show(&entry.path)
        )),
    }
}

/// What an entry with its contents at (position, length) makes.
fn describe(
    entry: &ParsedEntry<'_>,
    records: &Records<'_>,
    contents: (u64, u64),
    sparse: Option<Sparse>,
) -> std::result::Result<Entry, String> {
    let kind = match entry.entry_type.to_byte() {
        b'0' if is_v7_directory(entry) => mode::DIRECTORY,
        b'0' | b'7' | b'S' => mode::REGULAR,
        b'1' => {
            return Ok(Entry::HardLink(entry.link_target.as_deref().unwrap_or_default().into()));
        }
        b'2' => mode::SYMLINK,
        b'3' => mode::CHAR,
        b'4' => mode::BLOCK,
        // GNU tar's incremental directories list their names.
        b'5' | b'D' => mode::DIRECTORY,
        b'6' => mode::FIFO,
        b'M' => return Err("part of a file that begins in another volume".into()),
        other => return Err(format!("entry of unknown type {:?}", char::from(other))),
    };
    let (header, number) = (entry.header, |error| format!("{error}"));
    let owner = |name, field| {
        let id = records.number(name)?.unwrap_or(field);
        // The last one stands for none in every call that sets owners.
        let known = u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        known.ok_or_else(|| format!("{name} {id}, at most {} is possible", u32::MAX - 1))
    };
    // A set high bit is the sign of a time.
    let seconds = header.mtime().map_err(number)?.cast_signed();
    let mut attributes = Attributes {
        mode: kind | entry.mode & 0o7777,
        uid: owner("uid", header.uid().map_err(number)?)?,
        gid: owner("gid", header.gid().map_err(number)?)?,
        mtime: records.mtime()?.unwrap_or(seconds.saturating_mul(1_000_000_000)),
        xattrs: records.xattrs()?,
        ..Attributes::default()
    };
    if let Some(permissions) = records.permissions()? {
        attributes.mode = attributes.mode & !0o777 | permissions;
    }
    match kind {
        mode::REGULAR => {
            (attributes.position, attributes.size) = contents;
            let sparse = sparse.map(Sparse::check).transpose()?;
            if let Some(sparse) = &sparse {
                attributes.size = sparse.size;
            } else if records.has("GNU.sparse.") || records.has("SCHILY.realsize") {
                return Err("sparse file in a format that is not known; write the archive with \
                            tar --format=gnu"
                    .into());
            }
            return Ok(Entry::Node(attributes, sparse.map(Box::new)));
        }
        mode::SYMLINK => {
            let target = entry.link_target.as_deref().unwrap_or_default();
            if target.is_empty() || target.contains(&0) {
                return Err("symbolic link without a sound target".into());
            }
            if target.len() as u64 > TARGET_MAX {
                let len = target.len();
                return Err(format!(
                    "link target of {len} bytes, at most {TARGET_MAX} are possible"
                ));
            }
            attributes.target = target.to_vec();
            // As on every Linux file system.
            attributes.mode = kind | 0o777;
        }
        mode::CHAR | mode::BLOCK => {
            let (Some(major), Some(minor)) = (entry.dev_major, entry.dev_minor) else {
                return Err("device without numbers".into());
            };
            attributes.rdev = device::encode(major, minor).ok_or_else(|| {
                format!("device {major}:{minor}, at most 4095:1048575 are possible")
            })?;
        }
        _ => {}
    }
    Ok(Entry::Node(attributes, None))
}

/// What is wrong with an archive that ends where an entry could begin.
fn cut_off(archive: &Archive, at: u64) -> String {
    match archive.len {
        0 => "it is empty".into(),
        len if len > at => format!("it ends in a header at {at:#x}: truncated"),
        _ => "it has no end-of-archive mark: truncated, or not finished by its writer".into(),
    }
}

/// An archive that cannot be read on.
fn damaged(archive: &Archive, reason: String) -> Error {
    use std::os::unix::ffi::OsStrExt;
    let path = archive.name().as_os_str().as_bytes().to_vec();
    Error::Input { problems: vec![InputProblem { path, reason }] }
}
