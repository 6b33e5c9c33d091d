// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The delta log: entries decoded one by one, for replay and proof alike, and encoded.
//!
//! Every structure is copied out once and checked in the copy. A scan does at most one step for
//! each 24 bytes of the log, whatever the entries say. Errors name the offset of their entry.

mod encode;
mod scan;

use std::ops::Range;

pub use encode::{CONTINUE_SIZE, encode, encode_continue};
pub use scan::{Scan, Step, scan};

use crate::format::{BLOCK_SIZE, Superblock, feature};
pub use crate::name::{Name, is_name};

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
