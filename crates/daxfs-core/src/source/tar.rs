// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The entries of a tar archive: v7, ustar, GNU and PAX.

use super::pax::Records;
use super::sparse::{self, Sparse};
use super::spool::Archive;
use crate::error::{Error, InputProblem, Result};
use crate::format::mode;

/// Unit of an archive.
pub(super) const BLOCK: u64 = 512;
/// Longest PAX header; its attributes and sparse maps are kept in memory.
const PAX_MAX: u64 = 64 << 20;
/// Longest path of a GNU long-name entry.
const PATH_MAX: u64 = 1 << 20;

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file of this type.
    Node(u32),
    /// One more name for a file.
    HardLink,
}

/// One entry.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) permissions: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: i64,
    /// Target of a symbolic or hard link.
    pub(super) target: Vec<u8>,
    /// Major and minor number of a device.
    pub(super) device: (u64, u64),
    /// Bytes of a regular file.
    pub(super) size: u64,
    /// Where they begin in the archive.
    pub(super) position: u64,
    /// How they are spread, if they do not simply follow each other.
    pub(super) sparse: Option<Sparse>,
    pub(super) xattrs: Vec<crate::base::Xattr>,
}

/// Reads the entries of an archive in order.
#[derive(Debug, Default)]
pub(super) struct Reader {
    at: u64,
    records: Records,
    long_path: Option<Vec<u8>>,
    long_target: Option<Vec<u8>>,
}

impl Reader {
    /// The next entry, or what is wrong with it; an error when the rest cannot be read either.
    pub(super) fn next(
        &mut self,
        archive: &Archive,
    ) -> Result<Option<std::result::Result<Entry, InputProblem>>> {
        while let Some(header) = self.header(archive)? {
            let Some(size) = header.size() else {
                return Err(damaged(
                    archive,
                    format!("a size that is no number before {:#x}", self.at),
                ));
            };
            match header.kind() {
                b'x' | b'X' => {
                    let bytes = self.body(archive, size, PAX_MAX)?;
                    self.records.add_local(&bytes).ok_or_else(|| self.damaged_pax(archive))?;
                }
                b'g' => {
                    let bytes = self.body(archive, size, PAX_MAX)?;
                    self.records.add_global(&bytes).ok_or_else(|| self.damaged_pax(archive))?;
                }
                b'L' => self.long_path = Some(self.long_name(archive, size)?),
                b'K' => self.long_target = Some(self.long_name(archive, size)?),
                // The name of a GNU volume.
                b'V' => {}
                _ => {
                    let path = self.path(&header);
                    let entry = self.entry(archive, &header, path.clone(), size)?;
                    self.records.end_entry();
                    self.long_path = None;
                    self.long_target = None;
                    return Ok(Some(entry.map_err(|reason| InputProblem { path, reason })));
                }
            }
        }
        Ok(None)
    }

    /// The next header; none at the end-of-archive marker.
    fn header(&mut self, archive: &Archive) -> Result<Option<Header>> {
        let Some(header) = self.block(archive)? else {
            let what = if archive.len == 0 {
                "it is empty"
            } else {
                "it has no end-of-archive mark: truncated, or not finished by its writer"
            };
            return Err(damaged(archive, what.into()));
        };
        let start = self.at - BLOCK;
        if header == [0; BLOCK as usize] {
            // POSIX asks for two; at the very end one is enough, as for other readers.
            return match self.block(archive)? {
                Some(second) if second != [0; BLOCK as usize] => {
                    Err(damaged(archive, format!("a lone block of zeroes at {start:#x}")))
                }
                _ => Ok(None),
            };
        }
        let header = Header(header);
        if header.is_sound() {
            Ok(Some(header))
        } else if start == 0 {
            Err(damaged(archive, "not a tar archive".into()))
        } else {
            Err(damaged(archive, format!("no header at {start:#x}: damaged")))
        }
    }

    /// The next block; none at the end of the archive.
    fn block(&mut self, archive: &Archive) -> Result<Option<[u8; BLOCK as usize]>> {
        if self.at >= archive.len {
            return Ok(None);
        }
        if archive.len - self.at < BLOCK {
            return Err(damaged(archive, "it ends inside a block: truncated".into()));
        }
        let mut block = [0; BLOCK as usize];
        archive.read_at(self.at, &mut block)?;
        self.at += BLOCK;
        Ok(Some(block))
    }

    /// Steps over an entry's data; returns where they begin.
    fn skip(&mut self, archive: &Archive, size: u64) -> Result<u64> {
        let start = self.at;
        match size.checked_next_multiple_of(BLOCK).and_then(|size| start.checked_add(size)) {
            // The padding of the last entry may be missing, its data not.
            Some(end) if start + size <= archive.len => {
                self.at = end;
                Ok(start)
            }
            _ => Err(damaged(
                archive,
                format!("{size} bytes from {start:#x} on are not all there: truncated"),
            )),
        }
    }

