// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Geometry: where everything of a tree will lie in its image.

use zerocopy::little_endian::{U32, U64};

use crate::error::{Error, Result};
use crate::format::{
    BLOCK_SIZE, BRANCH_RECORDS, BRANCH_TABLE_SIZE, HUGE_SIZE, INODE_SIZE, MAGIC, MAIN_ID,
    OPENER_ENTRIES, OPENER_TABLE_SIZE, OWNER_WORD, RESERVE_SLOTS, Superblock, VERSION, feature,
    mode,
};
use crate::source::{Node, Tree};

/// Delta region when nobody says how large.
pub const DELTA_DEFAULT: u64 = 64 << 20;
/// Fewest heap blocks that are of use.
const HEAP_MIN: u64 = 64;

/// What makes up the whole image, besides its tree.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    /// Whether there are branches.
    pub branches: bool,
    /// Bytes of the delta region.
    pub delta_size: Option<u64>,
    /// Bytes of the whole image.
    pub size: Option<u64>,
}

/// Where the parts of a base image lie; all offsets are base offsets.
#[derive(Debug)]
pub struct Placement {
    /// Image offset of the base image.
    pub base_offset: u64,
    /// The inode table.
    pub inode_offset: u64,
    /// First byte after the inode table, on a block.
    pub data_offset: u64,
    /// Data of each node, 0 where there are none.
    pub data: Vec<u64>,
    /// First byte after all data, on a block: where attribute sets begin.
    pub data_end: u64,
}

impl Placement {
    /// Places a tree: inode table, directories, symlinks and small files, then files of 2 MiB and
    /// more, each on a 2 MiB boundary of the image.
    pub fn new(tree: &Tree, base_offset: u64) -> Result<Self> {
        let mut cursor = Cursor { base_offset, end: data_offset(tree) };
        let mut data = vec![0; tree.nodes().len()];
        let classes: [fn(&Node) -> bool; 3] =
            [Node::is_dir, |node| !node.is_dir() && !is_huge(node), is_huge];
        for class in classes {
            for (slot, node) in data.iter_mut().zip(tree.nodes()).filter(|(_, node)| class(node)) {
                if is_huge(node) {
                    cursor.align()?;
                }
                *slot = cursor.place(stored_size(node))?;
            }
        }
        Ok(Self {
            base_offset,
            inode_offset: INODE_OFFSET,
            data_offset: data_offset(tree),
            data,
            data_end: cursor.end,
        })
    }
}

/// Base offset of the inode table.
const INODE_OFFSET: u64 = BLOCK_SIZE;

/// Where the inode table's room ends. There is room for an inode of each name: which of them name
/// the same file is not known as early as this.
fn data_offset(tree: &Tree) -> u64 {
    (INODE_OFFSET + tree.names() * INODE_SIZE).next_multiple_of(BLOCK_SIZE)
}

/// Gives data their places, one after the other.
#[derive(Debug)]
pub struct Cursor {
    base_offset: u64,
    end: u64,
}

impl Cursor {
    /// Begins where a tree's directories end.
    pub fn behind_directories(tree: &Tree, base_offset: u64) -> Result<Self> {
        let mut cursor = Self { base_offset, end: data_offset(tree) };
        for node in tree.nodes().iter().filter(|node| node.is_dir()) {
            cursor.place(node.size)?;
        }
        Ok(cursor)
    }

    /// Goes on at a 2 MiB boundary of the image.
    fn align(&mut self) -> Result<()> {
        let aligned = (self.base_offset + self.end).checked_next_multiple_of(HUGE_SIZE);
        self.end = aligned.ok_or_else(too_large)? - self.base_offset;
        Ok(())
    }

    /// Places so many bytes: their base offset, 0 when there are none.
    pub fn place(&mut self, size: u64) -> Result<u64> {
        let start = self.end;
        self.end = start
            .checked_add(size)
            .and_then(|end| end.checked_next_multiple_of(BLOCK_SIZE))
            // Leave room for what follows the base image.
            .filter(|end| *end < i64::MAX as u64 / 2)
            .ok_or_else(too_large)?;
        Ok(if size == 0 { 0 } else { start })
    }
}

fn too_large() -> Error {
    Error::invalid("the tree needs more bytes than an image can count")
}

/// Whether a node gets a 2 MiB boundary.
pub fn is_huge(node: &Node) -> bool {
    node.is_file() && node.size >= HUGE_SIZE
}

