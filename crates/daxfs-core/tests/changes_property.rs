// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: whatever branches went through, their differences are what comparing every path
//! gives, and a base image made of one shows its tree.

mod branching;
#[path = "common/listing.rs"]
mod listing;

use std::collections::BTreeMap;
use std::sync::Arc;

use branching::ops::{self, Op};
use daxfs_core::build::{BuildOptions, Input, Output, build};
use daxfs_core::changes::{PathChange, between};
use daxfs_core::diff::DiffOptions;
use daxfs_core::format::ROOT_INO;
use daxfs_core::progress::Progress;
use daxfs_core::region::{Access, Region, Source};
use daxfs_core::view::View;
use proptest::collection::vec;
use proptest::prelude::*;

const DELTA: u64 = 8 << 20;

fn changes(before: &View, after: &View) -> Vec<PathChange> {
    let options = DiffOptions { ignore_mtime: true, ..DiffOptions::default() };
    between(before, after, options, &Progress::default()).expect("two trees")
}

/// What each path shows, but for times and numbers.
fn shown(view: &View) -> BTreeMap<Vec<u8>, String> {
    let walk = view.walk(view.inode(ROOT_INO).expect("a root"));
    walk.map(|found| {
        let (path, inode) = found.expect("a tree");
        let mut xattrs = view.xattrs(&inode).expect("attributes");
        xattrs.sort();
        let owner = (inode.uid, inode.gid);
        let bytes = branching::show(&listing::held(view, &inode));
        (path, format!("{:o} {owner:?} {} {bytes} {xattrs:?}", inode.mode, inode.rdev))
    })
    .collect()
}

fn check(before: &View, after: &View, apart: &View) {
    let found = changes(before, after);
    assert_eq!(listing::kinds(&found), listing::expected(&shown(before), &shown(after)));
    // The same tree, not known to share a base.
    assert_eq!(changes(apart, after), found);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn differences_and_copies_are_exact(
        first in vec(ops::op(), 1..40),
        second in vec(ops::op(), 1..40),
        other in vec(ops::op(), 0..20),
    ) {
        let (region, session) = branching::fresh(DELTA);
        let work = |name: &str, parent: &str, steps: &[Op]| {
            let branch = session.create(name, parent).expect("a branch");
            for step in steps {
                // Many cannot be done, which is as good.
                let _ = ops::apply(&branch, step);
            }
            branch
        };
        let one = work("one", "main", &first);
        let two = work("two", "one", &second);
        let three = work("three", "main", &other);
        let main = session.open_branch("main", Access::Read).expect("main").view().unwrap();
        let apart = branching::open(&region).expect("an image");
        let again = |name: &str| View::open(Arc::clone(&apart), name).expect("a branch");
        for branch in [&one, &two, &three] {
            branch.sync().expect("it is published");
        }
        let (one, two, three) = (one.view().unwrap(), two.view().unwrap(), three.view().unwrap());
        check(&main, &two, &again("main"));
        check(&one, &two, &again("one"));
        check(&three, &two, &again("three"));
        check(&two, &main, &again("two"));

        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("compact");
        let tree = Arc::new(two);
        let output = Output::File(path.clone());
        build(&BuildOptions::new(Input::Image(Arc::clone(&tree)), output), &Progress::default())
            .expect("an image");
        let region = Arc::new(Region::open(&Source::Path(path), Access::Read).expect("a file"));
        branching::expect_clean(&region);
        let compact = View::base(branching::open(&region).expect("an image"));
        prop_assert_eq!(branching::dump(&compact).unwrap(), branching::dump(&tree).unwrap());
        prop_assert_eq!(changes(&tree, &compact), []);
    }
}
