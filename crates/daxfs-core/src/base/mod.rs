// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The read-only tree: inode table, dirent arrays, file data, extended attributes.

mod lookup;
mod xattr;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock, RwLock};

pub use xattr::parse_xattrs;
use zerocopy::IntoBytes;

use crate::error::{Error, Result};
use crate::format::{
    BASE_MAGIC, BLOCK_SIZE, BaseInode, BaseSuperblock, DIRENT_SIZE, INODE_SIZE, INODES_MAX,
    NAME_MAX, ROOT_INO, RawDirent, Superblock, TARGET_MAX, VERSION, feature, mode,
};
use crate::region::Region;

/// An inode as users see it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Inode {
    /// Inode number.
    pub ino: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of data (of a symlink: its target's).
    pub size: u64,
    /// Number of names.
    pub nlink: u32,
    /// Device number, in the kernel's 32-bit encoding.
    pub rdev: u32,
    /// Access time, ns since 1970; of the base image as `mtime`.
    pub atime: i64,
    /// Modification time, ns since 1970.
    pub mtime: i64,
    /// Time of the last change of any kind, ns since 1970; of the base image as `mtime`.
    pub ctime: i64,
    /// Image offset of what a file, directory or symlink of the base holds.
    pub data: u64,
    /// Image offset of the attribute set, 0 = none.
    pub xattrs: u64,
}

impl Inode {
    /// The type bits of the mode.
    pub fn kind(&self) -> u32 {
        self.mode & mode::TYPE
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind() == mode::DIRECTORY
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind() == mode::REGULAR
    }

    /// Whether it is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.kind() == mode::SYMLINK
    }

    /// Bytes that the inode's data take, the NUL of a symlink included.
    pub fn stored(&self) -> u64 {
        self.size.saturating_add(u64::from(self.is_symlink()))
    }
}

/// A directory entry, copied out of the image.
#[derive(Debug, Clone, Copy)]
pub struct Dirent(RawDirent);

impl Dirent {
    /// Inode number.
    pub fn ino(&self) -> u64 {
        self.0.ino.get().into()
    }

    /// Mode of the inode.
    pub fn mode(&self) -> u32 {
        self.0.mode.get()
    }

    /// The name's bytes.
    pub fn name(&self) -> &[u8] {
        &self.0.name[..usize::from(self.0.name_len.get()).min(NAME_MAX)]
    }

    /// The structure as it lies in the image.
    pub fn raw(&self) -> &RawDirent {
        &self.0
    }
}

/// An extended attribute: name and value.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// The base image of a region.
#[derive(Debug)]
pub struct Base {
    region: Arc<Region>,
    flags: u32,
    // The base superblock as it was when the base image was opened: judged and used from here.
    header: Box<BaseSuperblock>,
    offset: u64,
    size: u64,
    inode_table: u64,
    inode_count: u32,
    xattrs: Range<u64>,
    // Positions in order of names, for directories of plain v3, which are not sorted.
    orders: RwLock<HashMap<u64, Arc<[u32]>>>,
    // The directory that each directory lies in; found when first asked for.
    parents: OnceLock<HashMap<u64, u64>>,
}

