// SPDX-License-Identifier: Apache-2.0 OR MIT
//! reclaim: retire what is not needed, free what nobody reads, sweep leaks. Under `maint`.

use crate::fold;
use crate::invariants::Invariant;
use crate::rules::Rule;
use crate::state::{self, Locals};
use crate::turn::Turn;
use crate::words::state::{ACTIVE, FREE, NEW, RETIRED};
use crate::words::*;

/// Steps, as `docs/branches.md` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A record's id and state.
    Look,
    /// Its owner word: 0, FROZEN, dead?
    Owner,
    /// Load `head`: on its chain, or alive?
    Need,
    /// The same question with another load of `head`: what must not be done.
    NeedSplit,
    /// P(head); CAS owner seen → me.
    Take,
    /// Id and state again.
    Recheck,
    /// A NEW record: state = FREE.
    Wipe,
    /// Load `epoch`.
    Epoch,
    /// Stamp = epoch.
    Stamp,
    /// State = RETIRED.
    Retire,
    /// P(record); epoch + 1.
    Bump,
    /// Owner me → 0.
    LetGo,
    /// A RETIRED record: its stamp.
    StampLook,
    /// And the epoch: ahead of it, equal, or past?
    StampCompare,
    /// An opener entry: does it count?
    PinEntry,
    /// Its pin.
    PinValue,
    /// P(record); CAS owner seen → me.
    FreeTake,
    /// Id, state and stamp again.
    FreeRecheck,
    /// CAS map words id → 0.
    FreeBlock,
    /// P(map); state = FREE.
    FreeSlot,
    /// P(record); owner me → 0.
    FreeEnd,
    /// Leaks: a map word.
    LeakMap,
    /// Leaks: the slot's id.
    LeakId,
    /// Leaks: the slot's owner and state.
    LeakState,
    /// Leaks: CAS word → 0.
    LeakFree,
    /// Leaks, in the wrong order: the slot's id before the map word.
    LeakIdFirst,
    /// And the map word.
    LeakMapSecond,
}

impl From<Step> for state::Step {
    fn from(step: Step) -> Self {
        Self::Reclaim(step)
    }
}