    /// The data of an entry that describes another one.
    fn body(&mut self, archive: &Archive, size: u64, most: u64) -> Result<Vec<u8>> {
        if size > most {
            return Err(damaged(
                archive,
                format!("an extended header of {size} bytes at {:#x}", self.at),
            ));
        }
        let start = self.skip(archive, size)?;
        let mut bytes = vec![0; size as usize];
        archive.read_at(start, &mut bytes)?;
        Ok(bytes)
    }

    fn long_name(&mut self, archive: &Archive, size: u64) -> Result<Vec<u8>> {
        let mut name = self.body(archive, size, PATH_MAX)?;
        name.truncate(terminated(&name).len());
        Ok(name)
    }

    fn damaged_pax(&self, archive: &Archive) -> Error {
        damaged(archive, format!("a PAX header before {:#x} that makes no sense", self.at))
    }

    fn path(&self, header: &Header) -> Vec<u8> {
        let named = self.records.get("GNU.sparse.name").or_else(|| self.records.get("path"));
        match (named, &self.long_path) {
            (Some(path), _) => path.to_vec(),
            (None, Some(path)) => path.clone(),
            (None, None) => header.path(),
        }
    }

    /// Reads the rest of an entry and steps over its data, also when it cannot be taken.
    fn entry(
        &mut self,
        archive: &Archive,
        header: &Header,
        path: Vec<u8>,
        header_size: u64,
    ) -> Result<std::result::Result<Entry, String>> {
        let size = match self.records.number("size") {
            Ok(size) => size.unwrap_or(header_size),
            Err(reason) => {
                return Err(damaged(archive, format!("{}: {reason}", crate::error::show(&path))));
            }
        };
        let described = self.describe(header, path);
        let has_data = match &described {
            Ok(entry) => match entry.kind {
                Kind::Node(mode::REGULAR) => true,
                // GNU tar's incremental directories list their names.
                Kind::Node(mode::DIRECTORY) => header.kind() == b'D',
                Kind::Node(_) => false,
                // PAX may repeat the contents; others leave a size there and no data.
                Kind::HardLink => header.is_posix(),
            },
            Err(_) => !matches!(header.kind(), b'1'..=b'6'),
        };
        // The rest of an old GNU map lies between header and data.
        let old_map = if header.kind() == b'S' && header.is_gnu() {
            match sparse::old_gnu(&header.0, || self.block(archive))? {
                Some(map) => Some(map),
                None => {
                    return Err(damaged(
                        archive,
                        format!("a sparse map before {:#x} that makes no sense", self.at),
                    ));
                }
            }
        } else {
            None
        };
        let stored = if has_data { size } else { 0 };
        let position = self.skip(archive, stored)?;
        let mut entry = match described {
            Ok(entry) => entry,
            Err(reason) => return Ok(Err(reason)),
        };
        if entry.kind != Kind::Node(mode::REGULAR) {
            return Ok(Ok(entry));
        }
        entry.size = stored;
        entry.position = position;
        let sparse = match old_map {
            Some((map, real)) => Sparse::new(map, position, stored, real).map(Some),
            None => sparse::pax(&self.records, archive, position, stored)?,
        };
        match sparse {
            Err(reason) => return Ok(Err(reason)),
            Ok(Some(sparse)) => {
                entry.size = sparse.size;
                entry.sparse = Some(sparse);
            }
            Ok(None) => {}
        }
        Ok(Ok(entry))
    }

