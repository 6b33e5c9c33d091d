// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The protocol keeps its invariants in every state of every small scenario; and each of its
//! rules is needed: without it, the checker finds a state that breaks one.

use daxfs_model::protocol::Protocol;
use daxfs_model::rules::Rule;
use daxfs_model::scenario::{SMALL, Scenario};
use stateright::{Checker, HasDiscoveries, Model};

/// Where the absence of a rule shows soonest.
const SHOWN_BY: &[(Rule, &str)] = &[
    (Rule::CommitByCas, "power: commit"),
    (Rule::FreezeParent, "parents and children"),
    (Rule::RecheckSize, "main's tip written directly"),
    (Rule::RecheckNames, "one name"),
    (Rule::ClaimRecheck, "siblings race to commit"),
    (Rule::ScanChildren, "parents and children"),
    (Rule::ScanSeesNew, "parents and children"),
    (Rule::OperationsCheckHead, "write-open meets commit and fold"),
    (Rule::PinBeforeHead, "readers meet main's growth"),
    (Rule::RespectPins, "readers meet abort and reclaim"),
    (Rule::PinEqualBlocks, "readers meet abort and reclaim"),
    (Rule::AbortStampsLast, "readers meet two aborts"),
    (Rule::StampAfterNeed, "readers meet commit and reclaim"),
    (Rule::NeedOneHead, "reclaim meets commit"),
    (Rule::NeedAfterLook, "reclaim meets commit"),
    (Rule::RetakeRechecks, "create meets reclaim"),
    (Rule::RespectOwner, "create meets reclaim"),
    (Rule::BumpEpoch, "parents and children"),
    (Rule::FreeAfterBump, "parents and children"),
    (Rule::RestampFuture, "parents and children"),
    (Rule::WipeOrphans, "power: commit"),
    (Rule::WipeNew, "break the dead"),
    (Rule::AnonymousIsDead, "openers come and go"),
    (Rule::FreshIds, "parents and children"),
    (Rule::FinishFolds, "fold dies"),
    (Rule::LinkBeforeHandOver, "power: fold"),
    (Rule::PersistMapBeforeDone, "power: fold"),
    (Rule::FlagBeforeLink, "write-open meets commit and fold"),
    (Rule::ChainBeforeFlag, "write-open meets commit and fold"),
    (Rule::MaintExcludes, "fold dies"),
    (Rule::PersistFold, "power: fold"),
    (Rule::PersistIdBeforeUse, "power: fold"),
    (Rule::LeakReadsMapFirst, "create meets reclaim"),
    (Rule::PersistHead, "power: commit"),
    (Rule::PersistRecord, "power: commit"),
    (Rule::PersistAppend, "power: commit"),
    (Rule::PersistSize, "power: commit"),
    (Rule::PersistCommit, "power: commit"),
    (Rule::PersistRetired, "power: abort and reclaim"),
    (Rule::BreakPersists, "power: break"),
    (Rule::FreezePersists, "power: release"),
    (Rule::ReleasePersists, "power: release"),
    (Rule::PersistEntry, "power: openers"),
    (Rule::FreshOpeners, "openers come and go"),
    (Rule::ClaimedPinsIgnored, "readers meet abort and reclaim"),
    (Rule::OwnerByCas, "force"),
    (Rule::NoForcedAbort, "force"),
    (Rule::OwnersPin, "force"),
    (Rule::ClearPin, "openers come and go"),
    (Rule::CollectPublishes, "power: collect"),
    (Rule::CollectBumps, "readers meet collect"),
    (Rule::CollectWaits, "readers meet collect"),
    (Rule::RenewLooks, "renew meets create"),
    (Rule::CreateSeesRenewal, "renew meets create"),
    (Rule::RecheckHead, "renew meets create"),
    (Rule::DropRechecks, "renew meets create"),
    (Rule::DropRenewals, "renew dies"),
];

/// The invariants that are broken somewhere, and how many states were seen.
fn broken(scenario: &'static Scenario, without: Option<Rule>) -> (Vec<&'static str>, usize) {
    let checker = Protocol { scenario, without }
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    (checker.discoveries().into_keys().collect(), checker.unique_state_count())
}

fn named(name: &str) -> &'static Scenario {
    SMALL.iter().find(|scenario| scenario.name == name).expect("a small scenario")
}

#[test]
fn invariants_hold() {
    for scenario in SMALL {
        let (broken, states) = broken(scenario, None);
        assert!(broken.is_empty(), "{}: {broken:?}", scenario.name);
        println!("{:40} {states:>10} states", scenario.name);
    }
}

#[test]
fn every_rule_is_needed() {
    for (rule, name) in SHOWN_BY {
        let (broken, states) = broken(named(name), Some(*rule));
        assert!(!broken.is_empty(), "{rule:?} is not missed in {states} states of {name:?}");
        println!("{rule:?}: without it {broken:?} fails, {name:?}, {states} states");
    }
}

#[test]
fn every_rule_is_tried() {
    for rule in Rule::ALL {
        let shown = SHOWN_BY.iter().filter(|(other, _)| other == rule).count();
        let courtesy = Rule::COURTESIES.contains(rule);
        assert_eq!(shown, usize::from(!courtesy), "{rule:?}");
    }
}

/// What the document calls a courtesy may be left out without harm.
#[test]
fn courtesies_are_not_needed() {
    for rule in Rule::COURTESIES {
        for scenario in SMALL.iter().filter(|scenario| scenario.name != "one name") {
            let (broken, _) = broken(scenario, Some(*rule));
            assert!(broken.is_empty(), "{rule:?}, {}: {broken:?}", scenario.name);
        }
    }
}
