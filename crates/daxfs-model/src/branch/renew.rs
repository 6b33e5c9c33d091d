// SPDX-License-Identifier: Apache-2.0 OR MIT
//! renew: a branch of main that is made only to be committed, so that main's log begins anew. Its
//! create and its commit are those of every branch; here is what comes between, and what becomes
//! of one that was left behind.

use super::Step;
use crate::rules::Rule;
use crate::state::Locals;
use crate::turn::Turn;
use crate::words::state::{ACTIVE, NEW};
use crate::words::*;

impl Turn<'_> {
    /// Its commit must void nobody's branch.
    pub(super) fn renew(&mut self, step: Step) {
        let Locals { slot, cursor, head, .. } = self.locals();
        match step {
            Step::RenewHead => {
                self.local().head = self.load(HEAD);
                let looks = self.keeps(Rule::RenewLooks);
                self.goto(if looks { Step::RenewAloneState } else { Step::CommitSwap });
            }
            Step::RenewAloneState => {
                let state = self.rec(cursor, Field::State);
                if cursor != slot && (state == NEW || state == ACTIVE) {
                    self.goto(Step::RenewAloneHead);
                } else {
                    self.renew_alone_on();
                }
            }
            _ => {
                if self.rec(cursor, Field::BaseHead) == head {
                    self.goto(Step::AbortCheck);
                } else {
                    self.renew_alone_on();
                }
            }
        }
    }

    fn renew_alone_on(&mut self) {
        if self.locals().cursor + 1 < self.protocol.slots() {
            self.local().cursor += 1;
            self.goto(Step::RenewAloneState);
        } else {
            self.goto(Step::CommitSwap);
        }
    }

    /// Ends one that a party left behind which is dead by now.
    pub(super) fn drop_renewal(&mut self, step: Step) {
        let Locals { slot, head, seen, id, .. } = self.locals();
        match step {
            Step::DropHead if !self.keeps(Rule::DropRenewals) => self.done(),
            Step::DropHead => {
                self.local().head = self.load(HEAD);
                self.goto(Step::DropLook);
            }
            // A pin keeps the slot of one that was seen ACTIVE, so it is looked at at once.
            Step::DropLook => {
                let renewal = self.rec(slot, Field::State) == ACTIVE
                    && self.rec(slot, Field::Name) == RENEWAL
                    && self.rec(slot, Field::BaseHead) == head;
                let owner = self.rec(slot, Field::Owner);
                if renewal && self.is_ownerless(owner) {
                    self.local().id = self.rec(slot, Field::Id);
                    self.local().seen = owner;
                    self.goto(Step::DropTake);
                } else if slot + 1 < self.protocol.slots() {
                    self.local().slot += 1;
                } else {
                    self.done();
                }
            }
            Step::DropTake => {
                if self.take(slot, seen) {
                    self.goto(Step::DropRecheck);
                } else {
                    self.done();
                }
            }
            _ => {
                let head = self.load(HEAD);
                let alive = self.rec(slot, Field::Id) == id && self.is_alive(slot, head);
                if alive || !self.keeps(Rule::DropRechecks) {
                    self.goto(Step::AbortUnstamp);
                } else {
                    self.let_go(slot, seen & FROZEN);
                    self.done();
                }
            }
        }
    }
}
