// SPDX-License-Identifier: Apache-2.0 OR MIT
//! create: freeze the parent, claim and fill a slot, announce it, look again, activate.

use super::Step;
use crate::rules::Rule;
use crate::state::Locals;
use crate::turn::Turn;
use crate::words::state::{ACTIVE, FREE, NEW};
use crate::words::*;

impl Turn<'_> {
    pub(super) fn create_begin(&mut self, step: Step) {
        let Locals { slot, id, new, .. } = self.locals();
        match step {
            Step::CreateFind => {
                let head = self.load(HEAD);
                self.local().head = head;
                let found = self.rec(slot, Field::Id) == id && self.is_current(slot, head);
                if found { self.goto(Step::CreateFreeze) } else { self.done() }
            }
            Step::CreateFreeze => self.create_freeze(),
            Step::CreateMeasure => {
                self.local().size = self.rec(slot, Field::Size);
                self.goto(Step::CreateSearch);
            }
            Step::CreateSearch => {
                if self.may_claim(new) {
                    self.goto(Step::CreateClaim);
                } else {
                    self.create_search_on();
                }
            }
            Step::CreateClaim => {
                if self.take(new, 0) {
                    self.goto(Step::CreateCheckClaim);
                } else {
                    self.create_search_on();
                }
            }
            Step::CreateCheckClaim => {
                if self.may_claim(new) || !self.keeps(Rule::ClaimRecheck) {
                    self.goto(Step::CreateFill);
                } else {
                    self.goto(Step::CreateLetGo);
                }
            }
            Step::CreateFill => self.create_fill(),
            Step::CreateAnnounce => {
                if self.keeps(Rule::PersistRecord) {
                    self.persist_record(new);
                }
                self.put(new, Field::State, NEW);
                let other = self.locals().also != RENEWAL && self.protocol.scenario.renews();
                let looks = other && self.keeps(Rule::CreateSeesRenewal);
                self.goto(if looks { Step::CreateAloneState } else { Step::CreateRecheckParent });
            }
            _ => unreachable!("a step of the second half"),
        }
    }

    /// What is about to be committed would void this one.
    pub(super) fn create_alone(&mut self, step: Step) {
        let Locals { cursor, head, new, .. } = self.locals();
        match step {
            Step::CreateAloneState => {
                let active = cursor != new && self.rec(cursor, Field::State) == ACTIVE;
                if active {
                    self.goto(Step::CreateAloneOwner);
                } else {
                    self.create_alone_on();
                }
            }
            _ => {
                let renewal = self.rec(cursor, Field::Name) == RENEWAL
                    && self.rec(cursor, Field::BaseHead) == head;
                let owner = self.rec(cursor, Field::Owner);
                if renewal && !self.is_ownerless(owner) {
                    self.state.use_id(self.rec(new, Field::Id));
                    self.goto(Step::CreateBackOut);
                } else {
                    self.create_alone_on();
                }
            }
        }
    }

    fn create_alone_on(&mut self) {
        if self.locals().cursor + 1 < self.protocol.slots() {
            self.local().cursor += 1;
            self.goto(Step::CreateAloneState);
        } else {
            self.local().cursor = 0;
            self.goto(Step::CreateRecheckParent);
        }
    }

    fn create_freeze(&mut self) {
        let slot = self.locals().slot;
        let owner = self.rec(slot, Field::Owner);
        if owner & FROZEN != 0 || owner == 0 {
            self.put(slot, Field::Owner, owner | FROZEN);
        } else if owner == self.me() {
            if self.keeps(Rule::FreezePersists) {
                self.persist_published(slot);
            }
            self.put(slot, Field::Owner, owner | FROZEN);
            self.party().writable &= !(1 << slot);
        } else {
            self.done();
            return;
        }
        self.goto(Step::CreateMeasure);
    }

    fn create_search_on(&mut self) {
        if self.locals().new + 1 < self.protocol.slots() {
            self.local().new += 1;
            self.goto(Step::CreateSearch);
        } else {
            self.done();
        }
    }

    /// Nobody looks at the fields of a FREE record but its id, so they are stored at once.
    fn create_fill(&mut self) {
        let Locals { id, new, head, size, also: name, .. } = self.locals();
        self.persist_head();
        let new_id = self.next_id(new);
        self.put(new, Field::Id, new_id);
        self.put(new, Field::Parent, id);
        self.put(new, Field::Size, 0);
        self.put(new, Field::BaseSize, size);
        self.put(new, Field::BaseHead, head);
        self.put(new, Field::Name, name);
        self.put(new, Field::Flags, 0);
        self.put(new, Field::Stamp, CREATED);
        self.put(new, Field::Segment, 0);
        self.put(new, Field::Log0, 0);
        self.put(new, Field::Log1, 0);
        self.goto(Step::CreateAnnounce);
    }

    pub(super) fn create_finish(&mut self, step: Step) {
        let Locals { slot, id, new, head, size, .. } = self.locals();
        match step {
            Step::CreateRecheckParent => {
                self.state.use_id(self.rec(new, Field::Id));
                let same =
                    self.rec(slot, Field::Id) == id && self.rec(slot, Field::State) == ACTIVE;
                self.create_go_on(same, Step::CreateRecheckFrozen);
            }
            Step::CreateRecheckFrozen => {
                let frozen = self.rec(slot, Field::Owner) & FROZEN != 0;
                self.create_go_on(
                    frozen || !self.keeps(Rule::FreezeParent),
                    Step::CreateRecheckSize,
                );
            }
            Step::CreateRecheckSize => {
                let same = self.rec(slot, Field::Size) == size;
                self.create_go_on(same || !self.keeps(Rule::RecheckSize), Step::CreateRecheckHead);
            }
            Step::CreateRecheckHead => {
                let same = self.load(HEAD) == head;
                let named = self.locals().also == 1 && self.keeps(Rule::RecheckNames);
                let next = if named { Step::CreateNamesState } else { Step::CreateActivate };
                self.create_go_on(same || !self.keeps(Rule::RecheckHead), next);
            }
            Step::CreateNamesState => {
                let cursor = self.locals().cursor;
                let state = self.rec(cursor, Field::State);
                if cursor != new && (state == NEW || state == ACTIVE) {
                    self.goto(Step::CreateNamesName);
                } else {
                    self.create_names_on();
                }
            }
            Step::CreateNamesName => {
                let Locals { cursor, also: name, .. } = self.locals();
                let taken = self.rec(cursor, Field::Name) == name
                    && self.rec(cursor, Field::BaseHead) == head;
                if taken { self.goto(Step::CreateBackOut) } else { self.create_names_on() }
            }
            Step::CreateActivate => {
                self.put(new, Field::State, ACTIVE);
                self.state.begin_branch(new);
                self.goto(Step::CreateAcknowledge);
            }
            Step::CreateAcknowledge => {
                self.persist_record(new);
                self.party().writable |= 1 << new;
                self.state.acknowledge_branch(new);
                self.state.acknowledge_head(head);
                self.done();
            }
            Step::CreateBackOut => {
                self.put(new, Field::State, FREE);
                self.goto(Step::CreateLetGo);
            }
            Step::CreateLetGo => {
                self.let_go(new, 0);
                self.done();
            }
            _ => unreachable!("a step of the first half"),
        }
    }

    fn create_go_on(&mut self, holds: bool, next: Step) {
        self.goto(if holds { next } else { Step::CreateBackOut });
    }

    fn create_names_on(&mut self) {
        if self.locals().cursor + 1 < self.protocol.slots() {
            self.local().cursor += 1;
            self.goto(Step::CreateNamesState);
        } else {
            self.goto(Step::CreateActivate);
        }
    }
}
