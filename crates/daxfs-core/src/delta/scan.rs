// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Entries decoded one by one.

use std::ops::Range;

use zerocopy::{FromBytes, IntoBytes};

use super::{Change, Cursor, Entry, FILE_SIZE_MAX, LogSpace, Name, is_name};
use crate::error::{Error, Result, show};
use crate::format::{
    BLOCK_SIZE, ContinueBody, CreateBody, DeleteBody, EntryHeader, ExtentBody, LinkBody, MknodBody,
    NAME_MAX, PunchBody, RenameBody, SetattrBody, SetattrTimes, SymlinkBody, TARGET_MAX,
    TruncateBody, WriteBody, XATTR_NAME_MAX, XATTR_VALUE_MAX, XattrBody, entry, extent, mode,
    rename, setattr, xattr,
};
use crate::region::Region;

/// The entries of a log from `cursor` on, up to `size` published bytes, oldest first; an error
/// ends them.
///
/// Flags and reserved fields mean nothing in plain v3 and are not looked at.
pub fn scan<'a>(region: &'a Region, space: &'a LogSpace, cursor: Cursor, size: u64) -> Scan<'a> {
    Scan { region, space, cursor, size }
}

/// Iterator over a log.
#[derive(Debug)]
pub struct Scan<'a> {
    region: &'a Region,
    space: &'a LogSpace,
    cursor: Cursor,
    size: u64,
}

/// What comes next in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// An entry.
    Entry(Entry),
    /// Another segment: its range in the image, and the image offset of the entry that says so.
    Segment(Range<u64>, u64),
}

impl Iterator for Scan<'_> {
    type Item = Result<Entry>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.step()? {
                Ok(Step::Entry(entry)) => return Some(Ok(entry)),
                Ok(Step::Segment(..)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Scan<'_> {
    /// Where the scan stands; after its end, where the next entry goes.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The next entry or segment.
    pub fn step(&mut self) -> Option<Result<Step>> {
        if self.cursor.position >= self.size {
            return None;
        }
        let step = self.decode();
        if step.is_err() {
            self.size = 0;
        }
        Some(step)
    }

    fn decode(&mut self) -> Result<Step> {
        let Cursor { at, segment_end, position } = self.cursor;
        // A segment may be entered any number of times, each time some bytes further in the log.
        let most = self.space.heap.end - self.space.heap.start;
        if self.size > most {
            return Err(Error::corrupt("size of a log", at, format!("at most {most}"), self.size));
        }
        let end = segment_end.min(at.saturating_add(self.size - position));
        let (region, space) = (self.region, self.space);
        let mut parts = Parts { region, space, at, rest: at..end.max(at) };
        let header: EntryHeader = parts.take("log entry header")?;
        let size = u64::from(header.total_size.get());
        let entry_end = at.checked_add(size);
        match entry_end.filter(|end| (parts.rest.start..=parts.rest.end).contains(end)) {
            Some(end) => parts.rest.end = end,
            None => {
                let room = end - at;
                let limit = format!("{} to {room}, the rest of the log", size_of::<EntryHeader>());
                return Err(Error::corrupt("size of a log entry", at, limit, header.total_size));
            }
        }
        let position = position + size;
        if header.kind.get() == entry::CONTINUE && space.ours {
            let segment = parts.segment()?;
            self.cursor = Cursor { at: segment.start, segment_end: segment.end, position };
            return Ok(Step::Segment(segment, at));
        }
        let change = parts.change(header.kind.get())?;
        self.cursor = Cursor { at: at + size, segment_end, position };
        let time = i64::try_from(header.timestamp.get()).unwrap_or(i64::MAX);
        Ok(Step::Entry(Entry { at, ino: header.ino.get(), time, change }))
    }
}

/// What is left of one entry: parts are taken off its front.
struct Parts<'a> {
    region: &'a Region,
    space: &'a LogSpace,
    at: u64,
    rest: Range<u64>,
}

