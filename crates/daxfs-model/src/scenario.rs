// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who does what: small worlds in which everything that can happen is tried.

use crate::state::Op::{self, *};

/// Operations one after the other; of each set, one.
pub type Script = &'static [&'static [Op]];

/// A world.
#[derive(Debug)]
pub struct Scenario {
    /// What it is about.
    pub name: &'static str,
    /// Done before the beginning, alone.
    pub history: &'static [Op],
    /// What each party does.
    pub parties: &'static [Script],
    /// Do they have an opener entry from the beginning?
    pub opened: bool,
    /// Slots that branches may use.
    pub slots: u8,
    /// Blocks that branches may use.
    pub blocks: u8,
    /// Parties that may crash.
    pub crashes: u8,
    /// Power losses.
    pub power_losses: u8,
    /// What the first party does after a power loss.
    pub after: Script,
}

const PLAIN: Scenario = Scenario {
    name: "",
    history: &[],
    parties: &[],
    opened: true,
    slots: 4,
    blocks: 4,
    crashes: 0,
    power_losses: 0,
    after: &[],
};

/// One commit, so that main has a layer under its tip.
const ONE_LAYER: &[Op] = &[Create, Append, Commit];

/// Run with every change.
pub const SMALL: &[Scenario] = &[
    Scenario {
        name: "siblings race to commit",
        parties: &[&[&[Create], &[Append], &[Commit]], &[&[Create], &[Append], &[Commit]]],
        slots: 3,
        crashes: 1,
        ..PLAIN
    },
];

/// Run by hand.
pub const LARGE: &[Scenario] = &[];
