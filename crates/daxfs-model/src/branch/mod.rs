// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Branches: create, write-open, append, collect, commit, abort, renew, release. Mirrors `branch/`
//! and `write/` of the engine.

mod create;
mod finish;
mod renew;
mod reuse;
mod write;

pub(crate) use write::content;

use crate::rules::Rule;
use crate::state;
use crate::turn::Turn;
use crate::words::state::{ACTIVE, FREE, NEW};
use crate::words::*;

/// Steps, as `docs/branches.md` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// create: load `head`; is the parent alive, or the tip?
    CreateFind,
    /// create: CAS parent's owner 0 → FROZEN.
    CreateFreeze,
    /// create: load the parent's size.
    CreateMeasure,
    /// create: look for a FREE slot.
    CreateSearch,
    /// create: CAS its owner 0 → me.
    CreateClaim,
    /// create: is it still FREE?
    CreateCheckClaim,
    /// create: P(head); id and all other fields.
    CreateFill,
    /// create: P(record); state = NEW.
    CreateAnnounce,
    /// create: look at each record's state for a renewal.
    CreateAloneState,
    /// create: at its name and base_head, and its owner.
    CreateAloneOwner,
    /// create: parent's id and state again.
    CreateRecheckParent,
    /// create: parent still FROZEN?
    CreateRecheckFrozen,
    /// create: parent's size still base_size?
    CreateRecheckSize,
    /// create: `head` still base_head?
    CreateRecheckHead,
    /// create: look at each record's state for the name.
    CreateNamesState,
    /// create: and at its name and base_head.
    CreateNamesName,
    /// create: state = ACTIVE.
    CreateActivate,
    /// create: P(record); acknowledge.
    CreateAcknowledge,
    /// create: failed; state = FREE.
    CreateBackOut,
    /// create: owner me → 0.
    CreateLetGo,
    /// write-open: CAS owner {0, FROZEN, FROZEN|me} → me.
    WriteOpenTake,
    /// write-open: id and state again.
    WriteOpenRecheck,
    /// write-open: load `head`; alive, or the tip? P(head).
    WriteOpenHead,
    /// write-open: look at each record's state for children.
    WriteOpenScanState,
    /// write-open: and at its parent and base_head.
    WriteOpenScanParent,
    /// write-open: owner me → FROZEN.
    WriteOpenRefuse,
    /// append: load `head`; alive, or the tip?
    AppendCheck,
    /// append: CAS a map word 0 → id.
    AppendAllocate,
    /// append: the block's content and the entry.
    AppendWrite,
    /// append: P(map, data, entries); size + 1.
    AppendPublish,
    /// append: P(size); acknowledge.
    AppendAcknowledge,
    /// collect: load `head`; alive, or the tip? What is named?
    CollectCheck,
    /// collect: P(published, size); load `epoch`.
    CollectPublish,
    /// collect: epoch + 1.
    CollectBump,
    /// collect: its own pin, if it has one, moves on.
    CollectMoveOn,
    /// collect: an opener entry: does it count?
    CollectPinEntry,
    /// collect: its pin.
    CollectPinValue,
    /// collect: CAS map words of blocks that are not named id → 0.
    CollectFree,
    /// renew: load `head`.
    RenewHead,
    /// renew: look at each record's state for others of the generation.
    RenewAloneState,
    /// renew: and at its base_head.
    RenewAloneHead,
    /// drop: load `head`.
    DropHead,
    /// drop: an ACTIVE renewal of that generation?
    DropLook,
    /// drop: CAS its owner 0 or dead → me.
    DropTake,
    /// drop: load `head`; still alive?
    DropRecheck,
    /// commit: P(log, record); CAS head base_head → id.
    CommitSwap,
    /// commit without its CAS: the store alone.
    CommitStore,
    /// commit: P(head); acknowledge.
    CommitAcknowledge,
    /// abort: load `head`; alive?
    AbortCheck,
    /// abort: stamp = all ones.
    AbortUnstamp,
    /// abort: state = RETIRED.
    AbortRetire,
    /// abort: load `epoch`.
    AbortEpoch,
    /// abort: stamp = epoch.
    AbortStamp,
    /// abort: P(record); acknowledge; epoch + 1.
    AbortAcknowledge,
    /// A branch found dead: was it absorbed? First look.
    StaleFirst,
    /// Second look.
    StaleSecond,
    /// P(published); owner me → 0.
    Release,
}

