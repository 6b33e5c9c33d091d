// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: every kind of difference between an image and a directory is found and named, in
//! the order of paths, and nothing else is.

#[path = "common/trees.rs"]
mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};

use common::{build_image, open, set_mtime, set_xattr, vector};
use daxfs_core::build::Input;
use daxfs_core::diff::{DiffOptions, compare};
use daxfs_core::extract::{ExtractOptions, to_directory};
use daxfs_core::format::ROOT_INO;
use daxfs_core::progress::Progress;
use tempfile::TempDir;

#[test]
fn every_kind_of_difference_is_named() {
    let tree = TempDir::new().unwrap();
    let at = |name: &str| tree.path().join(name);
    for name in ["content", "size", "mode", "mtime", "xattr", "type", "gone", "link-a"] {
        fs::write(at(name), "0123456789").unwrap();
    }
    fs::create_dir_all(at("dir/below")).unwrap();
    fs::write(at("dir/below/file"), "").unwrap();
    fs::write(at("dir.x"), "").unwrap();
    fs::hard_link(at("link-a"), at("link-b")).unwrap();
    fs::write(at("split"), "0123456789").unwrap();
    fs::hard_link(at("split"), at("split-b")).unwrap();
    symlink("here", at("target")).unwrap();
    set_xattr(&at("xattr"), "user.same", b"1");
    set_xattr(&at("xattr"), "user.was", b"1");
    let out = TempDir::new().unwrap();
    let view = build_image(Input::Directory(tree.path().into()), out.path().join("image"));
    let top = view.inode(ROOT_INO).unwrap();
    let all = |options| {
        let found = compare(&view, &top, tree.path(), options, &Progress::default()).unwrap();
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(all(DiffOptions::default()), <[String; 0]>::default());

    fs::OpenOptions::new().write(true).open(at("content")).unwrap().write_all(b"0123x").unwrap();
    fs::write(at("size"), "x").unwrap();
    fs::set_permissions(at("mode"), PermissionsExt::from_mode(0o4711)).unwrap();
    fs::remove_file(at("type")).unwrap();
    fs::create_dir(at("type")).unwrap();
    fs::remove_file(at("gone")).unwrap();
    fs::create_dir(at("new")).unwrap();
    fs::write(at("new/file"), "").unwrap();
    fs::write(at("dir/below/file"), "1").unwrap();
    fs::remove_file(at("split-b")).unwrap();
    fs::write(at("split-b"), "0123456789").unwrap();
    fs::remove_file(at("target")).unwrap();
    symlink("there", at("target")).unwrap();
    rustix::fs::removexattr(at("xattr"), "user.was").unwrap();
    set_xattr(&at("xattr"), "user.is", b"1");
    let without_times = all(DiffOptions { ignore_mtime: true, ..DiffOptions::default() });
    assert_eq!(
        without_times,
        [
            "content: contents differ from byte 4 on",
            "dir/below/file: 0 bytes in the image, 1 in the directory",
            "gone: only in the image",
            "mode: mode 0644 in the image, 4711 in the directory",
            "new: only in the directory",
            "size: 10 bytes in the image, 1 in the directory",
            "split-b: hard links lead to other names",
            "target: target here in the image, there in the directory",
            "type: regular file in the image, directory in the directory",
            "xattr: extended attributes differ: user.is, user.was",
        ]
    );
    let fewer = DiffOptions { ignore_mtime: true, ignore_owner: true, ignore_xattrs: true };
    assert_eq!(all(fewer), without_times[..9]);

    // Times of files and directories, the top's included.
    set_mtime(&at("mtime"), -1, 500_000_000);
    set_mtime(&at("dir"), 7, 0);
    set_mtime(tree.path(), 9, 0);
    let times: Vec<_> = all(DiffOptions::default())
        .into_iter()
        .filter(|line| line.contains("modified at"))
        .map(|line| line.split(": ").next().unwrap().to_owned() + line.rsplit("at").next().unwrap())
        .collect();
    assert_eq!(times[0], ". 9 in the directory");
    assert!(times.contains(&"dir 7 in the directory".into()), "{times:?}");
    assert!(times.contains(&"mtime -0.5 in the directory".into()), "{times:?}");
}

#[test]
fn holes_are_passed_over_and_data_in_them_found() {
    const HUGE: u64 = 15 << 40;
    let tree = TempDir::new().unwrap();
    let out = TempDir::new().unwrap();
    let path = tree.path().join("sparse");
    let file = fs::File::create(&path).unwrap();
    // Reading all of it would take hours.
    file.set_len(HUGE).unwrap();
    file.write_all_at(b"x", 1 << 30).unwrap();
    let view = build_image(Input::Directory(tree.path().into()), out.path().join("image"));
    let top = view.inode(ROOT_INO).unwrap();
    let found = || {
        let options = DiffOptions { ignore_mtime: true, ..DiffOptions::default() };
        let found = compare(&view, &top, tree.path(), options, &Progress::default()).unwrap();
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(found(), <[String; 0]>::default());
    file.write_all_at(b"y", HUGE - (1 << 40) - 1).unwrap();
    let at = HUGE - (1 << 40) - 1;
    assert_eq!(found(), [format!("sparse: contents differ from byte {at} on")]);
}

#[test]
fn owners_and_devices_are_compared() {
    assert!(common::is_root(), "this test has to be started by root");
    let tree = common::tree();
    let out = TempDir::new().unwrap();
    let view = build_image(Input::Directory(tree.path().into()), out.path().join("image"));
    let top = view.inode(ROOT_INO).unwrap();
    std::os::unix::fs::lchown(tree.path().join("fifo"), Some(1), Some(2)).unwrap();
    let char = tree.path().join("char");
    fs::remove_file(&char).unwrap();
    let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::from(0o600));
    rustix::fs::mknodat(rustix::fs::CWD, &char, kind, mode, rustix::fs::makedev(1, 3)).unwrap();
    let options = DiffOptions { ignore_mtime: true, ..DiffOptions::default() };
    let found = compare(&view, &top, tree.path(), options, &Progress::default()).unwrap();
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "char: device 4:74565 in the image, 1:3 in the directory",
            "char: extended attributes differ: trusted.of.device",
            "fifo: owner 0:0 in the image, 1:2 in the directory",
        ]
    );
}

#[test]
fn times_of_an_image_that_keeps_none_are_not_compared() {
    let view = open(&vector("static.daxfs"));
    let top = view.inode(ROOT_INO).unwrap();
    let out = TempDir::new().unwrap();
    let copy = out.path().join("copy");
    to_directory(&view, &top, &copy, ExtractOptions::default(), &Progress::default()).unwrap();
    set_mtime(&copy.join("base.txt"), 5, 0);
    let found = compare(&view, &top, &copy, DiffOptions::default(), &Progress::default());
    assert_eq!(found.unwrap(), []);
}
