// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reading ahead from file to file.
//!
//! Of a small file, what costs is the request: two processes are woken for it. Who reads whole
//! trees takes the files of a directory mostly in the order of their numbers, in which it lists
//! them. So when small files are asked for one after the other, the kernel is given those that
//! follow before it asks.
//!
//! One thread that serves no requests does it: the kernel may let it wait for a page that it has
//! just asked the serving threads for. And only where nothing can change: what is given late would
//! be old elsewhere.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};

use crate::tree::Node;
use crate::vfs_file::bytes;
use crate::vfs_super::Mounted;

/// Size of the largest file that is given, in bytes. Of larger ones the kernel reads ahead itself.
const FILE_MAX: u64 = 32 << 10;
/// Bytes given at once.
const BYTES_MAX: u64 = 1 << 20;
/// Numbers gone through at first, and at most, once all that was given before was wanted.
const FIRST: u64 = 8;
const MOST: u64 = 256;
/// Numbers that may lie between two files of a run: of directories, links and larger files.
const GAP: u64 = 16;
/// Runs told apart, of as many readers.
const RUNS: usize = 16;

/// Files that are read one after the other.
#[derive(Debug)]
struct Run {
    first: u64,
    count: u64,
    progress: Arc<Progress>,
}

/// How far a run's files have been given, and whether some are being given now.
#[derive(Debug)]
pub(crate) struct Progress {
    next: AtomicU64,
    busy: AtomicBool,
}

impl Run {
    fn new(ino: u64) -> Self {
        let next = AtomicU64::new(ino.saturating_add(1));
        let progress = Progress { next, busy: AtomicBool::new(false) };
        Self { first: ino, count: 0, progress: Arc::new(progress) }
    }

    /// Whether a file that is asked for is of this run.
    fn has(&self, ino: u64) -> bool {
        let next = self.progress.next.load(Ordering::Relaxed);
        self.first <= ino && ino < next.saturating_add(GAP)
    }

    /// What to give now that a file of the run is asked for; nothing while some is being given.
    fn follow(&mut self, ino: u64) -> Option<Order> {
        if self.progress.busy.swap(true, Ordering::Acquire) {
            return None;
        }
        // What was given already and is asked for was thrown out, or the kernel did not know it.
        let wanted = ino >= self.progress.next.load(Ordering::Relaxed);
        let count = if wanted { 2 * self.count } else { 0 };
        self.count = count.clamp(FIRST, MOST);
        self.first = ino;
        let next = ino.saturating_add(1);
        self.progress.next.store(next, Ordering::Relaxed);
        Some((Arc::clone(&self.progress), next..next.saturating_add(self.count)))
    }
}

/// Numbers of files to be given, and the run that they are of.
pub(crate) type Order = (Arc<Progress>, Range<u64>);

/// Notices files that are read one after the other.
#[derive(Debug)]
pub(crate) struct Readahead {
    runs: Mutex<Vec<Run>>,
    orders: SyncSender<Order>,
}

impl Readahead {
    pub(crate) fn new() -> (Self, Receiver<Order>) {
        let (orders, taken) = sync_channel(RUNS);
        (Self { runs: Mutex::default(), orders }, taken)
    }

    /// The kernel has asked for `size` bytes of a file's contents.
    pub(crate) fn note(&self, ino: u64, offset: u64, size: u32) {
        if offset > 0 || u64::from(size) > FILE_MAX {
            return;
        }
        let mut runs = self.runs.lock().expect("no panic holds it");
        let Some(at) = runs.iter().position(|run| run.has(ino)) else {
            // The one that nobody has followed for longest makes room.
            runs.truncate(RUNS - 1);
            runs.insert(0, Run::new(ino));
            return;
        };
        runs[..=at].rotate_right(1);
        let order = runs[0].follow(ino);
        drop(runs);
        if let Some(order) = order
            && let Err(
                TrySendError::Full((progress, _)) | TrySendError::Disconnected((progress, _)),
            ) = self.orders.try_send(order)
        {
            progress.busy.store(false, Ordering::Release);
        }
    }
}

