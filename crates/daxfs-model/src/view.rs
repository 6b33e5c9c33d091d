// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reading a chain: pinned by a place in the opener table, or checked by the epoch without one.

use crate::invariants::Invariant;
use crate::rules::Rule;
use crate::state::{self, Locals};
use crate::turn::Turn;
use crate::words::state::ACTIVE;
use crate::words::*;

/// Steps, as `docs/branches.md` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// pin: load `epoch`.
    Epoch,
    /// pin: store it.
    Pin,
    /// pin: store it, and read nothing yet.
    PinOnly,
    /// pin: load `head`.
    Head,
    /// A branch to be read: is it alive?
    Branch,
    /// A record of the chain: id, published size, entries.
    Record,
    /// Its parent.
    Parent,
    /// The view is used, and dropped; pin = 0.
    Unpin,
    /// unregistered: load `epoch`.
    FreeEpoch,
    /// unregistered: load `head`.
    FreeHead,
    /// unregistered: a record of the chain.
    FreeRecord,
    /// unregistered: its parent.
    FreeParent,
    /// unregistered: copy a block.
    FreeCopy,
    /// unregistered: `epoch` still the same?
    FreeCheck,
}

impl From<Step> for state::Step {
    fn from(step: Step) -> Self {
        Self::View(step)
    }
}

impl Turn<'_> {
    /// One access of a reader.
    pub(crate) fn view(&mut self, step: Step) {
        let Locals { slot, id, head, epoch, cursor, .. } = self.locals();
        match step {
            Step::Epoch => {
                self.local().epoch = self.load(EPOCH);
                let pin_first = self.keeps(Rule::PinBeforeHead);
                self.goto(if pin_first { Step::Pin } else { Step::Head });
            }
            Step::Pin => {
                let index = entry_of(self.me());
                self.store(pin(index), epoch);
                let pin_first = self.keeps(Rule::PinBeforeHead);
                self.goto(if pin_first { Step::Head } else { self.view_begin() });
            }
            Step::PinOnly => {
                let index = entry_of(self.me());
                let epoch = self.load(EPOCH);
                if self.keeps(Rule::OwnersPin) {
                    self.store(pin(index), epoch);
                }
                self.done();
            }
            Step::Head => {
                let head = self.load(HEAD);
                self.persist_head();
                self.local().head = head;
                self.local().pages = self.state.main().pages;
                let pin_first = self.keeps(Rule::PinBeforeHead);
                self.goto(if pin_first { self.view_begin() } else { Step::Pin });
            }
            Step::Branch => {
                let alive = self.rec(slot, Field::Id) == id
                    && self.rec(slot, Field::State) == ACTIVE
                    && self.rec(slot, Field::BaseHead) == head;
                if alive {
                    self.local().pages = self.state.ghost.branches[slot as usize].pages;
                    self.local().cursor = id;
                    self.goto(Step::Record);
                } else {
                    self.goto(Step::Unpin);
                }
            }
            Step::Record => {
                let layer = if cursor == 0 { head } else { cursor };
                self.view_record(layer);
            }
            Step::Parent => match self.rec(slot_of(cursor), Field::Parent) {
                0 => self.view_check(),
                parent => {
                    self.local().cursor = parent;
                    self.goto(Step::Record);
                }
            },
            Step::Unpin => {
                let index = entry_of(self.me());
                self.store(pin(index), 0);
                self.done();
            }
            Step::FreeEpoch
            | Step::FreeHead
            | Step::FreeRecord
            | Step::FreeParent
            | Step::FreeCopy
            | Step::FreeCheck => self.view_unregistered(step),
        }
    }

    fn view_begin(&self) -> Step {
        if self.locals().id == 0 { Step::Record } else { Step::Branch }
    }

    /// Entries behind the published size never change, so size and entries are read at once.
    fn view_record(&mut self, layer: u8) {
        let at = slot_of(layer);
        self.local().cursor = layer;
        self.party().held.records[at as usize] = layer;
        for (k, block) in self.state.layer_blocks(at).into_iter().enumerate() {
            if let Some(index) = block.checked_sub(1)
                && self.party().held.pages[k].0 == 0
            {
                let found = self.load(data(index));
                self.party().held.pages[k] = (block, found);
            }
        }
        self.goto(Step::Parent);
    }

    /// What was found is what main, or the branch, read as when the reader began; or what was
    /// written directly to it since.
    fn view_check(&mut self) {
        let Locals { id, head, pages, .. } = self.locals();
        let read = if id == 0 { head } else { id };
        let held = self.party().held;
        let wrong = (0..PAGES).any(|k| !matches(held.pages[k].1, pages[k], read));
        if wrong {
            self.state.violate(Invariant::ReadersUndisturbed);
        }
        self.state.acknowledge_head(head);
        self.goto(Step::Unpin);
    }

    fn view_unregistered(&mut self, step: Step) {
        let Locals { head, epoch, cursor, blocks, pages, size, also, seen, .. } = self.locals();
        match step {
            Step::FreeEpoch => {
                self.local().epoch = self.load(EPOCH);
                self.goto(Step::FreeHead);
            }
            Step::FreeHead => {
                let head = self.load(HEAD);
                self.local().head = head;
                self.local().cursor = head;
                self.local().pages = self.state.main().pages;
                self.goto(Step::FreeRecord);
            }
            Step::FreeRecord => {
                if self.rec(slot_of(cursor), Field::Id) != cursor {
                    self.done();
                    return;
                }
                for (k, block) in self.state.layer_blocks(slot_of(cursor)).into_iter().enumerate() {
                    if blocks[k] == 0 {
                        self.local().blocks[k] = block;
                    }
                }
                self.goto(Step::FreeParent);
            }
            Step::FreeParent => match self.rec(slot_of(cursor), Field::Parent) {
                0 => self.goto(Step::FreeCopy),
                parent => {
                    self.local().cursor = parent;
                    self.goto(Step::FreeRecord);
                }
            },
            Step::FreeCopy => {
                let copy = blocks[seen as usize].checked_sub(1).map_or(0, |b| self.load(data(b)));
                if seen == 0 {
                    self.local().size = copy;
                    self.local().seen = 1;
                } else {
                    self.local().also = copy;
                    self.goto(Step::FreeCheck);
                }
            }
            Step::FreeCheck => {
                let wrong = !matches(size, pages[0], head) || !matches(also, pages[1], head);
                if self.load(EPOCH) == epoch && wrong {
                    self.state.violate(Invariant::UnregisteredReaders);
                }
                self.done();
            }
            _ => unreachable!("a step of a pinned reader"),
        }
    }
}

fn matches(found: u8, expected: u8, read: u8) -> bool {
    found == expected || found / PAGES as u8 == read
}
