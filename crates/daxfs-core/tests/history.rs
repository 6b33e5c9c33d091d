// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects who asks what was done in a branch of an image that nobody has proved.

mod branching;

use std::fs;
use std::sync::Arc;

use daxfs_core::base::Base;
use daxfs_core::build::{BuildOptions, Input, Output, build};
use daxfs_core::error::Error;
use daxfs_core::format::{INODE_SIZE, ROOT_INO};
use daxfs_core::history::log;
use daxfs_core::layout::Shape;
use daxfs_core::progress::Progress;
use daxfs_core::region::Region;

const DIRECTORIES: u64 = 500;

#[test]
fn directories_that_share_their_names_are_no_tree() {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, output) = (folder.path().join("source"), folder.path().join("image"));
    for number in 0..DIRECTORIES {
        fs::create_dir_all(source.join(number.to_string())).expect("a folder");
    }
    let mut options = BuildOptions::new(Input::Directory(source), Output::File(output.clone()));
    options.shape = Shape { branches: true, delta_size: Some(320 << 10), size: None };
    build(&options, &Progress::default()).expect("an image");
    let region = Arc::new(Region::from_bytes(&fs::read(&output).expect("it")).expect("memory"));
    let image = branching::open(&region).expect("it opens");
    assert_eq!(log(&image, "main").expect("of a tree"), []);

    let base: &Base = image.base();
    // Size and place of the names.
    let names = region.read_vec(base.inode_offset(ROOT_INO) + 16, 16).expect("the root");
    for ino in ROOT_INO + 1..=DIRECTORIES + 1 {
        let inode = base.inode_offset(ino);
        assert_eq!(inode, base.inode_offset(ROOT_INO) + (ino - ROOT_INO) * INODE_SIZE);
        region.write(inode + 16, &names).expect("inside");
    }
    let told = log(&image, "main");
    assert!(matches!(told, Err(Error::Corrupt { .. })), "{:?}", told.map(|events| events.len()));
}
