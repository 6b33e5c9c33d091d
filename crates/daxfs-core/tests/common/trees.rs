// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Trees to work on, and trees as text.
#![allow(dead_code, reason = "each test file uses a part")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use daxfs_core::build::{BuildOptions, Input, Output, build};
use daxfs_core::image::{Image, Unvalidated};
use daxfs_core::progress::Progress;
use daxfs_core::region::{Access, Region, Source};
use daxfs_core::source::{Content, Origin, Scan, Selection, Tree, scan_directory};
use daxfs_core::view::View;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use tempfile::TempDir;

pub(crate) const HUGE: u64 = 3 << 20;

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(crate) fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

pub(crate) fn set_xattr(path: &Path, name: impl AsRef<OsStr>, value: &[u8]) {
    rustix::fs::lsetxattr(path, name.as_ref(), value, XattrFlags::empty()).unwrap();
}

/// An access control list as Linux keeps it: the owning group may nothing, which the mode does not
/// show, a user much, and `group` some.
pub(crate) fn acl(group: u32) -> Vec<u8> {
    // Owner, user 1234, owning group, another group, mask, others.
    let entries: [(u16, u16, u32); 6] = [
        (0x01, 6, u32::MAX),
        (0x02, 7, 1234),
        (0x04, 0, u32::MAX),
        (0x08, 5, group),
        (0x10, 7, u32::MAX),
        (0x20, 0, u32::MAX),
    ];
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    value
}

/// One of everything that an image, a directory and a tar archive can hold alike. Only what
/// root may make is left out for others.
pub(crate) fn make_tree(root: &Path) {
    let at = |name: &str| root.join(name);
    fs::create_dir(at("d")).unwrap();
    fs::create_dir(at("d/empty")).unwrap();
    fs::write(at("d/file"), "contents\n").unwrap();
    fs::write(at("empty"), "").unwrap();
    fs::write(at("block"), vec![b'x'; 4096]).unwrap();
    fs::write(at("zeroes"), vec![0; 10_000]).unwrap();
    fs::write(at("set-id"), "#!").unwrap();
    fs::set_permissions(at("set-id"), PermissionsExt::from_mode(0o4755)).unwrap();
    fs::set_permissions(at("d/empty"), PermissionsExt::from_mode(0o1777)).unwrap();
    symlink("../some/where", at("d/link")).unwrap();
    symlink("t".repeat(300), at("long-target")).unwrap();
    fs::hard_link(at("d/file"), at("another")).unwrap();
    fs::hard_link(at("d/file"), at("d/third")).unwrap();
    fs::hard_link(at("d/link"), at("link-too")).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"odd \xff\n=name")), "odd").unwrap();
    let mut deep = root.join("deep");
    for depth in 0..4 {
        deep.push(format!("{depth}{}", "n".repeat(120)));
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "deep").unwrap();
    symlink("s".repeat(200), deep.join("link")).unwrap();
    fs::hard_link(deep.join("file"), at("shallow")).unwrap();

    let sparse = File::create(at("sparse")).unwrap();
    sparse.write_all_at(b"start", 0).unwrap();
    for step in 1..30 {
        sparse.write_all_at(b"middle", step * 65536).unwrap();
    }
    sparse.set_len(HUGE).unwrap();
    let hole = File::create(at("hole")).unwrap();
    hole.set_len(100_000).unwrap();

    rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    set_xattr(&at("d/file"), "user.plain", b"value");
    set_xattr(&at("d"), "user.of.directory", b"with\0zero\nand=newline");
    set_xattr(&at("empty"), "user.empty", b"");
    if is_root() {
        let device = rustix::fs::makedev(4, 0x12345);
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, at("char"), FileType::CharacterDevice, mode, device).unwrap();
        let device = rustix::fs::makedev(259, 7);
        rustix::fs::mknodat(CWD, at("disk"), FileType::BlockDevice, mode, device).unwrap();
        set_xattr(&at("d/link"), "trusted.of.link", b"t");
        set_xattr(&at("char"), "trusted.of.device", b"d");
        std::os::unix::fs::lchown(at("d/link"), Some(7), Some(8)).unwrap();
        std::os::unix::fs::chown(at("block"), Some(3_000_000), Some(4_000_000_000)).unwrap();
    }
    set_mtime(&at("set-id"), -2, 500_000_000);
    set_mtime(&at("d/link"), 86_400, 1);
    set_mtime(&at("d/file"), 1_700_000_000, 123_456_789);
    set_mtime(&at("d"), 1_600_000_000, 0);
    set_mtime(root, 1_500_000_000, 5);
}

