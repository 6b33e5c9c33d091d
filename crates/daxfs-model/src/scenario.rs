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
    /// And the first of them a pin?
    pub pinned: bool,
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

impl Scenario {
    /// May anybody begin main's log anew?
    pub fn renews(&self) -> bool {
        let mut ops =
            self.parties.iter().flat_map(|script| script.iter()).flat_map(|set| set.iter());
        ops.any(|op| *op == CreateRenewal)
    }
}

const PLAIN: Scenario = Scenario {
    name: "",
    history: &[],
    parties: &[],
    opened: true,
    pinned: false,
    slots: 4,
    blocks: 4,
    crashes: 0,
    power_losses: 0,
    after: &[],
};

/// One commit, so that main has a layer under its tip.
const ONE_LAYER: &[Op] = &[Create, Append, Commit];
/// Two, of which the second overwrites the first.
const TWO_LAYERS: &[Op] = &[Create, Append, Commit, Create, Append, Commit, Reclaim];

/// A branch that nobody owns.
const UNOWNED: &[Op] = &[Create, Append, Release];

/// Main's writer begins its log anew.
const RENEW: Script =
    &[&[WriteOpen], &[Append], &[CreateRenewal], &[CommitRenewal], &[WriteOpen], &[Append]];

/// After a power loss: bring the region back in order, then use it.
const RESTART: Script = &[&[Open], &[Break], &[Reclaim], &[Create, WriteOpen], &[Append, Commit]];

