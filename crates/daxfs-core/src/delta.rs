// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The delta log: entries decoded one by one, for replay and proof alike, and encoded.
//!
//! Every structure is copied out once and checked in the copy. A scan does at most one step for
//! each 24 bytes of the log, whatever the entries say. Errors name the offset of their entry.

use std::ops::Range;

use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, IntoBytes};

use crate::error::{Error, Result, show};
use crate::format::{
    BLOCK_SIZE, ContinueBody, CreateBody, DeleteBody, EntryHeader, ExtentBody, LinkBody, MknodBody,
    NAME_MAX, PunchBody, RenameBody, SetattrBody, SetattrTimes, Superblock, SymlinkBody,
    TARGET_MAX, TruncateBody, WriteBody, XATTR_NAME_MAX, XATTR_VALUE_MAX, XattrBody, entry, extent,
    feature, mode, rename, setattr, xattr,
};
pub use crate::name::{Name, is_name};
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
        name: Name,
    },
    /// A name of the header's inode removed.
    Delete {
        /// Directory.
        parent: u64,
        /// The name.
        name: Name,
    },
    /// The header's inode cut or extended.
    Truncate {
        /// Size from now on.
        size: u64,
    },
    /// A name moved, or swapped with another.
    Rename {
        /// The inode that it names.
        ino: u64,
        /// Directory of the old name.
        old_parent: u64,
        /// Directory of the new name.
        new_parent: u64,
        /// The old name.
        old_name: Name,
        /// The new name.
        new_name: Name,
        /// Both names exist and swap their inodes.
        exchange: bool,
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
        /// Access time, ns since 1970.
        atime: Option<i64>,
        /// Modification time.
        mtime: Option<i64>,
        /// Change time, instead of the entry's own.
        ctime: Option<i64>,
    },
    /// A new symbolic link.
    Symlink {
        /// Directory.
        parent: u64,
        /// The new inode.
        ino: u64,
        /// Its name.
        name: Name,
        /// Where it points, without a NUL.
        target: Box<[u8]>,
    },
    /// A new inode, the header's, of any type.
    Mknod {
        /// Directory.
        parent: u64,
        /// Type and permissions.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Device number, in the kernel's 32-bit encoding.
        rdev: u32,
        /// Its name.
        name: Name,
        /// Where a symlink, and nothing else, points; without a NUL.
        target: Option<Box<[u8]>>,
    },
    /// One more name for the header's inode.
    Link {
        /// Directory.
        parent: u64,
        /// The name.
        name: Name,
    },
    /// Bytes of the header's inode that lie outside the log.
    Extent {
        /// Offset in the file.
        offset: u64,
        /// Bytes.
        len: u64,
        /// Image offset of the bytes.
        image_offset: u64,
        /// The size stays as it is.
        keep_size: bool,
    },
    /// Bytes of the header's inode that are zeroes from now on.
    Punch {
        /// Offset in the file.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// An extended attribute of the header's inode.
    SetXattr {
        /// Its name, with the prefix.
        name: Box<[u8]>,
        /// Its value; none removes it.
        value: Option<Box<[u8]>>,
    },
}

/// Where the segments and extents of an image's logs may lie, and which entries they may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSpace {
    /// The heap; in plain v3 the delta region.
    pub heap: Range<u64>,
    /// Whether the logs are of ours.
    pub ours: bool,
}

impl LogSpace {
    /// That of an image.
    pub fn of(superblock: &Superblock) -> Self {
        let ours = superblock.has(feature::BRANCHES);
        let (start, size) = if ours {
            let size = superblock.heap_blocks.get().saturating_mul(BLOCK_SIZE);
            (superblock.heap_offset.get(), size)
        } else {
            (superblock.delta_region_offset.get(), superblock.delta_region_size.get())
        };
        Self { heap: start..start.saturating_add(size), ours }
    }

    /// Whether a run of bytes lies inside.
    pub fn contains(&self, start: u64, len: u64) -> bool {
        start >= self.heap.start && start.checked_add(len).is_some_and(|end| end <= self.heap.end)
    }

    /// Whether a run of bytes can be a segment.
    pub fn is_segment(&self, start: u64, capacity: u64) -> bool {
        let whole = !self.ours
            || (capacity > 0
                && start.is_multiple_of(BLOCK_SIZE)
                && capacity.is_multiple_of(BLOCK_SIZE));
        whole && self.contains(start, capacity)
    }
}

/// A place in a log, between two entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Image offset of the next byte.
    pub at: u64,
    /// First byte after the segment.
    pub segment_end: u64,
    /// Published bytes before this place.
    pub position: u64,
}

impl Cursor {
    /// The beginning of a log whose first segment has `capacity` bytes from `start` on.
    pub fn new(start: u64, capacity: u64) -> Self {
        Self { at: start, segment_end: start.saturating_add(capacity), position: 0 }
    }
}

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
        Ok(Change::Symlink {
            parent: body.parent_ino.get(),
            ino: body.new_ino.get(),
            name: self.name(body.name_len.get())?,
            target: self.target(body.target_len.get())?,
        })
    }

    fn mknod(&mut self) -> Result<Change> {
        let body: MknodBody = self.take("MKNOD")?;
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
        let name = self.name(body.name_len.get())?;
        Ok(Change::Link { parent: body.parent_ino.get(), name })
    }

    fn extent(&mut self) -> Result<Change> {
        let body: ExtentBody = self.take("EXTENT")?;
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