impl Base {
    /// Reads the base superblock and checks that its tables lie inside the base image.
    pub fn open(region: Arc<Region>, superblock: &Superblock) -> Result<Self> {
        let offset = superblock.base_offset.get();
        let mut base = Self {
            region,
            flags: superblock.flags.get(),
            header: Box::new(BaseSuperblock::zeroed()),
            offset,
            size: superblock.base_size.get(),
            inode_table: 0,
            inode_count: 0,
            xattrs: 0..0,
            orders: RwLock::default(),
            parents: OnceLock::new(),
        };
        if offset == 0 {
            return Ok(base);
        }
        base.region.read_into(offset, base.header.as_mut_bytes())?;
        let header = &base.header;
        let field = |what, at: u64, expected: u64, found: u64| {
            if expected == found {
                return Ok(());
            }
            let (expected, found) = (format!("{expected:#x}"), format!("{found:#x}"));
            Err(Error::corrupt(what, offset + at, expected, found))
        };
        field("magic number of the base image", 0, BASE_MAGIC.into(), header.magic.get().into())?;
        field("version of the base image", 4, VERSION.into(), header.version.get().into())?;
        field("block size of the base image", 12, BLOCK_SIZE, header.block_size.get().into())?;
        field("root inode", 36, ROOT_INO, header.root_inode.get().into())?;
        let inside = |what, at: u64, start: u64, len: u64| {
            if start.checked_add(len).is_some_and(|end| end <= base.size) {
                return Ok(offset + start);
            }
            let limit = format!("inside the base image of {:#x} bytes", base.size);
            Err(Error::corrupt(what, offset + at, limit, format!("{len:#x} bytes from {start:#x}")))
        };
        let count = header.inode_count.get();
        if count == 0 || count > INODES_MAX {
            let limit = format!("1 to {INODES_MAX}");
            return Err(Error::corrupt("inode count", offset + 32, limit, count));
        }
        let table_size = u64::from(count) * INODE_SIZE;
        let inode_table = inside("inode table", 24, header.inode_offset.get(), table_size)?;
        let mut xattrs = 0..0;
        if base.has(feature::XATTRS) {
            let size = header.xattr_size.get();
            let start = inside("extended attributes", 48, header.xattr_offset.get(), size)?;
            xattrs = start..start + size;
        }
        base.inode_table = inode_table;
        base.inode_count = count;
        base.xattrs = xattrs;
        Ok(base)
    }

    /// Whether a feature bit is set.
    pub fn has(&self, bit: u32) -> bool {
        self.flags & bit != 0
    }

    /// The base superblock as it was read.
    pub fn header(&self) -> &BaseSuperblock {
        &self.header
    }

    /// Number of inodes.
    pub fn inode_count(&self) -> u32 {
        self.inode_count
    }