/// Gives the kernel what is ordered, until nobody orders any more.
pub(crate) fn run(mounted: &Mounted, orders: &Receiver<Order>) {
    for (progress, range) in orders {
        let mut given = 0;
        for ino in range {
            match mounted.give(ino) {
                Some(size) => given += size,
                None => break,
            }
            progress.next.store(ino + 1, Ordering::Relaxed);
            if given >= BYTES_MAX {
                break;
            }
        }
        progress.busy.store(false, Ordering::Release);
    }
}

impl Mounted {
    /// Gives the kernel a file if it is small and in one piece. Returns how many bytes; none where
    /// there is no such inode.
    fn give(&self, ino: u64) -> Option<u64> {
        let notifier = self.notifier.get()?;
        let node = Node { tag: 0, ino };
        let tree = self.tree(node).ok()?;
        let view = tree.view().ok()?;
        let inode = view.inode(ino).ok()?;
        if !inode.is_file() || inode.size == 0 || inode.size > FILE_MAX {
            return Some(0);
        }
        let Ok(Some(data)) = view.contiguous(&inode, 0, inode.size) else { return Some(0) };
        // The kernel need not know the file, and takes nothing then.
        notifier.store(self.number(node), 0, bytes(&data)).ok()?;
        Some(inode.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets files be asked for; gives what was ordered.
    fn ask(
        ahead: &Readahead,
        taken: &Receiver<Order>,
        inos: impl IntoIterator<Item = u64>,
    ) -> Vec<Order> {
        inos.into_iter().for_each(|ino| ahead.note(ino, 0, 4096));
        taken.try_iter().collect()
    }

    /// Gives a part of what was ordered.
    fn give(order: &Order, to: u64) {
        order.0.next.store(to, Ordering::Relaxed);
        order.0.busy.store(false, Ordering::Release);
    }

    #[test]
    fn what_is_wanted_becomes_more() {
        let (ahead, taken) = Readahead::new();
        assert!(ask(&ahead, &taken, [100]).is_empty());
        let mut next = 101;
        for count in [8, 16, 32, 64, 128, 256, 256] {
            // Numbers between files, as of directories, do no harm.
            let orders = ask(&ahead, &taken, [next + 3]);
            assert_eq!(orders.len(), 1, "{next}");
            assert_eq!(orders[0].1, next + 4..next + 4 + count);
            // While some are given nothing more is ordered.
            assert!(ask(&ahead, &taken, [next + 4, next + 5]).is_empty());
            next = orders[0].1.end;
            give(&orders[0], next);
        }
    }

    #[test]
    fn what_was_given_in_vain_begins_anew() {
        let (ahead, taken) = Readahead::new();
        let orders = ask(&ahead, &taken, [10, 11]);
        give(&orders[0], 20);
        let orders = ask(&ahead, &taken, [20]);
        assert_eq!(orders[0].1, 21..37);
        give(&orders[0], 37);
        let orders = ask(&ahead, &taken, [25]);
        assert_eq!(orders[0].1, 26..34);
    }

    #[test]
    fn neither_parts_nor_large_nor_scattered_files_are_followed() {
        let (ahead, taken) = Readahead::new();
        for ino in 1..100 {
            ahead.note(ino, 4096, 4096);
            ahead.note(ino, 0, 128 << 10);
        }
        assert!(ask(&ahead, &taken, (1..500).rev()).is_empty());
        assert!(ask(&ahead, &taken, (1..500).map(|at| at * 1000)).is_empty());
        assert!(ask(&ahead, &taken, [u64::MAX - 1, u64::MAX]).len() <= 1);
    }

    #[test]
    fn readers_side_by_side_are_told_apart() {
        let (ahead, taken) = Readahead::new();
        let starts = (1..=RUNS as u64).map(|reader| reader * 10_000);
        assert!(ask(&ahead, &taken, starts.clone()).is_empty());
        let orders = ask(&ahead, &taken, starts.map(|start| start + 1));
        assert_eq!(orders.len(), RUNS);
    }
}
