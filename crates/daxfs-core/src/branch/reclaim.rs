// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Maintenance: break the dead, finish folds, retire what is not needed, free what nobody reads,
//! sweep leaks.
//!
//! Step names in comments are those of `docs/branches.md` and the model.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::record::{MAINT, holder};
use crate::clock::Patience;
use crate::error::{Error, Result};
use crate::format::{OWNER_FROZEN, state};
use crate::opener::Life;
use crate::region::Access;
use crate::session::Session;

/// What maintenance did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Openers that had died.
    pub dead_openers: u64,
    /// Holds of theirs that were broken.
    pub broken_holds: u64,
    /// Records that were given back.
    pub records: u64,
    /// Blocks that were given back with them, or by branches that go on.
    pub blocks: u64,
    /// Blocks given back that no record knew of.
    pub leaked_blocks: u64,
    /// Layers of main that were folded into one.
    pub folded_layers: u64,
    /// Records of branches that have ended, and stay for who may still read them.
    pub kept_records: u64,
    /// The process of one of these readers.
    pub reader: Option<u32>,
    /// Whether another party was at it, so that only holds were broken.
    pub busy: bool,
}

impl std::ops::AddAssign for Maintained {
    fn add_assign(&mut self, more: Self) {
        self.dead_openers += more.dead_openers;
        self.broken_holds += more.broken_holds;
        self.records += more.records;
        self.blocks += more.blocks;
        self.leaked_blocks += more.leaked_blocks;
        self.folded_layers += more.folded_layers;
        // What stays is what the last look found.
        (self.kept_records, self.reader) = (more.kept_records, more.reader);
        self.busy |= more.busy;
    }
}

/// Layers below main's tip that are worth folding.
pub(super) const FOLD_DUE: usize = 8;

/// Rounds from one look for leaks to the next.
const SWEEP_EVERY: u64 = 64;

/// Longest wait for another party that is at it: a slow disk makes it wait at every step.
const PATIENCE: Duration = Duration::from_secs(10);

impl Session {
    /// Gives back what is not needed any more. Done by whoever comes by; nobody waits for it.
    pub fn maintain(&self) -> Result<Maintained> {
        self.maintain_to(FOLD_DUE)
    }

    /// The same for all that can be given back: main's whole history is folded, and every branch
    /// that nobody writes gives back what its own changes left behind.
    pub fn collect(self: &Arc<Self>) -> Result<Maintained> {
        let mut done = self.maintain_in_turn(0)?;
        for status in self.branches()? {
            let Ok(branch) = self.open_branch(&status.name, Access::Read) else { continue };
            match branch.open.collect() {
                // Others write to it, read it as it is, or have just ended it: not now, then.
                Err(Error::Busy { .. } | Error::ReadOnly { .. } | Error::Stale { .. }) => {}
                freed => done.blocks += freed?,
            }
        }
        done += self.maintain_in_turn(0)?;
        Ok(done)
    }

    /// As [`Session::maintain`], folding main's layers whenever there are more than `layers` below
    /// its tip.
    pub fn maintain_to(&self, layers: usize) -> Result<Maintained> {
        self.opener.expect_mine()?;
        let mut done = Maintained::default();
        self.break_dead(&mut done)?;
        self.drop_renewal()?;
        // What is open moves on first: its old pins would keep what can go.
        for open in self.all_open() {
            // A branch that has ended lets go by this; that it has is no error here.
            let _ = open.catch_up();
        }
        done.busy = self.alone(|| self.maintain_alone(layers, &mut done))?.is_none();
        Ok(done)
    }

    /// As [`Session::maintain_to`], once no other party is at it: what that one gives back cannot
    /// be had before.
    pub(crate) fn maintain_in_turn(&self, layers: usize) -> Result<Maintained> {
        let mut patience = Patience::new(PATIENCE);
        loop {
            let done = self.maintain_to(layers)?;
            if !done.busy || !self.waits(&mut patience)? {
                return Ok(done);
            }
        }
    }

    /// Waits a little for who holds `maint`; says whether to look again. Who cannot be told dead
    /// may hold it for ever.
    fn waits(&self, patience: &mut Patience) -> Result<bool> {
        let holder = self.region.load(MAINT)?;
        if patience.is_over() || self.openers.examine(holder)?.life == Life::Unknown {
            return Ok(false);
        }
        patience.pause();
        Ok(true)
    }

