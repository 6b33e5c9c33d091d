// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The model itself: who may do what next, and what comes of it.

use stateright::{Model, Property};

use crate::branch::Step as Branch;
use crate::fold::Step as Fold;
use crate::invariants::Invariant;
use crate::opener::Step as Opener;
use crate::rules::Rule;
use crate::scenario::Scenario;
use crate::state::{Branched, Committed, Ghost, Op, Party, State, Step};
use crate::turn::Turn;
use crate::view::Step as View;
use crate::words::state::ACTIVE;
use crate::words::*;

/// A scenario under the protocol, with one rule left out or none.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// Who does what.
    pub scenario: &'static Scenario,
    /// The rule left out.
    pub without: Option<Rule>,
}

/// What may happen next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A party begins an operation, on a slot where that means something.
    Start(usize, Op, u8),
    /// It has nothing to do that its next operation could be done on.
    Skip(usize),
    /// It makes the shared access that its step names.
    Step(usize),
    /// It stops for ever.
    Crash(usize),
    /// Power is lost, with this one of the possible outcomes.
    PowerLoss(usize),
}

/// What a party does to bring a region back in order.
const RECOVERY: [Op; 7] =
    [Op::Open, Op::Break, Op::DropRenewal, Op::Pin, Op::Reclaim, Op::Pin, Op::Reclaim];

impl Protocol {
    /// Slots that branches may use.
    pub fn slots(&self) -> u8 {
        self.scenario.slots
    }

    /// Blocks that branches may use.
    pub fn blocks(&self) -> u8 {
        self.scenario.blocks
    }

