// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The numbered invariants of `docs/branches.md`, as properties of every reachable state.

use crate::protocol::Protocol;
use crate::state::{Party, State, Step};
use crate::words::state::{ACTIVE, FREE};
use crate::words::*;

/// What must hold in every state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariant {
    /// I1: each value of `head` was reached from the one that its family was made from.
    OneWinner = 1,
    /// I2: main reads as what was committed and written to it since.
    MainUnchanged,
    /// I3: a live branch reads as its parent at creation and its own writes.
    BranchUnchanged,
    /// I4: a record that may be written has no live child.
    ParentsFrozen,
    /// I5: who believes to own a record is named by its owner word, and nobody else.
    OneWriter,
    /// I6: blocks of a needed record are its own, with the content written.
    BlocksOwned,
    /// I7: what a pinned reader walked is neither freed nor changed.
    ReadersUndisturbed,
    /// I8: a reader without a pin, whose epoch did not change, read one state of main.
    UnregisteredReaders,
    /// I9: an id is given out once.
    IdsFresh,
    /// I10: who was called dead stays dead and was never committed.
    DeadStayDead,
    /// I11: what was acknowledged survives; what was not is there whole or not at all.
    AcknowledgedSurvives,
    /// I12: live branches of one name are one.
    NamesUnique,
    /// I13: should everybody stop now, one live party brings everything back in order.
    Recoverable,
    /// I14: an opener that reads and owns nothing pins nothing.
    IdlePinNothing,
    /// I15: a commit that only begins main's log anew ends no branch that somebody was told of.
    RenewalsAlone,
}

