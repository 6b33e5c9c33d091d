// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a state means, and what the checker remembers of promises given.

use crate::invariants::Invariant;
use crate::opener::Step as Opener;
use crate::state::{Branched, Committed, Party, State, Step};
use crate::words::state::ACTIVE;
use crate::words::*;

impl State {
    /// The slots of a chain, top first.
    pub fn chain(&self, top: u8) -> Chain {
        let mut chain = Chain { slots: [0; SLOTS as usize], len: 0, at: 0 };
        let mut id = top;
        while id != 0 && chain.len < SLOTS && self.memory.rec(slot_of(id), Field::Id) == id {
            chain.slots[chain.len as usize] = slot_of(id);
            chain.len += 1;
            id = self.memory.rec(slot_of(id), Field::Parent);
        }
        chain
    }

    /// Published entries of one layer that count, by page: which, and its block + 1.
    pub fn layer(&self, slot: u8) -> [Option<(u8, u8)>; PAGES] {
        let size = self.memory.rec(slot, Field::Size);
        let [first, second] =
            [0, 1].map(|k| (k < size).then(|| (k, self.memory.load(log(slot, k)))));
        match second {
            Some((k, entry)) if entry & REPLACES != 0 => [Some((k, entry & !REPLACES)), None],
            _ => [first, second],
        }
    }

    /// Its blocks, by page, as block + 1.
    pub fn layer_blocks(&self, slot: u8) -> [u8; PAGES] {
        self.layer(slot).map(|entry| entry.map_or(0, |(_, block)| block))
    }

    /// The newest block of each page, as block + 1, of a chain.
    pub fn blocks_of(&self, top: u8) -> [u8; PAGES] {
        let mut blocks = [0; PAGES];
        for slot in self.chain(top) {
            for (k, block) in self.layer_blocks(slot).into_iter().enumerate() {
                if blocks[k] == 0 {
                    blocks[k] = block;
                }
            }
        }
        blocks
    }

    /// What a chain reads as.
    pub fn pages_of(&self, top: u8) -> [u8; PAGES] {
        self.blocks_of(top)
            .map(|block| block.checked_sub(1).map_or(0, |b| self.memory.load(data(b))))
    }

    /// ACTIVE and of this generation.
    pub fn is_alive(&self, slot: u8) -> bool {
        self.memory.rec(slot, Field::State) == ACTIVE
            && self.memory.rec(slot, Field::BaseHead) == self.memory.load(HEAD)
    }

    /// On the chain of `head`.
    pub fn is_main(&self, slot: u8) -> bool {
        self.chain(self.memory.load(HEAD)).into_iter().any(|layer| layer == slot)
    }

    /// The party with this opener id, if it still runs.
    pub fn living(&self, opener: u8) -> Option<&Party> {
        self.parties.iter().find(|party| {
            let registering = Step::Opener(Opener::OpenRegister) == party.step
                || Step::Opener(Opener::OpenFill) == party.step;
            let id = if registering { party.local.id } else { party.opener };
            party.alive && id == opener
        })
    }

    /// A record was taken by force from whoever owned it.
    pub fn rob(&mut self, opener: u8, slot: u8) {
        let alive = self.parties.iter_mut().filter(|party| party.alive);
        alive.filter(|party| party.opener == opener).for_each(|party| party.robbed |= 1 << slot);
    }

    /// No running party has this opener id.
    pub fn has_died(&self, opener: u8) -> bool {
        self.living(opener).is_none()
    }

    /// Note that a transition broke an invariant.
    pub fn violate(&mut self, invariant: Invariant) {
        self.ghost.broken |= 1 << invariant as u32;
    }

    /// Main as it must read.
    pub fn main(&self) -> &Committed {
        self.ghost.heads.last().expect("main always exists")
    }

    fn main_mut(&mut self) -> &mut Committed {
        self.ghost.heads.last_mut().expect("main always exists")
    }

    /// Part of main's history?
    pub fn was_committed(&self, id: u8) -> bool {
        self.main().chain & (1 << id) != 0
    }

    /// An id is in use from now on.
    pub fn use_id(&mut self, id: u8) {
        if self.ghost.used & (1 << id) != 0 {
            self.violate(Invariant::IdsFresh);
        }
        self.ghost.used |= 1 << id;
    }

    /// A branch became ACTIVE.
    pub fn begin_branch(&mut self, slot: u8) {
        let pages = self.pages_of(self.memory.rec(slot, Field::Parent));
        self.ghost.branches[slot as usize] = Branched {
            id: self.memory.rec(slot, Field::Id),
            base_head: self.memory.rec(slot, Field::BaseHead),
            pages,
            acknowledged: pages,
            promised: false,
        };
    }

    /// Its creation was acknowledged: a commit that nobody knows of must not have voided it.
    pub fn acknowledge_branch(&mut self, slot: u8) {
        self.ghost.branches[slot as usize].promised = true;
        let base_head = self.ghost.branches[slot as usize].base_head;
        let at = self.ghost.heads.iter().position(|head| head.id == base_head);
        if at.and_then(|at| self.ghost.heads.get(at + 1)).is_some_and(|next| next.renewal) {
            self.violate(Invariant::RenewalsAlone);
        }
    }

    /// A branch is over: aborted, or retired because nobody needs it.
    pub fn end_branch(&mut self, slot: u8) {
        self.ghost.branches[slot as usize] = Branched::default();
    }

