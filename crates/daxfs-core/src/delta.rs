// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The delta log: entries decoded one by one, for replay and proof alike.
//!
//! Every structure is copied out once and checked in the copy. A scan does at most one step for
//! each 24 bytes of the log, whatever the entries say.

use std::ops::Range;

use zerocopy::{FromBytes, IntoBytes};

use crate::error::{Error, Result, show};
use crate::format::{
    CreateBody, DeleteBody, EntryHeader, NAME_MAX, RenameBody, SetattrBody, SymlinkBody,
    TARGET_MAX, TruncateBody, WriteBody, entry, mode, setattr,
};
use crate::region::Region;

/// Largest size of a file, as in Linux.
pub const FILE_SIZE_MAX: u64 = i64::MAX as u64;

/// An entry of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Image offset of the entry.
    pub at: u64,
    /// Inode concerned, as the header has it.
    pub ino: u64,
    /// Wall clock, ns since 1970.
    pub time: i64,
    /// What the entry does.
    pub change: Change,
}

/// What an entry does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Bytes written to the header's inode.
    Write {
        /// Offset in the file.
        offset: u64,
        /// Image offset of the bytes.
        data: u64,
        /// Bytes written.
        len: u64,
    },
    /// A new inode that is no symlink; a directory if and only if it was MKDIR.
    Create {
        /// Directory.
        parent: u64,
        /// The new inode.
        ino: u64,
        /// Type and permissions.
        mode: u32,
        /// Its name.
        name: Box<[u8]>,
    },
    /// A name of the header's inode removed.
    Delete {
        /// Directory.
        parent: u64,
        /// The name.
        name: Box<[u8]>,
    },
    /// The header's inode cut or extended.
    Truncate {
        /// Size from now on.
        size: u64,
    },
    /// A name moved.
    Rename {
        /// The inode that it names.
        ino: u64,
        /// Directory of the old name.
        old_parent: u64,
        /// Directory of the new name.
        new_parent: u64,
        /// The old name.
        old_name: Box<[u8]>,
        /// The new name.
        new_name: Box<[u8]>,
    },
    /// Attributes of the header's inode.
    SetAttr {
        /// Type and permissions; a type of 0 leaves the type out.
        mode: Option<u32>,
        /// Owner.
        uid: Option<u32>,
        /// Group.
        gid: Option<u32>,
        /// Size.
        size: Option<u64>,
    },
    /// A new symbolic link.
    Symlink {
        /// Directory.
        parent: u64,
        /// The new inode.
        ino: u64,
        /// Its name.
        name: Box<[u8]>,
        /// Image offset of the target; a NUL ends it.
        target: u64,
        /// Bytes of the target, without the NUL.
        target_len: u64,
    },
}

/// Whether bytes can name a directory entry.
pub fn is_name(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.len() <= NAME_MAX
        && bytes != b"."
        && bytes != b".."
        && !bytes.iter().any(|byte| matches!(byte, 0 | b'/'))
}

/// The entries of the log that fills `log`, oldest first; an error ends them.
///
/// Flags and reserved fields mean nothing in plain v3 and are not looked at.
pub fn scan(region: &Region, log: Range<u64>) -> Scan<'_> {
    Scan { region, rest: log }
}

/// Iterator over a log.
#[derive(Debug)]
pub struct Scan<'a> {
    region: &'a Region,
    rest: Range<u64>,
}

impl Iterator for Scan<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = self.step();
        if entry.is_err() {
            self.rest.start = self.rest.end;
        }
        Some(entry)
    }
}

impl Scan<'_> {
    fn step(&mut self) -> Result<Entry> {
        let at = self.rest.start;
        let mut parts = Parts { region: self.region, at, rest: self.rest.clone() };
        let header: EntryHeader = parts.take("log entry header")?;
        let end = at.checked_add(header.total_size.get().into());
        match end.filter(|end| (parts.rest.start..=parts.rest.end).contains(end)) {
            Some(end) => parts.rest.end = end,
            None => {
                let room = self.rest.end - at;
                let limit = format!("{} to {room}, the rest of the log", size_of::<EntryHeader>());
                return Err(Error::corrupt(
                    "size of a log entry",
                    at + 4,
                    limit,
                    header.total_size,
                ));
            }
        }
        let change = parts.change(header.kind.get())?;
        self.rest.start = parts.rest.end;
        let time = i64::try_from(header.timestamp.get()).unwrap_or(i64::MAX);
        Ok(Entry { at, ino: header.ino.get(), time, change })
    }
}

/// What is left of one entry: parts are taken off its front.
struct Parts<'a> {
    region: &'a Region,
    at: u64,
    rest: Range<u64>,
}

