// SPDX-License-Identifier: Apache-2.0 OR MIT
//! collect: blocks of a record held for writing that nothing in it names.

use super::Step;
use crate::rules::Rule;
use crate::state::Locals;
use crate::turn::Turn;
use crate::words::*;

impl Turn<'_> {
    pub(super) fn collect(&mut self, step: Step) {
        let Locals { slot, id, cursor, epoch: stamp, blocks, .. } = self.locals();
        match step {
            Step::CollectCheck if self.was_forced(slot) => self.done(),
            Step::CollectCheck => {
                let head = self.load(HEAD);
                if self.is_current(slot, head) || !self.keeps(Rule::OperationsCheckHead) {
                    self.local().blocks = self.state.layer_blocks(slot);
                    self.goto(Step::CollectPublish);
                } else {
                    self.goto(Step::StaleFirst);
                }
            }
            Step::CollectPublish => {
                if self.keeps(Rule::CollectPublishes) {
                    self.persist_published(slot);
                }
                self.local().epoch = self.load(EPOCH);
                self.goto(Step::CollectBump);
            }
            Step::CollectBump => {
                if self.keeps(Rule::CollectBumps) {
                    let epoch = self.load(EPOCH);
                    self.store(EPOCH, epoch + 1);
                }
                self.goto(Step::CollectMoveOn);
            }
            Step::CollectMoveOn => {
                let mine = pin(entry_of(self.me()));
                if self.load(mine) != 0 {
                    let epoch = self.load(EPOCH);
                    self.store(mine, epoch);
                }
                self.goto(Step::CollectPinEntry);
            }
            Step::CollectPinEntry => {
                if self.pin_counts(cursor) {
                    self.goto(Step::CollectPinValue);
                } else {
                    self.collect_next_pin();
                }
            }
            Step::CollectPinValue => {
                if self.pin_passed(cursor, stamp) || !self.keeps(Rule::CollectWaits) {
                    self.collect_next_pin();
                } else {
                    self.done();
                }
            }
            Step::CollectFree => {
                let unnamed = |block: &u8| self.load(map(*block)) == id;
                let named = |block: &u8| blocks.contains(&(block + 1));
                match (0..BLOCKS).find(|block| unnamed(block) && !named(block)) {
                    Some(block) => {
                        self.cas(map(block), id, 0);
                    }
                    None => self.done(),
                }
            }
            _ => unreachable!("not a step of collect"),
        }
    }

    fn collect_next_pin(&mut self) {
        if self.locals().cursor + 1 < ENTRIES {
            self.local().cursor += 1;
            self.goto(Step::CollectPinEntry);
        } else {
            self.goto(Step::CollectFree);
        }
    }
}
