// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An explicit-state model of the branch protocol of `docs/branches.md`.
//!
//! Every shared load, store and compare-and-swap is a step of its own; parties take steps in any
//! order, stop for ever at any step, and power may be lost between any two stores. The invariants
//! of the document are checked in every state that can be reached. Leaving out any one [`rules::Rule`]
//! must make the checker find a counterexample: that is how the model shows that it can fail.

mod branch;
mod fold;
mod ghost;
pub mod invariants;
mod opener;
pub mod protocol;
mod reclaim;
pub mod rules;
pub mod scenario;
pub mod state;
mod turn;
mod view;
pub mod words;
