// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: names, link counts, times and attributes after creating, moving and removing, in
//! directories of the base and of the log.

mod common;

use common::base::{BASE_TXT, DIR, EMPTYDIR, VICTIM};
use common::{Log, TIME, contents, image, names, nlink, replayed, view};
use daxfs_core::base::Inode;
use daxfs_core::format::{SetattrBody, mode, setattr};
use daxfs_core::view::{Links, View};

const ROOT: u64 = 1;

fn base_view() -> View {
    view(&common::vector("branching.daxfs"), "main").unwrap()
}

#[test]
fn each_name_shows_once_and_removed_ones_not_at_all() {
    let log = Log::default()
        .create(ROOT, 100, "new")
        .delete(ROOT, VICTIM, "victim.txt")
        .create(ROOT, 101, "victim.txt")
        .delete(ROOT, EMPTYDIR, "emptydir")
        .create(ROOT, 102, "gone")
        .delete(ROOT, 102, "gone");
    let view = replayed(&log).unwrap();
    let mut expected = names(&base_view(), "/");
    expected.retain(|name| name != "emptydir");
    expected.push("new".into());
    expected.sort();
    assert_eq!(names(&view, "/"), expected);
    assert_eq!(contents(&view, "victim.txt"), b"");
    assert!(view.resolve(b"gone", Links::Keep).is_err());
    let root = view.inode(ROOT).unwrap();
    assert_eq!(root.size, expected.len() as u64 * 144);
}

#[test]
fn link_counts_follow_the_names() {
    let before = nlink(&base_view(), "/");
    let log = Log::default().mkdir(ROOT, 100, "a").mkdir(100, 101, "b").mkdir(ROOT, 102, "c");
    let after = |log: Log| replayed(&log).unwrap();
    let view = after(log.clone());
    assert_eq!((nlink(&view, "/"), nlink(&view, "a"), nlink(&view, "a/b")), (before + 2, 3, 2));
    let view = after(log.clone().rename(101, (100, "b"), (102, "b")));
    assert_eq!((nlink(&view, "a"), nlink(&view, "c"), nlink(&view, "/")), (2, 3, before + 2));
    let view = after(log.clone().delete(100, 101, "b"));
    assert_eq!(nlink(&view, "a"), 2);
    // Over an empty directory: one subdirectory less in all.
    let view = after(log.clone().rename(102, (ROOT, "c"), (100, "b")));
    assert_eq!((nlink(&view, "/"), nlink(&view, "a")), (before + 1, 3));
    let view = after(log.delete(ROOT, EMPTYDIR, "emptydir"));
    assert_eq!(nlink(&view, "/"), before + 1);
}

#[test]
fn a_file_without_names_can_still_be_written() {
    let log = Log::default().delete(ROOT, VICTIM, "victim.txt").write(VICTIM, 0, b"after");
    let view = replayed(&log).unwrap();
    let file = view.inode(VICTIM).unwrap();
    assert_eq!((file.nlink, file.size), (0, 7));
}

#[test]
fn a_removed_directory_is_empty() {
    let view = replayed(&Log::default().delete(ROOT, EMPTYDIR, "emptydir")).unwrap();
    let removed = view.inode(EMPTYDIR).unwrap();
    assert_eq!(removed.nlink, 0);
    assert!(view.read_dir(&removed).unwrap().is_empty());
    assert_eq!(view.lookup(&removed, b"any").unwrap(), None);
}

#[test]
fn a_move_takes_a_tree_along() {
    let log = Log::default()
        .mkdir(ROOT, 100, "made")
        .rename(DIR, (ROOT, "dir"), (100, "moved"))
        .create(DIR, 101, "new");
    let view = replayed(&log).unwrap();
    assert_eq!(contents(&view, "made/moved/sub/deep"), contents(&base_view(), "dir/sub/deep"));
    assert!(names(&view, "made/moved").contains(&"new".into()));
    assert!(view.resolve(b"dir", Links::Keep).is_err());
}

#[test]
fn a_move_over_itself_or_a_file() {
    let same = Log::default().rename(VICTIM, (ROOT, "victim.txt"), (ROOT, "victim.txt"));
    assert_eq!(names(&replayed(&same).unwrap(), "/"), names(&base_view(), "/"));
    let over = Log::default().rename(VICTIM, (ROOT, "victim.txt"), (ROOT, "base.txt"));
    let view = replayed(&over).unwrap();
    assert_eq!(contents(&view, "base.txt"), contents(&base_view(), "victim.txt"));
    assert!(!names(&view, "/").contains(&"victim.txt".into()));
    assert_eq!(view.inode(BASE_TXT).unwrap().nlink, 0);
}

