// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Images of ours with branches whose logs are made entry by entry.

use std::ops::Range;

use daxfs_core::delta::{CONTINUE_SIZE, Change, Cursor, Name, encode, encode_continue};
use daxfs_core::format::{
    BLOCK_SIZE, BranchRecord, MAIN_ID, MAIN_NAME, OWNER_WORD, OpenerEntry, Superblock, mode, state,
};
use daxfs_core::layout::Shape;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::sample::{sample, superblock_of};

/// A log entry to be: inode of its header, time, what it does, and the bytes of a WRITE.
pub type Step = (u64, i64, Change, Vec<u8>);

/// An image of the sample tree, with a heap to put logs and data in.
#[derive(Clone)]
pub struct Ours {
    pub bytes: Vec<u8>,
    pub superblock: Superblock,
    next_block: u64,
}

impl Ours {
    /// Main has nothing of its own yet.
    pub fn new(heap_blocks: u64) -> Self {
        let delta_size = Some(heap_blocks * (BLOCK_SIZE + OWNER_WORD) + (32 << 10));
        let bytes = sample(Shape { branches: true, delta_size, size: None });
        let superblock = superblock_of(&bytes);
        Self { bytes, superblock, next_block: 0 }
    }

    /// Changes a structure where it lies.
    pub fn edit<T>(&mut self, at: u64, change: impl FnOnce(&mut T))
    where
        T: FromBytes + IntoBytes + KnownLayout + Immutable,
    {
        change(T::mut_from_prefix(&mut self.bytes[at as usize..]).expect("inside").0);
    }

    /// Changes the superblock, except for what the checksum covers.
    pub fn words(&mut self, change: impl FnOnce(&mut Superblock)) {
        self.edit(0, change);
        self.superblock = superblock_of(&self.bytes);
    }

    /// Image offset of a slot of the branch table.
    pub fn record_at(&self, slot: u64) -> u64 {
        self.superblock.branch_table_offset.get() + slot * size_of::<BranchRecord>() as u64
    }

    /// Changes a branch record.
    pub fn record(&mut self, slot: u64, change: impl FnOnce(&mut BranchRecord)) {
        self.edit(self.record_at(slot), change);
    }

    /// Changes an opener entry.
    pub fn opener(&mut self, slot: u64, change: impl FnOnce(&mut OpenerEntry)) {
        let at = self.superblock.opener_table_offset.get();
        self.edit(at + slot * size_of::<OpenerEntry>() as u64, change);
    }

    /// Image offset of the owner map's word for a block of the heap.
    pub fn map_word(&self, at: u64) -> u64 {
        let block = (at - self.superblock.heap_offset.get()) / BLOCK_SIZE;
        self.superblock.owner_map_offset.get() + block * OWNER_WORD
    }

    /// Sets the owners of the blocks that a range of the image touches.
    pub fn own(&mut self, range: Range<u64>, owner: u64) {
        for at in (range.start..range.end).step_by(BLOCK_SIZE as usize) {
            let word = self.map_word(at) as usize;
            self.bytes[word..word + 8].copy_from_slice(&owner.to_le_bytes());
        }
    }

    /// Blocks that nobody had before; their bytes all differ.
    pub fn allocate(&mut self, owner: u64, blocks: u64) -> Range<u64> {
        let start = self.superblock.heap_offset.get() + self.next_block * BLOCK_SIZE;
        let range = start..start + blocks * BLOCK_SIZE;
        self.next_block += blocks;
        assert!(self.next_block <= self.superblock.heap_blocks.get(), "the heap is full");
        self.own(range.clone(), owner);
        for at in range.clone().step_by(8) {
            let word = super::sample::scatter(at).to_le_bytes();
            self.bytes[at as usize..at as usize + 8].copy_from_slice(&word);
        }
        range
    }

    /// Writes a log into segments of so many blocks; says where it begins, and its size.
    pub fn write_log(&mut self, owner: u64, steps: &[Step], blocks: u64) -> (Cursor, u64) {
        let mut segment = self.allocate(owner, blocks);
        let first = Cursor::new(segment.start, segment.end - segment.start);
        let (mut at, mut size) = (segment.start, 0);
        for (ino, time, change, data) in steps {
            let mut entry = Vec::new();
            encode(&mut entry, *ino, *time, change, data);
            if at + entry.len() as u64 + CONTINUE_SIZE > segment.end {
                let blocks = blocks.max((entry.len() as u64 + CONTINUE_SIZE).div_ceil(BLOCK_SIZE));
                let next = self.allocate(owner, blocks);
                let mut link = Vec::new();
                encode_continue(&mut link, *time, next.clone());
                self.bytes[at as usize..at as usize + link.len()].copy_from_slice(&link);
                size += link.len() as u64;
                at = next.start;
                segment = next;
            }
            self.bytes[at as usize..at as usize + entry.len()].copy_from_slice(&entry);
            at += entry.len() as u64;
            size += entry.len() as u64;
        }
        (first, size)
    }

