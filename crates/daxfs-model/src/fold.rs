// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Taking `maint`, finishing what a dead folder began, and fold.

use crate::branch::content;
use crate::rules::Rule;
use crate::state::{self, Locals};
use crate::turn::Turn;
use crate::words::state::{ACTIVE, FREE};
use crate::words::*;

/// Steps, as `docs/branches.md` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// maint: CAS 0 or dead → me.
    TakeMaint,
    /// finish: a fold on the chain without FOLD_DONE?
    Finish,
    /// fold: load `head`, P(head), merge what is under the tip.
    Survey,
    /// fold: look for a FREE slot.
    Search,
    /// fold: CAS its owner 0 → me.
    Claim,
    /// fold: still FREE? Id and all other fields.
    Fill,
    /// fold: P(record); CAS a map word 0 → id for the log.
    Allocate,
    /// fold: log and size.
    Write,
    /// fold: P(log, map, record); state = ACTIVE.
    Activate,
    /// fold: P(record); ABSORBED in each record replaced.
    Flag,
    /// fold: P(flags); CAS tip's parent old → F.
    Link,
    /// fold, finish: P(tip's parent); CAS map words old → F.
    HandOver,
    /// fold, finish: P(map); FOLD_DONE.
    Done,
    /// fold: P(flags); owner me → 0.
    LetGo,
    /// fold: gave up; owner me → 0.
    GiveUp,
    /// maint: me → 0.
    DropMaint,
}

impl From<Step> for state::Step {
    fn from(step: Step) -> Self {
        Self::Fold(step)
    }
}