impl Parts<'_> {
    /// Image offset of the next `len` bytes, which are proved to lie inside the entry.
    fn skip(&mut self, what: &'static str, len: u64) -> Result<u64> {
        let start = self.rest.start;
        let room = self.rest.end - start;
        if len > room {
            let expected = format!("{len} bytes inside the log entry");
            return Err(Error::corrupt(what, self.at, expected, format!("room for {room}")));
        }
        self.rest.start += len;
        Ok(start)
    }

    fn take<T: FromBytes + IntoBytes>(&mut self, what: &'static str) -> Result<T> {
        let start = self.skip(what, size_of::<T>() as u64)?;
        self.region.read(start)
    }

    fn name(&mut self, len: u16) -> Result<Name> {
        let mut bytes = [0; NAME_MAX];
        // Judged before it cuts a slice.
        let Some(name) = bytes.get_mut(..len.into()) else {
            let limit = format!("at most {NAME_MAX}");
            return Err(Error::corrupt("length of a name in a log entry", self.at, limit, len));
        };
        let start = self.skip("name in a log entry", len.into())?;
        self.region.read_into(start, name)?;
        if is_name(name) {
            return Ok(Name::from(&*name));
        }
        let expected = "1 to 128 bytes, neither . nor .., no slash, no NUL";
        Err(Error::corrupt("name in a log entry", self.at, expected, show(name)))
    }

    /// A symlink's target, without the NUL that is proved to end it.
    fn target(&mut self, len: u16) -> Result<Box<[u8]>> {
        let len = u64::from(len);
        if len == 0 || len > TARGET_MAX {
            let limit = format!("1 to {TARGET_MAX}");
            return Err(Error::corrupt("length of a target in a log entry", self.at, limit, len));
        }
        let start = self.skip("target in a log entry", len + 1)?;
        let mut bytes = self.region.read_vec(start, len + 1)?;
        if bytes.iter().position(|byte| *byte == 0) == Some(len as usize) {
            bytes.pop();
            return Ok(bytes.into_boxed_slice());
        }
        let expected = "one NUL, at the end";
        Err(Error::corrupt("target in a log entry", self.at, expected, show(&bytes)))
    }

    /// Bits of ours, where unknown ones would change what is meant.
    fn flags<T: Into<u32> + Copy>(&self, known: u32, found: T) -> Result<u32> {
        let bits = found.into();
        if self.space.ours && bits & !known != 0 {
            let expected = format!("bits of {known:#x}");
            return Err(Error::corrupt(
                "flags of a log entry",
                self.at,
                expected,
                format!("{bits:#x}"),
            ));
        }
        Ok(bits)
    }

    /// Bytes of ours that are zero.
    fn reserved(&self, bytes: &[u8]) -> Result<()> {
        if self.space.ours && bytes.iter().any(|byte| *byte != 0) {
            let what = "reserved bytes of a log entry";
            return Err(Error::corrupt(what, self.at, "zeroes", "other bytes"));
        }
        Ok(())
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
            entry::MKNOD if self.space.ours => self.mknod(),
            entry::LINK if self.space.ours => self.link(),
            entry::EXTENT if self.space.ours => self.extent(),
            entry::PUNCH if self.space.ours => self.punch(),
            entry::XATTR if self.space.ours => self.xattr(),
            _ => {
                let types = if self.space.ours { "1 to 8 or 16 to 21" } else { "1 to 8" };
                Err(Error::corrupt("type of a log entry", self.at, types, kind))
            }
        }
    }

    fn write(&mut self) -> Result<Change> {
        let body: WriteBody = self.take("WRITE")?;
        self.flags(0, body.flags.get())?;
        let (offset, len) = (body.offset.get(), u64::from(body.len.get()));
        self.file_size(offset.checked_add(len))?;
        Ok(Change::Write { offset, data: self.skip("bytes of a WRITE", len)?, len })
    }

    fn create(&mut self, directory: bool) -> Result<Change> {
        let body: CreateBody = self.take("CREATE")?;
        self.flags(0, body.flags.get())?;
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
        self.flags(0, body.flags.get())?;
        self.reserved(body.reserved.as_bytes())?;
        let name = self.name(body.name_len.get())?;
        Ok(Change::Delete { parent: body.parent_ino.get(), name })
    }

    fn rename(&mut self) -> Result<Change> {
        let body: RenameBody = self.take("RENAME")?;
        let flags = self.flags(rename::EXCHANGE, body.flags.get())?;
        Ok(Change::Rename {
            ino: body.ino.get(),
            old_parent: body.old_parent.get(),
            new_parent: body.new_parent.get(),
            old_name: self.name(body.old_name_len.get())?,
            new_name: self.name(body.new_name_len.get())?,
            exchange: self.space.ours && flags & rename::EXCHANGE != 0,
        })
    }

    fn set_attr(&mut self) -> Result<Change> {
        let body: SetattrBody = self.take("SETATTR")?;
        let plain = setattr::MODE | setattr::UID | setattr::GID | setattr::SIZE;
        let valid = self.flags(plain | setattr::TIMES, body.valid.get())?;
        let valid = if self.space.ours { valid } else { valid & plain };
        let times = match valid & setattr::TIMES {
            0 => SetattrTimes::zeroed(),
            _ => self.take("SETATTR times")?,
        };
        let meant = |bit| valid & bit != 0;
        let size = meant(setattr::SIZE).then(|| body.size.get());
        Ok(Change::SetAttr {
            mode: meant(setattr::MODE).then(|| body.mode.get()),
            uid: meant(setattr::UID).then(|| body.uid.get()),
            gid: meant(setattr::GID).then(|| body.gid.get()),
            size: size.map(|size| self.file_size(Some(size))).transpose()?,
            atime: meant(setattr::ATIME).then(|| times.atime.get()),
            mtime: meant(setattr::MTIME).then(|| times.mtime.get()),
            ctime: meant(setattr::CTIME).then(|| times.ctime.get()),
        })
    }

    fn symlink(&mut self) -> Result<Change> {
        let body: SymlinkBody = self.take("SYMLINK")?;
        self.reserved(body.reserved.as_bytes())?;
        Ok(Change::Symlink {
            parent: body.parent_ino.get(),
            ino: body.new_ino.get(),
            name: self.name(body.name_len.get())?,
            target: self.target(body.target_len.get())?,
        })
    }

    fn mknod(&mut self) -> Result<Change> {
        let body: MknodBody = self.take("MKNOD")?;
        self.reserved(&body.reserved)?;
        let mode = body.mode.get();
        if !mode::KINDS.contains(&(mode & mode::TYPE)) {
            let expected = "one of POSIX's types";
            let found = format!("{mode:#o}");
            return Err(Error::corrupt("mode of a created inode", self.at, expected, found));
        }
        let name = self.name(body.name_len.get())?;
        let target = match (mode & mode::TYPE, body.target_len.get()) {
            (mode::SYMLINK, len) => Some(self.target(len)?),
            (_, 0) => None,
            (_, len) => {
                let what = "length of a target in a log entry";
                return Err(Error::corrupt(what, self.at, "0 unless of a symlink", len));
            }
        };
        Ok(Change::Mknod {
            parent: body.parent_ino.get(),
            mode,
            uid: body.uid.get(),
            gid: body.gid.get(),
            rdev: body.rdev.get(),
            name,
            target,
        })
    }

    fn link(&mut self) -> Result<Change> {
        let body: LinkBody = self.take("LINK")?;
        self.reserved(&body.reserved)?;
        let name = self.name(body.name_len.get())?;
        Ok(Change::Link { parent: body.parent_ino.get(), name })
    }

    fn extent(&mut self) -> Result<Change> {
        let body: ExtentBody = self.take("EXTENT")?;
        self.reserved(&body.reserved)?;
        let (offset, len, image_offset) =
            (body.offset.get(), body.len.get(), body.image_offset.get());
        self.file_size(offset.checked_add(len))?;
        let aligned = offset % BLOCK_SIZE == image_offset % BLOCK_SIZE;
        if len == 0 || !aligned || !self.space.contains(image_offset, len) {
            let Range { start, end } = self.space.heap;
            let expected =
                format!("some, in {start:#x} to {end:#x}, placed in their block as in the file's");
            let found = format!("{len:#x} bytes at {image_offset:#x} for offset {offset:#x}");
            return Err(Error::corrupt("bytes of an EXTENT", self.at, expected, found));
        }
        let flags = self.flags(extent::KEEP_SIZE, body.flags.get())?;
        let keep_size = flags & extent::KEEP_SIZE != 0;
        Ok(Change::Extent { offset, len, image_offset, keep_size })
    }

    fn punch(&mut self) -> Result<Change> {
        let body: PunchBody = self.take("PUNCH")?;
        let (offset, len) = (body.offset.get(), body.len.get());
        self.file_size(offset.checked_add(len))?;
        Ok(Change::Punch { offset, len })
    }

    fn xattr(&mut self) -> Result<Change> {
        let body: XattrBody = self.take("XATTR")?;
        let (name_len, value_len) = (body.name_len.get(), body.value_len.get());
        let remove = self.flags(xattr::REMOVE.into(), body.flags.get())? != 0;
        let most = if remove { 0 } else { XATTR_VALUE_MAX as u32 };
        if usize::from(name_len) > XATTR_NAME_MAX || value_len > most {
            let limit = format!("at most {XATTR_NAME_MAX} and {most}");
            let found = format!("{name_len} and {value_len}");
            return Err(Error::corrupt("lengths in an XATTR", self.at, limit, found));
        }
        let start = self.skip("name in a log entry", name_len.into())?;
        let name = self.region.read_vec(start, name_len.into())?;
        if name.is_empty() || name.contains(&0) {
            let expected = "1 to 255 bytes, no NUL";
            return Err(Error::corrupt("name in an XATTR", self.at, expected, show(&name)));
        }
        let start = self.skip("value in a log entry", value_len.into())?;
        let value = if remove {
            None
        } else {
            Some(self.region.read_vec(start, value_len.into())?.into_boxed_slice())
        };
        Ok(Change::SetXattr { name: name.into_boxed_slice(), value })
    }

    /// The segment that a CONTINUE leads to.
    fn segment(&mut self) -> Result<Range<u64>> {
        let body: ContinueBody = self.take("CONTINUE")?;
        let (next, capacity) = (body.next.get(), body.capacity.get());
        if self.space.is_segment(next, capacity) {
            return Ok(next..next + capacity);
        }
        let Range { start, end } = self.space.heap;
        let expected = format!("whole blocks inside {start:#x} to {end:#x}");
        let found = format!("{capacity:#x} bytes from {next:#x}");
        Err(Error::corrupt("segment of a log", self.at, expected, found))
    }
}
