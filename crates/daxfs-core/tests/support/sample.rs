// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Small images that hold every kind of thing.

use std::ffi::CString;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daxfs_core::base::Base;
use daxfs_core::branch::{BranchInfo, Table};
use daxfs_core::build::{BuildOptions, Input, Output, build};
use daxfs_core::format::{
    BLOCK_SIZE, BaseInode, BaseSuperblock, INODE_SIZE, Superblock, XattrSet, feature,
};
use daxfs_core::layout::Shape;
use daxfs_core::progress::Progress;
use daxfs_core::region::Region;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
use zerocopy::FromBytes;

/// An image made by another v3 implementation.
pub fn vector(name: &str) -> Vec<u8> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
    // From the crate, and from the fuzz crate below it.
    let mut roots = sources.ancestors().map(|above| above.join("tests/vectors"));
    let path = roots.find(|root| root.exists()).expect("the vectors").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A directory for one test, on the disk that holds the build where that is known.
pub fn scratch() -> tempfile::TempDir {
    let directory = match option_env!("CARGO_TARGET_TMPDIR") {
        Some(build) => tempfile::tempdir_in(build),
        None => tempfile::tempdir(),
    };
    directory.expect("a temporary directory")
}

/// Makes a tree with every kind of thing in it. Device nodes need root.
pub fn plant(root: &Path) {
    let file = |name: &str, bytes: &[u8]| {
        let path = root.join(name);
        fs::write(&path, bytes).expect("write");
        path
    };
    for directory in ["empty", "home", "home/deep", "home/deep/deeper"] {
        fs::create_dir(root.join(directory)).expect("mkdir");
    }
    let note = file("home/note", b"a note\n");
    file("home/deep/deeper/end", &[0xa5; 5000]);
    file("hollow", b"");
    fs::hard_link(&note, root.join("note.link")).expect("link");
    let program = file("program", b"#!/bin/true\n");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("chmod");
    file(&"n".repeat(128), b"long name");
    symlink("home/deep", root.join("way")).expect("symlink");
    symlink("nowhere", root.join("dangling")).expect("symlink");
    let node = |name: &str, kind, device| {
        mknodat(CWD, root.join(name), kind, Mode::from(0o640), device)
            .unwrap_or_else(|error| panic!("make the node {name}, which takes root: {error}"));
    };
    node("null", FileType::CharacterDevice, makedev(1, 3));
    node("disk", FileType::BlockDevice, makedev(259, 70000));
    node("pipe", FileType::Fifo, 0);
    node("sock", FileType::Socket, 0);
    for (path, name, value) in [(&note, "user.note", "short"), (&program, "user.odd", "\0\u{1}")] {
        let name = CString::new(name).expect("no NUL");
        setxattr(path, name, value.as_bytes(), XattrFlags::empty()).expect("set an attribute");
    }
}

/// Builds an image of `tree` beside it.
pub fn image_of(tree: &Path, shape: Shape) -> Vec<u8> {
    let path: PathBuf = tree.with_extension("daxfs");
    let mut options = BuildOptions::new(Input::Directory(tree.into()), Output::File(path.clone()));
    options.shape = shape;
    options.label = "sample".into();
    options.force = true;
    build(&options, &Progress::default()).expect("build");
    fs::read(path).expect("the image that was built")
}

/// An image of a tree with every kind of thing.
pub fn sample(shape: Shape) -> Vec<u8> {
    let scratch = scratch();
    let tree = scratch.path().join("tree");
    fs::create_dir(&tree).expect("mkdir");
    plant(&tree);
    image_of(&tree, shape)
}

/// The same image without checksums.
pub fn without_checksums(image: &[u8]) -> Vec<u8> {
    let base = base_of(image);
    let mut plain = image.to_vec();
    let superblock = Superblock::mut_from_bytes(&mut plain[..BLOCK_SIZE as usize]).expect("size");
    superblock.flags &= !feature::CHECKSUMS;
    superblock.checksum = 0.into();
    let start = base.range().start as usize;
    let header = &mut plain[start..start + BLOCK_SIZE as usize];
    BaseSuperblock::mut_from_bytes(header).expect("size").checksum = 0.into();
    for ino in 1..=u64::from(base.inode_count()) {
        let at = base.inode_offset(ino) as usize;
        let inode = &mut plain[at..at + INODE_SIZE as usize];
        let inode = BaseInode::mut_from_bytes(inode).expect("size");
        inode.checksum = 0.into();
        inode.data_checksum = 0.into();
    }
    let mut at = base.xattr_range().start as usize;
    while at < base.xattr_range().end as usize {
        let set = XattrSet::mut_from_prefix(&mut plain[at..]).expect("size").0;
        set.checksum = 0.into();
        at += set.size.get() as usize;
    }
    plain
}

/// The base image of a sound image.
pub fn base_of(image: &[u8]) -> Base {
    let region = Arc::new(Region::from_bytes(image).expect("memory"));
    let superblock = Superblock::read(&region).expect("a superblock");
    Base::open(region, &superblock).expect("a base image")
}

/// Where the metadata of an image lie, each range with its name: all bytes that mean something,
/// but for the contents of files.
pub fn metadata(image: &[u8]) -> Vec<(&'static str, Range<u64>)> {
    let base = base_of(image);
    let start = base.range().start;
    let table = base.inode_offset(1);
    let mut spans = vec![
        ("superblock", 0..BLOCK_SIZE),
        ("base superblock", start..start + BLOCK_SIZE),
        ("inode table", table..base.inode_offset(u64::from(base.inode_count()) + 1)),
        ("attribute sets", base.xattr_range()),
    ];
    for ino in 1..=u64::from(base.inode_count()) {
        let inode = base.inode(ino).expect("a sound inode");
        let data = inode.data..inode.data + inode.stored();
        if inode.is_dir() {
            spans.push(("dirents", data));
        } else if inode.is_symlink() {
            spans.push(("symlink", data));
        }
    }
    spans
}

/// Where the structures lie that branches are made of.
pub fn branch_metadata(image: &[u8]) -> Vec<(&'static str, Range<u64>)> {
    let superblock = superblock_of(image);
    let spans = superblock.spans().into_iter().chain(superblock.delta_spans());
    let tables =
        spans.filter(|span| matches!(span.name, "branch table" | "owner map" | "opener table"));
    tables.map(|span| (span.name, span.offset..span.end())).collect()
}

/// What the logs of an image have published.
pub fn logs(image: &[u8]) -> Vec<(&'static str, Range<u64>)> {
    let region = Arc::new(Region::from_bytes(image).expect("memory"));
    let table = Table::read(&region, &superblock_of(image)).expect("a sound table");
    let log = |record: &BranchInfo| record.log.at..record.log.at + record.log_size;
    table.records().iter().map(|record| ("log", log(record))).collect()
}

/// The superblock of an image.
pub fn superblock_of(image: &[u8]) -> Superblock {
    Superblock::read_from_bytes(&image[..BLOCK_SIZE as usize]).expect("a whole block")
}

/// Numbers that look random and are the same in every run (SplitMix64).
pub fn scatter(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
