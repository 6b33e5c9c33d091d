// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Histories of a branch that look random: every kind of change, in a tree with few names, so that
//! they meet often.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use daxfs_core::base::Inode;
use daxfs_core::delta::{Change, Entry, Name};
use daxfs_core::format::{BLOCK_SIZE, MAIN_ID, ROOT_INO, mode};
use daxfs_core::image::{Image, Unvalidated};
use daxfs_core::index::Index;
use daxfs_core::region::Region;
use daxfs_core::view::View;

use super::ours::{Ours, Step};
use super::sample::scatter;

/// Blocks with bytes that all differ.
pub const DATA_BLOCKS: u64 = 128;

/// An image with those blocks, and where they begin.
pub fn image() -> (Ours, u64) {
    static IMAGE: LazyLock<(Ours, u64)> = LazyLock::new(|| {
        let mut image = Ours::new(DATA_BLOCKS + 128);
        let data = image.allocate(MAIN_ID, DATA_BLOCKS);
        (image, data.start)
    });
    IMAGE.clone()
}

/// Opens an image in good faith.
pub fn open(bytes: &[u8]) -> Arc<Image> {
    let region = Arc::new(Region::from_bytes(bytes).expect("memory"));
    Arc::new(Unvalidated::open(region).expect("a superblock").trust())
}

/// A step of a history, by numbers that find their objects in the tree as it is then.
#[derive(Debug, Clone)]
pub struct Draw {
    pub kind: u8,
    pub numbers: [u16; 4],
}

impl Draw {
    /// The draws that a seed leads to.
    pub fn many(seed: u64, count: u64) -> Vec<Self> {
        let draw = |at| {
            let bits = scatter(seed.wrapping_mul(1 << 20) + at).to_le_bytes();
            let number = |at: usize| u16::from_le_bytes([bits[at], bits[at + 1]]);
            Self { kind: bits[7], numbers: [number(0), number(2), number(4), number(5)] }
        };
        (0..count).map(draw).collect()
    }
}

/// A history on its way through an index.
pub struct History {
    /// The image, as its bytes were when it was opened.
    pub image: Arc<Image>,
    /// What was changed.
    pub index: Index,
    /// The entries that did it.
    pub steps: Vec<Step>,
    data: u64,
    /// Data blocks not in use yet.
    blocks: Range<u64>,
    next_ino: u64,
    time: i64,
}

impl History {
    /// Nothing has happened to `image`, whose data blocks begin at `data`.
    pub fn new(image: &Ours, data: u64) -> Self {
        Self {
            image: open(&image.bytes),
            index: Index::default(),
            steps: Vec::new(),
            data,
            blocks: 0..DATA_BLOCKS,
            next_ino: image.superblock.next_inode_id.get(),
            time: 1000,
        }
    }

    /// The tree as it is now.
    pub fn view(&self) -> View {
        View::new(Arc::clone(&self.image), self.index.clone())
    }

    /// Every name of the tree: directory, name, inode.
    fn links(&self) -> Vec<(u64, Name, Inode)> {
        let view = self.view();
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
    pub fn step(&mut self, draw: &Draw) {
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
                let kind = if draw.kind.is_multiple_of(16) { mode::DIRECTORY } else { kind };
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
        let entry = Entry { at: 0, ino, time: self.time, change: change.clone() };
        if next.apply(self.image.base(), entry).is_ok() {
            self.index = next;
            self.steps.push(step_of(&self.image, ino, self.time, change));
        }
    }
}

/// An entry with the bytes of its WRITE.
pub fn step_of(image: &Image, ino: u64, time: i64, change: Change) -> Step {
    let data = match change {
        Change::Write { data, len, .. } => image.region().read_vec(data, len).expect("inside"),
        _ => Vec::new(),
    };
    (ino, time, change, data)
}