impl Parts<'_> {
    /// Image offset of the next `len` bytes, which are proved to lie inside the entry.
    fn skip(&mut self, what: &'static str, len: u64) -> Result<u64> {
        let start = self.rest.start;
        let room = self.rest.end - start;
        if len > room {
            let expected = format!("{len} bytes inside the log entry at {:#x}", self.at);
            return Err(Error::corrupt(what, start, expected, format!("room for {room}")));
        }
        self.rest.start += len;
        Ok(start)
    }

    fn take<T: FromBytes + IntoBytes>(&mut self, what: &'static str) -> Result<T> {
        let start = self.skip(what, size_of::<T>() as u64)?;
        self.region.read(start)
    }

    fn name(&mut self, len: u16) -> Result<Box<[u8]>> {
        // Judged before it sizes an allocation.
        if usize::from(len) > NAME_MAX {
            let limit = format!("at most {NAME_MAX}");
            return Err(Error::corrupt("length of a name in a log entry", self.at, limit, len));
        }
        let start = self.skip("name in a log entry", len.into())?;
        let name = self.region.read_vec(start, len.into())?;
        if is_name(&name) {
            return Ok(name.into_boxed_slice());
        }
        let expected = "1 to 128 bytes, neither . nor .., no slash, no NUL";
        Err(Error::corrupt("name in a log entry", start, expected, show(&name)))
    }

    /// Image offset of a symlink's target, which is proved to be one as far as its own bytes go.
    fn target(&mut self, len: u64) -> Result<u64> {
        if len == 0 || len > TARGET_MAX {
            let limit = format!("1 to {TARGET_MAX}");
            return Err(Error::corrupt("length of a target in a log entry", self.at, limit, len));
        }
        let start = self.skip("target in a log entry", len + 1)?;
        let bytes = self.region.read_vec(start, len + 1)?;
        if bytes.iter().position(|byte| *byte == 0) == Some(len as usize) {
            return Ok(start);
        }
        let expected = "one NUL, at the end";
        Err(Error::corrupt("target in a log entry", start, expected, show(&bytes)))
    }

    fn file_size(&self, size: Option<u64>) -> Result<u64> {
        size.filter(|size| *size <= FILE_SIZE_MAX).ok_or_else(|| {
            let found = size.map_or("an overflow".into(), |size| size.to_string());
            let limit = format!("at most {FILE_SIZE_MAX}");
            Error::corrupt("size of a file in a log entry", self.at, limit, found)
        })
    }

    fn change(&mut self, kind: u32) -> Result<Change> {
        match kind {
            entry::WRITE => self.write(),
            entry::CREATE | entry::MKDIR => self.create(kind == entry::MKDIR),
            entry::DELETE => self.delete(),
            entry::TRUNCATE => {
                let body: TruncateBody = self.take("TRUNCATE")?;
                Ok(Change::Truncate { size: self.file_size(Some(body.new_size.get()))? })
            }
            entry::RENAME => self.rename(),
            entry::SETATTR => self.set_attr(),
            entry::SYMLINK => self.symlink(),
            _ => Err(Error::corrupt("type of a log entry", self.at, "1 to 8", kind)),
        }
    }

    fn write(&mut self) -> Result<Change> {
        let body: WriteBody = self.take("WRITE")?;
        let (offset, len) = (body.offset.get(), u64::from(body.len.get()));
        self.file_size(offset.checked_add(len))?;
        Ok(Change::Write { offset, data: self.skip("bytes of a WRITE", len)?, len })
    }

    fn create(&mut self, directory: bool) -> Result<Change> {
        let body: CreateBody = self.take("CREATE")?;
        let mode = body.mode.get();
        let sound = match mode & mode::TYPE {
            mode::DIRECTORY => directory,
            mode::REGULAR | mode::CHAR | mode::BLOCK | mode::FIFO | mode::SOCKET => !directory,
            _ => false,
        };
        if !sound {
            let expected = if directory { "a directory's" } else { "a file's or device's" };
            let found = format!("{mode:#o}");
            return Err(Error::corrupt("mode of a created inode", self.at, expected, found));
        }
        Ok(Change::Create {
            parent: body.parent_ino.get(),
            ino: body.new_ino.get(),
            mode,
            name: self.name(body.name_len.get())?,
        })
    }

    fn delete(&mut self) -> Result<Change> {
        let body: DeleteBody = self.take("DELETE")?;
        let name = self.name(body.name_len.get())?;
        Ok(Change::Delete { parent: body.parent_ino.get(), name })
    }

    fn rename(&mut self) -> Result<Change> {
        let body: RenameBody = self.take("RENAME")?;
        Ok(Change::Rename {
            ino: body.ino.get(),
            old_parent: body.old_parent.get(),
            new_parent: body.new_parent.get(),
            old_name: self.name(body.old_name_len.get())?,
            new_name: self.name(body.new_name_len.get())?,
        })
    }

    fn set_attr(&mut self) -> Result<Change> {
        let body: SetattrBody = self.take("SETATTR")?;
        let meant = |bit| body.valid.get() & bit != 0;
        let size = meant(setattr::SIZE).then(|| body.size.get());
        Ok(Change::SetAttr {
            mode: meant(setattr::MODE).then(|| body.mode.get()),
            uid: meant(setattr::UID).then(|| body.uid.get()),
            gid: meant(setattr::GID).then(|| body.gid.get()),
            size: size.map(|size| self.file_size(Some(size))).transpose()?,
        })
    }

    fn symlink(&mut self) -> Result<Change> {
        let body: SymlinkBody = self.take("SYMLINK")?;
        let target_len = u64::from(body.target_len.get());
        Ok(Change::Symlink {
            parent: body.parent_ino.get(),
            ino: body.new_ino.get(),
            name: self.name(body.name_len.get())?,
            target: self.target(target_len)?,
            target_len,
        })
    }
}
