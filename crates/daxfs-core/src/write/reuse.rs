// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Space that a writer's own changes left behind: blocks of files that were removed, cut or
//! written anew.
//!
//! The record gives them back once nothing that is published has bytes there, and everybody who
//! could still read them has moved on. Step names in comments are those of `docs/branches.md`.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Operation, Purpose, Writer};
use crate::branch::handle::{Branch, Open};
use crate::branch::hold::Intent;
use crate::clock::Patience;
use crate::delta::{self, Step};
use crate::error::{Error, Result};
use crate::extents::Extent;

/// Longest wait for those who read: they hold what they read for the length of one request, unless
/// they keep it for good.
const PATIENCE: Duration = Duration::from_millis(100);

/// What to do about a lack of space that somebody could end.
const KEPT: &str = "; what ended branches had stays while a process holds or reads one from \
                    before: `daxfs-branch gc` names it";

/// Where the bytes of an extent lie in the image.
fn range(run: Extent) -> Range<u64> {
    run.image_offset..run.image_offset + run.len
}

/// A use of a file: should it lose its last name, it is there until this is dropped, or the branch
/// goes into other hands.
#[derive(Debug)]
pub struct Kept {
    open: Arc<Open>,
    ino: u64,
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut kept = self.open.lock_kept();
        if let Some(uses) = kept.get_mut(&self.ino) {
            *uses -= 1;
            if *uses == 0 {
                kept.remove(&self.ino);
            }
        }
    }
}

impl Branch {
    /// Keeps a file for as long as the result lives, even if it loses its last name meanwhile.
    pub fn keep(&self, ino: u64) -> Kept {
        *self.open.lock_kept().entry(ino).or_default() += 1;
        Kept { open: Arc::clone(&self.open), ino }
    }

    /// Blocks that can still be written to, after what was removed here has been given back; of a
    /// branch that is no more, [`Error::Stale`].
    pub fn free_blocks(&self) -> Result<u64> {
        if self.open.is_held() {
            // One that has ended has nothing to give back.
            let _ = self.open.collect_new();
        }
        let writer = &mut *self.open.lock_writer()?;
        // Without it, records that the branch is made of could go meanwhile.
        let _view = self.view()?;
        let (free, keep) =
            (self.open.session.heap.unowned()?, self.open.keep(writer, Purpose::Growth)?);
        Ok(free.saturating_sub(keep))
    }