    fn script(&self, state: &State, index: usize) -> &'static [&'static [Op]] {
        if state.after { self.scenario.after } else { self.scenario.parties[index] }
    }

    /// The slots on which an operation may begin.
    fn targets(&self, state: &State, index: usize, op: Op) -> Vec<u8> {
        let Party { writable, opener, .. } = state.parties[index];
        let registers = op == Op::Open;
        if op != Op::ReadUnregistered && registers == (opener != 0) {
            return Vec::new();
        }
        let is_tip = |slot| state.memory.rec(slot, Field::Id) == state.memory.load(HEAD);
        let is_renewal = |slot| state.memory.rec(slot, Field::Name) == RENEWAL && !is_tip(slot);
        // No other branch has that name, so nobody can ask for it.
        let is_alive = |slot| state.is_alive(slot) && !is_renewal(slot);
        (0..SLOTS)
            .filter(|&slot| match op {
                Op::Create | Op::CreateNamed | Op::WriteOpen => {
                    is_alive(slot)
                        || (is_tip(slot) && state.memory.rec(slot, Field::State) == ACTIVE)
                }
                Op::CreateOfMain => is_tip(slot),
                Op::ReadBranch | Op::WriteOpenBranch => is_alive(slot),
                Op::CreateRenewal => is_tip(slot) && writable & (1 << slot) != 0,
                Op::CommitRenewal => is_renewal(slot) && writable & (1 << slot) != 0,
                Op::Append
                | Op::Write
                | Op::Replace
                | Op::Collect
                | Op::Commit
                | Op::Abort
                | Op::Release => writable & (1 << slot) != 0 && !is_renewal(slot),
                _ => slot == 0,
            })
            .collect()
    }

    fn start(&self, state: &mut State, index: usize, op: Op, slot: u8) {
        let id = state.memory.rec(slot, Field::Id);
        let party = &mut state.parties[index];
        party.position += 1;
        party.local.slot = slot;
        party.local.id = id;
        party.step = match op {
            Op::Open => Opener::OpenClaim.into(),
            Op::Create | Op::CreateOfMain | Op::CreateNamed | Op::CreateRenewal => {
                Branch::CreateFind.into()
            }
            Op::WriteOpen | Op::WriteOpenBranch => Branch::WriteOpenTake.into(),
            Op::Append | Op::Write | Op::Replace => Branch::AppendCheck.into(),
            Op::Collect => Branch::CollectCheck.into(),
            Op::CommitRenewal => Branch::RenewHead.into(),
            Op::DropRenewal => Branch::DropHead.into(),
            Op::Commit => Branch::CommitSwap.into(),
            Op::Abort => Branch::AbortCheck.into(),
            Op::Release => Branch::Release.into(),
            Op::Fold | Op::Reclaim => Fold::TakeMaint.into(),
            Op::Break => Opener::BreakTake.into(),
            Op::Force => Opener::ForceTake.into(),
            Op::Pin => View::PinOnly.into(),
            Op::Read | Op::ReadBranch => View::Epoch.into(),
            Op::ReadUnregistered => View::FreeEpoch.into(),
            Op::Close => Opener::CloseRelease.into(),
        };
        match op {
            Op::CreateNamed | Op::Reclaim | Op::Write => party.local.also = 1,
            Op::Replace => party.local.also = REPLACES,
            Op::CreateRenewal => party.local.also = RENEWAL,
            Op::Read | Op::Open => party.local.id = 0,
            _ => {}
        }
    }

    fn step(&self, state: &mut State, index: usize) {
        let step = state.parties[index].step;
        let mut turn = Turn { protocol: self, state, index };
        match step {
            Step::Idle => {}
            Step::Opener(step) => turn.opener(step),
            Step::Branch(step) => turn.branch(step),
            Step::Fold(step) => turn.fold(step),
            Step::Reclaim(step) => turn.reclaim(step),
            Step::View(step) => turn.view(step),
        }
    }

    /// One party, alone, does these operations. `None` if it does not come to an end.
    fn alone(&self, state: &mut State, ops: &[Op]) -> Option<()> {
        for &op in ops {
            let slot = *self.targets(state, 0, op).last()?;
            self.start(state, 0, op, slot);
            let mut steps = 0;
            while state.parties[0].step != Step::Idle {
                self.step(state, 0);
                steps += 1;
                if steps > 1000 {
                    return None;
                }
            }
        }
        Some(())
    }

    /// Everybody stops, and a new party brings the region back in order.
    pub fn recover(&self, state: &State) -> Option<State> {
        let mut end = state.clone();
        for party in &mut end.parties {
            *party = Party::default();
        }
        end.parties[0].alive = true;
        self.alone(&mut end, &RECOVERY)?;
        Some(end)
    }

    /// An action in words, for traces.
    pub fn describe(&self, state: &State, action: &Action) -> String {
        match action {
            Action::Step(index) => format!("party {index}: {:?}", state.parties[*index].step),
            other => format!("{other:?}"),
        }
    }

    fn initial(&self) -> State {
        let mut memory = Memory::new(false);
        memory.store(HEAD, 1);
        memory.store(EPOCH, 1);
        memory.store(rec(0, Field::Id), 1);
        memory.store(rec(0, Field::State), ACTIVE);
        memory.store(rec(0, Field::Stamp), CREATED);
        let main = Committed {
            id: 1,
            pages: [0; PAGES],
            acknowledged: [0; PAGES],
            chain: 2,
            renewal: false,
        };
        let ghost = Ghost {
            heads: vec![main],
            acknowledged_head: 0,
            branches: [Branched::default(); SLOTS as usize],
            used: 2,
            dead: 0,
            aborted: 0,
            broken: 0,
        };
        let parties = vec![Party { alive: true, ..Party::default() }];
        let mut state = State { memory, parties, crashes: 0, power_losses: 0, after: false, ghost };
        let whole = Protocol { without: None, ..*self };
        whole.alone(&mut state, &[Op::Open]).expect("an empty table has room");
        whole.alone(&mut state, self.scenario.history).expect("the history can be made");
        whole.alone(&mut state, &[Op::Close]).expect("a party can leave");
        state.parties.clear();
        for index in 0..self.scenario.parties.len() {
            state.parties.insert(0, Party { alive: true, ..Party::default() });
            if self.scenario.opened {
                whole.alone(&mut state, &[Op::Open]).expect("the table has room");
            }
            if self.scenario.pinned && index + 1 == self.scenario.parties.len() {
                self.alone(&mut state, &[Op::Pin]).expect("a pin can be stored");
            }
            state.parties[0].position = 0;
            debug_assert!(index < ENTRIES as usize);
        }
        state.memory = state.memory.settled(self.scenario.power_losses > 0);
        state.crashes = self.scenario.crashes;
        state.power_losses = self.scenario.power_losses;
        state
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.initial()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (index, party) in state.parties.iter().enumerate().filter(|(_, p)| p.alive) {
            if party.step != Step::Idle {
                actions.push(Action::Step(index));
            } else if let Some(&ops) = self.script(state, index).get(party.position as usize) {
                let before = actions.len();
                for &op in ops {
                    let targets = self.targets(state, index, op);
                    actions.extend(targets.into_iter().map(|slot| Action::Start(index, op, slot)));
                }
                if actions.len() == before {
                    actions.push(Action::Skip(index));
                }
            }
            let begun = party.step != Step::Idle || party.owned != 0;
            if state.crashes > 0 && begun && !state.after {
                actions.push(Action::Crash(index));
            }
        }
        if state.power_losses > 0 {
            let outcomes = state.memory.after_power_loss().len();
            actions.extend((0..outcomes).map(Action::PowerLoss));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Start(index, op, slot) => self.start(&mut state, index, op, slot),
            Action::Skip(index) => state.parties[index].position += 1,
            Action::Step(index) => self.step(&mut state, index),
            Action::Crash(index) => {
                state.parties[index] = Party::default();
                state.crashes -= 1;
            }
            Action::PowerLoss(outcome) => {
                state.power_losses -= 1;
                let left = state.memory.after_power_loss().swap_remove(outcome);
                state.lose_power(left);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        macro_rules! always {
            ($($index:literal)*) => {
                vec![$(Property::always(Invariant::ALL[$index].1, |protocol: &Protocol, state| {
                    Invariant::ALL[$index].0.holds(protocol, state)
                }),)*]
            };
        }
        always!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    }
}
