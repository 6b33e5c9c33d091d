// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The proof of the branches: the table, every log, and in images of ours the words, the owner
//! map and the opener table around them.

use std::collections::HashSet;
use std::ops::Range;

use crate::base::Base;
use crate::branch::{BranchInfo, Table, slot_of};
use crate::delta::{self, Change, Entry, LogSpace, Step};
use crate::error::Result;
use crate::finding::Findings;
use crate::format::{
    BLOCK_SIZE, OPENER_CLAIMED, OPENER_ENTRIES, OPENER_FREED, OWNER_WORD, OpenerEntry, PROOF_LOCK,
    ROOT_INO, Superblock, branch_flag, feature,
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
    let highest = check.logs(findings).max(base.inode_count().into());
    if ours {
        check.words(findings);
        check.leaks(findings);
        check.openers(findings);
    } else {
        check_counters(superblock, &table, findings);
    }
    let next = superblock.next_inode_id.get();
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
        check.replay(base, findings);
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

/// What a record's log uses blocks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Segment,
    File(u64),
}

impl Check<'_> {
    /// Every entry well-formed, every block in its place; returns the highest inode number in use.
    fn logs(&self, findings: &mut Findings) -> u64 {
        let mut highest = ROOT_INO;
        for record in &self.needed {
            let mut uses = Vec::new();
            if record.log_size > 0 {
                let first = record.log.at..record.log.segment_end;
                uses.push((self.blocks(first), Use::Segment, record.at + 16));
            }
            let mut scan = delta::scan(self.region, &self.space, record.log, record.log_size);
            while let Some(step) = scan.step() {
                let entry = match step {
                    Ok(Step::Entry(entry)) => entry,
                    Ok(Step::Segment(segment, at)) => {
                        uses.push((self.blocks(segment), Use::Segment, at));
                        continue;
                    }
                    Err(error) => {
                        findings.absorb(error);
                        continue;
                    }
                };
                let Entry { at, ino, change, .. } = entry;
                match change {
                    Change::Mknod { .. } => highest = highest.max(ino),
                    Change::Create { ino, .. } | Change::Symlink { ino, .. } => {
                        highest = highest.max(ino);
                    }
                    Change::Extent { image_offset, len, .. } => {
                        let blocks = self.blocks(image_offset..image_offset + len);
                        uses.push((blocks, Use::File(ino), at));
                    }
                    _ => {}
                }
            }
            if self.space.ours
                && let Err(error) = self.uses(record, uses, findings)
            {
                findings.absorb(error);
            }
        }
        highest
    }

    /// The heap blocks that a range of the image touches.
    fn blocks(&self, range: Range<u64>) -> Range<u64> {
        let heap = self.space.heap.start;
        (range.start - heap) / BLOCK_SIZE..(range.end - heap).div_ceil(BLOCK_SIZE)
    }

    /// Each block that a record names serves one purpose, and is the record's.
    fn uses(
        &self,
        record: &BranchInfo,
        mut uses: Vec<(Range<u64>, Use, u64)>,
        findings: &mut Findings,
    ) -> Result<()> {
        // However often a log names a block, it is looked at once.
        uses.sort_unstable_by_key(|(blocks, ..)| blocks.start);
        let mut done: Option<(Range<u64>, Use)> = None;
        for (blocks, purpose, at) in uses {
            let mut new = blocks.clone();
            match &mut done {
                Some((before, other)) if before.end > blocks.start => {
                    if purpose != *other || purpose == Use::Segment {
                        let expected = format!("one for each, not {other:?} too");
                        let found = format!("{purpose:?} in blocks {blocks:?} of the heap");
                        findings.error("use of a heap block", at, expected, found);
                        return Ok(());
                    }
                    new.start = before.end;
                    before.end = before.end.max(blocks.end);
                }
                _ => done = Some((blocks, purpose)),
            }
            if !self.are_owned(record, new, purpose, findings)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn map_word(&self, block: u64) -> u64 {
        self.superblock.owner_map_offset.get() + block * OWNER_WORD
    }

    /// Whether blocks are the record's; a fold under way may name what is still its layers'.
    fn are_owned(
        &self,
        record: &BranchInfo,
        blocks: Range<u64>,
        purpose: Use,
        findings: &mut Findings,
    ) -> Result<bool> {
        let handing_over = record.is(branch_flag::FOLDED) && !record.is(branch_flag::FOLD_DONE);
        for block in blocks {
            let at = self.map_word(block);
            let owner = self.region.load(at)?;
            let absorbed = || {
                handing_over
                    && purpose != Use::Segment
                    && self
                        .table
                        .records()
                        .iter()
                        .any(|other| other.id == owner && other.is(branch_flag::ABSORBED))
            };
            if owner != record.id && !absorbed() {
                let what = match purpose {
                    Use::Segment => "owner of a log's block",
                    Use::File(_) => "owner of a file's block",
                };
                findings.error(what, at, record.id, owner);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Replays every chain, each log once: what branches have in common they share.
    fn replay(&self, base: &Base, findings: &mut Findings) {
        let roots = self.needed.iter().filter(|record| record.parent == 0);
        let mut pending: Vec<_> = roots.map(|root| (*root, Index::default())).collect();
        while let Some((layer, mut index)) = pending.pop() {
            let (log, size) = (layer.log, layer.log_size);
            if let Err(error) = index.replay(base, self.region, &self.space, log, size) {
                findings.absorb(error);
                continue;
            }
            let children = self.needed.iter().filter(|record| record.parent == layer.id);
            pending.extend(children.map(|child| (*child, index.clone())));
        }
    }

    /// The words around the branches, and how these hang together.
    fn words(&self, findings: &mut Findings) {
        if self.superblock.epoch == 0 {
            findings.error("epoch", 1088, "1 or more", 0);
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