    /// Something acknowledged depends on this value of `head`.
    pub fn acknowledge_head(&mut self, head: u8) {
        if let Some(at) = self.ghost.heads.iter().position(|value| value.id == head) {
            self.ghost.acknowledged_head = self.ghost.acknowledged_head.max(at as u8);
        }
    }

    /// Entry `k` of a record was published.
    pub fn publish(&mut self, slot: u8, k: u8) {
        let id = self.memory.rec(slot, Field::Id);
        let content = crate::branch::content(id, k);
        let page = if self.memory.load(log(slot, k)) & REPLACES != 0 { 0 } else { k as usize };
        if self.main().id == id {
            self.main_mut().pages[page] = content;
        }
        let branch = &mut self.ghost.branches[slot as usize];
        if branch.id == id {
            branch.pages[page] = content;
        }
    }

    /// And acknowledged: it must not be under main's tip, where nobody would see it.
    pub fn acknowledge_publication(&mut self, slot: u8) {
        let id = self.memory.rec(slot, Field::Id);
        if self.main().id == id {
            let pages = self.main().pages;
            self.main_mut().acknowledged = pages;
        } else if self.was_committed(id) {
            self.violate(Invariant::AcknowledgedSurvives);
        }
        let branch = &mut self.ghost.branches[slot as usize];
        if branch.id == id {
            branch.acknowledged = branch.pages;
        }
    }

    /// `head` was moved to this record.
    pub fn win(&mut self, slot: u8) {
        let id = self.memory.rec(slot, Field::Id);
        if self.memory.rec(slot, Field::BaseHead) != self.main().id {
            self.violate(Invariant::OneWinner);
        }
        let pages = self.ghost.branches[slot as usize].pages;
        let layers = self.chain(id).into_iter().map(|layer| self.memory.rec(layer, Field::Id));
        let chain = layers.fold(self.main().chain, |bits, id| bits | 1 << id);
        let renewal = self.memory.rec(slot, Field::Name) == RENEWAL;
        let base_head = self.memory.rec(slot, Field::BaseHead);
        let voids = |(other, branch): (usize, &Branched)| {
            branch.promised && branch.base_head == base_head && other != slot as usize
        };
        if renewal && self.ghost.branches.iter().enumerate().any(voids) {
            self.violate(Invariant::RenewalsAlone);
        }
        self.ghost.heads.push(Committed { id, pages, acknowledged: pages, chain, renewal });
    }

    /// The winner was told; so every other branch of its generation is dead for ever.
    pub fn acknowledge_commit(&mut self, slot: u8) {
        let id = self.memory.rec(slot, Field::Id);
        self.acknowledge_head(id);
        let base_head = self.memory.rec(slot, Field::BaseHead);
        for other in 0..SLOTS {
            let loser = self.memory.rec(other, Field::State) == ACTIVE
                && self.memory.rec(other, Field::BaseHead) == base_head
                && !self.was_committed(self.memory.rec(other, Field::Id));
            if loser {
                self.ghost.dead |= 1 << self.memory.rec(other, Field::Id);
            }
        }
    }

    /// Power was lost and this is what is left: hold it against what was promised.
    pub fn lose_power(&mut self, left: Memory) {
        self.memory = left;
        for party in &mut self.parties {
            *party = Party::default();
        }
        self.parties[0].alive = true;
        self.after = true;
        let head = self.memory.load(HEAD);
        match self.ghost.heads.iter().position(|value| value.id == head) {
            Some(at) if at as u8 >= self.ghost.acknowledged_head => {
                self.ghost.heads.truncate(at + 1);
            }
            _ => {
                self.violate(Invariant::AcknowledgedSurvives);
                return;
            }
        }
        let (promised, found) = (self.main().clone(), self.pages_of(head));
        self.compare(&found, &promised.pages, &promised.acknowledged);
        let main = self.main_mut();
        (main.pages, main.acknowledged) = (found, found);
        for slot in 0..SLOTS {
            self.lose_power_on(slot);
        }
    }

    fn compare(
        &mut self,
        found: &[u8; PAGES],
        published: &[u8; PAGES],
        acknowledged: &[u8; PAGES],
    ) {
        for k in 0..PAGES {
            if found[k] != published[k] && found[k] != acknowledged[k] {
                self.violate(Invariant::AcknowledgedSurvives);
            }
        }
    }

    fn lose_power_on(&mut self, slot: u8) {
        let id = self.memory.rec(slot, Field::Id);
        let known = self.ghost.branches[slot as usize];
        self.ghost.branches[slot as usize] = Branched::default();
        if self.is_alive(slot) {
            let found = self.pages_of(id);
            let same = known.id == id;
            if same {
                self.compare(&found, &known.pages, &known.acknowledged);
            }
            self.ghost.branches[slot as usize] = Branched {
                id,
                base_head: known.base_head,
                pages: found,
                acknowledged: found,
                promised: same && known.promised,
            };
        } else if self.memory.rec(slot, Field::State) == ACTIVE
            && self.memory.rec(slot, Field::Flags) == 0
            && !self.is_main(slot)
        {
            self.ghost.dead |= 1 << id;
        }
        let survives = self.is_alive(slot) && known.id == id;
        if known.promised && known.base_head == self.memory.load(HEAD) && !survives {
            self.violate(Invariant::AcknowledgedSurvives);
        }
    }
}

/// The slots of a chain.
#[derive(Clone, Copy)]
pub struct Chain {
    slots: [u8; SLOTS as usize],
    len: u8,
    at: u8,
}

impl Iterator for Chain {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let at = self.at;
        self.at += 1;
        (at < self.len).then(|| self.slots[at as usize])
    }
}
