// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who may write a branch: write-open, release, breaking the holds of the dead.
//!
//! Step names in comments are those of `docs/branches.md` and the model.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use super::record::{MAINT, holder};
use crate::clock::Patience;
use crate::error::{Error, Result};
use crate::format::{MAIN_NAME, OWNER_FROZEN, branch_flag, state};
use crate::opener::Life;
use crate::session::Session;

/// Longest wait for a hold that may be about to end, or for main to stay what it is.
pub(crate) const PATIENCE: Duration = Duration::from_millis(100);

/// Does what finds a branch held, until it does not any more or `time` is over: who ends the hold of
/// a dead writer has the branch itself for a moment, and so has who finds out that it came too late;
/// who has committed main has it until that is durable.
pub(super) fn outlast<T>(time: Duration, attempt: impl FnMut() -> Result<T>) -> Result<T> {
    outlast_errors(time, |error| matches!(error, Error::Busy { .. }), attempt)
}

/// Does what may fail with errors that pass, until it does not or `time` is over.
pub(crate) fn outlast_errors<T>(
    time: Duration,
    passes: impl Fn(&Error) -> bool,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let mut patience = Patience::new(time);
    loop {
        match attempt() {
            Err(error) if passes(&error) && !patience.is_over() => patience.pause(),
            done => return done,
        }
    }
}

/// What a branch is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    /// To write into it.
    Write,
    /// To commit or to abort it.
    Finish,
}

impl Session {
    /// Puts this session into the owner word of a record, or says why it cannot be there.
    pub(crate) fn take_for_writing(
        &self,
        name: &str,
        slot: u64,
        id: u64,
        intent: Intent,
    ) -> Result<()> {
        let (records, me) = (&self.records, self.opener.id);
        let seen = outlast(PATIENCE, || self.take_owner(name, slot))?;
        let frozen = seen & OWNER_FROZEN;
        let give_back = |error| {
            records.take(slot, me, frozen)?;
            Err(error)
        };
        let gone = || Error::Stale { name: name.into(), why: "it has ended" };
        // WriteOpenRecheck
        if records.id(slot)? != id || records.state(slot)? != state::ACTIVE {
            return give_back(gone());
        }
        // WriteOpenHead. What another committed meanwhile is main's tip, and not to be ended.
        let head = records.head()?;
        records.persist_head()?;
        let current = match intent {
            // Committed, it is main's tip, and a branch that was made of it may have its name.
            Intent::Write => records.is_current(slot, head)? && (id != head || name == MAIN_NAME),
            Intent::Finish => records.base_head(slot)? == head,
        };
        if !current {
            return give_back(gone());
        }
        if records.is_quarantined(slot)? && intent == Intent::Write {
            let why = "it was taken by force from an owner who may be alive; commit it, or branch \
                       from it";
            return give_back(Error::ReadOnly { name: name.into(), why: why.into() });
        }
        // WriteOpenScan
        if let Some(child) = records.child(id, head)? {
            records.take(slot, me, OWNER_FROZEN)?;
            let child = records.name(child)?;
            let name = name.into();
            return Err(match intent {
                Intent::Write => Error::ReadOnly {
                    name,
                    why: format!("branch {child} was made from it; write there, or end it first"),
                },
                Intent::Finish => Error::Busy {
                    name,
                    why: format!("branch {child} was made from it; end that one first"),
                },
            });
        }
        Ok(())
    }

    /// WriteOpenTake, unless another living party is in the owner word; returns what was there.
    fn take_owner(&self, name: &str, slot: u64) -> Result<u64> {
        let (records, me) = (&self.records, self.opener.id);
        let other = holder(records.owner(slot)?);
        if other != 0 && other != me && self.openers.examine(other)?.life == Life::Dead {
            self.break_opener(other)?;
        }
        let seen = self.settled_owner(slot)?;
        if seen == me || [0, me].contains(&holder(seen)) && records.take(slot, seen, me)? {
            return Ok(seen);
        }
        Err(self.held_by(name, holder(records.owner(slot)?))?)
    }