    /// Makes an active record with this log. Main's is slot 0 with parent 0.
    pub fn branch(&mut self, slot: u64, name: &str, parent: u64, steps: &[Step]) -> u64 {
        let id = slot + 1;
        let (log, size) = self.write_log(id, steps, 1);
        self.record(slot, |record| {
            *record = BranchRecord::zeroed();
            record.branch_id.set(id);
            record.parent_id.set(parent);
            record.delta_log_offset.set(log.at);
            record.delta_log_size.set(size);
            record.delta_log_capacity.set(log.segment_end - log.at);
            record.state.set(state::ACTIVE);
            record.name[..name.len()].copy_from_slice(name.as_bytes());
            record.base_head.set(if id == MAIN_ID { 0 } else { MAIN_ID });
            record.checksum = record.expected_checksum().into();
        });
        let used = steps.iter().filter_map(|(ino, _, change, _)| match change {
            Change::Mknod { .. } => Some(*ino + 1),
            _ => None,
        });
        let next = used.max().unwrap_or(0).max(self.superblock.next_inode_id.get());
        self.words(|superblock| superblock.next_inode_id.set(next));
        id
    }
}

/// An entry that makes an inode in `parent`.
pub fn make(parent: u64, ino: u64, mode: u32, name: &str) -> Step {
    let directory = mode & mode::TYPE == mode::SYMLINK;
    let change = Change::Mknod {
        parent,
        mode,
        uid: 7,
        gid: 8,
        rdev: 0,
        name: Name::from(name.as_bytes()),
        target: directory.then(|| b"target"[..].into()),
    };
    (ino, 1_000_000 + ino as i64, change, Vec::new())
}

/// An image of ours in which every type of entry occurs, in several segments and two layers: main
/// and its child "b".
pub fn every_entry() -> Ours {
    let mut image = Ours::new(64);
    let first = image.superblock.next_inode_id.get();
    let [dir, file, link, other] = [first, first + 1, first + 2, first + 3];
    let name = |name: &str| Name::from(name.as_bytes());
    let none = Vec::new();
    let set = |mode, uid, size, atime, mtime, ctime| Change::SetAttr {
        mode,
        uid,
        gid: uid,
        size,
        atime,
        mtime,
        ctime,
    };
    let data = image.allocate(MAIN_ID, 2);
    let extent = |offset, from: u64, len, keep_size| {
        let image_offset = from + offset % BLOCK_SIZE;
        Change::Extent { offset, len, image_offset, keep_size }
    };
    let mut steps = vec![
        make(1, dir, mode::DIRECTORY | 0o755, "made"),
        make(dir, file, mode::REGULAR | 0o600, "file"),
        make(dir, link, mode::SYMLINK | 0o777, "link"),
        make(1, other, mode::CHAR | 0o660, "device"),
        (file, 5, Change::Write { offset: 3, data: 0, len: 5 }, b"bytes".to_vec()),
        (file, 6, extent(8192, data.start, 4096, false), none.clone()),
        (file, 7, extent(12288, data.start + 4096, 100, true), none.clone()),
        (file, 8, Change::Punch { offset: 8200, len: 50 }, none.clone()),
        (file, 9, Change::Link { parent: 1, name: name("second") }, none.clone()),
        (
            file,
            10,
            Change::SetXattr { name: b"user.kind"[..].into(), value: Some(b"odd"[..].into()) },
            none.clone(),
        ),
        (
            file,
            11,
            Change::SetXattr { name: b"user.gone"[..].into(), value: Some(b""[..].into()) },
            none.clone(),
        ),
        (file, 12, Change::SetXattr { name: b"user.gone"[..].into(), value: None }, none.clone()),
        (file, 13, set(Some(0o4711), Some(3), None, Some(-5), None, Some(99)), none.clone()),
        (dir, 14, set(None, None, None, Some(1), Some(2), None), none.clone()),
        (file, 15, set(None, None, Some(9000), None, None, None), none.clone()),
        (other, 16, Change::Delete { parent: 1, name: name("device") }, none.clone()),
        (
            file,
            17,
            Change::Rename {
                ino: file,
                old_parent: dir,
                new_parent: dir,
                old_name: name("file"),
                new_name: name("link"),
                exchange: true,
            },
            none.clone(),
        ),
    ];
    // Enough for another segment.
    for at in 0..60 {
        steps.push(make(dir, other + 1 + at, mode::FIFO | 0o600, &format!("many-{at}")));
    }
    image.branch(0, MAIN_NAME, 0, &steps);
    let rename = Change::Rename {
        ino: dir,
        old_parent: 1,
        new_parent: 1,
        old_name: name("made"),
        new_name: name("moved"),
        exchange: false,
    };
    let steps = [
        (file, 20, Change::Truncate { size: 5000 }, none.clone()),
        (dir, 21, rename, none),
        (file, 22, Change::Write { offset: 6000, data: 0, len: 3 }, b"end".to_vec()),
    ];
    image.branch(1, "b", MAIN_ID, &steps);
    image
}