impl From<Step> for state::Step {
    fn from(step: Step) -> Self {
        Self::Branch(step)
    }
}

impl Turn<'_> {
    /// One access of an operation on branches.
    pub(crate) fn branch(&mut self, step: Step) {
        use Step::*;
        match step {
            CreateFind | CreateFreeze | CreateMeasure | CreateSearch | CreateClaim
            | CreateCheckClaim | CreateFill | CreateAnnounce => self.create_begin(step),
            CreateAloneState | CreateAloneOwner => self.create_alone(step),
            CreateRecheckParent | CreateRecheckFrozen | CreateRecheckSize | CreateRecheckHead
            | CreateNamesState | CreateNamesName | CreateActivate | CreateAcknowledge
            | CreateBackOut | CreateLetGo => self.create_finish(step),
            WriteOpenTake | WriteOpenRecheck | WriteOpenHead | WriteOpenScanState
            | WriteOpenScanParent | WriteOpenRefuse => self.write_open(step),
            AppendCheck | AppendAllocate | AppendWrite | AppendPublish | AppendAcknowledge => {
                self.append(step)
            }
            CollectCheck | CollectPublish | CollectBump | CollectMoveOn | CollectPinEntry
            | CollectPinValue | CollectFree => self.collect(step),
            RenewHead | RenewAloneState | RenewAloneHead => self.renew(step),
            DropHead | DropLook | DropTake | DropRecheck => self.drop_renewal(step),
            CommitSwap | CommitStore | CommitAcknowledge => self.commit(step),
            AbortCheck | AbortUnstamp | AbortRetire | AbortEpoch | AbortStamp
            | AbortAcknowledge => self.abort(step),
            StaleFirst | StaleSecond => self.stale(step),
            Release => self.release(),
        }
    }

    /// Alive, or main's tip, as this value of `head` says.
    fn is_current(&self, slot: u8, head: u8) -> bool {
        head == self.rec(slot, Field::Id) || self.is_alive(slot, head)
    }

    /// ACTIVE and of the generation of this value of `head`.
    fn is_alive(&self, slot: u8, head: u8) -> bool {
        self.rec(slot, Field::State) == ACTIVE && self.rec(slot, Field::BaseHead) == head
    }

    /// A slot that somebody may claim: the search of create and of fold.
    pub(crate) fn may_claim(&self, slot: u8) -> bool {
        self.rec(slot, Field::State) == FREE
    }

    /// The id that the next user of a slot gets.
    pub(crate) fn next_id(&self, slot: u8) -> u8 {
        match self.rec(slot, Field::Id) {
            0 => 1 + slot,
            last if self.keeps(Rule::FreshIds) => last + SLOTS,
            last => last,
        }
    }

    fn is_announced(&self, slot: u8) -> bool {
        let state = self.rec(slot, Field::State);
        state == ACTIVE || (state == NEW && self.keeps(Rule::ScanSeesNew))
    }

    /// Take an owner word from the exact value seen.
    pub(crate) fn take(&mut self, slot: u8, seen: u8) -> bool {
        let me = self.me();
        let taken = self.cas(rec(slot, Field::Owner), seen, me);
        if taken {
            self.party().owned |= 1 << slot;
        }
        taken
    }

    /// Give an owner word back: CAS from me. It fails if somebody took it by force.
    pub(crate) fn let_go(&mut self, slot: u8, value: u8) {
        let owner = self.rec(slot, Field::Owner);
        if owner & !FROZEN == self.me() || !self.keeps(Rule::OwnerByCas) {
            self.cas(rec(slot, Field::Owner), owner, value);
        }
        self.forget(slot);
    }

    /// The party no longer owns a record.
    pub(crate) fn forget(&mut self, slot: u8) {
        let party = self.party();
        for bits in [&mut party.owned, &mut party.robbed, &mut party.writable] {
            *bits &= !(1 << slot);
        }
    }

    /// What was published is durable before the hold ends.
    fn release(&mut self) {
        let slot = self.locals().slot;
        if self.keeps(Rule::ReleasePersists) {
            self.persist_published(slot);
        }
        let owner = self.rec(slot, Field::Owner);
        self.let_go(slot, owner & FROZEN);
        self.done();
    }
}