/// Run with every change.
pub const SMALL: &[Scenario] = &[
    Scenario {
        name: "siblings race to commit",
        parties: &[
            &[&[Create], &[Append], &[Commit]],
            &[&[Create], &[Append], &[Commit, Abort]],
            &[&[Break]],
        ],
        crashes: 1,
        ..PLAIN
    },
    Scenario {
        name: "parents and children",
        parties: &[
            &[&[Create], &[Create, Append], &[Commit, Abort]],
            &[&[WriteOpen], &[Append, Commit, Abort]],
        ],
        crashes: 1,
        ..PLAIN
    },
    Scenario {
        name: "main's tip written directly",
        parties: &[
            &[&[Create], &[Append], &[Commit]],
            &[&[WriteOpen], &[Append], &[Release]],
            &[&[WriteOpen], &[Append]],
        ],
        ..PLAIN
    },
    Scenario {
        name: "write-open meets commit and fold",
        history: ONE_LAYER,
        parties: &[
            &[&[Create], &[Release], &[WriteOpen], &[Commit]],
            &[&[WriteOpen], &[Append, Abort]],
            &[&[Fold]],
        ],
        ..PLAIN
    },
    Scenario {
        name: "create meets reclaim",
        parties: &[&[&[Create], &[Commit, Abort]], &[&[Create], &[Append]], &[&[Reclaim]]],
        slots: 3,
        crashes: 1,
        ..PLAIN
    },
    Scenario {
        name: "readers meet abort and reclaim",
        parties: &[
            &[&[Read, ReadBranch], &[Read]],
            &[&[Create], &[Append], &[Abort], &[Create], &[Append]],
            &[&[Reclaim]],
        ],
        slots: 2,
        blocks: 1,
        ..PLAIN
    },
    Scenario {
        name: "readers meet two aborts",
        parties: &[
            &[&[ReadBranch]],
            &[&[Create], &[Append], &[Abort]],
            &[&[Create], &[Abort], &[Reclaim]],
        ],
        slots: 3,
        ..PLAIN
    },
    Scenario {
        name: "readers meet commit and reclaim",
        history: UNOWNED,
        parties: &[&[&[ReadBranch]], &[&[Create], &[Abort], &[Create], &[Commit]], &[&[Reclaim]]],
        ..PLAIN
    },
    Scenario {
        name: "readers meet main's growth",
        history: ONE_LAYER,
        parties: &[
            &[&[Read, ReadUnregistered]],
            &[&[Create], &[Append], &[Commit], &[Fold], &[Reclaim], &[Create], &[Append]],
        ],
        ..PLAIN
    },
    Scenario {
        name: "reclaim meets commit",
        history: UNOWNED,
        parties: &[&[&[WriteOpen], &[Commit], &[Create], &[Release]], &[&[Reclaim]]],
        crashes: 1,
        ..PLAIN
    },
    Scenario {
        name: "readers meet fold and reclaim",
        history: TWO_LAYERS,
        parties: &[&[&[Read]], &[&[Fold], &[Reclaim]], &[&[Create], &[Append]]],
        ..PLAIN
    },
    Scenario {
        name: "unregistered readers",
        history: TWO_LAYERS,
        parties: &[&[&[ReadUnregistered]], &[&[Fold], &[Reclaim]], &[&[Create], &[Append]]],
        crashes: 1,
        ..PLAIN
    },
    Scenario {
        name: "fold dies",
        history: TWO_LAYERS,
        parties: &[&[&[Fold]], &[&[Reclaim, Fold], &[Fold, Break]], &[&[Create], &[Commit]]],
        crashes: 2,
        ..PLAIN
    },
    Scenario {
        name: "break the dead",
        parties: &[
            &[&[Create], &[Create, Abort, Commit]],
            &[&[Break], &[Reclaim]],
            &[&[Break], &[WriteOpen]],
        ],
        crashes: 2,
        ..PLAIN
    },
    Scenario {
        name: "openers come and go",
        opened: false,
        parties: &[
            &[&[Open], &[Create, Read], &[Close], &[Open], &[WriteOpen]],
            &[&[Open], &[Break], &[Close, Reclaim], &[Open]],
        ],
        crashes: 2,
        ..PLAIN
    },
    Scenario {
        name: "force",
        history: UNOWNED,
        parties: &[
            &[&[WriteOpenBranch], &[Append, Commit], &[Release]],
            &[
                &[CreateOfMain],
                &[Force],
                &[WriteOpenBranch],
                &[Abort, Commit],
                &[Reclaim],
                &[Reclaim],
                &[WriteOpen],
                &[Append],
            ],
        ],
        pinned: true,
        ..PLAIN
    },
    Scenario {
        name: "readers meet collect",
        history: ONE_LAYER,
        parties: &[
            &[&[Read, ReadUnregistered]],
            &[&[WriteOpen], &[Replace], &[Collect], &[Create], &[Append]],
        ],
        blocks: 2,
        ..PLAIN
    },
    Scenario {
        name: "branches meet collect",
        parties: &[
            &[&[Create], &[Append], &[Replace], &[Collect], &[Commit]],
            &[&[Create], &[Append], &[Commit, Abort]],
            &[&[ReadBranch], &[Break]],
        ],
        slots: 3,
        blocks: 2,
        crashes: 1,
        ..PLAIN
    },
    Scenario {
        name: "force meets collect",
        history: UNOWNED,
        parties: &[
            &[&[WriteOpenBranch], &[Replace], &[Collect]],
            &[
                &[CreateOfMain],
                &[Force],
                &[WriteOpenBranch],
                &[Commit],
                &[Fold, Reclaim],
                &[Reclaim],
                &[WriteOpen],
                &[Append],
            ],
        ],
        pinned: true,
        ..PLAIN
    },
    Scenario {
        name: "renew meets create",
        parties: &[RENEW, &[&[Create], &[Append], &[Commit]], &[&[DropRenewal], &[WriteOpen]]],
        ..PLAIN
    },
    Scenario {
        name: "renew dies",
        parties: &[RENEW, &[&[Break], &[DropRenewal], &[WriteOpen], &[Append]]],
        crashes: 1,
        ..PLAIN
    },
    Scenario {
        name: "one name",
        parties: &[
            &[&[CreateNamed], &[Abort, Commit]],
            &[&[CreateNamed], &[CreateNamed]],
            &[&[CreateNamed]],
        ],
        ..PLAIN
    },
    Scenario {
        name: "power: commit",
        parties: &[&[&[Create], &[Append], &[Commit]], &[&[Create], &[Commit]]],
        power_losses: 1,
        after: RESTART,
        ..PLAIN
    },
    Scenario {
        name: "power: children",
        parties: &[&[&[Create], &[Append], &[Create], &[Commit]]],
        power_losses: 1,
        after: RESTART,
        ..PLAIN
    },
    Scenario {
        name: "power: break",
        parties: &[
            &[&[Create, WriteOpen], &[Append]],
            &[&[Break], &[Create, WriteOpen], &[Append, Commit]],
        ],
        crashes: 1,
        power_losses: 1,
        after: RESTART,
        ..PLAIN
    },
    Scenario {
        name: "power: release",
        parties: &[
            &[&[Create, WriteOpen], &[Write], &[Release, Create, Close], &[Append]],
            &[&[Create], &[Commit]],
        ],
        power_losses: 1,
        after: RESTART,
        ..PLAIN
    },
    Scenario {
        name: "power: abort and reclaim",
        parties: &[&[&[Create], &[Append], &[Abort], &[Create], &[Append]], &[&[Reclaim]]],
        slots: 2,
        blocks: 1,
        power_losses: 1,
        after: RESTART,
        ..PLAIN
    },
    Scenario {
        name: "power: fold",
        history: TWO_LAYERS,
        parties: &[&[&[Fold], &[Reclaim]], &[&[Create], &[Commit]]],
        power_losses: 1,
        after: RESTART,
        ..PLAIN
    },
    Scenario {
        name: "power: collect",
        parties: &[&[&[Create], &[Append], &[Replace], &[Collect]], &[&[Create], &[Append]]],
        slots: 3,
        blocks: 2,
        power_losses: 1,
        after: RESTART,
        ..PLAIN
    },
    Scenario {
        name: "power: renew",
        parties: &[&[
            &[WriteOpen],
            &[Append],
            &[CreateRenewal],
            &[CommitRenewal],
            &[WriteOpen],
            &[Fold, Append],
        ]],
        power_losses: 1,
        after: RESTART,
        ..PLAIN
    },
    Scenario {
        name: "power: openers",
        opened: false,
        parties: &[&[&[Open], &[Create], &[Close]], &[&[Open], &[WriteOpen]]],
        power_losses: 1,
        after: RESTART,
        ..PLAIN
    },
];