    /// Works under `maint`, unless somebody else does.
    fn alone<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        let me = self.opener.id;
        let seen = self.region.load(MAINT)?;
        let free = seen == 0 || self.openers.examine(seen)?.life == Life::Dead;
        if !free || !self.region.compare_exchange(MAINT, seen, me)? {
            return Ok(None);
        }
        let result = work();
        self.region.compare_exchange(MAINT, me, 0)?;
        result.map(Some)
    }

    /// Retires what has ended by another's commit. Who is about to pin for long does that first: of
    /// what is retired later nothing could be used again before that pin moves on.
    pub(crate) fn retire_ended(&self, mut patience: Patience) -> Result<()> {
        if self.ended()?.is_empty() {
            return Ok(());
        }
        for open in self.all_open() {
            // What this session has of it must let go first; that it has ended is no error here.
            let _ = open.current().map(drop);
        }
        while self.has_ended()? {
            let retired = self.alone(|| {
                self.finish_folds()?;
                self.records.slots().try_for_each(|slot| match self.look(slot)? {
                    Some((id, state::ACTIVE, seen)) => self.retire_lost(slot, id, seen).map(drop),
                    _ => Ok(()),
                })
            })?;
            if retired.is_some() || !self.waits(&mut patience)? {
                break;
            }
        }
        Ok(())
    }

    /// Whether there is anything to retire.
    fn has_ended(&self) -> Result<bool> {
        for slot in self.ended()? {
            if self.ownerless(slot)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Slots of branches that have ended by another's commit, and are not retired.
    fn ended(&self) -> Result<Vec<u64>> {
        let (_pin, records) = (self.opener.pin()?, &self.records);
        let head = records.head()?;
        let mut ended = Vec::new();
        for slot in records.slots() {
            if records.state(slot)? == state::ACTIVE && !records.is_current(slot, head)? {
                ended.push(slot);
            }
        }
        if !ended.is_empty() {
            let main = records.chain(head)?;
            ended.retain(|slot| !main.contains(slot));
        }
        Ok(ended)
    }

    fn maintain_alone(&self, layers: usize, done: &mut Maintained) -> Result<()> {
        self.finish_folds()?;
        done.folded_layers = self.fold(layers)?;
        let mut taken = Vec::new();
        let looked = self.records.slots().try_for_each(|slot| self.reclaim(slot, &mut taken, done));
        self.free_taken(&taken, done)?;
        looked?;
        // Only the dead leave leaks; those that others buried are looked for now and then.
        let rounds = self.rounds.fetch_add(1, Relaxed);
        if done.dead_openers > 0 || rounds.is_multiple_of(SWEEP_EVERY) {
            self.sweep_leaks(done)?;
        }
        Ok(())
    }

    fn break_dead(&self, done: &mut Maintained) -> Result<()> {
        self.openers.free_claims()?;
        let mut suspects = self.openers.ids().collect::<Result<Vec<_>>>()?;
        for slot in self.records.slots() {
            suspects.push(holder(self.records.owner(slot)?));
        }
        suspects.sort_unstable();
        suspects.dedup();
        for id in suspects.into_iter().filter(|id| *id != 0 && *id != self.opener.id) {
            if self.openers.examine(id)?.life == Life::Dead {
                done.dead_openers += 1;
                done.broken_holds += self.break_opener(id)?;
            }
        }
        Ok(())
    }

    /// One record: whatever can be done to it now. What can be freed is `taken` for that.
    fn reclaim(&self, slot: u64, taken: &mut Vec<(u64, u64)>, done: &mut Maintained) -> Result<()> {
        let Some((id, state, seen)) = self.look(slot)? else { return Ok(()) };
        match state {
            state::NEW => self.wipe(slot, id, seen),
            // It may be free to go already.
            state::ACTIVE if !self.retire_lost(slot, id, seen)? => Ok(()),
            _ => self.take_retired(slot, id, taken, done),
        }
    }

    /// Look, Owner: a record's id, state and owner word, if it is in use and nobody who lives has
    /// it.
    fn look(&self, slot: u64) -> Result<Option<(u64, u32, u64)>> {
        let (id, state) = (self.records.id(slot)?, self.records.state(slot)?);
        if state == state::FREE {
            return Ok(None);
        }
        Ok(self.ownerless(slot)?.map(|seen| (id, state, seen)))
    }

    /// The owner word, if nobody who lives is in it.
    fn ownerless(&self, slot: u64) -> Result<Option<u64>> {
        let seen = self.records.owner(slot)?;
        let owner = holder(seen);
        let lives = owner != 0 && self.openers.examine(owner)?.life != Life::Dead;
        Ok((!lives).then_some(seen))
    }

    /// Need: on main's chain or alive, both under one value of `head`, loaded after the record.
    fn is_needed(&self, slot: u64, id: u64) -> Result<bool> {
        let head = self.records.head()?;
        Ok(self.records.base_head(slot)? == head || self.is_main(head, id)?)
    }

    fn is_main(&self, head: u64, id: u64) -> Result<bool> {
        for layer in self.records.chain(head)? {
            if self.records.id(layer)? == id {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Take, Recheck: this session in the owner word, if the record is still what it was.
    fn retake(&self, slot: u64, id: u64, state: u32, seen: u64) -> Result<bool> {
        let (records, me) = (&self.records, self.opener.id);
        records.persist_head()?;
        if !records.take(slot, seen, me)? {
            return Ok(false);
        }
        if records.id(slot)? == id && records.state(slot)? == state {
            return Ok(true);
        }
        records.take(slot, me, seen & OWNER_FROZEN)?;
        Ok(false)
    }

    fn wipe(&self, slot: u64, id: u64, seen: u64) -> Result<()> {
        if self.retake(slot, id, state::NEW, seen)? {
            self.records.set_state(slot, state::FREE)?;
            self.records.persist(slot)?;
            self.let_go(slot)?;
        }
        Ok(())
    }

    /// Retires a record that is not needed; says whether it was one.
    fn retire_lost(&self, slot: u64, id: u64, seen: u64) -> Result<bool> {
        if self.is_needed(slot, id)? || !self.retake(slot, id, state::ACTIVE, seen)? {
            return Ok(false);
        }
        // Stamp: the epoch of after it was found not needed.
        self.records.set_stamp(slot, self.records.epoch()?)?;
        self.records.set_state(slot, state::RETIRED)?;
        self.bump(slot)?;
        self.let_go(slot)?;
        Ok(true)
    }

    fn bump(&self, slot: u64) -> Result<()> {
        self.records.persist(slot)?;
        self.records.bump_epoch()
    }

    fn take_retired(
        &self,
        slot: u64,
        id: u64,
        taken: &mut Vec<(u64, u64)>,
        done: &mut Maintained,
    ) -> Result<()> {
        let records = &self.records;
        let Some(seen) = self.ownerless(slot)? else { return Ok(()) };
        // One who was thought dead may have aborted it when it was a part of main already.
        let head = records.head()?;
        if self.is_main(head, id)? {
            if self.retake(slot, id, state::RETIRED, seen)? {
                records.set_state(slot, state::ACTIVE)?;
                records.persist(slot)?;
                self.let_go(slot)?;
            }
            return Ok(());
        }
        let stamp = records.stamp(slot)?;
        if stamp > records.epoch()? {
            if self.retake(slot, id, state::RETIRED, seen)? {
                records.set_stamp(slot, records.epoch()?)?;
                self.bump(slot)?;
                self.let_go(slot)?;
            }
            // Next time: whoever reads at the new stamp is asked then.
            return Ok(());
        }
        if stamp == records.epoch()? {
            records.bump_epoch()?;
        }
        if let Some(reader) = self.openers.pinned_by(stamp)? {
            done.kept_records += 1;
            done.reader = Some(self.openers.examine(reader)?.pid);
            return Ok(());
        }
        // FreeTake, FreeRecheck
        records.persist(slot)?;
        if !self.retake(slot, id, state::RETIRED, seen)? {
            return Ok(());
        }
        if records.stamp(slot)? != stamp {
            return self.let_go(slot);
        }
        taken.push((slot, id));
        Ok(())
    }

    /// Frees records that were taken for it, and their blocks in one walk over the owner map.
    fn free_taken(&self, taken: &[(u64, u64)], done: &mut Maintained) -> Result<()> {
        if taken.is_empty() {
            return Ok(());
        }
        // FreeBlock
        let ids: HashSet<u64> = taken.iter().map(|(_, id)| *id).collect();
        done.blocks += self.heap.free(|owner| Ok(ids.contains(&owner)))?;
        self.heap.persist_map()?;
        // FreeSlot, FreeEnd
        for (slot, _) in taken {
            self.records.set_state(*slot, state::FREE)?;
            self.records.persist(*slot)?;
            self.let_go(*slot)?;
            done.records += 1;
        }
        Ok(())
    }

    /// Blocks of records that are no more.
    fn sweep_leaks(&self, done: &mut Maintained) -> Result<()> {
        let records = &self.records;
        done.leaked_blocks = self.heap.free(|owner| {
            let Some(slot) = super::slot_of(owner) else { return Ok(true) };
            if records.id(slot)? != owner {
                return Ok(true);
            }
            Ok(records.state(slot)? == state::FREE && records.owner(slot)? == 0)
        })?;
        Ok(())
    }
}
