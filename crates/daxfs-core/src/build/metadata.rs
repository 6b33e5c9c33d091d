// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writing everything but contents: dirents, inodes, attribute sets, headers, branch structures.

use rayon::prelude::*;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{I64, U16, U32, U64};

use super::sink::Sink;
use crate::base::Xattr;
use crate::error::Result;
use crate::format::{
    BASE_MAGIC, BLOCK_SIZE, BRANCH_TABLE_SIZE, BaseInode, BaseSuperblock, BranchRecord, INODE_SIZE,
    MAIN_ID, MAIN_NAME, OWNER_WORD, ROOT_INO, RawDirent, Superblock, VERSION, XattrEntry, XattrSet,
    state,
};
use crate::layout::Placement;
use crate::source::{Node, NodeId, Tree};

/// Bytes of dirents, or of the inode table, written at once.
const BATCH: u64 = 256 << 10;

/// Writes every directory; gives the checksums of their dirent arrays.
pub(super) fn write_directories(
    tree: &Tree,
    placement: &Placement,
    sink: &Sink,
) -> Result<Vec<(NodeId, u32)>> {
    let mut batches: Vec<Vec<NodeId>> = Vec::new();
    let mut bytes = BATCH;
    for (id, node) in (0..).zip(tree.nodes()) {
        if node.is_dir() && node.size > 0 {
            if bytes >= BATCH {
                batches.push(Vec::new());
                bytes = 0;
            }
            batches.last_mut().expect("pushed above").push(id);
            bytes += node.size.next_multiple_of(BLOCK_SIZE);
        }
    }
    let sums: Vec<Vec<(NodeId, u32)>> = batches
        .par_iter()
        .map(|batch| {
            let mut bytes = Vec::new();
            let mut sums = Vec::with_capacity(batch.len());
            for &id in batch {
                let start = bytes.len();
                append_dirents(tree, tree.node(id), &mut bytes);
                sums.push((id, crc32c::crc32c(&bytes[start..])));
                bytes.resize(bytes.len().next_multiple_of(BLOCK_SIZE as usize), 0);
            }
            let start = placement.data[batch[0] as usize];
            sink.write(placement.base_offset + start, &bytes)?;
            Ok(sums)
        })
        .collect::<Result<_>>()?;
    Ok(sums.into_iter().flatten().collect())
}

fn append_dirents(tree: &Tree, directory: &Node, bytes: &mut Vec<u8>) {
    bytes.reserve(directory.size as usize + BLOCK_SIZE as usize);
    for link in tree.children(directory) {
        let name = tree.name(link);
        let mut raw = RawDirent {
            ino: U32::new(link.node + 1),
            mode: U32::new(tree.node(link.node).mode),
            name_len: U16::new(name.len() as u16),
            ..RawDirent::zeroed()
        };
        raw.name[..name.len()].copy_from_slice(name);
        bytes.extend_from_slice(raw.as_bytes());
    }
}

/// The attribute sets of a tree as they will lie in the image, and each set's base offset.
pub(super) struct XattrRegion {
    pub(super) bytes: Vec<u8>,
    offsets: Vec<u64>,
}

impl XattrRegion {
    /// Lays the sets out in the order in which inodes use them, from base offset `start` on.
    pub(super) fn new(tree: &Tree, start: u64) -> Self {
        let mut region = Self { bytes: Vec::new(), offsets: vec![0; tree.xattr_sets().len() + 1] };
        for node in tree.nodes() {
            let set = node.xattrs as usize;
            if set != 0 && region.offsets[set] == 0 {
                region.offsets[set] = start + region.bytes.len() as u64;
                append_set(&tree.xattr_sets()[set - 1], &mut region.bytes);
            }
        }
        region
    }
}