impl Turn<'_> {
    /// The first step under `maint`.
    pub(crate) fn reclaim_start(&mut self) {
        if !self.keeps(Rule::NeedAfterLook) {
            self.local().head = self.load(HEAD);
        }
        self.goto(Step::Look);
    }

    /// One access of reclaim.
    pub(crate) fn reclaim(&mut self, step: Step) {
        use Step::*;
        match step {
            Look | Owner | Need | NeedSplit => self.judge(step),
            Take | Recheck | Wipe | Epoch | Stamp | Retire | Bump | LetGo => self.retire(step),
            StampLook | StampCompare | PinEntry | PinValue => self.judge_retired(step),
            FreeTake | FreeRecheck | FreeBlock | FreeSlot | FreeEnd => self.free(step),
            LeakMap | LeakId | LeakState | LeakFree | LeakIdFirst | LeakMapSecond => {
                self.leaks(step)
            }
        }
    }

    fn next_record(&mut self) {
        let Locals { slot, also, head, .. } = self.locals();
        let local = Locals { also, head, slot: slot + 1, ..Locals::default() };
        *self.local() = local;
        if slot + 1 < SLOTS {
            self.goto(Step::Look);
            return;
        }
        self.local().slot = 0;
        let map_first = self.keeps(Rule::LeakReadsMapFirst);
        self.goto(if map_first { Step::LeakMap } else { Step::LeakIdFirst });
    }

    fn judge(&mut self, step: Step) {
        let Locals { slot, seen, head, .. } = self.locals();
        match step {
            Step::Look => {
                self.local().id = self.rec(slot, Field::Id);
                self.local().size = self.rec(slot, Field::State);
                let free = self.rec(slot, Field::State) == FREE;
                if free { self.next_record() } else { self.goto(Step::Owner) }
            }
            Step::Owner => {
                let owner = self.rec(slot, Field::Owner);
                self.local().seen = owner;
                let state = self.locals().size;
                if !self.is_ownerless(owner) && self.keeps(Rule::RespectOwner) {
                    self.next_record();
                } else if state == RETIRED {
                    self.goto(Step::StampLook);
                } else if state == NEW && self.keeps(Rule::WipeOrphans) {
                    self.goto(Step::Take);
                } else if !self.keeps(Rule::StampAfterNeed) {
                    self.goto(Step::Epoch);
                } else {
                    self.goto(Step::Need);
                }
            }
            Step::Need => {
                let head = if self.keeps(Rule::NeedAfterLook) { self.load(HEAD) } else { head };
                let on_chain = self.state.chain(head).into_iter().any(|layer| layer == slot);
                if !self.keeps(Rule::NeedOneHead) && !on_chain {
                    self.goto(Step::NeedSplit);
                } else if on_chain || self.rec(slot, Field::BaseHead) == head {
                    self.next_record();
                } else {
                    self.goto(Step::Take);
                }
            }
            Step::NeedSplit => {
                let alive = self.rec(slot, Field::BaseHead) == self.load(HEAD);
                if alive { self.next_record() } else { self.goto(Step::Take) }
            }
            _ => unreachable!("not a step of judging; owner {seen}"),
        }
    }

    fn retire(&mut self, step: Step) {
        let Locals { slot, id, size: state, seen, epoch, .. } = self.locals();
        match step {
            Step::Take => {
                self.persist_head();
                if self.take(slot, seen) {
                    let recheck = self.keeps(Rule::RetakeRechecks);
                    self.goto(if recheck { Step::Recheck } else { self.retire_as(state) });
                } else {
                    self.next_record();
                }
            }
            Step::Recheck => {
                let same = self.rec(slot, Field::Id) == id && self.rec(slot, Field::State) == state;
                self.goto(if same { self.retire_as(state) } else { Step::LetGo });
            }
            Step::Wipe => {
                self.put(slot, Field::State, FREE);
                self.goto(Step::LetGo);
            }
            Step::Epoch => {
                self.local().epoch = self.load(EPOCH);
                let early = !self.keeps(Rule::StampAfterNeed) && state == ACTIVE;
                self.goto(if early { Step::Need } else { Step::Stamp });
            }
            Step::Stamp => {
                self.put(slot, Field::Stamp, epoch);
                self.goto(if state == RETIRED { Step::Bump } else { Step::Retire });
            }
            Step::Retire => {
                if self.state.is_alive(slot) || self.state.is_main(slot) {
                    self.state.violate(Invariant::BranchUnchanged);
                }
                self.put(slot, Field::State, RETIRED);
                self.state.end_branch(slot);
                self.goto(Step::Bump);
            }
            Step::Bump => {
                if self.keeps(Rule::PersistRetired) {
                    self.persist_record(slot);
                }
                self.bump_epoch();
                self.goto(Step::LetGo);
            }
            Step::LetGo => {
                self.let_go(slot, if state == NEW { 0 } else { seen & FROZEN });
                if state == ACTIVE {
                    // Look at it again: it may be free to go already.
                    let Locals { also, head, .. } = self.locals();
                    let local = Locals { also, head, slot, ..Locals::default() };
                    *self.local() = local;
                    self.goto(Step::Look);
                } else {
                    self.next_record();
                }
            }
            _ => unreachable!("not a step of retiring"),
        }
    }

    fn retire_as(&self, state: u8) -> Step {
        match state {
            NEW => Step::Wipe,
            ACTIVE if !self.keeps(Rule::StampAfterNeed) => Step::Stamp,
            _ => Step::Epoch,
        }
    }

    fn judge_retired(&mut self, step: Step) {
        let Locals { slot, cursor, epoch: stamp, .. } = self.locals();
        match step {
            Step::StampLook => {
                self.local().epoch = self.rec(slot, Field::Stamp);
                self.goto(Step::StampCompare);
            }
            Step::StampCompare => {
                let epoch = self.load(EPOCH);
                if stamp > epoch && self.keeps(Rule::RestampFuture) {
                    self.goto(Step::Take);
                } else {
                    // Nothing passes its stamp before the epoch does; a party that died between
                    // the two leaves the step to whoever comes next.
                    if stamp == epoch && self.keeps(Rule::FreeAfterBump) {
                        self.bump_epoch();
                    }
                    self.goto(Step::PinEntry);
                }
            }
            Step::PinEntry => {
                if self.pin_counts(cursor) {
                    self.goto(Step::PinValue);
                } else {
                    self.next_pin();
                }
            }
            Step::PinValue => {
                if self.pin_passed(cursor, stamp) || !self.keeps(Rule::RespectPins) {
                    self.next_pin();
                } else {
                    self.next_record();
                }
            }
            _ => unreachable!("not a step of judging the retired"),
        }
    }

    /// Is the entry of a party that may read?
    pub(crate) fn pin_counts(&self, index: u8) -> bool {
        let word = self.load(entry(index));
        let counts = word != 0 && word & (FREED | CLAIMED) == 0;
        counts || !self.keeps(Rule::ClaimedPinsIgnored)
    }

    /// Does its pin say that it cannot read what was given up at `stamp`?
    pub(crate) fn pin_passed(&self, index: u8, stamp: u8) -> bool {
        let pin = self.load(pin(index));
        pin == 0 || stamp < pin || (stamp == pin && !self.keeps(Rule::PinEqualBlocks))
    }

    fn next_pin(&mut self) {
        if self.locals().cursor + 1 < ENTRIES {
            self.local().cursor += 1;
            self.goto(Step::PinEntry);
        } else {
            self.goto(Step::FreeTake);
        }
    }

    fn free(&mut self, step: Step) {
        let Locals { slot, id, seen, epoch: stamp, .. } = self.locals();
        match step {
            Step::FreeTake => {
                if self.keeps(Rule::PersistRetired) {
                    self.persist_record(slot);
                }
                if self.take(slot, seen) {
                    self.goto(Step::FreeRecheck);
                } else {
                    self.next_record();
                }
            }
            Step::FreeRecheck => {
                let same = self.rec(slot, Field::Id) == id
                    && self.rec(slot, Field::State) == RETIRED
                    && self.rec(slot, Field::Stamp) == stamp;
                self.goto(if same || !self.keeps(Rule::RetakeRechecks) {
                    Step::FreeBlock
                } else {
                    Step::LetGo
                });
            }
            Step::FreeBlock => match (0..BLOCKS).find(|&block| self.load(map(block)) == id) {
                Some(block) => {
                    self.cas(map(block), id, 0);
                }
                None => self.goto(Step::FreeSlot),
            },
            Step::FreeSlot => {
                if self.keeps(Rule::PersistFree) {
                    for block in 0..BLOCKS {
                        self.persist(Line::Map(block));
                    }
                }
                self.put(slot, Field::State, FREE);
                self.goto(Step::FreeEnd);
            }
            Step::FreeEnd => {
                self.persist_record(slot);
                self.let_go(slot, 0);
                self.next_record();
            }
            _ => unreachable!("not a step of freeing"),
        }
    }

    fn leaks(&mut self, step: Step) {
        let Locals { slot, cursor, seen, .. } = self.locals();
        match step {
            Step::LeakMap => {
                let word = self.load(map(cursor));
                self.local().seen = word;
                if word == 0 { self.next_word() } else { self.goto(Step::LeakId) }
            }
            Step::LeakId => {
                let same = self.rec(slot_of(seen), Field::Id) == seen;
                self.goto(if same { Step::LeakState } else { Step::LeakFree });
            }
            Step::LeakState => {
                let idle = self.rec(slot_of(seen), Field::Owner) == 0
                    && self.rec(slot_of(seen), Field::State) == FREE;
                if idle { self.goto(Step::LeakFree) } else { self.next_word() }
            }
            Step::LeakFree => {
                self.cas(map(cursor), seen, 0);
                self.next_word();
            }
            Step::LeakIdFirst => {
                self.local().seen = self.rec(slot, Field::Id);
                self.goto(Step::LeakMapSecond);
            }
            Step::LeakMapSecond => {
                let word = self.load(map(cursor));
                if word != 0 && slot_of(word) == slot && word != seen {
                    self.local().seen = word;
                    self.goto(Step::LeakFree);
                } else if slot + 1 < SLOTS {
                    self.local().slot += 1;
                    self.goto(Step::LeakIdFirst);
                } else {
                    self.next_word();
                }
            }
            _ => unreachable!("not a step of the leak scan"),
        }
    }

    fn next_word(&mut self) {
        let cursor = self.locals().cursor;
        self.local().slot = 0;
        self.local().seen = 0;
        if cursor + 1 >= self.protocol.blocks() {
            self.goto(fold::Step::DropMaint);
            return;
        }
        self.local().cursor = cursor + 1;
        let map_first = self.keeps(Rule::LeakReadsMapFirst);
        self.goto(if map_first { Step::LeakMap } else { Step::LeakIdFirst });
    }
}
