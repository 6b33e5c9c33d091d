// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Blocks of the heap and who owns them: the owner map.
//!
//! A block is taken by a compare-and-swap of its map word from 0 to the owning record's id, and
//! given back by the reverse. So freeing twice is harmless and no block has two owners.

use std::ops::{Range, RangeInclusive};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::format::{BLOCK_SIZE, OWNER_WORD, Superblock};
use crate::region::Region;

/// Image offset of the word that says where to begin to look for free blocks.
const HINT: u64 = std::mem::offset_of!(Superblock, alloc_hint) as u64;

/// Blocks that get memory behind them at once, when the first of them is taken.
const CHUNK: u64 = 64;

/// A run of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Image offset of the first byte.
    pub offset: u64,
    /// Blocks.
    pub blocks: u64,
}

#[expect(clippy::len_without_is_empty, reason = "a run has one block at least")]
impl Run {
    /// Bytes.
    pub fn len(&self) -> u64 {
        self.blocks * BLOCK_SIZE
    }

    /// First byte after the run.
    pub fn end(&self) -> u64 {
        self.offset + self.len()
    }
}

/// How many blocks were free when they were counted, less what was taken here since.
#[derive(Debug, Default)]
struct Count {
    free: u64,
    /// Blocks that may be taken before they are counted again.
    trusted: u64,
}

/// The heap and its owner map.
#[derive(Debug)]
pub struct Heap {
    region: Arc<Region>,
    map: u64,
    start: u64,
    blocks: u64,
    reserve: u64,
    count: Mutex<Count>,
    // Bit n: chunk n has memory behind it.
    populated: Box<[AtomicU64]>,
}