impl Invariant {
    /// Every invariant, with the name that the checker prints.
    pub const ALL: &[(Invariant, &'static str)] = &[
        (Invariant::OneWinner, "I1 one winner"),
        (Invariant::MainUnchanged, "I2 main unchanged"),
        (Invariant::BranchUnchanged, "I3 branches unchanged"),
        (Invariant::ParentsFrozen, "I4 parents frozen"),
        (Invariant::OneWriter, "I5 one writer"),
        (Invariant::BlocksOwned, "I6 blocks owned"),
        (Invariant::ReadersUndisturbed, "I7 readers undisturbed"),
        (Invariant::UnregisteredReaders, "I8 unregistered readers"),
        (Invariant::IdsFresh, "I9 ids fresh"),
        (Invariant::DeadStayDead, "I10 dead stay dead"),
        (Invariant::AcknowledgedSurvives, "I11 acknowledged survives"),
        (Invariant::NamesUnique, "I12 names unique"),
        (Invariant::Recoverable, "I13 recoverable"),
        (Invariant::IdlePinNothing, "I14 idle openers pin nothing"),
        (Invariant::RenewalsAlone, "I15 renewals alone"),
    ];

    /// Does it hold in this state?
    pub fn holds(self, protocol: &Protocol, state: &State) -> bool {
        let unbroken = state.ghost.broken & (1 << self as u32) == 0;
        unbroken
            && match self {
                Self::MainUnchanged => {
                    state.pages_of(state.memory.load(HEAD)) == state.main().pages
                }
                Self::BranchUnchanged => branches_unchanged(state),
                Self::ParentsFrozen => parents_frozen(state),
                Self::OneWriter => one_writer(state),
                Self::BlocksOwned => blocks_owned(state),
                Self::ReadersUndisturbed => readers_undisturbed(state),
                Self::DeadStayDead => dead_stay_dead(state),
                Self::NamesUnique => names_unique(state),
                Self::Recoverable => recoverable(protocol, state),
                Self::IdlePinNothing => protocol.scenario.pinned || idle_pin_nothing(state),
                _ => true,
            }
    }
}

fn branches_unchanged(state: &State) -> bool {
    (0..SLOTS).filter(|&slot| state.is_alive(slot)).all(|slot| {
        let id = state.memory.rec(slot, Field::Id);
        let parent = state.memory.rec(slot, Field::Parent);
        let measured = parent != 0
            && state.memory.rec(slot_of(parent), Field::Size)
                == state.memory.rec(slot, Field::BaseSize);
        measured
            && state.pages_of(id) == state.ghost.branches[slot as usize].pages
            && state.memory.rec(slot_of(parent), Field::Id) == parent
    })
}

fn parents_frozen(state: &State) -> bool {
    state.parties.iter().filter(|party| party.alive).all(|party| {
        (0..SLOTS).filter(|slot| party.writable & (1 << slot) != 0).all(|slot| {
            let id = state.memory.rec(slot, Field::Id);
            (0..SLOTS)
                .all(|child| !state.is_alive(child) || state.memory.rec(child, Field::Parent) != id)
        })
    })
}

fn one_writer(state: &State) -> bool {
    (0..SLOTS).all(|slot| {
        let owner = state.memory.rec(slot, Field::Owner) & !FROZEN;
        state.parties.iter().filter(|party| party.alive && party.opener != 0).all(|party| {
            let believes = party.owned & !party.robbed & (1 << slot) != 0;
            believes == (owner == party.opener)
        })
    })
}

fn blocks_owned(state: &State) -> bool {
    (0..SLOTS).filter(|&slot| state.is_alive(slot) || state.is_main(slot)).all(|slot| {
        let id = state.memory.rec(slot, Field::Id);
        let flags = state.memory.rec(slot, Field::Flags);
        let folded = flags & flag::FOLDED != 0;
        let segment = state.memory.rec(slot, Field::Segment);
        (segment == 0 || state.memory.load(map(segment - 1)) == id)
            && state.memory.rec(slot, Field::State) == ACTIVE
            && state.layer(slot).into_iter().flatten().all(|(k, block)| {
                let Some(block) = block.checked_sub(1) else { return folded };
                let owner = state.memory.load(map(block));
                let moving = folded && flags & flag::FOLD_DONE == 0 && owner != 0;
                let written = state.memory.load(data(block));
                (owner == id || moving) && (folded || written == crate::branch::content(id, k))
            })
    })
}

fn readers_undisturbed(state: &State) -> bool {
    state.parties.iter().filter(|party| party.alive).all(|party| {
        let records = (0..SLOTS).all(|slot| {
            let id = party.held.records[slot as usize];
            id == 0
                || (state.memory.rec(slot, Field::Id) == id
                    && state.memory.rec(slot, Field::State) != FREE)
        });
        let unchanged =
            |&(block, found): &(u8, u8)| block == 0 || state.memory.load(data(block - 1)) == found;
        records && party.held.pages.iter().all(unchanged)
    })
}

fn dead_stay_dead(state: &State) -> bool {
    let gone = state.ghost.dead | state.ghost.aborted;
    gone & state.main().chain == 0
        && (0..SLOTS).all(|slot| {
            gone & (1 << state.memory.rec(slot, Field::Id)) == 0 || !state.is_alive(slot)
        })
}

fn idle_pin_nothing(state: &State) -> bool {
    let idle = |party: &&Party| party.opener != 0 && party.owned == 0 && party.step == Step::Idle;
    let mut idle = state.parties.iter().filter(idle);
    idle.all(|party| state.memory.load(pin(entry_of(party.opener))) == 0)
}

fn names_unique(state: &State) -> bool {
    let name = |slot| state.memory.rec(slot, Field::Name);
    (0..SLOTS).all(|a| {
        (0..a)
            .all(|b| name(a) == 0 || name(a) != name(b) || !state.is_alive(a) || !state.is_alive(b))
    })
}

/// Everybody stops; a new party opens the region, breaks the dead and reclaims. What it leaves:
/// no holds, nothing half made, nothing unneeded, each block with a needed record, main as it was.
fn recoverable(protocol: &Protocol, state: &State) -> bool {
    let Some(end) = protocol.recover(state) else { return false };
    let memory = &end.memory;
    let idle = (0..SLOTS).all(|slot| memory.rec(slot, Field::Owner) & !FROZEN == 0);
    let records = (0..SLOTS).all(|slot| match memory.rec(slot, Field::State) {
        FREE => true,
        ACTIVE if memory.rec(slot, Field::Name) == RENEWAL => end.is_main(slot),
        ACTIVE => end.is_alive(slot) || end.is_main(slot),
        _ => false,
    });
    let blocks = (0..BLOCKS).all(|block| match memory.load(map(block)) {
        0 => true,
        id => {
            memory.rec(slot_of(id), Field::Id) == id
                && (end.is_alive(slot_of(id)) || end.is_main(slot_of(id)))
        }
    });
    let openers = (0..ENTRIES).all(|index| {
        let word = memory.load(entry(index));
        word == 0 || word & FREED != 0 || end.parties[0].opener == word
    });
    let same = end.pages_of(memory.load(HEAD)) == state.main().pages;
    idle && records && blocks && openers && memory.load(MAINT) == 0 && same && blocks_owned(&end)
}
