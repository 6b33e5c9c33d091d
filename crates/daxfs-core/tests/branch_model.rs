// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects what branches show: the same operations on daxfs and on a plain in-memory tree with
//! branches give the same trees and the same errors, through commits, aborts, folds, maintenance,
//! and closing and opening again.

mod branching;

use std::collections::BTreeMap;
use std::sync::Arc;

use branching::model::Tree;
use branching::ops::{self, Op};
use daxfs_core::branch::handle::Branch;
use daxfs_core::error::{Error, Result};
use daxfs_core::region::{Access, Region};
use daxfs_core::session::Session;
use proptest::prelude::*;
use rustix::io::Errno;

const NAMES: [&str; 4] = ["one", "two", "three", "four"];

#[derive(Debug, Clone)]
enum Step {
    /// In the branch that this number comes to.
    Operate(usize, Op),
    Create(usize, usize),
    Commit(usize),
    Abort(usize),
    Sync(usize),
    /// All handles and the session are given up, and taken anew.
    Reopen,
    /// Maintenance that folds main to this many layers.
    Maintain(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        60 => (0..5usize, ops::op()).prop_map(|(branch, op)| Step::Operate(branch, op)),
        6 => (0..4usize, 0..5usize).prop_map(|(name, parent)| Step::Create(name, parent)),
        2 => (0..4usize).prop_map(Step::Commit),
        2 => (0..4usize).prop_map(Step::Abort),
        1 => (0..5usize).prop_map(Step::Sync),
        1 => Just(Step::Reopen),
        2 => (0..3usize).prop_map(Step::Maintain),
    ]
}

/// What there has to be: trees by the names of their branches, with the names of their parents.
#[derive(Debug, Clone)]
struct Model(BTreeMap<String, (Tree, String)>);

impl Model {
    fn name(&self, number: usize) -> String {
        let names: Vec<_> = self.0.keys().collect();
        names[number % names.len()].clone()
    }

    fn has_children(&self, name: &str) -> bool {
        self.0.values().any(|(_, parent)| parent == name)
    }
}

struct World {
    region: Arc<Region>,
    session: Option<Arc<Session>>,
    handles: BTreeMap<String, Branch>,
    model: Model,
}

fn errno<T>(result: &Result<T>) -> Option<i32> {
    result.as_ref().err().map(Error::errno)
}

impl World {
    fn new() -> Self {
        let (bytes, tree) = branching::image(16 << 20);
        let region = Arc::new(Region::from_bytes(&bytes).expect("memory"));
        let session = Some(branching::session(&region).expect("an image with branches"));
        let main = ("main".to_string(), (tree, String::new()));
        Self { region, session, handles: BTreeMap::new(), model: Model([main].into()) }
    }

    fn session(&self) -> &Arc<Session> {
        self.session.as_ref().expect("open between steps")
    }

    fn handle(&mut self, name: &str) -> Result<&Branch> {
        if !self.handles.contains_key(name) {
            let branch = self.session().open_branch(name, Access::Write)?;
            self.handles.insert(name.into(), branch);
        }
        Ok(&self.handles[name])
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Operate(number, op) => {
                let name = self.model.name(*number);
                let done = self.handle(&name).and_then(|branch| ops::apply(branch, op));
                let expected = if self.model.has_children(&name) {
                    // Whatever else would be wrong with it is not looked at.
                    assert!(done.is_err(), "{name} is frozen, and took {op:?}");
                    return;
                } else {
                    self.model.0.get_mut(&name).expect("it exists").0.apply(op).err()
                };
                let expected = expected.map(Errno::raw_os_error);
                assert_eq!(errno(&done), expected, "{name}: {op:?}: {done:?}");
            }
            Step::Create(number, parent) => {
                let (name, parent) = (NAMES[*number].to_string(), self.model.name(*parent));
                let made = self.session().create(&name, &parent);
                if self.model.0.contains_key(&name) {
                    assert_eq!(errno(&made), Some(Errno::EXIST.raw_os_error()), "{made:?}");
                    return;
                }
                self.handles.insert(name.clone(), made.expect("a new branch"));
                let tree = self.model.0[&parent].0.clone();
                self.model.0.insert(name, (tree, parent));
            }
            Step::Commit(number) => {
                let name = NAMES[*number];
                let done = self.session().commit(name);
                match self.model.0.get(name) {
                    None => assert_eq!(errno(&done), Some(Errno::NOENT.raw_os_error())),
                    Some(_) if self.model.has_children(name) => {
                        assert_eq!(errno(&done), Some(Errno::BUSY.raw_os_error()), "{done:?}");
                    }
                    Some((tree, _)) => {
                        done.expect("it is committed");
                        let main = ("main".to_string(), (tree.clone(), String::new()));
                        self.model = Model([main].into());
                        for (name, stale) in &self.handles {
                            let stale = stale.view();
                            let expected = (name != "main").then_some(Errno::STALE.raw_os_error());
                            assert_eq!(errno(&stale), expected, "{name}");
                        }
                        self.handles.clear();
                    }
                }
            }
            Step::Abort(number) => {
                let name = NAMES[*number];
                let done = self.session().abort(name);
                if !self.model.0.contains_key(name) {
                    assert_eq!(errno(&done), Some(Errno::NOENT.raw_os_error()));
                } else if self.model.has_children(name) {
                    assert_eq!(errno(&done), Some(Errno::BUSY.raw_os_error()), "{done:?}");
                } else {
                    done.expect("it is aborted");
                    self.model.0.remove(name);
                    if let Some(stale) = self.handles.remove(name) {
                        assert_eq!(errno(&stale.view()), Some(Errno::STALE.raw_os_error()));
                    }
                }
            }
            Step::Sync(number) => {
                let name = self.model.name(*number);
                if let Some(branch) = self.handles.get(&name) {
                    branch.sync().expect("synced");
                }
            }
            Step::Reopen => {
                self.handles.clear();
                self.session = None;
                branching::expect_clean(&self.region);
                self.session = Some(branching::session(&self.region).expect("opens again"));
            }
            Step::Maintain(layers) => {
                let done = self.session().maintain_to(*layers).expect("maintained");
                assert!(
                    !done.busy && done.dead_openers == 0 && done.leaked_blocks == 0,
                    "{done:?}"
                );
            }
        }
    }

    /// Everything is as the model has it, for this party and for another.
    fn check(&self) {
        let other = branching::session(&self.region).expect("a second party");
        for session in [self.session(), &other] {
            let mut shown: Vec<_> =
                session.branches().expect("a list").into_iter().map(|status| status.name).collect();
            shown.sort();
            assert_eq!(shown, self.model.0.keys().cloned().collect::<Vec<_>>());
            for (name, (tree, _)) in &self.model.0 {
                let branch = session.open_branch(name, Access::Read).expect("it exists");
                let view = branch.view().expect("alive");
                assert_eq!(branching::dump(&view).expect("readable"), tree.dump(), "{name}");
            }
        }
        branching::expect_clean(&self.region);
    }
}

fn cases() -> u32 {
    std::env::var("DAXFS_MODEL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn branches_are_what_the_model_says(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for (number, step) in steps.iter().enumerate() {
            world.apply(step);
            if number % 8 == 0 || !matches!(step, Step::Operate(..)) {
                world.check();
            }
        }
        world.check();
    }
}