    /// What the header and the records before it say, but for size and data.
    fn describe(&self, header: &Header, path: Vec<u8>) -> std::result::Result<Entry, String> {
        let kind = match header.kind() {
            // v7 has no directories, only names that end in a slash.
            0 | b'0' if path.ends_with(b"/") => Kind::Node(mode::DIRECTORY),
            0 | b'0' | b'7' => Kind::Node(mode::REGULAR),
            b'S' if header.is_gnu() => Kind::Node(mode::REGULAR),
            b'1' => Kind::HardLink,
            b'2' => Kind::Node(mode::SYMLINK),
            b'3' => Kind::Node(mode::CHAR),
            b'4' => Kind::Node(mode::BLOCK),
            b'5' | b'D' => Kind::Node(mode::DIRECTORY),
            b'6' => Kind::Node(mode::FIFO),
            b'M' => return Err("part of a file that begins in another volume".into()),
            b'S' => return Err("sparse file in a format that is not known".into()),
            other => return Err(format!("entry of unknown type {:?}", char::from(other))),
        };
        if self.records.get("SCHILY.realsize").is_some() {
            return Err("sparse file in a format that is not known".into());
        }
        let target = match (self.records.get("linkpath"), &self.long_target) {
            (Some(target), _) => target.to_vec(),
            (None, Some(target)) => target.clone(),
            (None, None) => terminated(&header.0[157..257]).to_vec(),
        };
        let number =
            |name, field| header.number(field).ok_or_else(|| format!("{name} is no number"));
        let owner = |name, field| {
            let id = match self.records.number(name)? {
                Some(id) => id,
                None => number(name, field)?.cast_unsigned(),
            };
            u32::try_from(id).map_err(|_| format!("{name} {id} does not fit in 32 bits"))
        };
        let mtime = match self.records.mtime()? {
            Some(mtime) => mtime,
            None => number("mtime", MTIME)?.saturating_mul(1_000_000_000),
        };
        let device = match kind {
            Kind::Node(mode::CHAR | mode::BLOCK) => {
                let (major, minor) =
                    (number("major number", MAJOR)?, number("minor number", MINOR)?);
                if !(0..1 << 12).contains(&major) || !(0..1 << 20).contains(&minor) {
                    return Err(format!(
                        "device {major}:{minor}, at most 4095:1048575 are possible"
                    ));
                }
                (major.cast_unsigned(), minor.cast_unsigned())
            }
            _ => (0, 0),
        };
        Ok(Entry {
            path,
            kind,
            permissions: (number("mode", MODE)? & 0o7777) as u32,
            uid: owner("uid", UID)?,
            gid: owner("gid", GID)?,
            mtime,
            target,
            device,
            size: 0,
            position: 0,
            sparse: None,
            xattrs: self.records.xattrs()?,
        })
    }
}

/// An archive that cannot be read on.
fn damaged(archive: &Archive, reason: String) -> Error {
    use std::os::unix::ffi::OsStrExt;
    let path = archive.name().as_os_str().as_bytes().to_vec();
    Error::Input { problems: vec![InputProblem { path, reason }] }
}

/// Offset and length of a header's field.
type Span = (usize, usize);
const NAME: Span = (0, 100);
const MODE: Span = (100, 8);
const UID: Span = (108, 8);
const GID: Span = (116, 8);
const SIZE: Span = (124, 12);
const MTIME: Span = (136, 12);
const CHECKSUM: Span = (148, 8);
const MAJOR: Span = (329, 8);
const MINOR: Span = (337, 8);

/// A header block.
struct Header([u8; BLOCK as usize]);

impl Header {
    fn field(&self, (offset, len): Span) -> &[u8] {
        &self.0[offset..offset + len]
    }

    fn number(&self, field: Span) -> Option<i64> {
        number(self.field(field))
    }

    fn kind(&self) -> u8 {
        self.0[156]
    }

    fn size(&self) -> Option<u64> {
        self.number(SIZE)?.try_into().ok()
    }

    fn is_posix(&self) -> bool {
        &self.0[257..263] == b"ustar\0"
    }

    fn is_gnu(&self) -> bool {
        &self.0[257..265] == b"ustar  \0"
    }

    /// Whether the checksum is right; some old writers summed signed bytes.
    fn is_sound(&self) -> bool {
        let Some(stored) = self.number(CHECKSUM) else { return false };
        let counted = |index| !(CHECKSUM.0..CHECKSUM.0 + CHECKSUM.1).contains(&index);
        let bytes = self.0.iter().enumerate();
        let (unsigned, signed) = bytes.fold((0, 0), |(unsigned, signed), (index, byte)| {
            let byte = if counted(index) { *byte } else { b' ' };
            (unsigned + i64::from(byte), signed + i64::from(byte.cast_signed()))
        });
        stored == unsigned || stored == signed
    }

    fn path(&self) -> Vec<u8> {
        let name = terminated(self.field(NAME));
        if !self.is_posix() {
            return name.to_vec();
        }
        // star keeps two times where others have the end of the prefix.
        let end = if &self.0[508..512] == b"tar\0" { 476 } else { 500 };
        match terminated(&self.0[345..end]) {
            b"" => name.to_vec(),
            prefix => [prefix, b"/", name].concat(),
        }
    }
}

/// A numeric field: octal digits, or a big-endian number after a set bit.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    if field[0] & 0x80 != 0 {
        let first = i128::from(((field[0] & 0x7f) << 1).cast_signed() >> 1);
        let value = field[1..].iter().fold(first, |value, byte| value << 8 | i128::from(*byte));
        return value.try_into().ok();
    }
    let digits = terminated(field).trim_ascii();
    if digits.is_empty() {
        return Some(0);
    }
    digits.iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// The bytes before the first NUL.
fn terminated(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}