    /// The base image's range in the image.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.size
    }

    /// The range of the extended attributes in the image.
    pub fn xattr_range(&self) -> Range<u64> {
        self.xattrs.clone()
    }

    /// The region that the image lies in.
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Whether the byte at an image offset belongs to the base image.
    pub fn holds(&self, at: u64) -> bool {
        at.checked_sub(self.offset).is_some_and(|at| at < self.size)
    }

    /// Image offset of an inode's record, whether or not it exists.
    pub fn inode_offset(&self, ino: u64) -> u64 {
        self.inode_table.saturating_add(ino.saturating_sub(1).saturating_mul(INODE_SIZE))
    }

    /// Whether there is an inode numbered `ino`.
    pub fn contains(&self, ino: u64) -> bool {
        ino == ROOT_INO || (1..=self.inode_count.into()).contains(&ino)
    }

    /// The inode numbered `ino`; its data are proved to lie inside the base image.
    pub fn inode(&self, ino: u64) -> Result<Inode> {
        if self.offset == 0 && ino == ROOT_INO {
            let mode = mode::DIRECTORY | 0o755;
            return Ok(Inode { ino: ROOT_INO, mode, nlink: 2, ..Inode::default() });
        }
        if ino == 0 || ino > self.inode_count.into() {
            let limit = format!("1 to {}", self.inode_count);
            return Err(Error::corrupt("inode number", self.inode_table, limit, ino));
        }
        let at = self.inode_offset(ino);
        self.decode(at, ino, &self.region.read(at)?)
    }

    /// Turns an inode's record at image offset `at` into an [`Inode`].
    pub fn decode(&self, at: u64, ino: u64, raw: &BaseInode) -> Result<Inode> {
        if u64::from(raw.ino.get()) != ino {
            return Err(Error::corrupt("inode number", at, ino, raw.ino));
        }
        let extended = self.has(feature::INODE_EXT);
        let mtime = if extended { raw.mtime.get() } else { 0 };
        let mut inode = Inode {
            ino,
            mode: raw.mode.get(),
            uid: raw.uid.get(),
            gid: raw.gid.get(),
            size: raw.size.get(),
            nlink: raw.nlink.get(),
            rdev: if extended { raw.rdev.get() } else { 0 },
            atime: mtime,
            mtime,
            ctime: mtime,
            data: 0,
            xattrs: 0,
        };
        if inode.is_symlink() && inode.size > TARGET_MAX {
            let limit = format!("at most {TARGET_MAX}");
            return Err(Error::corrupt("size of a symlink", at + 16, limit, inode.size));
        }
        let start = raw.data_offset.get();
        if inode.size > 0 {
            if start.checked_add(inode.stored()).is_none_or(|end| end > self.size) {
                return Err(Error::corrupt(
                    "data of an inode",
                    at + 24,
                    format_args!("inside the base image of {:#x} bytes", self.size),
                    format_args!("{:#x} bytes from {start:#x}", inode.stored()),
                ));
            }
            inode.data = self.offset + start;
        }
        if self.has(feature::XATTRS) && raw.xattr_offset != 0 {
            let set = raw.xattr_offset.get().checked_add(self.offset);
            match set.filter(|set| self.xattrs.contains(set)) {
                Some(set) => inode.xattrs = set,
                None => {
                    return Err(Error::corrupt(
                        "attribute set of an inode",
                        at + 48,
                        format_args!("inside {:#x?}", self.xattrs),
                        format_args!("base offset {:#x}", raw.xattr_offset.get()),
                    ));
                }
            }
        }
        Ok(inode)
    }

    /// The directory that a directory other than the root lies in, if any does.
    pub fn parent(&self, directory: u64) -> Result<Option<u64>> {
        if let Some(parents) = self.parents.get() {
            return Ok(parents.get(&directory).copied());
        }
        let parents = self.find_parents()?;
        Ok(self.parents.get_or_init(|| parents).get(&directory).copied())
    }

    fn find_parents(&self) -> Result<HashMap<u64, u64>> {
        let mut parents = HashMap::new();
        // Directories that share their bytes could make this endless; sound ones lie apart.
        let mut room = self.size;
        for ino in 1..=self.inode_count.into() {
            let directory = self.inode(ino)?;
            if !directory.is_dir() {
                continue;
            }
            let Some(rest) = room.checked_sub(directory.size) else {
                let (at, limit) = (self.inode_offset(ino) + 16, format!("at most {room:#x}"));
                return Err(Error::corrupt("size of a directory", at, limit, directory.size));
            };
            room = rest;
            for entry in self.dirents(directory) {
                let entry = entry?;
                if entry.mode() & mode::TYPE == mode::DIRECTORY {
                    parents.entry(entry.ino()).or_insert(ino);
                }
            }
        }
        Ok(parents)
    }

    /// Number of entries in a directory.
    pub fn dirent_count(&self, directory: &Inode) -> u64 {
        directory.size / DIRENT_SIZE
    }

    /// The entry at `position` of a directory.
    #[inline]
    pub fn dirent(&self, directory: &Inode, position: u64) -> Result<Dirent> {
        let at = directory.data + position * DIRENT_SIZE;
        let raw: RawDirent = self.region.read(at)?;
        if usize::from(raw.name_len.get()) > NAME_MAX {
            return Err(Error::corrupt("length of a name", at + 8, "at most 128", raw.name_len));
        }
        Ok(Dirent(raw))
    }

    /// The entries of a directory, in the image's order.
    pub fn dirents(&self, directory: Inode) -> impl Iterator<Item = Result<Dirent>> + '_ {
        self.dirents_from(directory, 0)
    }

    /// The entries of a directory from the one at `position` on.
    pub fn dirents_from(
        &self,
        directory: Inode,
        position: u64,
    ) -> impl Iterator<Item = Result<Dirent>> + '_ {
        (position..self.dirent_count(&directory))
            .map(move |position| self.dirent(&directory, position))
    }

    /// Copies a file's bytes from `offset` on; returns how many, 0 at the end.
    pub fn read(&self, file: &Inode, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let len = file.size.saturating_sub(offset).min(buffer.len() as u64);
        if len > 0 {
            self.region.read_into(file.data + offset, &mut buffer[..len as usize])?;
        }
        Ok(len as usize)
    }

    /// A symlink's target.
    pub fn readlink(&self, link: &Inode) -> Result<Vec<u8>> {
        self.region.read_vec(link.data, link.size)
    }
}
