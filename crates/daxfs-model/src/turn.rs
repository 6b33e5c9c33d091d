// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A party's turn: one shared access, with the private computation up to the next one.
//!
//! Write-backs are done at the start of the step after the store that they cover: a power loss
//! between a write-back and the next store leaves nothing that a loss before the write-back
//! could not leave as well.

use crate::protocol::Protocol;
use crate::rules::Rule;
use crate::state::{Held, Locals, Party, State, Step};
use crate::words::*;

/// One party about to make one access.
pub(crate) struct Turn<'a> {
    /// Scenario and rules.
    pub(crate) protocol: &'a Protocol,
    /// The state, changed in place.
    pub(crate) state: &'a mut State,
    /// Whose turn it is.
    pub(crate) index: usize,
}

impl Turn<'_> {
    /// Is this rule kept?
    pub(crate) fn keeps(&self, rule: Rule) -> bool {
        self.protocol.without != Some(rule)
    }

    /// The party.
    pub(crate) fn party(&mut self) -> &mut Party {
        &mut self.state.parties[self.index]
    }

    /// Its private memory.
    pub(crate) fn local(&mut self) -> &mut Locals {
        &mut self.party().local
    }

    /// A copy of its private memory.
    pub(crate) fn locals(&self) -> Locals {
        self.state.parties[self.index].local
    }

    /// Its opener id.
    pub(crate) fn me(&self) -> u8 {
        self.state.parties[self.index].opener
    }

    /// Load a word.
    pub(crate) fn load(&self, word: Word) -> u8 {
        self.state.memory.load(word)
    }

    /// Load a word of a record.
    pub(crate) fn rec(&self, slot: u8, field: Field) -> u8 {
        self.state.memory.rec(slot, field)
    }

    /// Store a word.
    pub(crate) fn store(&mut self, word: Word, value: u8) {
        self.state.memory.store(word, value);
    }

    /// Store a word of a record.
    pub(crate) fn put(&mut self, slot: u8, field: Field, value: u8) {
        self.store(rec(slot, field), value);
    }

    /// Compare and swap.
    pub(crate) fn cas(&mut self, word: Word, expected: u8, value: u8) -> bool {
        self.state.memory.cas(word, expected, value)
    }

    /// Write back and fence.
    pub(crate) fn persist(&mut self, line: Line) {
        self.state.memory.persist(line);
    }

    /// Write back both lines of a record.
    pub(crate) fn persist_record(&mut self, slot: u8) {
        self.persist(Line::RecordA(slot));
        self.persist(Line::RecordB(slot));
    }

    /// Write back what a record has published: log, blocks, size.
    pub(crate) fn persist_published(&mut self, slot: u8) {
        self.persist_entries(slot);
        self.persist(Line::RecordA(slot));
    }

    /// Write back a record's log and what it points to.
    pub(crate) fn persist_entries(&mut self, slot: u8) {
        self.persist(Line::Log(slot));
        for k in 0..PAGES as u8 {
            if let Some(block) = (self.load(log(slot, k)) & !REPLACES).checked_sub(1) {
                self.persist(Line::Data(block));
                self.persist(Line::Map(block));
            }
        }
    }

    /// Follow a new head: make it durable before anything depends on it.
    pub(crate) fn persist_head(&mut self) {
        if self.keeps(Rule::PersistHead) {
            self.persist(Line::Head);
        }
    }

    /// Next step.
    pub(crate) fn goto(&mut self, step: impl Into<Step>) {
        self.party().step = step.into();
    }

    /// The operation is over.
    pub(crate) fn done(&mut self) {
        let party = self.party();
        party.step = Step::Idle;
        party.local = Locals::default();
        party.held = Held::default();
    }

    /// Proof of death, as the lock or boot identity and start time of the process give it; or
    /// that no entry names this opener.
    pub(crate) fn is_dead(&self, opener: u8) -> bool {
        let anonymous = self.load(entry(entry_of(opener))) != opener;
        (anonymous && self.keeps(Rule::AnonymousIsDead))
            || (!anonymous && self.state.has_died(opener))
    }

    /// May a maintainer take a record with this owner word?
    pub(crate) fn is_ownerless(&self, owner: u8) -> bool {
        let opener = owner & !FROZEN;
        opener == 0 || self.is_dead(opener)
    }
}