#[test]
fn times_come_from_the_entries() {
    let log = Log::default()
        .create(DIR, 100, "file")
        .write(100, 0, b"x")
        .set_attr(100, SetattrBody { uid: 7.into(), valid: setattr::UID.into(), ..zero() });
    let view = replayed(&log).unwrap();
    let file = view.inode(100).unwrap();
    assert_eq!((file.mtime, file.uid, file.gid), (TIME as i64 + 1, 7, 0));
    assert_eq!(view.inode(DIR).unwrap().mtime, TIME as i64);
    assert_eq!(view.inode(BASE_TXT).unwrap().mtime, 0);
}

fn zero() -> SetattrBody {
    SetattrBody::zeroed()
}

#[test]
fn attributes_change_where_they_are_meant() {
    let all = SetattrBody {
        mode: 0o4711.into(),
        uid: 1.into(),
        gid: 2.into(),
        valid: 15.into(),
        size: 4.into(),
    };
    let view = replayed(&Log::default().set_attr(BASE_TXT, all)).unwrap();
    let file = view.inode(BASE_TXT).unwrap();
    assert_eq!((file.mode, file.uid, file.gid), (mode::REGULAR | 0o4711, 1, 2));
    assert_eq!(contents(&view, "base.txt"), contents(&base_view(), "base.txt")[..4]);
    let root = view.inode(ROOT).unwrap();
    let entries = view.read_dir(&root).unwrap();
    let entry = entries.iter().find(|entry| entry.name == b"base.txt").unwrap();
    assert_eq!(entry.mode, file.mode);
    // The same with nothing meant changes nothing but the time of the last change.
    let none = SetattrBody { valid: 0.into(), ..all };
    let view = replayed(&Log::default().set_attr(BASE_TXT, none)).unwrap();
    let same = Inode { ctime: TIME as i64, ..base_view().inode(BASE_TXT).unwrap() };
    assert_eq!(view.inode(BASE_TXT).unwrap(), same);
}

#[test]
fn every_kind_can_be_created() {
    let kinds = [mode::REGULAR, mode::CHAR, mode::BLOCK, mode::FIFO, mode::SOCKET];
    let log = kinds.iter().zip(100..).fold(Log::default(), |log, (kind, ino)| {
        log.make(ROOT, ino, kind | 0o600, &format!("kind-{ino}"))
    });
    let view = replayed(&log.symlink(ROOT, 200, "link", "dir/sub/deep")).unwrap();
    for (kind, ino) in kinds.iter().zip(100..) {
        let inode = view.resolve(format!("kind-{ino}").as_bytes(), Links::Keep).unwrap();
        assert_eq!((inode.kind(), inode.ino, inode.nlink, inode.size), (*kind, ino, 1, 0));
    }
    assert_eq!(view.readlink(&view.inode(200).unwrap()).unwrap(), b"dir/sub/deep");
    assert_eq!(contents(&view, "link"), contents(&base_view(), "dir/sub/deep"));
}

#[test]
fn a_chain_replays_from_the_oldest_layer() {
    let main = Log::default().create(ROOT, 100, "file").write(100, 0, b"main main");
    let child = Log::default().write(100, 0, b"child");
    let grandchild = Log::default().truncate(100, 7).truncate(100, 9);
    let sibling = Log::default().delete(ROOT, 100, "file");
    let bytes = image(&[
        ("main", 0, &main),
        ("child", 1, &child),
        ("grandchild", 2, &grandchild),
        ("sibling", 1, &sibling),
    ]);
    let file = |branch| contents(&view(&bytes, branch).unwrap(), "file");
    assert_eq!(file("main"), b"main main");
    assert_eq!(file("child"), b"childmain");
    assert_eq!(file("grandchild"), b"childma\0\0");
    assert!(!names(&view(&bytes, "sibling").unwrap(), "/").contains(&"file".into()));
    let findings = common::findings(&bytes).unwrap();
    assert_eq!(findings.errors(), 0, "{:?}", findings.list());
}

#[test]
fn entries_may_be_longer_than_their_parts() {
    let mut log = Log::default().create(ROOT, 100, "file");
    log.bytes.extend_from_slice(&[0xff; 5]);
    let size = log.bytes.len() as u32;
    log.bytes[4..8].copy_from_slice(&size.to_le_bytes());
    let view = replayed(&log.write(100, 0, b"text")).unwrap();
    assert_eq!(contents(&view, "file"), b"text");
}
