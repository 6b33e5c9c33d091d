// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The proof of the branches: the table, every log, and in images of ours the words, the owner
//! map and the opener table around them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use crate::base::Base;
use crate::branch::{BranchInfo, Table, slot_of};
use crate::delta::{self, Change, Entry, LogSpace, Step};
use crate::error::{Error, Result};
use crate::extents::{Extent, Extents};
use crate::finding::Findings;
use crate::format::{
    BLOCK_SIZE, COUNTER_MAX, OPENER_CLAIMED, OPENER_ENTRIES, OPENER_FREED, OWNER_WORD, OpenerEntry,
    PROOF_LOCK, ROOT_INO, Superblock, branch_flag, feature,
};
use crate::index::Index;
use crate::region::Region;

/// Proves the branch table, the delta region and every branch's chain.
///
/// What was found before counts: over a base image that is not sound nothing is replayed.
pub(crate) fn check_branches(
    region: &Region,
    superblock: &Superblock,
    base: &Base,
    findings: &mut Findings,
) {
    if superblock.branch_table_entries == 0 {
        return;
    }
    let table = Table::examine(region, superblock, findings);
    let ours = superblock.has(feature::BRANCHES);
    let needed = needed(&table);
    let check = Check {
        region,
        superblock,
        space: LogSpace::of(superblock),
        table: &table,
        needed: table.records().iter().filter(|record| needed.contains(&record.id)).collect(),
    };
    let (highest, written) = check.logs(findings);
    let highest = highest.max(base.inode_count().into());
    if ours {
        check.words(findings);
        check.leaks(findings);
        check.openers(findings);
    } else {
        check_counters(superblock, &table, findings);
    }
    let next = superblock.next_inode_id.get();
    if ours && next > COUNTER_MAX {
        findings.error("next inode number", 64, format!("at most {COUNTER_MAX}"), next);
    }
    if next <= highest {
        let (what, expected) = ("next inode number", format!("above {highest}, which is in use"));
        if ours {
            findings.error(what, 64, expected, next);
        } else {
            findings.warning(what, 64, expected, next);
        }
    }
    // A replay over what is not sound proves nothing, and could take for ever.
    if findings.errors() == 0 {
        check.replay(base, &written, findings);
    }
}

/// The records that a branch shows: nobody reads the others any more, and whoever died may have
/// left anything in them.
fn needed(table: &Table) -> HashSet<u64> {
    let layers = table.live().filter_map(|record| table.chain(record).ok());
    layers.flatten().map(|record| record.id).collect()
}

struct Check<'a> {
    region: &'a Region,
    superblock: &'a Superblock,
    space: LogSpace,
    table: &'a Table,
    needed: Vec<&'a BranchInfo>,
}

/// What a record's log uses heap blocks for.
#[derive(Debug, Default)]
struct Written {
    /// Segments: their blocks, and the image offset of what says so.
    segments: Vec<(Range<u64>, u64)>,
    /// The files that were given blocks, in an order: every look finds the same.
    files: BTreeSet<u64>,
}

