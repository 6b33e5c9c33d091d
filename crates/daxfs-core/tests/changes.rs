// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: what changed between two trees of an image is exactly what a comparison of every
//! path finds, whether or not untouched parts are passed over; and a compacted image shows the
//! same tree.

#[path = "common/trees.rs"]
mod common;
#[path = "common/listing.rs"]
mod listing;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use common::{Without, describe, scan_dir, vector};
use daxfs_core::build::{BuildOptions, Input, Output, build};
use daxfs_core::changes::{Aspect, PathChange, between};
use daxfs_core::diff::{DiffOptions, compare};
use daxfs_core::extract::{ExtractOptions, to_directory};
use daxfs_core::format::ROOT_INO;
use daxfs_core::image::{Image, Unvalidated};
use daxfs_core::layout::Shape;
use daxfs_core::progress::Progress;
use daxfs_core::region::{Access, Region, Source};
use daxfs_core::source::{Selection, scan_image};
use daxfs_core::view::View;
use tempfile::TempDir;

fn image(name: &str) -> Arc<Image> {
    let region = Region::open(&Source::Path(vector(name)), Access::Read).unwrap();
    Arc::new(Unvalidated::open(Arc::new(region)).unwrap().validate().unwrap())
}

fn changes(before: &View, after: &View) -> Vec<PathChange> {
    between(before, after, DiffOptions::default(), &Progress::default()).unwrap()
}

/// Mode, owner, group, device, time, and contents or target.
type Shown = (u32, u32, u32, u32, i64, Vec<u8>);

/// Everything that a path shows, by path, without what a directory's names do to it.
fn shown(view: &View) -> BTreeMap<Vec<u8>, Shown> {
    let list = view.walk(view.inode(ROOT_INO).unwrap()).map(|found| {
        let (path, inode) = found.unwrap();
        let bytes = listing::held(view, &inode);
        let mtime = if inode.is_dir() { 0 } else { inode.mtime };
        (path, (inode.mode, inode.uid, inode.gid, inode.rdev, mtime, bytes))
    });
    list.collect()
}

#[test]
fn changes_are_those_that_a_comparison_of_every_path_finds() {
    let image = image("delta.daxfs");
    let before = View::base(Arc::clone(&image));
    let after = View::open(image, "b1").unwrap();
    let expected = listing::expected(&shown(&before), &shown(&after));
    assert!(expected.values().any(|kind| *kind == "changed"), "{expected:?}");
    assert!(expected.values().any(|kind| *kind == "added"));
    assert!(expected.values().any(|kind| *kind == "removed"));
    let found = changes(&before, &after);
    assert_eq!(listing::kinds(&found), expected);

    // The other way round, and with trees that nobody knows to share a base.
    let back = changes(&after, &before);
    let swapped: Vec<_> = back
        .into_iter()
        .map(|change| PathChange { before: change.after, after: change.before, ..change })
        .collect();
    assert_eq!(swapped, found);
    let apart = View::base(self::image("delta.daxfs"));
    assert_eq!(changes(&apart, &after), found);
    assert_eq!(changes(&after, &after), []);
}

#[test]
fn a_compacted_branch_shows_the_same_tree() {
    for (name, branch) in [("delta.daxfs", "b1"), ("delta.daxfs", "main"), ("static.daxfs", "main")]
    {
        let view = Arc::new(View::open(image(name), branch).unwrap());
        let out = TempDir::new().unwrap();
        let path = out.path().join("compact");
        let mut options =
            BuildOptions::new(Input::Image(Arc::clone(&view)), Output::File(path.clone()));
        options.shape = Shape { branches: true, ..Shape::default() };
        options.data_checksums = true;
        build(&options, &Progress::default()).unwrap();
        let compact = Arc::new(common::open(&path));
        assert_eq!(changes(&view, &compact), [], "{name} {branch}");

        // Hard links, times and all else, by other means: out of both, onto disk.
        let scan = |view| scan_image(view, &Selection::default(), &Progress::default()).unwrap();
        let described = |view| describe(&scan(view), Without::default());
        assert_eq!(described(&compact), described(&view));
        let copy = out.path().join("copy");
        let top = view.inode(ROOT_INO).unwrap();
        let options = ExtractOptions::default();
        to_directory(&view, &top, &copy, options, &Progress::default()).unwrap();
        let top = compact.inode(ROOT_INO).unwrap();
        let found =
            compare(&compact, &top, &copy, DiffOptions::default(), &Progress::default()).unwrap();
        assert_eq!(found, []);
        assert_eq!(described(&compact), describe(&scan_dir(&copy), Without::default()));
    }
}

#[test]
fn an_image_of_a_directory_is_compacted_to_the_same_bytes() {
    let tree = common::tree();
    let out = TempDir::new().unwrap();
    let first = out.path().join("first");
    let view = common::build_image(Input::Directory(tree.path().into()), first.clone());
    let second = out.path().join("second");
    let options = BuildOptions::new(Input::Image(Arc::new(view)), Output::File(second.clone()));
    build(&options, &Progress::default()).unwrap();
    assert!(std::fs::read(first).unwrap() == std::fs::read(second).unwrap());
}

#[test]
fn holes_of_two_images_are_compared_and_not_filled() {
    let tree = TempDir::new().unwrap();
    let huge = fs::File::create(tree.path().join("huge")).unwrap();
    huge.set_len(1 << 30).unwrap();
    // In tmpfs, reading a hole through a mapping fills it.
    let out = TempDir::new_in("/dev/shm").unwrap();
    let paths = ["first", "second"].map(|name| out.path().join(name));
    let build = |number: usize| {
        common::build_image(Input::Directory(tree.path().into()), paths[number].clone())
    };
    let (first, second) = (build(0), build(1));
    let blocks = || paths.each_ref().map(|path| fs::metadata(path).unwrap().blocks());
    let before = blocks();
    assert_eq!(changes(&first, &second), []);
    assert_eq!(blocks(), before);
    // Beside data as well.
    drop(second);
    huge.write_all_at(b"data", 1 << 29).unwrap();
    fs::remove_file(&paths[1]).unwrap();
    let second = build(1);
    let before = blocks();
    let found = changes(&first, &second);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].aspects.contains(&Aspect::Content));
    assert_eq!(blocks(), before);
}
