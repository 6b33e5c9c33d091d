// SPDX-License-Identifier: Apache-2.0 OR MIT
//! create: freeze the parent, claim and fill a slot, announce it, look again, activate.
//!
//! Step names in comments are those of `docs/branches.md` and the model.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::handle::{Branch, Open};
use super::hold::{Intent, outlast};
use super::reclaim::FOLD_DUE;
use super::record::{Name, NewRecord, holder};
use crate::clock::{self, Patience};
use crate::delta::Cursor;
use crate::error::{Error, Result};
use crate::format::{MAIN_NAME, OWNER_FROZEN, RENEWAL_NAME, state};
use crate::opener::Life;
use crate::region::Access;
use crate::session::{Session, encode_name};
use crate::write::Writer;

/// Times that it is tried, while what others do at the same time is in the way.
const TRIES: usize = 8;

/// Longest wait for a record that can be had, or for others who are at it.
const PATIENCE: Duration = Duration::from_millis(500);

/// The name of a branch made only to be committed, as records hold it.
fn renewal_field() -> Name {
    let mut field = Name::default();
    field[..RENEWAL_NAME.len()].copy_from_slice(RENEWAL_NAME.as_bytes());
    field
}

/// A parent as a child is made of it.
struct Parent {
    slot: u64,
    id: u64,
    size: u64,
    head: u64,
}

/// What came of a try.
enum Outcome<T> {
    Made(T),
    /// Not now, and why.
    Busy(&'static str),
    NoSlot,
}

impl Session {
    /// Makes a branch of what `parent` is now, and opens it for writing. The parent can be read,
    /// and not written, as long as the branch lives.
    pub fn create(self: &Arc<Self>, name: &str, parent: &str) -> Result<Branch> {
        let encoded = encode_name(name)?;
        if name == MAIN_NAME {
            return Err(Error::BranchExists { name: name.into() });
        }
        self.create_encoded(name, &encoded, parent)
    }

    /// Makes a branch of main that is to be committed as it is.
    pub(crate) fn create_renewal(self: &Arc<Self>) -> Result<Branch> {
        self.create_encoded(RENEWAL_NAME, &renewal_field(), MAIN_NAME)
    }

    fn create_encoded(
        self: &Arc<Self>,
        name: &str,
        encoded: &Name,
        parent: &str,
    ) -> Result<Branch> {
        let (mut tries, mut patience) = (0, None);
        self.retire_ended(Patience::new(PATIENCE))?;
        loop {
            match outlast(PATIENCE, || self.attempt(name, encoded, parent))? {
                Outcome::Made(open) => {
                    return Ok(Branch::new(self.register(open.id(), open), Access::Write));
                }
                Outcome::Busy(why) => {
                    tries += 1;
                    if tries == TRIES {
                        return Err(Error::Busy { name: name.into(), why: why.into() });
                    }
                    std::thread::yield_now();
                }
                Outcome::NoSlot => {
                    let patience = patience.get_or_insert_with(|| Patience::new(PATIENCE));
                    if patience.is_over() {
                        return Err(Error::NoRecord);
                    }
                    // Others may be at it, or still read what is to go.
                    if self.maintain_in_turn(FOLD_DUE)?.records == 0 {
                        patience.pause();
                    }
                }
            }
        }
    }

    /// Tries once. Nothing is kept from being used again by who waits for the next time.
    fn attempt(
        self: &Arc<Self>,
        name: &str,
        encoded: &Name,
        parent: &str,
    ) -> Result<Outcome<Open>> {
        let pin = self.opener.pin()?;
        // CreateFind
        let head = self.records.head()?;
        let (slot, id) = self.find(parent, head)?;
        let open = self.opened(id);
        // Threads that write to the parent thaw it as long as it has no child; who renews main has
        // the lock already.
        let to_lock = open.as_deref().filter(|_| *encoded != renewal_field());
        let mut writer = to_lock.map(Open::lock_writer).transpose()?;
        // CreateFreeze, CreateMeasure
        self.freeze(parent, slot, id, head, open.as_deref().zip(writer.as_deref_mut()))?;
        let parent = Parent { slot, id, size: self.records.size(slot)?, head };
        // First: what cannot be opened is not made.
        let (_, index) = self.tree(slot, id)?;
        Ok(match self.try_create(name, encoded, &parent)? {
            Outcome::Made((slot, id)) => {
                let start = Cursor::default();
                Outcome::Made(Open::new(self, name, slot, id, head, start, index, pin, true))
            }
            Outcome::Busy(why) => Outcome::Busy(why),
            Outcome::NoSlot => Outcome::NoSlot,
        })
    }

