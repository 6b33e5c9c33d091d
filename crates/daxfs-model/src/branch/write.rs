// SPDX-License-Identifier: Apache-2.0 OR MIT
//! write-open and append.

use super::Step;
use crate::invariants::Invariant;
use crate::rules::Rule;
use crate::state::Locals;
use crate::turn::Turn;
use crate::words::state::ACTIVE;
use crate::words::*;

impl Turn<'_> {
    pub(super) fn write_open(&mut self, step: Step) {
        let Locals { slot, id, head, cursor, .. } = self.locals();
        match step {
            Step::WriteOpenTake => {
                let owner = self.rec(slot, Field::Owner);
                let me = self.me();
                if owner == 0 || owner == FROZEN || owner == FROZEN | me {
                    self.take(slot, owner);
                    self.local().seen = owner;
                    self.goto(Step::WriteOpenRecheck);
                } else {
                    self.done();
                }
            }
            Step::WriteOpenRecheck => {
                let same =
                    self.rec(slot, Field::Id) == id && self.rec(slot, Field::State) == ACTIVE;
                if same {
                    self.goto(Step::WriteOpenHead);
                } else {
                    // Another record by now: give back exactly what was taken.
                    self.local().also = self.locals().seen & FROZEN;
                    self.goto(Step::WriteOpenRefuse);
                }
            }
            Step::WriteOpenHead => {
                let head = self.load(HEAD);
                self.local().head = head;
                if self.is_current(slot, head) {
                    self.persist_head();
                    let scan = self.keeps(Rule::ScanChildren);
                    if scan { self.goto(Step::WriteOpenScanState) } else { self.write_opened(head) }
                } else {
                    self.goto(Step::StaleFirst);
                }
            }
            Step::WriteOpenScanState => {
                if cursor != slot && self.is_announced(cursor) {
                    self.goto(Step::WriteOpenScanParent);
                } else {
                    self.write_open_scan_on();
                }
            }
            Step::WriteOpenScanParent => {
                let generation =
                    if self.keeps(Rule::ScanSameHead) { head } else { self.load(HEAD) };
                let child = self.rec(cursor, Field::Parent) == id
                    && self.rec(cursor, Field::BaseHead) == generation;
                if child {
                    self.local().also = FROZEN;
                    self.goto(Step::WriteOpenRefuse);
                } else {
                    self.write_open_scan_on();
                }
            }
            Step::WriteOpenRefuse => {
                let value = self.locals().also;
                self.let_go(slot, value);
                self.done();
            }
            _ => unreachable!("not a step of write-open"),
        }
    }

    fn write_open_scan_on(&mut self) {
        if self.locals().cursor + 1 < self.protocol.slots() {
            self.local().cursor += 1;
            self.goto(Step::WriteOpenScanState);
        } else {
            let head = self.locals().head;
            self.write_opened(head);
        }
    }

    fn write_opened(&mut self, head: u8) {
        let slot = self.locals().slot;
        self.party().writable |= 1 << slot;
        self.state.acknowledge_head(head);
        self.done();
    }

    pub(super) fn append(&mut self, step: Step) {
        let Locals { slot, id, cursor, .. } = self.locals();
        match step {
            Step::AppendCheck if self.was_forced(slot) => self.done(),
            Step::AppendCheck => {
                let head = self.load(HEAD);
                let full = self.rec(slot, Field::Size) as usize == PAGES;
                if !self.is_current(slot, head) && self.keeps(Rule::OperationsCheckHead) {
                    self.goto(Step::StaleFirst);
                } else if full {
                    self.done();
                } else {
                    self.goto(Step::AppendAllocate);
                }
            }
            Step::AppendAllocate => {
                if self.cas(map(cursor), 0, id) {
                    self.local().seen = cursor;
                    self.goto(Step::AppendWrite);
                } else if cursor + 1 < self.protocol.blocks() {
                    self.local().cursor += 1;
                } else {
                    self.done();
                }
            }
            // Nobody looks behind the published size, so content and entry are stored at once.
            Step::AppendWrite => {
                let Locals { seen: block, also, .. } = self.locals();
                let k = self.rec(slot, Field::Size);
                self.expect_blocks(slot, id, block);
                self.store(data(block), content(id, k));
                let replaces = if k > 0 { also & REPLACES } else { 0 };
                self.store(log(slot, k), (block + 1) | replaces);
                self.goto(Step::AppendPublish);
            }
            Step::AppendPublish => {
                let block = self.locals().seen;
                self.expect_blocks(slot, id, block);
                let k = self.rec(slot, Field::Size);
                if self.keeps(Rule::PersistAppend) {
                    self.persist_entries(slot);
                }
                self.put(slot, Field::Size, k + 1);
                self.state.publish(slot, k);
                if self.locals().also == 0 {
                    self.goto(Step::AppendAcknowledge);
                } else {
                    self.done();
                }
            }
            Step::AppendAcknowledge => {
                if self.keeps(Rule::PersistSize) {
                    self.persist(Line::RecordA(slot));
                }
                self.state.acknowledge_publication(slot);
                self.done();
            }
            _ => unreachable!("not a step of append"),
        }
    }
}

impl Turn<'_> {
    /// Another took the record by force, or it takes no entries because it was.
    pub(super) fn was_forced(&mut self, slot: u8) -> bool {
        let mine = self.rec(slot, Field::Owner) == self.me();
        let quarantined = self.rec(slot, Field::Flags) & flag::QUARANTINED != 0;
        if !mine {
            self.forget(slot);
        }
        !mine || quarantined
    }

    /// A writer, even one that lost its hold, stores only where nobody else does.
    fn expect_blocks(&mut self, slot: u8, id: u8, block: u8) {
        if self.rec(slot, Field::Id) != id || self.load(map(block)) != id {
            self.state.violate(Invariant::BlocksOwned);
        }
    }
}

/// What entry `k` of a record writes: never the same twice.
pub(crate) fn content(id: u8, k: u8) -> u8 {
    id * PAGES as u8 + k
}