impl Check<'_> {
    /// Every entry well-formed, every segment in its place; returns the highest inode number in
    /// use, and by the records' ids what their logs use blocks for.
    fn logs(&self, findings: &mut Findings) -> (u64, HashMap<u64, Written>) {
        let (mut highest, mut all) = (ROOT_INO, HashMap::new());
        for record in &self.needed {
            let mut written = Written::default();
            if record.log_size > 0 {
                let first = record.log.at..record.log.segment_end;
                written.segments.push((self.blocks(first), record.at + 16));
            }
            let mut scan = delta::scan(self.region, &self.space, record.log, record.log_size);
            while let Some(step) = scan.step() {
                let entry = match step {
                    Ok(Step::Entry(entry)) => entry,
                    Ok(Step::Segment(segment, at)) => {
                        written.segments.push((self.blocks(segment), at));
                        continue;
                    }
                    Err(error) => {
                        findings.absorb(error);
                        continue;
                    }
                };
                let Entry { ino, change, .. } = entry;
                match change {
                    Change::Mknod { .. } => highest = highest.max(ino),
                    Change::Create { ino, .. } | Change::Symlink { ino, .. } => {
                        highest = highest.max(ino);
                    }
                    Change::Extent { .. } => drop(written.files.insert(ino)),
                    _ => {}
                }
            }
            if self.space.ours {
                if let Err(error) = self.segments(record, &mut written.segments, findings) {
                    findings.absorb(error);
                }
                all.insert(record.id, written);
            }
        }
        (highest, all)
    }

    /// The heap blocks that a range of the image touches.
    fn blocks(&self, range: Range<u64>) -> Range<u64> {
        let heap = self.space.heap.start;
        (range.start - heap) / BLOCK_SIZE..(range.end - heap).div_ceil(BLOCK_SIZE)
    }

    /// The segments of a log lie in blocks of the record, each in its own.
    fn segments(
        &self,
        record: &BranchInfo,
        segments: &mut [(Range<u64>, u64)],
        findings: &mut Findings,
    ) -> Result<()> {
        segments.sort_unstable_by_key(|(blocks, _)| blocks.start);
        let mut end = 0;
        for (blocks, at) in &*segments {
            if blocks.start < end {
                let found = format!("another in blocks {blocks:?} of the heap");
                findings.error("use of a heap block", *at, "one segment", found);
                return Ok(());
            }
            end = blocks.end;
            for block in blocks.clone() {
                let at = self.map_word(block);
                let owner = self.region.load(at)?;
                if owner != record.id {
                    findings.error("owner of a log's block", at, record.id, owner);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Where a log ends, each heap block that its files have bytes in has one file, and is of the
    /// log's record or was that file's `below` already; a fold under way may name what is still its
    /// layers'.
    fn files(
        &self,
        layer: &BranchInfo,
        written: &Written,
        below: &Index,
        index: &Index,
        findings: &mut Findings,
    ) -> Result<()> {
        let heap = &self.space.heap;
        let extents = written.files.iter().flat_map(|ino| {
            let runs = index.extents(*ino).into_iter().flat_map(Extents::iter);
            runs.filter(|run| !run.in_log && heap.contains(&run.image_offset)).map(|run| {
                (self.blocks(run.image_offset..run.image_offset + run.len), Some((*ino, run)))
            })
        });
        let segments = written.segments.iter().map(|(blocks, _)| (blocks.clone(), None));
        let mut uses: Vec<_> = extents.chain(segments).collect();
        uses.sort_unstable_by_key(|(blocks, _)| blocks.start);
        let chain = self.table.chain(layer)?;
        let handing_over = |layer: &&BranchInfo| {
            layer.is(branch_flag::FOLDED) && !layer.is(branch_flag::FOLD_DONE)
        };
        let replaced = self
            .table
            .records()
            .iter()
            .filter(|other| other.is(branch_flag::ABSORBED) && chain.iter().any(handing_over));
        let owners: HashSet<u64> =
            chain.iter().copied().chain(replaced).map(|record| record.id).collect();
        let fold = layer.is(branch_flag::FOLDED) && layer.parent == 0;
        // Whether a file had this block where it has it now, when the layer was begun.
        let had = |ino: u64, run: &Extent, block: u64| {
            let start = (heap.start + block * BLOCK_SIZE).max(run.image_offset);
            let at = run.file_offset + (start - run.image_offset);
            let part = at..run.end().min(at + BLOCK_SIZE - start % BLOCK_SIZE);
            let before =
                below.extents(ino).into_iter().flat_map(|old| old.overlapping(part.clone()));
            let place = |run: &Extent| run.image_offset.wrapping_sub(run.file_offset);
            before.into_iter().any(|old| place(&old) == place(run))
        };
        let mut last = (0, None);
        for (blocks, used) in uses {
            let file = used.map(|(ino, _)| ino);
            if blocks.start < last.0 && file != last.1 {
                let at = heap.start + blocks.start * BLOCK_SIZE;
                let show = |file: Option<u64>| match file {
                    Some(ino) => format!("inode {ino}"),
                    None => "the log".into(),
                };
                let found = format!("{} and {}", show(last.1), show(file));
                findings.error("use of a heap block", at, "one", found);
                return Ok(());
            }
            // However often a file has bytes in a block, it is looked at once.
            for block in blocks.start.max(last.0)..blocks.end {
                let at = self.map_word(block);
                let owner = self.region.load(at)?;
                let Some((ino, run)) = &used else { continue };
                if !owners.contains(&owner) {
                    let expected = format!("{} or another of its chain", layer.id);
                    findings.error("owner of a file's block", at, expected, owner);
                    return Ok(());
                }
                if owner != layer.id && !fold && !had(*ino, run, block) {
                    let expected = format!("{}, as inode {ino} did not have it below", layer.id);
                    findings.error("owner of a file's block", at, expected, owner);
                    return Ok(());
                }
            }
            if blocks.end > last.0 {
                last = (blocks.end, file);
            }
        }
        Ok(())
    }

    /// No log has entries for what lost its last name in a layer below: a fold leaves that out.
    fn expect_named(&self, layer: &BranchInfo, below: &Index) -> Result<()> {
        if !self.space.ours || layer.parent == 0 {
            return Ok(());
        }
        for entry in delta::scan(self.region, &self.space, layer.log, layer.log_size) {
            let Entry { at, ino, .. } = entry?;
            if below.inode(ino).is_some_and(|inode| inode.nlink == 0) {
                let expected = "one that has a name in the layers below";
                return Err(Error::corrupt("inode of a log entry", at, expected, ino));
            }
        }
        Ok(())
    }

    fn map_word(&self, block: u64) -> u64 {
        self.superblock.owner_map_offset.get() + block * OWNER_WORD
    }

    /// Replays every chain, each log once: what branches have in common they share.
    fn replay(&self, base: &Base, written: &HashMap<u64, Written>, findings: &mut Findings) {
        let roots = self.needed.iter().filter(|record| record.parent == 0);
        let mut pending: Vec<_> = roots.map(|root| (*root, Index::default())).collect();
        while let Some((layer, mut index)) = pending.pop() {
            let (log, size) = (layer.log, layer.log_size);
            let below = index.clone();
            if let Err(error) = self.expect_named(layer, &below) {
                findings.absorb(error);
                continue;
            }
            if let Err(error) = index.replay(base, self.region, &self.space, log, size) {
                findings.absorb(error);
                continue;
            }
            // What has no name may have been written over.
            index.bury(base, |_| false);
            if let Some(written) = written.get(&layer.id)
                && let Err(error) = self.files(layer, written, &below, &index, findings)
            {
                findings.absorb(error);
            }
            let children = self.needed.iter().filter(|record| record.parent == layer.id);
            pending.extend(children.map(|child| (*child, index.clone())));
        }
    }

    /// The words around the branches, and how these hang together.
    fn words(&self, findings: &mut Findings) {
        if !(1..=COUNTER_MAX).contains(&self.superblock.epoch.get()) {
            let expected = format!("1 to {COUNTER_MAX}");
            findings.error("epoch", 1088, expected, self.superblock.epoch);
        }
        let under_way = |record: &&&BranchInfo| {
            record.is(branch_flag::FOLDED) && !record.is(branch_flag::FOLD_DONE)
        };
        // Two would name the same blocks of the layers that they replace.
        if let Some(second) = self.needed.iter().filter(under_way).nth(1) {
            findings.error("flags of a branch", second.at + 112, "one fold under way", second.id);
        }
        let Some(head) = self.table.head() else { return };
        for record in self.table.live() {
            let Ok(chain) = self.table.chain(record) else { continue };
            if chain.iter().all(|layer| layer.id != head) {
                let expected = format!("a chain with main's tip, {head}");
                findings.error("parent of a branch", record.at + 8, expected, record.parent);
            }
            // Of another family it would be retired, and its children be left in the air.
            let family = chain.iter().rev().take_while(|layer| layer.id != head);
            for layer in family.filter(|layer| layer.base_head != head) {
                findings.error("family of a branch", layer.at + 104, head, layer.base_head);
            }
            let parent = chain.len().checked_sub(2).map(|parent| chain[parent]);
            // Who was taken for dead may have published one entry more: never fewer.
            if let Some(parent) = parent.filter(|parent| !parent.is(branch_flag::FOLDED))
                && parent.log_size < record.base_size
                && record.id != head
            {
                let expected = format!("{} or more, as when its child was made", record.base_size);
                findings.error("size of a log", parent.at + 24, expected, parent.log_size);
            }
        }
    }

    /// Words of the owner map that name no record in use: a party that died may leave them.
    fn leaks(&self, findings: &mut Findings) {
        let end = self.superblock.heap_blocks.get();
        let mut run: Option<(Range<u64>, u64)> = None;
        for block in 0..=end {
            let owner = match (block < end).then(|| self.region.load(self.map_word(block))) {
                Some(Err(error)) => return findings.absorb(error),
                Some(Ok(owner)) if owner != 0 && !self.table.is_used(owner) => owner,
                _ => 0,
            };
            match &mut run {
                Some((blocks, same)) if *same == owner => blocks.end = block + 1,
                _ => {
                    if let Some((blocks, owner)) = run.take() {
                        let found = format!("{owner} in {} words", blocks.end - blocks.start);
                        let (at, expected) = (self.map_word(blocks.start), "0 or a record in use");
                        findings.warning("owner of a block", at, expected, found);
                    }
                    run = (owner != 0).then_some((block..block + 1, owner));
                }
            }
        }
    }

    /// Opener entries: the word says what the rest means, which is nothing unless it is an id.
    fn openers(&self, findings: &mut Findings) {
        for slot in 0..u64::from(OPENER_ENTRIES) {
            let size = size_of::<OpenerEntry>() as u64;
            let at = self.superblock.opener_table_offset.get() + slot * size;
            let entry: OpenerEntry = match self.region.read(at) {
                Ok(entry) => entry,
                Err(error) => return findings.absorb(error),
            };
            let word = entry.opener_id.get();
            let bits = word & (OPENER_CLAIMED | OPENER_FREED);
            let id = word & !bits;
            let legal = id < OPENER_FREED && slot_of(id) == Some(slot);
            if word != 0 && (!legal || bits == OPENER_CLAIMED | OPENER_FREED) {
                let expected =
                    format!("0, or {} and a multiple of 256, freed, claimed or neither", slot + 1);
                findings.error("opener id", at, expected, format!("{word:#x}"));
            }
            if bits != 0 || word == 0 {
                continue;
            }
            if entry.proof.get() & !PROOF_LOCK != 0 {
                findings.error("proof of an opener", at + 36, "0 or 1", entry.proof);
            }
            // A power loss can take the epoch back, not the pins of those it killed.
            if entry.pin > self.superblock.epoch {
                let expected = format!("at most the epoch of {}", self.superblock.epoch);
                findings.warning("pin of an opener", at + 8, expected, entry.pin);
            }
        }
    }
}

/// Plain v3 keeps these and readers do without.
fn check_counters(superblock: &Superblock, table: &Table, findings: &mut Findings) {
    let active = table.records().len() as u32;
    if superblock.active_branches != active {
        findings.warning("active branches", 52, active, superblock.active_branches);
    }
    let highest = table.records().iter().map(|record| record.id).max().unwrap_or(0);
    if superblock.next_branch_id <= highest {
        let expected = format!("above {highest}, which is in use");
        findings.warning("next branch", 56, expected, superblock.next_branch_id);
    }
}