    /// Ends a branch that was made only to be committed, and whose maker died before: main could
    /// not be written else.
    pub(crate) fn drop_renewal(&self) -> Result<()> {
        let (_pin, records) = (self.opener.pin()?, &self.records);
        // DropLook. What the maker committed before DropTake is not alive then.
        let Some((slot, false)) = self.renewal(records.head()?)? else { return Ok(()) };
        let id = records.id(slot)?;
        match self.take_for_writing(RENEWAL_NAME, slot, id, Intent::Finish) {
            Ok(()) => {
                let retired = self.retire(slot);
                self.let_go(slot)?;
                retired
            }
            // Somebody else does the same, or it was taken by force.
            Err(Error::Stale { .. } | Error::Busy { .. } | Error::ReadOnly { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A branch of this generation that was made only to be committed, and whether its maker lives.
    fn renewal(&self, head: u64) -> Result<Option<(u64, bool)>> {
        let Some(slot) = self.records.named(&renewal_field(), head)? else { return Ok(None) };
        let owner = holder(self.records.owner(slot)?);
        Ok(Some((slot, owner != 0 && self.openers.examine(owner)?.life != Life::Dead)))
    }

    /// Whether a parent is held as its owner word says: not frozen, or main, and frozen for no branch's
    /// sake, but because another, who lives, begins its log anew and goes on to write to it.
    fn is_held(&self, name: &str, id: u64, head: u64, word: u64) -> Result<bool> {
        if word & OWNER_FROZEN == 0 {
            return Ok(true);
        }
        let (writer, me) = (holder(word), self.opener.id);
        let nobody = writer == 0 || self.openers.examine(writer)?.life == Life::Dead;
        if name != MAIN_NAME || writer == me || nobody {
            return Ok(false);
        }
        let child = self.records.child(id, head)?;
        child.map_or(Ok(true), |slot| self.records.has_name(slot, &renewal_field()))
    }

    /// Keeps everybody from writing to a record. This session publishes what it wrote before.
    fn freeze(
        &self,
        name: &str,
        slot: u64,
        id: u64,
        head: u64,
        writer: Option<(&Open, &mut Writer)>,
    ) -> Result<()> {
        let (records, me) = (&self.records, self.opener.id);
        let seen = self.settled_owner(slot)?;
        if holder(seen) == me && seen & OWNER_FROZEN == 0 {
            if let Some((open, writer)) = writer {
                open.expect_unmapped()?;
                open.flush(writer)?;
                records.take(slot, me, me | OWNER_FROZEN)?;
            }
        } else if seen & OWNER_FROZEN == 0 {
            let free = seen == 0
                || self.openers.examine(seen)?.life == Life::Dead && {
                    self.break_opener(seen)?;
                    true
                };
            if !free || !records.take(slot, 0, OWNER_FROZEN)? {
                let now = records.owner(slot)?;
                if self.is_held(name, id, head, now)? {
                    return Err(self.held_by(name, holder(now))?);
                }
            }
        } else if self.is_held(name, id, head, seen)? {
            return Err(self.held_by(name, holder(seen))?);
        }
        Ok(())
    }

    fn try_create(
        &self,
        name: &str,
        encoded: &Name,
        parent: &Parent,
    ) -> Result<Outcome<(u64, u64)>> {
        let (records, me) = (&self.records, self.opener.id);
        let Some(slot) = self.claim_slot(false)? else { return Ok(Outcome::NoSlot) };
        let announced = self.announce(slot, name, encoded, parent);
        let Ok(Outcome::Made(..)) = announced else {
            // CreateBackOut
            records.set_state(slot, state::FREE)?;
            self.let_go(slot)?;
            return announced;
        };
        // CreateActivate, CreateAcknowledge
        debug_assert_eq!(records.owner(slot)?, me);
        records.set_state(slot, state::ACTIVE)?;
        records.persist(slot)?;
        announced
    }

    /// Makes a claimed slot the record of a branch, but for its state, unless something is in the
    /// way.
    fn announce(
        &self,
        slot: u64,
        name: &str,
        encoded: &Name,
        parent: &Parent,
    ) -> Result<Outcome<(u64, u64)>> {
        let records = &self.records;
        // CreateFill
        records.persist_head()?;
        let id = records.fill(
            slot,
            &NewRecord {
                parent: parent.id,
                name: *encoded,
                base_size: parent.size,
                base_head: parent.head,
                flags: 0,
                created: u64::try_from(clock::now()).unwrap_or(0),
            },
        )?;
        // CreateAnnounce
        records.set_state(slot, state::NEW)?;
        // CreateAlone: what is about to be committed would void this one. Its maker looks as well; if
        // it is done already, `head` says so.
        if *encoded != renewal_field() && self.renewal(parent.head)?.is_some_and(|(_, lives)| lives)
        {
            return Ok(Outcome::Busy("somebody is about to commit one to main"));
        }
        // CreateRecheck…
        let same = records.id(parent.slot)? == parent.id
            && records.state(parent.slot)? == state::ACTIVE
            && records.owner(parent.slot)? & OWNER_FROZEN != 0
            && records.size(parent.slot)? == parent.size
            && records.head()? == parent.head;
        if !same {
            return Ok(Outcome::Busy("others change what it is made of all the time; try again"));
        }
        // CreateNames
        if let Some(other) = records.namesake(encoded, parent.head, slot)? {
            if records.state(other)? == state::ACTIVE {
                return Err(Error::BranchExists { name: name.into() });
            }
            return Ok(Outcome::Busy("somebody else is making one of this name"));
        }
        Ok(Outcome::Made((slot, id)))
    }

    /// CreateSearch, CreateClaim, CreateCheckClaim: a FREE slot with this session in its owner
    /// word.
    pub(crate) fn claim_slot(&self, fold: bool) -> Result<Option<u64>> {
        let (records, me) = (&self.records, self.opener.id);
        let slots = records.open_slots(fold);
        // Where the last one was found: those before it are in use, as a rule.
        let hint = self.slot_hint.load(Relaxed).min(slots.end);
        for slot in (hint..slots.end).chain(0..hint) {
            if records.state(slot)? != state::FREE || !records.take(slot, 0, me)? {
                continue;
            }
            // It may have been used and given back in between.
            if records.state(slot)? == state::FREE {
                self.slot_hint.store(slot, Relaxed);
                return Ok(Some(slot));
            }
            self.let_go(slot)?;
        }
        Ok(None)
    }
}
