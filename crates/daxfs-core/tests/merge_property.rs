// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: what a fold writes shows the tree that the layers below it showed, in every respect,
//! however often folds are folded, and without growing.

mod support;

use std::fmt::Write;
use std::sync::{Arc, LazyLock};

use daxfs_core::base::{Base, Inode};
use daxfs_core::delta::{Change, Entry, LogSpace, Name};
use daxfs_core::error::show;
use daxfs_core::format::{BLOCK_SIZE, MAIN_ID, ROOT_INO, mode};
use daxfs_core::image::{Image, Unvalidated};
use daxfs_core::index::Index;
use daxfs_core::merge::merge;
use daxfs_core::region::Region;
use daxfs_core::view::View;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use support::ours::{Ours, Step};

/// Blocks with bytes that all differ.
const DATA_BLOCKS: u64 = 128;

static IMAGE: LazyLock<(Ours, u64)> = LazyLock::new(|| {
    let mut image = Ours::new(DATA_BLOCKS + 128);
    let data = image.allocate(MAIN_ID, DATA_BLOCKS);
    (image, data.start)
});

fn open(bytes: &[u8]) -> Arc<Image> {
    let region = Arc::new(Region::from_bytes(bytes).expect("memory"));
    Arc::new(Unvalidated::open(region).expect("a superblock").trust())
}

/// A tree in words: everything that it shows.
fn describe(view: &View) -> String {
    let mut text = String::new();
    for found in view.walk(view.inode(ROOT_INO).unwrap()) {
        let (path, inode) = found.unwrap();
        let Inode { ino, mode, uid, gid, size, nlink, rdev, atime, mtime, ctime, .. } = inode;
        write!(
            text,
            "{} {ino} {mode:o} {uid}:{gid} {size} {nlink} {rdev} {atime} {mtime} {ctime}",
            show(&path)
        )
        .unwrap();
        for (name, value) in view.xattrs(&inode).unwrap() {
            write!(text, " {}={}", show(&name), show(&value)).unwrap();
        }
        if inode.is_symlink() {
            write!(text, " -> {}", show(&view.readlink(&inode).unwrap())).unwrap();
        }
        if inode.is_file() {
            let mut bytes = vec![0; size as usize];
            assert_eq!(view.read(&inode, 0, &mut bytes).unwrap(), bytes.len());
            write!(text, " {:x?} {}", &Sha256::digest(&bytes)[..8], view.blocks(&inode)).unwrap();
            for extent in view.extents(&inode).unwrap().iter().filter(|extent| !extent.in_log) {
                write!(text, " {extent:x?}").unwrap();
            }
        }
        writeln!(text).unwrap();
    }
    text
}

/// A step of a history, by numbers that find their objects in the tree as it is then.
#[derive(Debug, Clone)]
struct Draw {
    kind: u8,
    numbers: [u16; 4],
}

fn draws() -> impl Strategy<Value = Vec<Draw>> {
    let draw = (any::<u8>(), any::<[u16; 4]>()).prop_map(|(kind, numbers)| Draw { kind, numbers });
    prop::collection::vec(draw, 1..120)
}

/// A history on its way through an index.
struct History {
    image: Arc<Image>,
    index: Index,
    data: u64,
    /// Data blocks not in use yet.
    blocks: std::ops::Range<u64>,
    next_ino: u64,
    time: i64,
    applied: usize,
}

impl History {
    /// Every name of the tree: directory, name, inode.
    fn links(&self) -> Vec<(u64, Name, Inode)> {
        let view = View::new(Arc::clone(&self.image), self.index.clone());
        let mut links = Vec::new();
        let mut pending = vec![ROOT_INO];
        while let Some(directory) = pending.pop() {
            for entry in view.read_dir(&view.inode(directory).unwrap()).unwrap() {
                let inode = view.inode(entry.ino).unwrap();
                links.push((directory, Name::from(&entry.name[..]), inode));
                if inode.is_dir() {
                    pending.push(inode.ino);
                }
            }
        }
        links
    }