/// Bytes that a node's data take, the NUL of a symlink included.
pub fn stored_size(node: &Node) -> u64 {
    match node.mode & mode::TYPE {
        mode::SYMLINK => node.size + 1,
        _ => node.size,
    }
}

/// Image offset of the base image: after the superblock and, with branches, their table.
pub fn base_offset(shape: &Shape) -> u64 {
    BLOCK_SIZE + if shape.branches { BRANCH_TABLE_SIZE } else { 0 }
}

/// The superblock of an image whose base image has `base_size` bytes and `inodes` inodes; without
/// identity and checksum.
pub fn superblock(shape: &Shape, base_size: u64, inodes: u32, flags: u32) -> Result<Superblock> {
    let base_offset = base_offset(shape);
    let too_large = || Error::invalid("the image would be larger than can be counted");
    let base_end = base_offset.checked_add(base_size).ok_or_else(too_large)?;
    let mut superblock = Superblock {
        magic: U32::new(MAGIC),
        version: U32::new(VERSION),
        flags: U32::new(flags),
        block_size: U32::new(BLOCK_SIZE as u32),
        base_offset: U64::new(base_offset),
        base_size: U64::new(base_size),
        next_inode_id: U64::new(u64::from(inodes) + 1),
        ..Superblock::zeroed()
    };
    // Whole blocks only: a region that ends between blocks cannot use the rest.
    let size = shape.size.map(|size| size - size % BLOCK_SIZE);
    let delta_size = match (shape.branches, shape.delta_size, size) {
        (false, ..) => 0,
        (true, Some(delta), _) => {
            delta.checked_next_multiple_of(BLOCK_SIZE).ok_or_else(too_large)?
        }
        (true, None, Some(size)) => size.saturating_sub(base_end).max(delta_min()),
        (true, None, None) => DELTA_DEFAULT,
    };
    let needed = base_end.checked_add(delta_size).ok_or_else(too_large)?;
    let total = size.unwrap_or(needed);
    if needed > total {
        return Err(Error::NoSpace {
            what: "the image",
            needed,
            available: shape.size.unwrap_or(total),
            advice: "; raise the size or leave something out",
        });
    }
    if i64::try_from(total).is_err() {
        return Err(too_large());
    }
    superblock.total_size = total.into();
    if shape.branches {
        superblock.flags |= feature::BRANCHES;
        place_delta(&mut superblock, base_end, delta_size)?;
    }
    Ok(superblock)
}

/// Smallest delta region that is of use.
fn delta_min() -> u64 {
    let map = (HEAP_MIN * OWNER_WORD).next_multiple_of(BLOCK_SIZE);
    map + OPENER_TABLE_SIZE + HEAP_MIN * BLOCK_SIZE
}

/// Divides the delta region: owner map, opener table, heap.
fn place_delta(superblock: &mut Superblock, offset: u64, size: u64) -> Result<()> {
    if size < delta_min() {
        return Err(Error::invalid(format!(
            "a delta region of {size} bytes is too small, it needs {} at least",
            delta_min()
        )));
    }
    let room = (size - OPENER_TABLE_SIZE) / BLOCK_SIZE;
    // Each block of map serves this many blocks of heap.
    let served = BLOCK_SIZE / OWNER_WORD;
    let map_blocks = room.div_ceil(served + 1);
    let heap_blocks = room - map_blocks;
    let opener_table = offset + map_blocks * BLOCK_SIZE;
    superblock.branch_table_offset = BLOCK_SIZE.into();
    superblock.branch_table_entries = BRANCH_RECORDS.into();
    superblock.delta_region_offset = offset.into();
    superblock.delta_region_size = size.into();
    superblock.delta_alloc_offset = (offset + size).into();
    superblock.owner_map_offset = offset.into();
    superblock.opener_table_offset = opener_table.into();
    superblock.opener_table_entries = OPENER_ENTRIES.into();
    superblock.reserve_slots = RESERVE_SLOTS.into();
    superblock.heap_offset = (opener_table + OPENER_TABLE_SIZE).into();
    superblock.heap_blocks = heap_blocks.into();
    superblock.reserve_blocks = (heap_blocks / 128).max(16).into();
    superblock.head = MAIN_ID.into();
    superblock.epoch = 1.into();
    Ok(())
}
