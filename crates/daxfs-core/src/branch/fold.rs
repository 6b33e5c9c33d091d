// SPDX-License-Identifier: Apache-2.0 OR MIT
//! fold: everything under main's tip becomes one layer, which names the same data blocks.
//!
//! Step names in comments are those of `docs/branches.md` and the model.

use super::record::NewRecord;
use crate::clock;
use crate::delta::{Change, Cursor};
use crate::error::{Error, Result};
use crate::format::{BLOCK_SIZE, branch_flag, state};
use crate::log::Appender;
use crate::merge::{bytes_of, is_replayable, merge};
use crate::session::{Session, encode_name};

impl Session {
    /// Folds if there are more than `layers` layers under main's tip; returns how many there
    /// were, or 0. Under `maint`.
    pub(super) fn fold(&self, layers: usize) -> Result<u64> {
        let records = &self.records;
        // Survey
        let head = records.head()?;
        records.persist_head()?;
        let chain = records.chain(head)?;
        let Some((tip, below)) = chain.split_first().filter(|(_, below)| below.len() > layers)
        else {
            return Ok(0);
        };
        let top = below[0];
        // One that is a fold already would only be copied.
        if below.len() == 1 && records.flags(top)? & branch_flag::FOLDED != 0 {
            return Ok(0);
        }
        let old = records.id(top)?;
        let (_, index) = self.replay_record(top, old)?;
        let entries = merge(self.image.base(), &index)?;
        if !is_replayable(self.image.base(), &entries) {
            return Ok(0);
        }
        let Some(slot) = self.claim_slot(true)? else { return Ok(0) };
        // Fill; the id is durable before a block carries it.
        let created = u64::try_from(clock::now()).unwrap_or(0);
        let name = encode_name("fold")?;
        let flags = branch_flag::FOLDED;
        let record = NewRecord { parent: 0, name, base_size: 0, base_head: 0, flags, created };
        let fold = records.fill(slot, &record).or_else(|error| {
            self.let_go(slot)?;
            Err(error)
        })?;
        // Allocate, Write
        let (mut spare, mut buffer) = Default::default();
        // What writers leave free is for this.
        let (start, keep) = (Cursor::default(), 0);
        let log = Appender::new(self, (slot, fold), start, keep, &mut spare, &mut buffer);
        // Nothing will come after these, so room for more would be lost.
        let mut log = log.for_bytes(bytes_of(&entries));
        let written =
            entries.iter().try_for_each(|(ino, time, change)| log.append(*ino, *time, change));
        let (end, _) = log.finish();
        if let Err(error) = written {
            // Not now, then: what is there goes on as it is.
            self.heap.free(|owner| Ok(owner == fold))?;
            self.let_go(slot)?;
            return if let Error::NoSpace { .. } = error { Ok(0) } else { Err(error) };
        }
        if self.defers() {
            self.persist_deferred()?;
        }
        records.publish(slot, end.position)?;
        // Activate
        records.set_state(slot, state::ACTIVE)?;
        records.persist(slot)?;
        // Flag
        for layer in below {
            records.add_flags(*layer, branch_flag::ABSORBED)?;
            records.persist(*layer)?;
        }
        // Link
        records.relink(*tip, old, fold)?;
        records.persist(*tip)?;
        self.hand_over(slot, fold, entries.iter().map(|(_, _, change)| change))?;
        self.remember(fold, end, &index)?;
        Ok(below.len() as u64)
    }

    /// HandOver, Done: the data blocks that the fold names become its own.
    fn hand_over<'a>(
        &self,
        slot: u64,
        fold: u64,
        changes: impl Iterator<Item = &'a Change>,
    ) -> Result<()> {
        let runs = changes.filter_map(|change| match change {
            Change::Extent { len, image_offset, .. } => Some(*image_offset..image_offset + len),
            _ => None,
        });
        let mut runs: Vec<_> = runs.collect();
        // However often a strange log names a block, it is looked at once.
        runs.sort_unstable_by_key(|run| run.start);
        let mut next = 0;
        for run in runs {
            let first = next.max(run.start - run.start % BLOCK_SIZE);
            for block in (first..run.end).step_by(BLOCK_SIZE as usize) {
                if let Some(owner) = self.heap.owner_at(block)?.filter(|owner| *owner != fold) {
                    self.heap.hand_over(block, owner, fold)?;
                }
            }
            next = next.max(run.end.next_multiple_of(BLOCK_SIZE));
        }
        self.heap.persist_map()?;
        self.records.add_flags(slot, branch_flag::FOLD_DONE)?;
        self.records.persist(slot)?;
        self.let_go(slot)
    }

    /// Finish: a fold on main's chain whose maker died takes its blocks over now. `maint` is enough
    /// for that: who breaks the maker's hold meanwhile must not keep it from being done.
    pub(super) fn finish_folds(&self) -> Result<()> {
        let records = &self.records;
        for slot in records.chain(records.head()?)? {
            let flags = records.flags(slot)?;
            if flags & branch_flag::FOLDED == 0 || flags & branch_flag::FOLD_DONE != 0 {
                continue;
            }
            let (fold, start) = (records.id(slot)?, self.log_start(slot)?);
            let size = records.size(slot)?;
            let entries = crate::delta::scan(&self.region, &self.space, start, size)
                .map(|entry| entry.map(|entry| entry.change))
                .collect::<Result<Vec<_>>>()?;
            self.hand_over(slot, fold, entries.iter())?;
        }
        Ok(())
    }
}