    /// Does one operation; if it finds no space, once more in what earlier ones, or branches that
    /// have ended, left behind.
    pub(super) fn operate<T>(&self, operation: impl Fn(Operation<'_>) -> Result<T>) -> Result<T> {
        match operation(self.begin()?) {
            Err(full @ Error::NoSpace { .. }) => match self.open.make_room() {
                Ok(kept) => operation(self.begin()?).map_err(|error| match error {
                    Error::NoSpace { what, needed, available, .. } if kept => {
                        Error::NoSpace { what, needed, available, advice: KEPT }
                    }
                    error => error,
                }),
                Err(_) => Err(full),
            },
            done => done,
        }
    }
}

impl Open {
    pub(super) fn lock_kept(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back what can be, of this record and of those that nobody needs; says whether some of
    /// these stay for who may still read them.
    fn make_room(&self) -> Result<bool> {
        // The dead go first: what they read would be waited for.
        self.session.maintain_in_turn(0)?;
        self.collect()?;
        // What was found to be of no use in one round is free in the next.
        self.session.maintain_in_turn(0)?;
        let mut writer = self.lock_writer()?;
        if self.is_main() {
            // Where it is in use as it is, what there is must do.
            let _ = self.renew(&mut writer, true);
        }
        self.measure(&mut writer)?;
        drop(writer);
        self.give_back_replaced()
    }

    /// Gives back what main was begun anew without, once those have moved on who read a moment ago;
    /// says whether some of it stays.
    fn give_back_replaced(&self) -> Result<bool> {
        let mut patience = Patience::new(PATIENCE);
        loop {
            let done = self.session.maintain_in_turn(0)?;
            if done.kept_records == 0 || patience.is_over() {
                return Ok(done.kept_records > 0);
            }
            patience.pause();
        }
    }

    /// Gives back the blocks of this record that nothing needs any more, and of main also what is
    /// no more than history; returns how many blocks. A branch that was not held is not afterwards.
    pub(crate) fn collect(&self) -> Result<u64> {
        let mut writer = self.lock_writer()?;
        let held = self.is_held();
        let freed = self.collect_for(&mut writer);
        if freed.is_ok() && self.is_main() {
            // In use as it is: not now, then.
            let _ = self.renew(&mut writer, true);
        }
        if !held {
            self.release_for(&mut writer)?;
        }
        freed
    }

    /// The same, unless nothing came since that was done, or who it waited for in vain still reads:
    /// it takes time, and keeps others from writing meanwhile.
    fn collect_new(&self) -> Result<()> {
        let mut writer = self.lock_writer()?;
        let state = self.write_state();
        let end = (state.id, state.cursor.position);
        drop(state);
        if writer.collected == Some(end) && writer.spare.is_empty() {
            return Ok(());
        }
        if let Some(stamp) = writer.hindered
            && self.session.openers.is_pinned(stamp)?
        {
            return Ok(());
        }
        self.collect_for(&mut writer)?;
        // What main has of the layers below for nothing goes with its history, if that takes less.
        if self.is_main()
            && self.replaced()? > self.keep(&mut writer, Purpose::Relief)?
            && self.renew(&mut writer, true)?
        {
            drop(writer);
            self.give_back_replaced()?;
        }
        Ok(())
    }

    /// Blocks of the layers below in which the tree has nothing.
    fn replaced(&self) -> Result<u64> {
        let (state, records) = (self.read_state(), &self.session.records);
        let below = records.chain(state.id)?;
        let below = below.iter().skip(1).map(|slot| records.id(*slot));
        let below = below.collect::<Result<Vec<_>>>()?;
        if below.is_empty() {
            return Ok(0);
        }
        self.session.heap.count_unused(&below, state.index.stored().map(range))
    }

    pub(super) fn collect_for(&self, writer: &mut Writer) -> Result<u64> {
        self.ensure_held(writer, Intent::Write)?;
        // CollectPublish: what is to be overwritten is named by nothing that a crash brings back.
        self.flush(writer)?;
        // CollectBump: who comes from here on reads what is published now.
        let records = &self.session.records;
        let stamp = records.epoch()?;
        records.bump_epoch()?;
        let mapped = self.mapped()?;
        writer.hindered = (!self.wait_for_readers(stamp)?).then_some(stamp);
        if writer.hindered.is_some() {
            return Ok(0);
        }
        // What is in use yet becomes free without any entry.
        let whole = mapped.is_empty();
        let Writer { orphans, spare, segments, collected, .. } = writer;
        // CollectFree: what nobody published goes as well.
        *spare = Default::default();
        let mut state = self.held_state()?;
        let kept = self.lock_kept();
        orphans.retain(|ino| kept.contains_key(ino));
        state.index.bury(self.session.image.base(), |ino| orphans.contains(&ino));
        drop(kept);
        if segments.is_empty() {
            *segments = self.log_segments(state.slot)?;
        }
        let used = state.index.stored().map(range).chain(segments.iter().cloned()).chain(mapped);
        let freed = self.session.heap.free_unused(state.id, used)?;
        *collected = (whole && orphans.is_empty()).then_some((state.id, state.cursor.position));
        Ok(freed)
    }

    /// CollectMoveOn, CollectPins: whether nobody reads at an epoch of up to `stamp` any more, or soon.
    fn wait_for_readers(&self, stamp: u64) -> Result<bool> {
        let mut patience = Patience::new(PATIENCE);
        loop {
            for open in self.session.all_open() {
                // A branch that has ended lets go by this; that it has is no error here.
                let _ = open.catch_up();
            }
            if !self.session.openers.is_pinned(stamp)? {
                return Ok(true);
            }
            if patience.is_over() {
                return Ok(false);
            }
            patience.pause();
        }
    }

    /// The segments of the log of a record.
    fn log_segments(&self, slot: u64) -> Result<Vec<Range<u64>>> {
        let Self { session, .. } = self;
        let (start, size) = (session.log_start(slot)?, session.records.size(slot)?);
        let mut segments = Vec::new();
        if size > 0 {
            segments.push(start.at..start.segment_end);
        }
        let mut scan = delta::scan(&session.region, &session.space, start, size);
        while let Some(step) = scan.step() {
            if let Step::Segment(segment, _) = step? {
                segments.push(segment);
            }
        }
        Ok(segments)
    }
}