impl Turn<'_> {
    /// One access of fold, or of what fold and reclaim begin with. `local.also` tells which.
    pub(crate) fn fold(&mut self, step: Step) {
        let Locals { slot, new, seen, cursor, .. } = self.locals();
        match step {
            Step::TakeMaint => self.take_maint(),
            Step::Finish => self.finish(),
            Step::Survey => self.survey(),
            Step::Search => {
                if self.may_claim(new) {
                    self.goto(Step::Claim);
                } else {
                    self.fold_search_on();
                }
            }
            Step::Claim => {
                if self.take(new, 0) {
                    self.goto(Step::Fill)
                } else {
                    self.fold_search_on()
                }
            }
            Step::Fill => self.fold_fill(),
            Step::Allocate => {
                if self.keeps(Rule::PersistIdBeforeUse) {
                    self.persist_record(new);
                }
                let id = self.rec(new, Field::Id);
                if self.cas(map(cursor), 0, id) {
                    self.state.use_id(id);
                    self.goto(Step::Write);
                } else if cursor + 1 < self.protocol.blocks() {
                    self.local().cursor += 1;
                } else {
                    self.goto(Step::GiveUp);
                }
            }
            Step::Write => {
                let id = self.rec(new, Field::Id);
                self.store(data(cursor), content(id, 0));
                self.put(new, Field::Segment, cursor + 1);
                for (k, block) in self.locals().blocks.into_iter().enumerate() {
                    self.store(log(new, k as u8), block);
                }
                self.put(new, Field::Size, PAGES as u8);
                self.local().cursor = 0;
                self.goto(Step::Activate);
            }
            Step::Activate => {
                if self.keeps(Rule::PersistFold) {
                    self.persist_fold(new);
                }
                self.put(new, Field::State, ACTIVE);
                self.goto(if self.keeps(Rule::FlagBeforeLink) { Step::Flag } else { Step::Link });
            }
            Step::Flag => self.fold_flag(),
            Step::Link => {
                for layer in 0..SLOTS {
                    self.persist(Line::RecordB(layer));
                }
                let id = self.rec(new, Field::Id);
                self.cas(rec(slot, Field::Parent), seen, id);
                self.local().cursor = 0;
                let flagged = self.keeps(Rule::FlagBeforeLink);
                self.goto(if flagged { Step::HandOver } else { Step::Flag });
            }
            Step::HandOver => self.hand_over(),
            Step::Done => {
                if self.keeps(Rule::PersistMapBeforeDone) {
                    for block in self.fold_blocks(new) {
                        self.persist(Line::Map(block));
                    }
                }
                let flags = self.rec(new, Field::Flags);
                self.put(new, Field::Flags, flags | flag::FOLD_DONE);
                self.goto(Step::LetGo);
            }
            Step::LetGo => {
                self.persist(Line::RecordB(new));
                if self.rec(new, Field::Owner) == self.me() {
                    self.let_go(new, 0);
                }
                self.after_finish();
            }
            Step::GiveUp => {
                self.let_go(new, 0);
                self.goto(Step::DropMaint);
            }
            Step::DropMaint => {
                let me = self.me();
                self.cas(MAINT, me, 0);
                self.done();
            }
        }
    }

    fn take_maint(&mut self) {
        let holder = self.load(MAINT);
        let me = self.me();
        if !self.keeps(Rule::MaintExcludes) {
            self.goto(Step::Finish);
        } else if holder == 0 || self.is_dead(holder) {
            self.cas(MAINT, holder, me);
            self.goto(if self.keeps(Rule::FinishFolds) { Step::Finish } else { Step::LetGo });
            if !self.keeps(Rule::FinishFolds) {
                self.after_finish();
            }
        } else {
            self.done();
        }
    }

    /// The chain under the tip changes only under `maint`, so it is read at once.
    fn finish(&mut self) {
        let on_chain = self.state.chain(self.load(HEAD));
        let unfinished = on_chain.into_iter().find(|&layer| {
            self.rec(layer, Field::Flags) & (flag::FOLDED | flag::FOLD_DONE) == flag::FOLDED
        });
        let Some(fold) = unfinished else {
            self.after_finish();
            return;
        };
        let id = self.rec(fold, Field::Id);
        let above = on_chain.into_iter().find(|&layer| self.rec(layer, Field::Parent) == id);
        self.local().slot = above.expect("a fold lies under the tip");
        self.local().new = fold;
        self.local().epoch = 1;
        self.goto(Step::HandOver);
    }

    /// After finish: on to the operation. After the fold itself: drop `maint`.
    fn after_finish(&mut self) {
        let Locals { also: reclaims, seen, .. } = self.locals();
        let folded = seen != 0;
        let local = Locals { also: reclaims, ..Locals::default() };
        *self.local() = local;
        if reclaims != 0 {
            self.reclaim_start();
        } else {
            self.goto(if folded { Step::DropMaint } else { Step::Survey });
        }
    }

    fn survey(&mut self) {
        self.persist_head();
        let tip = slot_of(self.load(HEAD));
        let old = self.rec(tip, Field::Parent);
        let layers: Vec<u8> = self.state.chain(old).into_iter().collect();
        let bottom = layers.first().map(|&layer| self.rec(layer, Field::Flags));
        if layers.is_empty() || (layers.len() == 1 && bottom.unwrap_or(0) & flag::FOLDED != 0) {
            self.goto(Step::DropMaint);
            return;
        }
        self.local().slot = tip;
        self.local().seen = old;
        self.local().blocks = self.state.blocks_of(old);
        self.goto(Step::Search);
    }

    fn fold_search_on(&mut self) {
        if self.locals().new + 1 < SLOTS {
            self.local().new += 1;
            self.goto(Step::Search);
        } else {
            self.goto(Step::DropMaint);
        }
    }

    fn fold_fill(&mut self) {
        let new = self.locals().new;
        if self.rec(new, Field::State) != FREE {
            self.goto(Step::GiveUp);
            return;
        }
        let id = self.next_id(new);
        self.put(new, Field::Id, id);
        for field in [Field::Parent, Field::Size, Field::BaseSize, Field::BaseHead, Field::Name] {
            self.put(new, field, 0);
        }
        self.put(new, Field::Flags, flag::FOLDED);
        self.put(new, Field::Stamp, CREATED);
        self.goto(Step::Allocate);
    }

    fn persist_fold(&mut self, new: u8) {
        self.persist_published(new);
        if let Some(segment) = self.rec(new, Field::Segment).checked_sub(1) {
            self.persist(Line::Map(segment));
            self.persist(Line::Data(segment));
        }
        self.persist_record(new);
    }

    fn fold_flag(&mut self) {
        let Locals { new, seen: old, cursor, .. } = self.locals();
        if self.keeps(Rule::PersistFold) {
            self.persist_record(new);
        }
        let layers = self.state.chain(old);
        if let Some(layer) = layers.into_iter().filter(|&layer| layer >= cursor).min() {
            let flags = self.rec(layer, Field::Flags);
            self.put(layer, Field::Flags, flags | flag::ABSORBED);
            self.local().cursor = layer + 1;
            return;
        }
        self.local().cursor = 0;
        if self.keeps(Rule::FlagBeforeLink) {
            self.goto(Step::Link);
        } else {
            self.goto(Step::HandOver);
        }
    }

    fn fold_blocks(&self, new: u8) -> impl Iterator<Item = u8> + use<> {
        let blocks = [0, 1].map(|k| self.rec(new, if k == 0 { Field::Log0 } else { Field::Log1 }));
        blocks.into_iter().filter_map(|block| block.checked_sub(1))
    }

    fn hand_over(&mut self) {
        let Locals { slot, new, .. } = self.locals();
        if self.keeps(Rule::LinkBeforeHandOver) {
            self.persist(Line::RecordA(slot));
        }
        let id = self.rec(new, Field::Id);
        let next = self.fold_blocks(new).find(|&block| self.load(map(block)) != id);
        match next {
            Some(block) => {
                let old = self.load(map(block));
                self.cas(map(block), old, id);
            }
            None => self.goto(Step::Done),
        }
    }
}