    /// The error that names who holds a branch.
    pub(crate) fn held_by(&self, name: &str, id: u64) -> Result<Error> {
        if id == 0 {
            let why = "somebody wrote to it just now; try again".into();
            return Ok(Error::Busy { name: name.into(), why });
        }
        let info = self.openers.examine(id)?;
        let where_ = if info.same_boot { "" } else { " of another system" };
        let advice = match info.life {
            Life::Unknown => {
                "; whether it lives cannot be told from here: `daxfs-branch release \
                              --force` takes the branch from it"
            }
            _ => "",
        };
        let why = format!("process {}{where_} (opener {id}) writes to it{advice}", info.pid);
        Ok(Error::Busy { name: name.into(), why })
    }

    /// The owner word of a record, where it does not merely say that another thread of this session
    /// breaks a hold.
    pub(super) fn settled_owner(&self, slot: u64) -> Result<u64> {
        let _settled = self.lock_breaking();
        self.records.owner(slot)
    }

    fn lock_breaking(&self) -> MutexGuard<'_, ()> {
        self.breaking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves the owner word of a record.
    pub(crate) fn let_go(&self, slot: u64) -> Result<()> {
        let (records, me) = (&self.records, self.opener.id);
        if !records.take(slot, me, 0)? {
            records.take(slot, me | OWNER_FROZEN, OWNER_FROZEN)?;
        }
        Ok(())
    }

    /// Ends everything that a dead opener holds; returns how many records that were.
    pub(crate) fn break_opener(&self, dead: u64) -> Result<u64> {
        let (records, me) = (&self.records, self.opener.id);
        let _breaking = self.lock_breaking();
        let mut broken = 0;
        for slot in records.slots() {
            let seen = records.owner(slot)?;
            let frozen = seen & OWNER_FROZEN;
            // BreakTake
            if holder(seen) != dead || !records.take(slot, seen, me | frozen)? {
                continue;
            }
            broken += 1;
            // BreakTidy
            let kept = match records.state(slot)? {
                state::NEW => {
                    records.set_state(slot, state::FREE)?;
                    0
                }
                state::ACTIVE => {
                    self.persist_record(slot)?;
                    frozen
                }
                _ => frozen,
            };
            // BreakLetGo
            records.take(slot, me | frozen, kept)?;
        }
        // BreakMaint
        self.region.compare_exchange(MAINT, dead, 0)?;
        // BreakEntry
        self.openers.free(dead)?;
        Ok(broken)
    }

    /// P(published log, size, in-place data) of what somebody else wrote.
    pub(crate) fn persist_record(&self, slot: u64) -> Result<()> {
        self.heap.persist_owned(self.records.id(slot)?)?;
        self.records.persist(slot)
    }

    /// Takes a branch from its owner: from a dead one, as every write would; with `force` also
    /// from one of whom nobody knows. Returns whether there was an owner.
    pub fn release(&self, name: &str, force: bool) -> Result<bool> {
        let _pin = self.opener.pin()?;
        let (slot, _) = self.find(name, self.records.head()?)?;
        let seen = self.records.owner(slot)?;
        let owner = holder(seen);
        if owner == 0 || owner == self.opener.id {
            return Ok(false);
        }
        match self.openers.examine(owner)?.life {
            Life::Dead => self.break_opener(owner)?,
            Life::Unknown if force => return self.force(slot, seen),
            _ => return Err(self.held_by(name, owner)?),
        };
        Ok(true)
    }

    /// Unowns a record whose owner may be alive; what it holds beside that stays.
    fn force(&self, slot: u64, seen: u64) -> Result<bool> {
        let (records, me) = (&self.records, self.opener.id);
        let _breaking = self.lock_breaking();
        let frozen = seen & OWNER_FROZEN;
        if records.state(slot)? != state::ACTIVE || !records.take(slot, seen, me | frozen)? {
            return Ok(false);
        }
        records.add_flags(slot, branch_flag::QUARANTINED)?;
        self.persist_record(slot)?;
        records.take(slot, me | frozen, frozen)?;
        Ok(true)
    }
}
