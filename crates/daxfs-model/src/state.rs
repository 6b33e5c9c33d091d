// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A state of the model: the memory, the parties, and what the checker remembers for them.

use crate::branch::Step as Branch;
use crate::fold::Step as Fold;
use crate::opener::Step as Opener;
use crate::reclaim::Step as Reclaim;
use crate::view::Step as View;
use crate::words::{Memory, PAGES, SLOTS};

/// What a party may be asked to do. Operations on a branch name it by slot when they start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Register in the opener table.
    Open,
    /// Make a branch of any live branch or of main's tip.
    Create,
    /// Make a branch of main's tip.
    CreateOfMain,
    /// Make a branch under the name that everybody wants.
    CreateNamed,
    /// Take a branch, or main's tip, for writing.
    WriteOpen,
    /// Take a branch other than main's tip for writing.
    WriteOpenBranch,
    /// Write a page of a branch held for writing.
    Append,
    /// The same, without waiting until it is durable.
    Write,
    /// Write anew the page of the entry before, without waiting until it is durable.
    Replace,
    /// Give back blocks of a branch held for writing that nothing in it names.
    Collect,
    /// Make a branch of main's tip, held for writing, only to commit it.
    CreateRenewal,
    /// Commit that, or abort it if it is not alone.
    CommitRenewal,
    /// Abort such a branch that a dead party left behind.
    DropRenewal,
    /// Commit a branch held for writing.
    Commit,
    /// Abort a branch held for writing.
    Abort,
    /// Give back a branch held for writing.
    Release,
    /// Fold the layers below the tip.
    Fold,
    /// Retire what is not needed, free what nobody reads, sweep leaks.
    Reclaim,
    /// Take from the dead what they held.
    Break,
    /// Pin, or move the pin on, and keep it.
    Pin,
    /// Take from others what they hold, without proof of death.
    Force,
    /// Read main under a pin.
    Read,
    /// Read a live branch under a pin.
    ReadBranch,
    /// Read main without a place in the opener table.
    ReadUnregistered,
    /// Give everything back and leave the opener table.
    Close,
}

/// The next shared access of a party, by operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Step {
    /// Between operations.
    #[default]
    Idle,
    /// `opener`: open, break, close.
    Opener(Opener),
    /// `branch`: create, write-open, append, commit, abort, release.
    Branch(Branch),
    /// `fold`.
    Fold(Fold),
    /// `reclaim`.
    Reclaim(Reclaim),
    /// `view`: reading.
    View(View),
}

/// What a party keeps in its own memory while an operation runs. Cleared at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Locals {
    /// The record worked on.
    pub slot: u8,
    /// Its id.
    pub id: u8,
    /// The record being made.
    pub new: u8,
    /// The head that the operation follows.
    pub head: u8,
    /// A size seen.
    pub size: u8,
    /// A word seen.
    pub seen: u8,
    /// Another word seen.
    pub also: u8,
    /// Where a scan is.
    pub cursor: u8,
    /// An epoch seen.
    pub epoch: u8,
    /// Blocks of a fold, or of a view: block + 1.
    pub blocks: [u8; PAGES],
    /// Contents that a reader found.
    pub pages: [u8; PAGES],
}

/// What a reader holds on to until it moves on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Held {
    /// Records walked, by slot: the id.
    pub records: [u8; SLOTS as usize],
    /// Pages: block + 1, and the content it must keep.
    pub pages: [(u8, u8); PAGES],
}

/// A party: one opener of the region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Party {
    /// Does it still run?
    pub alive: bool,
    /// Its opener id; 0 before it opened and after it closed.
    pub opener: u8,
    /// How far its script is.
    pub position: u8,
    /// Its next shared access.
    pub step: Step,
    /// Slots that it believes to own, one bit each.
    pub owned: u8,
    /// Those of them that were taken from it by force; the checker knows, the party does not.
    pub robbed: u8,
    /// Those of them that it may write.
    pub writable: u8,
    /// Private memory of the running operation.
    pub local: Locals,
    /// What it reads.
    pub held: Held,
}

/// A value that `head` had.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Committed {
    /// The value.
    pub id: u8,
    /// What main reads as.
    pub pages: [u8; PAGES],
    /// What of it was acknowledged.
    pub acknowledged: [u8; PAGES],
    /// Ids of its chain, one bit each.
    pub chain: u32,
    /// Nobody but its maker knows that this was committed.
    pub renewal: bool,
}

/// A branch as its makers were told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Branched {
    /// Id of the record; 0 = none.
    pub id: u8,
    /// Its generation.
    pub base_head: u8,
    /// What it must read as.
    pub pages: [u8; PAGES],
    /// What of it was acknowledged.
    pub acknowledged: [u8; PAGES],
    /// Its creation was acknowledged and nothing ended it.
    pub promised: bool,
}

/// What the checker remembers; no party can see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// The values of `head`, in order.
    pub heads: Vec<Committed>,
    /// Index of the last of them that something acknowledged depends on.
    pub acknowledged_head: u8,
    /// Live branches, by slot.
    pub branches: [Branched; SLOTS as usize],
    /// Ids given out, one bit each.
    pub used: u32,
    /// Ids that somebody was told are dead.
    pub dead: u32,
    /// Ids whose abort was acknowledged.
    pub aborted: u32,
    /// Invariants that a transition broke, one bit each.
    pub broken: u32,
}

/// A state of the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The shared memory.
    pub memory: Memory,
    /// The parties.
    pub parties: Vec<Party>,
    /// Parties that may still crash.
    pub crashes: u8,
    /// Power losses that may still come.
    pub power_losses: u8,
    /// After a power loss the survivors run another script.
    pub after: bool,
    /// The checker's memory.
    pub ghost: Ghost,
}