/// Run by hand.
pub const LARGE: &[Scenario] = &[
    Scenario {
        name: "large: branches of three parties",
        parties: &[
            &[&[Create], &[Append, Create], &[Commit, Abort]],
            &[&[Create], &[Append, WriteOpen], &[Commit, Abort]],
            &[&[WriteOpen], &[Append, Create], &[Release]],
        ],
        crashes: 1,
        ..PLAIN
    },
    Scenario {
        name: "large: fold and reclaim among crashes",
        history: ONE_LAYER,
        parties: &[
            &[&[Create], &[Append], &[Commit, Abort], &[Fold]],
            &[&[Reclaim, Fold], &[Break, Reclaim]],
            &[&[Read, WriteOpen], &[Append, Abort, Read]],
        ],
        crashes: 2,
        ..PLAIN
    },
    Scenario {
        name: "large: readers among everything",
        history: TWO_LAYERS,
        parties: &[
            &[&[Read, ReadBranch, ReadUnregistered], &[Read, ReadBranch]],
            &[&[Create], &[Append], &[Commit, Abort], &[Create], &[Append]],
            &[&[Fold], &[Reclaim]],
        ],
        crashes: 1,
        ..PLAIN
    },
    Scenario {
        name: "large: readers and branches among collect and renew",
        history: ONE_LAYER,
        parties: &[
            &[
                &[WriteOpen],
                &[Replace],
                &[Collect],
                &[CreateRenewal],
                &[CommitRenewal],
                &[WriteOpen],
            ],
            &[&[Create, Read, ReadUnregistered], &[Append], &[Replace], &[Collect], &[Commit]],
            &[&[Break, DropRenewal], &[WriteOpen, Reclaim, Read], &[Append]],
        ],
        crashes: 1,
        ..PLAIN
    },
    Scenario {
        name: "large: openers come, die and go",
        opened: false,
        parties: &[
            &[&[Open], &[Create, Read], &[Create, Close], &[Open], &[WriteOpen, Reclaim]],
            &[&[Open], &[Break], &[Reclaim, WriteOpen], &[Close]],
            &[&[Open], &[Break, Read], &[Reclaim, Close]],
        ],
        crashes: 2,
        ..PLAIN
    },
    Scenario {
        name: "large: power lost twice, branches",
        parties: &[&[&[Create, WriteOpen], &[Append], &[Commit, Abort]]],
        power_losses: 2,
        after: RESTART,
        ..PLAIN
    },
    Scenario {
        name: "large: power lost twice, fold and reclaim",
        history: TWO_LAYERS,
        parties: &[&[&[Fold], &[Reclaim]]],
        power_losses: 2,
        after: &[&[Open], &[Break], &[Fold, Reclaim], &[Reclaim]],
        ..PLAIN
    },
];