fn append_set(set: &[Xattr], bytes: &mut Vec<u8>) {
    let start = bytes.len();
    let body = start + size_of::<XattrSet>();
    bytes.resize(body, 0);
    for (name, value) in set {
        let entry = XattrEntry {
            name_len: U16::new(name.len() as u16),
            value_len: U32::new(value.len() as u32),
            ..XattrEntry::zeroed()
        };
        bytes.extend_from_slice(entry.as_bytes());
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    let mut header = XattrSet {
        size: U32::new((bytes.len() - start) as u32),
        count: U32::new(set.len() as u32),
        ..XattrSet::zeroed()
    };
    bytes[start..body].copy_from_slice(header.as_bytes());
    header.checksum = crc32c::crc32c(&bytes[start + 8..]).into();
    bytes[start..body].copy_from_slice(header.as_bytes());
}

/// Writes the inode table; gives the inodes' checksums, which stand for all metadata.
pub(super) fn write_inodes(
    tree: &Tree,
    placement: &Placement,
    sums: &[u32],
    xattrs: &XattrRegion,
    sink: &Sink,
) -> Result<Vec<u8>> {
    let per_batch = (BATCH / INODE_SIZE) as usize;
    let checksums: Vec<Vec<u8>> = tree
        .nodes()
        .par_chunks(per_batch)
        .enumerate()
        .map(|(batch, nodes)| {
            let first = batch * per_batch;
            let mut bytes = Vec::with_capacity(nodes.len() * INODE_SIZE as usize);
            let mut checksums = Vec::with_capacity(nodes.len() * 4);
            for (index, node) in (first..).zip(nodes) {
                let mut raw = BaseInode {
                    ino: U32::new(index as u32 + 1),
                    mode: U32::new(node.mode),
                    uid: U32::new(node.uid),
                    gid: U32::new(node.gid),
                    size: U64::new(node.size),
                    data_offset: U64::new(placement.data[index]),
                    nlink: U32::new(node.nlink),
                    rdev: U32::new(node.rdev),
                    mtime: I64::new(node.mtime),
                    xattr_offset: U64::new(xattrs.offsets[node.xattrs as usize]),
                    data_checksum: U32::new(sums[index]),
                    checksum: U32::ZERO,
                };
                raw.checksum = crc32c::crc32c(&raw.as_bytes()[..60]).into();
                checksums.extend_from_slice(raw.checksum.as_bytes());
                bytes.extend_from_slice(raw.as_bytes());
            }
            let at = placement.base_offset + placement.inode_offset;
            sink.write(at + first as u64 * INODE_SIZE, &bytes)?;
            Ok(checksums)
        })
        .collect::<Result<_>>()?;
    Ok(checksums.concat())
}

/// The base superblock.
pub(super) fn base_superblock(
    placement: &Placement,
    inodes: u32,
    size: u64,
    xattr_size: u64,
) -> BaseSuperblock {
    let mut header = BaseSuperblock {
        magic: U32::new(BASE_MAGIC),
        version: U32::new(VERSION),
        block_size: U32::new(BLOCK_SIZE as u32),
        total_size: U64::new(size),
        inode_offset: U64::new(placement.inode_offset),
        inode_count: U32::new(inodes),
        root_inode: U32::new(ROOT_INO as u32),
        data_offset: U64::new(placement.data_offset),
        xattr_offset: U64::new(if xattr_size > 0 { placement.data_end } else { 0 }),
        xattr_size: U64::new(xattr_size),
        ..BaseSuperblock::zeroed()
    };
    header.checksum = crc32c::crc32c(&header.as_bytes()[..4092]).into();
    header
}

/// Writes what a first use of the branches would otherwise have to initialise: main's record;
/// owner map and opener table are zeroes.
pub(super) fn write_branches(superblock: &Superblock, sink: &Sink) -> Result<()> {
    let table = superblock.branch_table_offset.get();
    let mut record = BranchRecord {
        branch_id: U64::new(MAIN_ID),
        state: U32::new(state::ACTIVE),
        ..BranchRecord::zeroed()
    };
    record.name[..MAIN_NAME.len()].copy_from_slice(MAIN_NAME.as_bytes());
    record.checksum = record.expected_checksum().into();
    let map = superblock.owner_map_offset.get();
    sink.zero(table, table + BRANCH_TABLE_SIZE)?;
    sink.zero(map, map + superblock.heap_blocks.get() * OWNER_WORD)?;
    sink.zero(superblock.opener_table_offset.get(), superblock.heap_offset.get())?;
    sink.write(table, record.as_bytes())
}
