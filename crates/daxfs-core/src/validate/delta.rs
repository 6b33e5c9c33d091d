// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The proof of the branches: the table, every log, and in images of ours the words, the owner
//! map and the opener table around them.

use std::collections::HashMap;

use zerocopy::IntoBytes;

use crate::base::Base;
use crate::branch::{BranchInfo, Table, slot_of};
use crate::delta::{self, Change, Entry, LogSpace};
use crate::finding::Findings;
use crate::format::{
    BLOCK_SIZE, OPENER_CLAIMED, OPENER_ENTRIES, OPENER_FREED, OWNER_WORD, OpenerEntry, ROOT_INO,
    Superblock, feature,
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
    let space = LogSpace::of(superblock);
    let highest = check_logs(region, base, &space, &table, findings);
    let ours = superblock.has(feature::BRANCHES);
    if ours {
        check_words(superblock, findings);
        check_owner_map(region, superblock, &table, findings);
        check_openers(region, superblock, findings);
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
        let replay =
            Replay { region, base, space: &space, table: &table, weights: weights(&table) };
        for root in table.records().iter().filter(|record| record.parent == 0) {
            replay.chains(root, Index::default(), findings);
        }
    }
}

/// Every entry well-formed; returns the highest inode number in use.
fn check_logs(
    region: &Region,
    base: &Base,
    space: &LogSpace,
    table: &Table,
    findings: &mut Findings,
) -> u64 {
    let mut highest = ROOT_INO.max(base.inode_count().into());
    for record in table.records() {
        for entry in delta::scan(region, space, record.log, record.log_size) {
            match entry {
                Ok(Entry { ino, change: Change::Mknod { .. }, .. })
                | Ok(Entry {
                    change: Change::Create { ino, .. } | Change::Symlink { ino, .. },
                    ..
                }) => {
                    highest = highest.max(ino);
                }
                Ok(_) => {}
                Err(error) => findings.absorb(error),
            }
        }
    }
    highest
}

/// The replay of every chain, each log once.
struct Replay<'a> {
    region: &'a Region,
    base: &'a Base,
    space: &'a LogSpace,
    table: &'a Table,
    weights: HashMap<u64, usize>,
}

/// How many chains each record is on.
fn weights(table: &Table) -> HashMap<u64, usize> {
    let mut weights = HashMap::new();
    // A dead branch's parents may be gone; then no replay comes to it.
    for layer in table.records().iter().flat_map(|record| table.chain(record)).flatten() {
        *weights.entry(layer.id).or_default() += 1;
    }
    weights
}

impl<'a> Replay<'a> {
    /// Replays the chains that go on with `layer` over `index`.
    ///
    /// A layer's children begin with copies of its index, but the one that is on most chains
    /// takes the index itself. So there are never more indexes than the number of records has
    /// binary digits, and the recursion is no deeper.
    fn chains(&self, mut layer: &'a BranchInfo, mut index: Index, findings: &mut Findings) {
        loop {
            let (region, space) = (self.region, self.space);
            if let Err(error) = index.replay(self.base, region, space, layer.log, layer.log_size) {
                return findings.absorb(error);
            }
            let children = self.table.records().iter().filter(|record| record.parent == layer.id);
            let mut children: Vec<_> = children.collect();
            children.sort_by_key(|child| self.weights.get(&child.id));
            let Some(heaviest) = children.pop() else { return };
            for child in children {
                self.chains(child, index.clone(), findings);
            }
            layer = heaviest;
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

fn check_words(superblock: &Superblock, findings: &mut Findings) {
    if superblock.epoch == 0 {
        findings.error("epoch", 1088, "1 or more", 0);
    }
}

/// Words that name no record in use are leaks; every block of a log names the log's record.
fn check_owner_map(
    region: &Region,
    superblock: &Superblock,
    table: &Table,
    findings: &mut Findings,
) {
    let map = superblock.owner_map_offset.get();
    for block in 0..superblock.heap_blocks.get() {
        let at = map + block * OWNER_WORD;
        match region.load(at) {
            Ok(0) => {}
            Ok(owner) if table.is_used(owner) => {}
            // A party that died may leave this; maintenance gives the block back.
            Ok(owner) => {
                findings.warning("owner of a block", at, "0 or a record in use", owner);
            }
            Err(error) => findings.absorb(error),
        }
    }
    let heap = superblock.heap_offset.get();
    for record in table.records() {
        let first = record.log.at.saturating_sub(heap) / BLOCK_SIZE;
        let end = record.log.segment_end.saturating_sub(heap).div_ceil(BLOCK_SIZE);
        for block in first..end {
            let at = map + block * OWNER_WORD;
            match region.load(at) {
                Ok(owner) => findings.equal("owner of a log's block", at, record.id, owner),
                Err(error) => findings.absorb(error),
            }
        }
    }
}

fn check_openers(region: &Region, superblock: &Superblock, findings: &mut Findings) {
    for slot in 0..u64::from(OPENER_ENTRIES) {
        let at = superblock.opener_table_offset.get() + slot * size_of::<OpenerEntry>() as u64;
        let entry: OpenerEntry = match region.read(at) {
            Ok(entry) => entry,
            Err(error) => return findings.absorb(error),
        };
        let word = entry.opener_id.get();
        let id = word & !(OPENER_CLAIMED | OPENER_FREED);
        if word == 0 {
            // Whoever began to fill it in may have died.
            if entry.as_bytes().iter().any(|byte| *byte != 0) {
                findings.warning("unused opener entry", at, "zeroes", "other bytes");
            }
        } else if slot_of(id) != Some(slot) {
            let expected = format!("0, or {} and a multiple of 256", slot + 1);
            findings.error("opener id", at, expected, id);
        } else if word == id && entry.pin > superblock.epoch {
            // A loss of power may take the epoch back, and leave the pin.
            let expected = format!("at most the epoch of {}", superblock.epoch);
            findings.warning("pin of an opener", at + 8, expected, entry.pin);
        }
    }
}