/// A directory with the tree in it.
pub(crate) fn tree() -> TempDir {
    let dir = TempDir::new().unwrap();
    make_tree(dir.path());
    dir
}

pub(crate) fn scan_dir(path: &Path) -> Scan {
    let scan = scan_directory(path, &Selection::default(), &Progress::default()).unwrap();
    assert_eq!(scan.problems, []);
    scan
}

/// What a description leaves out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Without {
    pub(crate) nanoseconds: bool,
    pub(crate) xattrs: bool,
}

/// One line for each name of a scanned tree, with the contents of regular files.
pub(crate) fn describe(scan: &Scan, without: Without) -> Vec<String> {
    let tree = &scan.tree;
    let mut lines = Vec::new();
    let mut pending = vec![(Vec::new(), 0)];
    while let Some((path, id)) = pending.pop() {
        let node = tree.node(id);
        for link in tree.children(node).iter().rev() {
            let mut below = path.clone();
            below.push(b'/');
            below.extend_from_slice(tree.name(link));
            pending.push((below, link.node));
        }
        let mtime =
            if without.nanoseconds { node.mtime.div_euclid(1_000_000_000) } else { node.mtime };
        let xattrs = match node.xattrs {
            0 => &[][..],
            _ if without.xattrs => &[],
            set => &tree.xattr_sets()[set as usize - 1],
        };
        let contents = if node.is_file() { crc32c::crc32c(&contents(scan, id)) } else { 0 };
        lines.push(format!(
            "{} first {} {:o} {}:{} rdev {:#x} nlink {} size {} mtime {mtime} {:?} {contents:#x} {}",
            path.escape_ascii(),
            tree.path(id).escape_ascii(),
            node.mode,
            node.uid,
            node.gid,
            node.rdev,
            node.nlink,
            node.size,
            xattrs,
            tree.target(node).escape_ascii(),
        ));
    }
    lines
}

fn contents(scan: &Scan, id: u32) -> Vec<u8> {
    let node = scan.tree.node(id);
    let mut bytes = vec![0; node.size as usize];
    match (&scan.origin, node.content) {
        (Origin::Archive(file), Content::File(position)) => {
            file.read_exact_at(&mut bytes, position).unwrap();
        }
        (Origin::Directory(root), _) => {
            let path = scan.tree.path(id);
            let flags = rustix::fs::OFlags::RDONLY;
            let file = rustix::fs::openat(root.as_fd(), &path[..], flags, Mode::empty()).unwrap();
            File::from(file).read_exact_at(&mut bytes, 0).unwrap();
        }
        (Origin::Image(view), Content::File(ino)) => {
            let inode = view.inode(ino).unwrap();
            assert_eq!(view.read(&inode, 0, &mut bytes).unwrap(), bytes.len());
        }
        other => panic!("{other:?}"),
    }
    bytes
}

/// The node at a path.
pub(crate) fn find<'a>(tree: &'a Tree, path: &str) -> Option<&'a daxfs_core::source::Node> {
    path.split('/').try_fold(tree.node(0), |node, name| {
        let link = tree.children(node).iter().find(|link| tree.name(link) == name.as_bytes())?;
        Some(tree.node(link.node))
    })
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
}

/// The base tree of an image in a file.
pub(crate) fn open(path: &Path) -> View {
    let source = Source::Path(path.to_owned());
    let region = Region::open(&source, Access::Read).unwrap();
    let image: Image = Unvalidated::open(Arc::new(region)).unwrap().validate().unwrap();
    View::base(Arc::new(image))
}

/// Builds an image and opens it.
pub(crate) fn build_image(input: Input, image: PathBuf) -> View {
    let options = BuildOptions::new(input, Output::File(image.clone()));
    let progress = Progress::default();
    build(&options, &progress).unwrap();
    assert_eq!(progress.done(), progress.total(), "nothing is left to be done");
    open(&image)
}

pub(crate) fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors").join(name)
}