impl Heap {
    /// The heap of an image whose superblock has been checked.
    pub fn new(region: Arc<Region>, superblock: &Superblock) -> Self {
        let blocks = superblock.heap_blocks.get();
        let words = blocks.div_ceil(CHUNK).div_ceil(64);
        Self {
            region,
            map: superblock.owner_map_offset.get(),
            start: superblock.heap_offset.get(),
            blocks,
            reserve: superblock.reserve_blocks.get().min(blocks),
            count: Mutex::default(),
            populated: (0..words).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Where the heap lies in the image.
    pub fn range(&self) -> Range<u64> {
        self.start..self.start + self.blocks * BLOCK_SIZE
    }

    /// Number of blocks.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The record that owns the block at `offset`; `None` outside the heap.
    #[inline]
    pub fn owner_at(&self, offset: u64) -> Result<Option<u64>> {
        if !self.range().contains(&offset) {
            return Ok(None);
        }
        self.owner((offset - self.start) / BLOCK_SIZE).map(Some)
    }

    fn word(&self, block: u64) -> u64 {
        self.map + block * OWNER_WORD
    }

    fn owner(&self, block: u64) -> Result<u64> {
        self.region.load(self.word(block))
    }

    /// Blocks that are kept for what makes room.
    pub fn reserve(&self) -> u64 {
        self.reserve
    }

    /// Takes as many adjacent blocks as `count` allows for record `id`, and leaves `keep` free.
    pub fn allocate(&self, id: u64, count: RangeInclusive<u64>, keep: u64) -> Result<Run> {
        let room = self.room(*count.start(), keep)?;
        if room < *count.start() {
            return Err(full(*count.start(), room));
        }
        let most = room.min(*count.end());
        let hint = self.region.load(HINT)?;
        let hint = if hint < self.blocks { hint } else { 0 };
        // A run may lie on both sides of where the search begins.
        let wrapped = self.blocks.min(hint.saturating_add(*count.start() - 1));
        for range in [hint..self.blocks, 0..wrapped] {
            let mut block = range.start;
            while block < range.end {
                let taken = self.take_run(id, block..range.end.min(block + most))?;
                if taken >= *count.start() {
                    // Only a hint: whoever stores last, all find their way.
                    self.region.store(HINT, block + taken)?;
                    self.spend(taken);
                    let offset = self.start + block * BLOCK_SIZE;
                    return Ok(Run { offset, blocks: taken });
                }
                // Too short; nobody has seen them.
                for back in block..block + taken {
                    self.region.compare_exchange(self.word(back), id, 0)?;
                }
                block += taken + 1;
            }
        }
        Err(full(*count.start(), 0))
    }

    /// Fails where fewer than `keep` blocks are free: also what takes none may need that many later.
    pub fn expect_free(&self, keep: u64) -> Result<()> {
        let mut count = self.lock_count();
        if count.free < keep {
            let free = self.unowned()?;
            *count = Count { free, trusted: free.saturating_sub(keep) / 8 };
        }
        if count.free < keep { Err(full(keep - count.free, 0)) } else { Ok(()) }
    }

    /// How many blocks can be taken so that `keep` stay free. Others take some as well: the less
    /// there is, the sooner it is counted again.
    fn room(&self, least: u64, keep: u64) -> Result<u64> {
        let mut count = self.lock_count();
        if count.trusted < least || count.free < keep + least {
            let free = self.unowned()?;
            *count = Count { free, trusted: free.saturating_sub(keep) / 8 };
        }
        Ok(count.free.saturating_sub(keep))
    }

    fn spend(&self, blocks: u64) {
        let mut count = self.lock_count();
        count.free = count.free.saturating_sub(blocks);
        count.trusted = count.trusted.saturating_sub(blocks);
    }

    fn lock_count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes free blocks from the front of a range; returns how many.
    fn take_run(&self, id: u64, range: Range<u64>) -> Result<u64> {
        for block in range.clone() {
            if self.owner(block)? != 0 || !self.take(block, id)? {
                return Ok(block - range.start);
            }
        }
        Ok(range.end - range.start)
    }

    fn take(&self, block: u64, id: u64) -> Result<bool> {
        self.populate(block)?;
        self.region.compare_exchange(self.word(block), 0, id)
    }

    /// Puts memory behind a block and its neighbours, once.
    fn populate(&self, block: u64) -> Result<()> {
        let chunk = block / CHUNK;
        let (word, bit) = (&self.populated[(chunk / 64) as usize], 1 << (chunk % 64));
        if word.load(Relaxed) & bit != 0 {
            return Ok(());
        }
        let first = chunk * CHUNK;
        let count = CHUNK.min(self.blocks - first);
        self.region.populate(self.word(first), count * OWNER_WORD)?;
        self.region.populate(self.start + first * BLOCK_SIZE, count * BLOCK_SIZE)?;
        word.fetch_or(bit, Relaxed);
        Ok(())
    }

    /// Begins to write back the map words of a run.
    pub fn persist(&self, run: Run) -> Result<()> {
        let first = (run.offset - self.start) / BLOCK_SIZE;
        self.region.write_back(self.word(first), run.blocks * OWNER_WORD)
    }

    /// Begins to write back every block of a record.
    pub fn persist_owned(&self, id: u64) -> Result<()> {
        for block in 0..self.blocks {
            if self.owner(block)? == id {
                self.region.write_back(self.start + block * BLOCK_SIZE, BLOCK_SIZE)?;
            }
        }
        Ok(())
    }

    /// Makes the whole map durable.
    pub fn persist_map(&self) -> Result<()> {
        self.region.persist(self.map, self.blocks * OWNER_WORD)
    }

    /// Gives one block to another record.
    pub fn hand_over(&self, offset: u64, old: u64, new: u64) -> Result<()> {
        let block = (offset - self.start) / BLOCK_SIZE;
        self.region.compare_exchange(self.word(block), old, new).map(drop)
    }

    /// Gives back the blocks of which `which` says so, given their numbers and owners; returns how
    /// many there were.
    fn free_where(&self, mut which: impl FnMut(u64, u64) -> Result<bool>) -> Result<u64> {
        let mut count = 0;
        let mut first = None;
        for block in 0..self.blocks {
            // The word first, then what it says: see docs/branches.md.
            let owner = self.owner(block)?;
            if owner != 0
                && which(block, owner)?
                && self.region.compare_exchange(self.word(block), owner, 0)?
            {
                first.get_or_insert(block);
                count += 1;
            }
        }
        if let Some(first) = first {
            self.region.store(HINT, first)?;
        }
        Ok(count)
    }

    /// Gives back the blocks of whose owners `is_gone` says so; returns how many there were.
    pub fn free(&self, mut is_gone: impl FnMut(u64) -> Result<bool>) -> Result<u64> {
        self.free_where(|_, owner| is_gone(owner))
    }

    /// Gives back the blocks of a record that lie outside all of `used`, ranges of the image;
    /// returns how many there were.
    pub fn free_unused(&self, id: u64, used: impl Iterator<Item = Range<u64>>) -> Result<u64> {
        let is_used = self.marks(used);
        self.free_where(|block, owner| Ok(owner == id && !is_used(block)))
    }

    /// How many blocks of these records lie outside all of `used`.
    pub fn count_unused(&self, ids: &[u64], used: impl Iterator<Item = Range<u64>>) -> Result<u64> {
        let is_used = self.marks(used);
        let mut count = 0;
        for block in 0..self.blocks {
            count += u64::from(ids.contains(&self.owner(block)?) && !is_used(block));
        }
        Ok(count)
    }

    /// Tells of a block, by its number, whether any of these ranges of the image reaches into it.
    fn marks(&self, ranges: impl Iterator<Item = Range<u64>>) -> impl Fn(u64) -> bool {
        let mut marks = vec![0u64; self.blocks.div_ceil(64) as usize];
        let heap = self.range();
        for range in ranges.filter(|range| heap.contains(&range.start)) {
            let first = (range.start - self.start) / BLOCK_SIZE;
            let end = (range.end.min(heap.end) - self.start).div_ceil(BLOCK_SIZE);
            (first..end).for_each(|block| marks[(block / 64) as usize] |= 1 << (block % 64));
        }
        move |block| marks[(block / 64) as usize] >> (block % 64) & 1 == 1
    }

    /// Calls `each` with the owner of every block that has one.
    pub fn count(&self, mut each: impl FnMut(u64)) -> Result<()> {
        for block in 0..self.blocks {
            let owner = self.owner(block)?;
            if owner != 0 {
                each(owner);
            }
        }
        Ok(())
    }

    /// Blocks that nobody owns.
    pub fn unowned(&self) -> Result<u64> {
        let mut used = 0;
        self.count(|_| used += 1)?;
        Ok(self.blocks - used)
    }

    /// Blocks that nobody owns, less those that are kept for what makes room.
    pub fn free_blocks(&self) -> Result<u64> {
        Ok(self.unowned()?.saturating_sub(self.reserve))
    }
}

fn full(needed: u64, available: u64) -> Error {
    Error::NoSpace {
        what: "the branch",
        needed: needed * BLOCK_SIZE,
        available: available * BLOCK_SIZE,
        advice: "; abort or delete branches and run `daxfs-branch gc`, or compact the image",
    }
}

/// Blocks that a writer took for what then failed; nobody has seen them.
#[derive(Debug, Default)]
pub(crate) struct Spare(Vec<Run>);

impl Spare {
    /// As [`Heap::allocate`], from here if possible.
    pub(crate) fn allocate(
        &mut self,
        heap: &Heap,
        id: u64,
        count: RangeInclusive<u64>,
        keep: u64,
    ) -> Result<Run> {
        let Some(at) = self.0.iter().position(|run| run.blocks >= *count.start()) else {
            return heap.allocate(id, count, keep);
        };
        let run = self.0.swap_remove(at);
        let taken = Run { blocks: run.blocks.min(*count.end()), ..run };
        if taken.blocks < run.blocks {
            self.0.push(Run { offset: taken.end(), blocks: run.blocks - taken.blocks });
        }
        Ok(taken)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps runs for later.
    pub(crate) fn give(&mut self, runs: Vec<Run>) {
        self.0.extend(runs);
    }
}