    /// Makes the change that a draw comes to, if it can be made.
    fn step(&mut self, draw: &Draw) {
        let [a, b, c, d] = draw.numbers;
        let links = self.links();
        let pick = |number: u16| links[usize::from(number) % links.len()].clone();
        let directory = |number: u16| {
            let of = links.iter().filter(|(.., inode)| inode.is_dir());
            let all: Vec<u64> = [ROOT_INO].into_iter().chain(of.map(|(.., i)| i.ino)).collect();
            all[usize::from(number) % all.len()]
        };
        // Few names, so that they meet often.
        let name = |number: u16| Name::from(format!("n{}", number % 12).as_bytes());
        let (parent, old_name, inode) = pick(a);
        let ino = inode.ino;
        let offset = u64::from(c) % 20_000;
        let len = 1 + u64::from(d) % 6000;
        let (ino, change) = match draw.kind % 16 {
            0..=2 => {
                let kind = mode::KINDS[usize::from(c) % mode::KINDS.len()];
                let kind = if draw.kind % 16 == 0 { mode::DIRECTORY } else { kind };
                let change = Change::Mknod {
                    parent: directory(a),
                    mode: kind | u32::from(b) & 0o7777,
                    uid: c.into(),
                    gid: d.into(),
                    rdev: if matches!(kind, mode::CHAR | mode::BLOCK) { d.into() } else { 0 },
                    name: name(b),
                    target: (kind == mode::SYMLINK).then(|| format!("to/{d}").into_bytes().into()),
                };
                self.next_ino += 1;
                (self.next_ino, change)
            }
            3 => (ino, Change::Link { parent: directory(b), name: name(c) }),
            4 => (ino, Change::Delete { parent, name: old_name }),
            5..=7 => {
                let (new_parent, new_name, _) = pick(b);
                let exchange = draw.kind % 16 == 7;
                let (new_parent, new_name) = if d % 3 == 0 || exchange {
                    (new_parent, new_name)
                } else {
                    (directory(b), name(c))
                };
                (
                    ino,
                    Change::Rename {
                        ino,
                        old_parent: parent,
                        new_parent,
                        old_name,
                        new_name,
                        exchange,
                    },
                )
            }
            8 | 9 => {
                let data = self.data + u64::from(b) % (DATA_BLOCKS * BLOCK_SIZE - len);
                (ino, Change::Write { offset, data, len })
            }
            10 | 11 if inode.is_file() && self.blocks.clone().count() > 3 => {
                let first = self.blocks.start;
                let count = (offset % BLOCK_SIZE + len).div_ceil(BLOCK_SIZE);
                self.blocks.start += count;
                let image_offset = self.data + first * BLOCK_SIZE + offset % BLOCK_SIZE;
                (ino, Change::Extent { offset, len, image_offset, keep_size: b % 4 == 0 })
            }
            12 => (ino, Change::Truncate { size: offset }),
            13 => (ino, Change::Punch { offset, len }),
            14 => {
                let value = (b % 3 > 0).then(|| d.to_le_bytes()[..].into());
                (
                    ino,
                    Change::SetXattr { name: format!("user.{}", c % 4).into_bytes().into(), value },
                )
            }
            _ => {
                let some = |bit: u16, value: u16| (b & bit != 0).then_some(value);
                let time = |bit| some(bit, c).map(|value| i64::from(value) - 100);
                let change = Change::SetAttr {
                    mode: some(1, d).map(|mode| u32::from(mode) & 0o7777),
                    uid: some(2, d).map(u32::from),
                    gid: some(4, d).map(u32::from),
                    size: some(8, d).filter(|_| inode.is_file()).map(u64::from),
                    atime: time(16),
                    mtime: time(32),
                    ctime: time(64),
                };
                (if d % 7 == 0 { ROOT_INO } else { ino }, change)
            }
        };
        self.time += 1;
        let mut next = self.index.clone();
        let entry = Entry { at: 0, ino, time: self.time, change };
        if next.apply(self.image.base(), entry).is_ok() {
            self.index = next;
            self.applied += 1;
        }
    }
}

/// What a fold would write, with the bytes of its WRITEs.
fn steps(base: &Base, index: &Index) -> Vec<Step> {
    let merged = merge(base, index).unwrap();
    let with_data = |(ino, time, change): (u64, i64, Change)| {
        let data = match change {
            Change::Write { data, len, .. } => base.region().read_vec(data, len).unwrap(),
            _ => Vec::new(),
        };
        (ino, time, change, data)
    };
    merged.into_iter().map(with_data).collect()
}

fn check(rounds: &[Vec<Draw>]) -> usize {
    let (image, data) = &*IMAGE;
    let mut image = image.clone();
    let opened = open(&image.bytes);
    let mut history = History {
        image: opened,
        index: Index::default(),
        data: *data,
        blocks: 0..DATA_BLOCKS,
        next_ino: image.superblock.next_inode_id.get(),
        time: 1000,
        applied: 0,
    };
    for draws in rounds {
        draws.iter().for_each(|draw| history.step(draw));
        let shown = describe(&View::new(Arc::clone(&history.image), history.index.clone()));

        let written = steps(history.image.base(), &history.index);
        let (log, size) = image.write_log(9, &written, 1);
        let folded = open(&image.bytes);
        let space = LogSpace::of(folded.superblock());
        let mut index = Index::default();
        let end = index.replay(folded.base(), folded.region(), &space, log, size).unwrap();
        assert_eq!(end.position, size);
        let view = View::new(Arc::clone(&folded), index.clone());
        assert_eq!(describe(&view), shown);
        // The fold of a fold says the same again.
        let again = steps(folded.base(), &index);
        assert!(again.len() <= written.len(), "{} after {}", again.len(), written.len());

        history.image = folded;
        history.index = index;
    }
    history.applied
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
    let draw = |seed: u64| {
        let bits = support::sample::scatter(seed).to_le_bytes();
        let number = |at: usize| u16::from_le_bytes([bits[at], bits[at + 1]]);
        Draw { kind: bits[7], numbers: [number(0), number(2), number(4), number(5)] }
    };
    let rounds: Vec<Vec<Draw>> =
        (0..4).map(|r| (0..500).map(|at| draw(r * 500 + at)).collect()).collect();
    let applied = check(&rounds);
    assert!(applied > 700, "{applied} of 2000");
}

#[test]
fn swapped_and_turned_inside_out() {
    let (image, _) = &*IMAGE;
    let opened = open(&image.bytes);
    let view = View::base(Arc::clone(&opened));
    let ino = |path: &[u8]| view.resolve(path, daxfs_core::view::Links::Keep).unwrap().ino;
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
    let shown = describe(&View::new(Arc::clone(&opened), index.clone()));
    let mut again = Index::default();
    for (ino, time, change) in merge(opened.base(), &index).unwrap() {
        again.apply(opened.base(), Entry { at: 0, ino, time, change }).unwrap();
    }
    assert_eq!(describe(&View::new(opened, again)), shown);
}
