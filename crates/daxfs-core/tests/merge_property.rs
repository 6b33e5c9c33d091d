// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: what a fold writes shows the tree that the layers below it showed, in every respect,
//! however often folds are folded, and without growing.

mod support;

use std::sync::Arc;

use daxfs_core::delta::{Change, Entry, LogSpace, Name};
use daxfs_core::image::Image;
use daxfs_core::index::Index;
use daxfs_core::merge::merge;
use daxfs_core::view::{Links, View};
use proptest::prelude::*;
use support::describe::describe;
use support::history::{self, Draw, History, open, step_of};
use support::ours::Step;

fn draws() -> impl Strategy<Value = Vec<Draw>> {
    let draw = (any::<u8>(), any::<[u16; 4]>()).prop_map(|(kind, numbers)| Draw { kind, numbers });
    prop::collection::vec(draw, 1..120)
}

/// What a fold would write.
fn folded(image: &Image, index: &Index) -> Vec<Step> {
    let merged = merge(image.base(), index).unwrap();
    merged.into_iter().map(|(ino, time, change)| step_of(image, ino, time, change)).collect()
}

fn check(rounds: &[Vec<Draw>]) -> usize {
    let (mut image, data) = history::image();
    let mut history = History::new(&image, data);
    for draws in rounds {
        draws.iter().for_each(|draw| history.step(draw));
        let shown = describe(&history.view()).unwrap();

        let written = folded(&history.image, &history.index);
        let (log, size) = image.write_log(9, &written, 1);
        history.image = open(&image.bytes);
        history.index = Index::default();
        let (base, region) = (history.image.base(), history.image.region());
        let space = LogSpace::of(history.image.superblock());
        let end = history.index.replay(base, region, &space, log, size).unwrap();
        assert_eq!(end.position, size);
        assert_eq!(describe(&history.view()).unwrap(), shown);
        // The fold of a fold says no more.
        let again = folded(&history.image, &history.index);
        assert!(again.len() <= written.len(), "{} after {}", again.len(), written.len());
    }
    history.steps.len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_fold_shows_what_its_layers_showed(rounds in prop::collection::vec(draws(), 1..4)) {
        check(&rounds);
    }
}

#[test]
fn most_draws_come_to_something() {
    let rounds: Vec<_> = (0..4).map(|round| Draw::many(round, 500)).collect();
    let applied = check(&rounds);
    assert!(applied > 700, "{applied} of 2000");
}

#[test]
fn swapped_and_turned_inside_out() {
    let (image, _) = history::image();
    let opened = open(&image.bytes);
    let view = View::base(Arc::clone(&opened));
    let ino = |path: &[u8]| view.resolve(path, Links::Keep).unwrap().ino;
    let [home, deep, deeper, empty] =
        [&b"home"[..], b"home/deep", b"home/deep/deeper", b"empty"].map(ino);
    let mut index = Index::default();
    let mut rename = |ino, old: (u64, &str), new: (u64, &str), exchange| {
        let change = Change::Rename {
            ino,
            old_parent: old.0,
            new_parent: new.0,
            old_name: Name::from(old.1.as_bytes()),
            new_name: Name::from(new.1.as_bytes()),
            exchange,
        };
        index.apply(opened.base(), Entry { at: 0, ino, time: 5, change }).unwrap();
    };
    // home/deep/deeper becomes deeper/deep/home, and "empty" goes under home's old name.
    rename(deeper, (deep, "deeper"), (1, "deeper"), false);
    rename(deep, (home, "deep"), (deeper, "deep"), false);
    rename(home, (1, "home"), (deep, "home"), false);
    rename(empty, (1, "empty"), (1, "home"), false);
    rename(empty, (1, "home"), (1, "deeper"), true);
    let shown = describe(&View::new(Arc::clone(&opened), index.clone())).unwrap();
    let mut again = Index::default();
    for (ino, time, change) in merge(opened.base(), &index).unwrap() {
        again.apply(opened.base(), Entry { at: 0, ino, time, change }).unwrap();
    }
    assert_eq!(describe(&View::new(opened, again)).unwrap(), shown);
}
