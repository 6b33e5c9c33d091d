// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Check scenarios and print what was found.
//!
//! `daxfs-model [--large] [NAME…]`: the small scenarios, or the large ones, or those whose name
//! contains one of the words. `--without RULE` leaves a rule out.

use std::time::Instant;

use daxfs_model::protocol::Protocol;
use daxfs_model::rules::Rule;
use daxfs_model::scenario::{LARGE, SMALL, Scenario};
use stateright::{Checker, HasDiscoveries, Model};

fn main() {
    let mut large = false;
    let mut without = None;
    let mut words = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--large" => large = true,
            "--without" => {
                let name = arguments.next().unwrap_or_default();
                without = Rule::ALL.iter().copied().find(|rule| format!("{rule:?}") == name);
                assert!(without.is_some(), "no rule {name}; there are {:?}", Rule::ALL);
            }
            _ => words.push(argument),
        }
    }
    let chosen = SMALL.iter().chain(LARGE).filter(|scenario| {
        if words.is_empty() {
            large == LARGE.iter().any(|big| big.name == scenario.name)
        } else {
            words.iter().any(|word| scenario.name.contains(word.as_str()))
        }
    });
    let failed = chosen.filter(|scenario| !check(scenario, without)).count();
    std::process::exit(i32::from(failed > 0));
}

fn check(scenario: &'static Scenario, without: Option<Rule>) -> bool {
    let began = Instant::now();
    let protocol = Protocol { scenario, without };
    let checker =
        protocol.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let seconds = began.elapsed().as_secs_f64();
    let states = checker.unique_state_count();
    let depth = checker.max_depth();
    println!("{:40} {states:>10} states, depth {depth:>3}, {seconds:6.1} s", scenario.name);
    for (name, path) in checker.discoveries() {
        println!("  {name} does not hold:");
        let actions = path.clone().into_actions();
        let mut states = path.into_states().into_iter();
        for action in &actions {
            if let Some(state) = states.next() {
                println!("    {}", protocol.describe(&state, action));
            }
        }
        if let Some(last) = states.next() {
            println!("{last:#?}");
        }
    }
    checker.discoveries().is_empty()
}
