// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The rules that can be left out, one at a time, to see the checker find the harm.

macro_rules! rules {
    ($($name:ident: $text:literal,)*) => {
        /// A rule of `docs/branches.md`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Rule { $(#[doc = $text] $name,)* }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Rule] = &[$(Rule::$name,)*];

            /// Rules that save work or spare a surprise, but that no invariant needs.
            pub const COURTESIES: &[Rule] = &[Rule::ScanSameHead, Rule::PersistFree];
        }
    };
}

rules! {
    CommitByCas: "commit compares and swaps in one store",
    FreezeParent: "create sees the parent frozen again after it announced the child",
    RecheckSize: "create sees the parent's size unchanged after it announced the child",
    RecheckHead: "create sees head unchanged after it announced the child",
    RecheckNames: "create looks for its name after it announced the child",
    ClaimRecheck: "a claimed slot is looked at again: still FREE",
    ScanChildren: "write-open looks for children",
    ScanSeesNew: "write-open counts children that are NEW",
    ScanSameHead: "write-open compares children with the head it saw first",
    OperationsCheckHead: "every operation under a hold begins by loading head",
    PinBeforeHead: "a reader stores its pin before it loads head",
    RespectPins: "reclaim compares the stamp with the pins",
    PinEqualBlocks: "a pin equal to the stamp keeps the record",
    AbortStampsLast: "abort stamps after RETIRED",
    StampAfterNeed: "reclaim takes the epoch after the negative answer",
    NeedOneHead: "both halves of the question whether a record is needed look at one value of head",
    NeedAfterLook: "reclaim loads head after it looked at the record",
    RetakeRechecks: "who took an owner word looks at id and state again",
    RespectOwner: "reclaim leaves records of live openers alone",
    BumpEpoch: "a retirement adds 1 to the epoch",
    FreeAfterBump: "blocks are freed only when the epoch has passed the stamp",
    RestampFuture: "a retired record whose stamp is ahead of the epoch is stamped again",
    WipeOrphans: "a NEW record without living creator is wiped whether needed or not",
    WipeNew: "a dead creator's NEW record is never adopted",
    AnonymousIsDead: "an opener id that no entry names is dead",
    FreshIds: "the next use of a slot has a new id",
    FinishFolds: "who takes maint finishes folds first",
    LinkBeforeHandOver: "fold hands blocks over after the link is durable",
    PersistMapBeforeDone: "fold writes the map back before FOLD_DONE",
    FlagBeforeLink: "ABSORBED is set before the link changes",
    ChainBeforeFlag: "whether a branch was absorbed: the chain first, the flag second",
    MaintExcludes: "fold and reclaim hold maint",
    PersistFold: "a fold is durable before main links to it",
    PersistIdBeforeUse: "an id is durable before a block is allocated under it",
    LeakReadsMapFirst: "the leak scan reads the map word before the slot's id",
    PersistHead: "who follows a head makes it durable first",
    PersistRecord: "a record is durable before it is announced",
    PersistAppend: "entries are durable before they are published",
    PersistSize: "a published size is durable before it is acknowledged",
    PersistCommit: "a won head is durable before it is acknowledged",
    PersistFree: "freed map words are durable before the slot is FREE",
    PersistRetired: "a retirement is durable before blocks are freed",
    BreakPersists: "break makes what was published durable before the hold ends",
    FreezePersists: "so does an owner that freezes its own branch",
    ReleasePersists: "so do release and close",
    PersistEntry: "an opener entry is durable before any word names it",
    FreshOpeners: "the next use of an opener entry has a new id",
    OwnerByCas: "an owner word is given back by CAS, too",
    NoForcedAbort: "a branch taken by force is not aborted",
    OwnersPin: "who owns a record keeps a pin",
    ClaimedPinsIgnored: "pins of claimed and free entries do not count",
    ClearPin: "a claimer zeroes the pin before its entry counts",
    CollectPublishes: "collect makes durable what it published before it frees",
    CollectBumps: "collect adds 1 to the epoch before it frees",
    CollectWaits: "collect frees nothing that a pin of up to its stamp may read",
    RenewLooks: "who made a renewal commits it only if it is alone",
    CreateSeesRenewal: "who makes another branch looks for a living maker's renewal",
    DropRechecks: "who took a renewal left behind looks again whether it is alive",
    DropRenewals: "maintenance ends renewals left behind",
}
