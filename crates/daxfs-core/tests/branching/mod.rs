// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Branches to work on, a model of them, and both as text.
#![allow(dead_code, reason = "each test uses its own part")]

pub(crate) mod crash;
pub(crate) mod interrupt;
pub(crate) mod model;
pub(crate) mod ops;
pub(crate) mod schedule;
pub(crate) mod script;

use std::cell::Cell;
use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use daxfs_core::build::{BuildOptions, Input, Output, build};
use daxfs_core::error::Result;
use daxfs_core::finding::Findings;
use daxfs_core::format::mode;
use daxfs_core::image::{Image, Unvalidated};
use daxfs_core::layout::Shape;
use daxfs_core::progress::Progress;
use daxfs_core::region::Region;
use daxfs_core::session::Session;
use daxfs_core::source::Selection;
use daxfs_core::validate::{Depth, validate};
use daxfs_core::view::View;

use model::Tree;

/// What the files of the base hold.
pub(crate) const BASE: &[u8] = &[0x5a; 6000];

/// The bytes of an image with one file, `base`, and `heap` bytes for branches; and its tree.
pub(crate) fn image(delta: u64) -> (Vec<u8>, Tree) {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    fs::create_dir(&source).expect("a folder");
    fs::write(source.join("base"), BASE).expect("a file");
    let output = folder.path().join("image");
    let mut options =
        BuildOptions::new(Input::Directory(source.clone()), Output::File(output.clone()));
    options.shape = Shape { branches: true, delta_size: Some(delta), size: None };
    options.selection = Selection { uid: Some(7), gid: Some(8), ..options.selection };
    build(&options, &Progress::default()).expect("an image");
    let bytes = fs::read(&output).expect("an image");
    let mut tree = Tree::new(permissions(&source), (7, 8));
    tree.add(b"base", permissions(&source.join("base")), (7, 8), BASE);
    (bytes, tree)
}

fn permissions(path: &std::path::Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).expect("it exists").permissions().mode() & 0o7777
}

pub(crate) fn open(region: &Arc<Region>) -> Result<Arc<Image>> {
    Ok(Arc::new(Unvalidated::open(Arc::clone(region))?.trust()))
}

pub(crate) fn session(region: &Arc<Region>) -> Result<Arc<Session>> {
    Session::open(open(region)?)
}

/// A new image in memory with `delta` bytes for branches, and a party that uses it.
pub(crate) fn fresh(delta: u64) -> (Arc<Region>, Arc<Session>) {
    let region = Arc::new(Region::from_bytes(&image(delta).0).expect("memory"));
    let session = session(&region).expect("an image with branches");
    (region, session)
}

pub(crate) fn findings(region: &Arc<Region>) -> Findings {
    validate(region, Depth::Metadata).expect("an image").findings
}

/// Nothing at all is wrong with an image.
pub(crate) fn expect_clean(region: &Arc<Region>) {
    let findings = findings(region);
    assert_eq!(findings.errors(), 0, "{findings:#?}");
}

/// Bytes in few characters, still different if they differ.
pub(crate) fn show(bytes: &[u8]) -> String {
    format!("{} bytes {:08x}", bytes.len(), crc32c::crc32c(bytes))
}

/// A view as the model shows its trees.
pub(crate) fn dump(view: &View) -> Result<String> {
    let mut lines = Vec::new();
    for found in view.walk(view.inode(1)?) {
        let (path, inode) = found?;
        let path = String::from_utf8_lossy(&path).into_owned();
        let path = if path.is_empty() { path } else { format!("/{path}") };
        let content = match inode.kind() {
            mode::DIRECTORY => String::new(),
            mode::SYMLINK => String::from_utf8_lossy(&view.readlink(&inode)?).into_owned(),
            mode::FIFO => "fifo".into(),
            _ => {
                let mut bytes = vec![0xee; inode.size as usize];
                assert_eq!(view.read(&inode, 0, &mut bytes)?, bytes.len());
                show(&bytes)
            }
        };
        let xattrs: std::collections::BTreeMap<_, _> = view.xattrs(&inode)?.into_iter().collect();
        let (mode, uid, gid) = (inode.mode & 0o7777, inode.uid, inode.gid);
        lines.push(format!("{path}/ {mode:o} {uid}:{gid} {} {content} {xattrs:?}", inode.nlink));
    }
    lines.sort();
    Ok(lines.join("\n"))
}

thread_local! {
    static SLOW: Cell<bool> = const { Cell::new(false) };
}

/// An image in memory, in which threads can be slowed down.
pub(crate) fn slowable(delta: u64) -> Arc<Region> {
    let step = || {
        if SLOW.get() {
            thread::sleep(Duration::from_micros(50));
        }
    };
    Arc::new(Region::interleaved(&image(delta).0, step).expect("memory"))
}

/// Lets every access of this thread to such an image take a while.
pub(crate) fn slow_down() {
    SLOW.set(true);
}
