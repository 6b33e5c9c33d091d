// SPDX-License-Identifier: Apache-2.0 OR MIT
//! commit, abort, and what becomes of the handle of a branch that is no longer alive.

use super::Step;
use crate::invariants::Invariant;
use crate::rules::Rule;
use crate::state::Locals;
use crate::turn::Turn;
use crate::words::state::RETIRED;
use crate::words::*;

impl Turn<'_> {
    pub(super) fn commit(&mut self, step: Step) {
        let slot = self.locals().slot;
        let base_head = self.rec(slot, Field::BaseHead);
        match step {
            Step::CommitSwap => {
                self.persist_published(slot);
                self.persist_record(slot);
                let id = self.rec(slot, Field::Id);
                if !self.keeps(Rule::CommitByCas) {
                    let same = self.load(HEAD) == base_head;
                    self.goto(if same { Step::CommitStore } else { Step::StaleFirst });
                } else if self.cas(HEAD, base_head, id) {
                    self.state.win(slot);
                    self.goto(Step::CommitAcknowledge);
                } else {
                    self.goto(Step::StaleFirst);
                }
            }
            Step::CommitStore => {
                let id = self.rec(slot, Field::Id);
                self.store(HEAD, id);
                self.state.win(slot);
                self.goto(Step::CommitAcknowledge);
            }
            Step::CommitAcknowledge => {
                if self.keeps(Rule::PersistCommit) {
                    self.persist(Line::Head);
                }
                self.state.acknowledge_commit(slot);
                self.goto(Step::Release);
            }
            _ => unreachable!("not a step of commit"),
        }
    }

    pub(super) fn abort(&mut self, step: Step) {
        let Locals { slot, epoch, .. } = self.locals();
        match step {
            Step::AbortCheck => {
                let head = self.load(HEAD);
                self.local().head = head;
                let forced = self.rec(slot, Field::Flags) & flag::QUARANTINED != 0;
                if self.rec(slot, Field::Id) == head || (forced && self.keeps(Rule::NoForcedAbort))
                {
                    self.done();
                } else if self.is_alive(slot, head) || !self.keeps(Rule::OperationsCheckHead) {
                    let last = self.keeps(Rule::AbortStampsLast);
                    self.goto(if last { Step::AbortUnstamp } else { Step::AbortEpoch });
                } else {
                    self.goto(Step::StaleFirst);
                }
            }
            Step::AbortUnstamp => {
                self.put(slot, Field::Stamp, UNSTAMPED);
                self.goto(Step::AbortRetire);
            }
            Step::AbortRetire => {
                self.put(slot, Field::State, RETIRED);
                self.state.end_branch(slot);
                let last = self.keeps(Rule::AbortStampsLast);
                self.goto(if last { Step::AbortEpoch } else { Step::AbortAcknowledge });
            }
            Step::AbortEpoch => {
                self.local().epoch = self.load(EPOCH);
                self.goto(Step::AbortStamp);
            }
            Step::AbortStamp => {
                self.put(slot, Field::Stamp, epoch);
                let last = self.keeps(Rule::AbortStampsLast);
                self.goto(if last { Step::AbortAcknowledge } else { Step::AbortRetire });
            }
            Step::AbortAcknowledge => {
                if self.keeps(Rule::PersistRetired) {
                    self.persist_record(slot);
                }
                let id = self.rec(slot, Field::Id);
                self.state.ghost.aborted |= 1 << id;
                self.bump_epoch();
                self.goto(Step::Release);
            }
            _ => unreachable!("not a step of abort"),
        }
    }

    /// Tell readers without a pin, and let pins pass the stamps given so far.
    pub(crate) fn bump_epoch(&mut self) {
        if self.keeps(Rule::BumpEpoch) {
            let epoch = self.load(EPOCH);
            self.store(EPOCH, epoch + 1);
        }
    }

    /// The branch is not alive and not the tip. On the chain of `head`, or flagged: absorbed, the
    /// handle moves on. Else dead: ESTALE.
    pub(super) fn stale(&mut self, step: Step) {
        let Locals { slot, id, .. } = self.locals();
        let chain_first = self.keeps(Rule::ChainBeforeFlag);
        let look_at_chain = (step == Step::StaleFirst) == chain_first;
        let absorbed = if look_at_chain {
            self.state.chain(self.load(HEAD)).any(|layer| layer == slot)
        } else {
            self.rec(slot, Field::Flags) & flag::ABSORBED != 0
        };
        if !absorbed && step == Step::StaleFirst {
            self.goto(Step::StaleSecond);
            return;
        }
        self.persist_head();
        let head = self.load(HEAD);
        self.state.acknowledge_head(head);
        if !absorbed {
            self.state.ghost.dead |= 1 << id;
            if self.state.was_committed(id) {
                self.state.violate(Invariant::DeadStayDead);
            }
        }
        self.goto(Step::Release);
    }
}
