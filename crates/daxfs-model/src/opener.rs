// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Openers: open, pin, move on, break, close. Mirrors `opener.rs` of the engine.

use crate::rules::Rule;
use crate::state::{self, Locals};
use crate::turn::Turn;
use crate::words::state::{ACTIVE, FREE, NEW, RETIRED};
use crate::words::*;

/// Steps, as `docs/branches.md` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// open: CAS of an entry's id word, free → CLAIMED|id.
    OpenClaim,
    /// open: pin = 0, identity.
    OpenFill,
    /// open: P(entry); the id word drops CLAIMED.
    OpenRegister,
    /// break: load an owner word, CAS dead → me.
    BreakTake,
    /// break: look at the state; wipe NEW, write back ACTIVE.
    BreakTidy,
    /// break: owner me → 0, or FROZEN.
    BreakLetGo,
    /// break: `maint` dead → 0.
    BreakMaint,
    /// break: entry dead → free.
    BreakEntry,
    /// force: ACTIVE, and owned by another: CAS owner → me.
    ForceTake,
    /// force: QUARANTINED.
    ForceMark,
    /// force: P(published, flags); owner me → 0, or FROZEN.
    ForceLetGo,
    /// close: release every record held.
    CloseRelease,
    /// close: pin = 0.
    CloseUnpin,
    /// close: entry → free.
    CloseEntry,
}

impl From<Step> for state::Step {
    fn from(step: Step) -> Self {
        Self::Opener(step)
    }
}

/// The id that an entry's next user gets.
fn next_id(word: u8, index: u8) -> u8 {
    match word & !(FREED | CLAIMED) {
        0 => 1 + index,
        last => last + ENTRIES,
    }
}

impl Turn<'_> {
    /// One access of open, break or close.
    pub(crate) fn opener(&mut self, step: Step) {
        match step {
            Step::OpenClaim => self.open_claim(),
            Step::OpenFill => {
                let index = self.locals().cursor;
                if self.keeps(Rule::ClearPin) {
                    self.store(pin(index), 0);
                }
                self.goto(Step::OpenRegister);
            }
            Step::OpenRegister => self.open_register(),
            Step::BreakTake => self.break_take(),
            Step::BreakTidy => self.break_tidy(),
            Step::BreakLetGo => {
                let slot = self.locals().cursor;
                let owner = self.rec(slot, Field::Owner);
                self.let_go(slot, owner & FROZEN);
                self.break_next(slot);
            }
            Step::BreakMaint => {
                let holder = self.load(MAINT);
                if holder != 0 && self.is_dead(holder) {
                    self.cas(MAINT, holder, 0);
                }
                self.local().cursor = 0;
                self.goto(Step::BreakEntry);
            }
            Step::BreakEntry => self.break_entry(),
            Step::ForceTake | Step::ForceMark | Step::ForceLetGo => self.force(step),
            Step::CloseRelease => self.close_release(),
            Step::CloseUnpin => {
                let index = entry_of(self.me());
                self.store(pin(index), 0);
                self.goto(Step::CloseEntry);
            }
            Step::CloseEntry => {
                let me = self.me();
                self.store(entry(entry_of(me)), FREED | me);
                self.party().opener = 0;
                self.done();
            }
        }
    }

    fn open_claim(&mut self) {
        let index = self.locals().cursor;
        let word = self.load(entry(index));
        // A table full of the dead must not keep everybody out: the second time round they count
        // as free. What they owned is then owned by ids that no entry names.
        let full = self.locals().also != 0;
        let dead = word & FREED == 0 && self.state.has_died(word & !CLAIMED);
        if word == 0 || word & FREED != 0 || (full && dead) {
            let reuse = !self.keeps(Rule::FreshOpeners) && word != 0;
            let id = if reuse { word & !FREED } else { next_id(word, index) };
            self.cas(entry(index), word, CLAIMED | id);
            self.local().id = id;
            self.goto(Step::OpenFill);
        } else if index + 1 < ENTRIES {
            self.local().cursor += 1;
        } else if full {
            self.done();
        } else {
            self.local().cursor = 0;
            self.local().also = 1;
        }
    }

    fn open_register(&mut self) {
        let Locals { cursor, id, .. } = self.locals();
        if self.keeps(Rule::PersistEntry) {
            self.persist(Line::Entry(cursor));
        }
        self.store(entry(cursor), id);
        self.party().opener = id;
        self.done();
    }

    /// Each record that a dead opener owns is taken from it.
    fn break_take(&mut self) {
        let slot = self.locals().cursor;
        let owner = self.rec(slot, Field::Owner);
        let opener = owner & !FROZEN;
        if opener != 0 && opener != self.me() && self.is_dead(opener) {
            let mine = (owner & FROZEN) | self.me();
            self.cas(rec(slot, Field::Owner), owner, mine);
            self.party().owned |= 1 << slot;
            self.goto(Step::BreakTidy);
        } else {
            self.break_next(slot);
        }
    }

    fn break_tidy(&mut self) {
        let slot = self.locals().cursor;
        match self.rec(slot, Field::State) {
            NEW if self.keeps(Rule::WipeNew) => self.put(slot, Field::State, FREE),
            NEW => self.put(slot, Field::State, ACTIVE),
            FREE | RETIRED => {}
            _ => {
                if self.keeps(Rule::BreakPersists) {
                    self.persist_published(slot);
                }
            }
        }
        self.goto(Step::BreakLetGo);
    }

    fn break_next(&mut self, slot: u8) {
        if slot + 1 < SLOTS {
            self.local().cursor = slot + 1;
            self.goto(Step::BreakTake);
        } else {
            self.goto(Step::BreakMaint);
        }
    }

    fn break_entry(&mut self) {
        let index = self.locals().cursor;
        let word = self.load(entry(index));
        let id = word & !CLAIMED;
        if word != 0 && word & FREED == 0 && self.state.has_died(id) {
            self.cas(entry(index), word, FREED | id);
        }
        if index + 1 < ENTRIES {
            self.local().cursor += 1;
        } else {
            self.done();
        }
    }

    /// Only ACTIVE records, and neither `maint` nor the entry: its pin keeps the blocks.
    fn force(&mut self, step: Step) {
        let slot = self.locals().cursor;
        let owner = self.rec(slot, Field::Owner);
        match step {
            Step::ForceTake => {
                let opener = owner & !FROZEN;
                let held = opener != 0 && opener != self.me();
                if held && self.rec(slot, Field::State) == ACTIVE {
                    let mine = (owner & FROZEN) | self.me();
                    self.cas(rec(slot, Field::Owner), owner, mine);
                    self.party().owned |= 1 << slot;
                    self.state.rob(opener, slot);
                    self.goto(Step::ForceMark);
                } else if slot + 1 < SLOTS {
                    self.local().cursor += 1;
                } else {
                    self.done();
                }
            }
            Step::ForceMark => {
                let flags = self.rec(slot, Field::Flags);
                self.put(slot, Field::Flags, flags | flag::QUARANTINED);
                self.goto(Step::ForceLetGo);
            }
            _ => {
                self.persist_published(slot);
                self.persist(Line::RecordB(slot));
                self.let_go(slot, owner & FROZEN);
                self.goto(Step::ForceTake);
            }
        }
    }

    /// What was published is durable before the hold ends.
    fn close_release(&mut self) {
        let owned = self.state.parties[self.index].owned;
        if owned == 0 {
            self.goto(Step::CloseUnpin);
            return;
        }
        let slot = owned.trailing_zeros() as u8;
        if self.keeps(Rule::ReleasePersists) {
            self.persist_published(slot);
        }
        let owner = self.rec(slot, Field::Owner);
        self.let_go(slot, owner & FROZEN);
    }
}
