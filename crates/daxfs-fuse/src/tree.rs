// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The trees that a mount shows, and how their inodes are numbered for the kernel.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, RwLock};

use daxfs_core::branch::handle::Branch;
use daxfs_core::error::{Error, Result};
use daxfs_core::format::ROOT_INO;
use daxfs_core::region::Access;
use daxfs_core::view::View;

/// Bits of a node number that are the inode's number in the image.
const INO_BITS: u32 = 40;

/// Tag of the control directory, which is of no tree.
pub(crate) const CONTROL: u64 = (1 << 23) - 1;

/// An inode of a tree as the kernel knows it: the tree's tag above the inode's number.
///
/// The first tree of a mount has tag 0, so there the numbers are those of the image. A tree that
/// is shown later has numbers of its own: nothing that the kernel keeps of one tree is taken for
/// the other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    /// Which tree.
    pub(crate) tag: u64,
    /// Inode number in the image.
    pub(crate) ino: u64,
}

impl Node {
    /// The root of a tree.
    pub(crate) fn root(tag: u64) -> Self {
        Self { tag, ino: ROOT_INO }
    }

    /// The number that stands for the node. The root of the tree that is mounted is `1` whatever
    /// its tag, as the kernel demands.
    pub(crate) fn number(self, mounted: u64) -> u64 {
        if self.ino == ROOT_INO && self.tag == mounted {
            return ROOT_INO;
        }
        self.tag << INO_BITS | self.ino
    }

    /// Whether a number can stand for the node: the image may give its inodes any number.
    pub(crate) fn has_number(self) -> bool {
        self.ino >> INO_BITS == 0
    }

    /// The node that a number stands for.
    pub(crate) fn of(number: u64, mounted: u64) -> Self {
        if number == ROOT_INO {
            return Self::root(mounted);
        }
        Self { tag: number >> INO_BITS, ino: number & ((1 << INO_BITS) - 1) }
    }
}

/// A tree that is shown.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) tag: u64,
    what: What,
    /// Inodes that the kernel was told of.
    known: InoSet,
    /// Files of whose bytes the kernel may keep some, and change them through mappings.
    cached: InoSet,
    /// What it was when somebody last looked whether it changed. Taken before the writer by whoever
    /// takes both.
    last: Mutex<Option<Seen>>,
    /// Whether others had changed it when it was taken for writing.
    missed: AtomicBool,
}

#[derive(Debug)]
enum What {
    /// A tree that does not change.
    Fixed(View),
    /// A branch as it is at any time.
    Branch { reader: Branch, writer: RwLock<Option<Branch>>, may_write: bool },
}

/// What tells one state of a tree from another.
pub(crate) type Version = (u64, u64);

/// A state of a tree.
#[derive(Debug)]
struct Seen {
    version: Version,
    view: View,
}

/// What a look at a tree found.
#[derive(Debug)]
pub(crate) enum Change {
    /// Nothing that the kernel would not know.
    None,
    /// Others changed it.
    Changed,
    /// It is no more; the last that was known of it.
    Ended(Option<View>),
}

impl Tree {
    /// A tree that does not change.
    pub(crate) fn fixed(tag: u64, view: View) -> Self {
        Self::new(tag, What::Fixed(view))
    }

    /// A branch; `may_write` says whether it may be taken for writing when that is asked for.
    pub(crate) fn branch(tag: u64, branch: Branch, may_write: bool) -> Self {
        let writer = branch.is_writable().then(|| branch.clone());
        let tree =
            Self::new(tag, What::Branch { reader: branch, writer: writer.into(), may_write });
        // It could be asked for what it was before it is looked at the first time.
        let _ = tree.look();
        tree
    }

    fn new(tag: u64, what: What) -> Self {
        let (known, cached, last, missed) = Default::default();
        Self { tag, what, known, cached, last, missed }
    }

    /// Which state it is in now.
    pub(crate) fn version(&self) -> Result<Version> {
        match &self.what {
            What::Fixed(_) => Ok(Version::default()),
            What::Branch { reader, .. } => reader.version(),
        }
    }

    /// What it is now.
    pub(crate) fn view(&self) -> Result<View> {
        match &self.what {
            What::Fixed(view) => Ok(view.clone()),
            What::Branch { reader, .. } => reader.view(),
        }
    }

    /// Name of the branch.
    pub(crate) fn name(&self) -> Option<&str> {
        match &self.what {
            What::Fixed(_) => None,
            What::Branch { reader, .. } => Some(reader.name()),
        }
    }

    /// Whether nobody else can change it.
    pub(crate) fn is_ours(&self) -> bool {
        match &self.what {
            What::Fixed(_) => true,
            What::Branch { writer, .. } => writer.read().expect("no panic holds it").is_some(),
        }
    }

    /// Whether it may be taken for writing.
    pub(crate) fn may_write(&self) -> bool {
        matches!(self.what, What::Branch { may_write: true, .. })
    }

    /// The branch for writing, taken when first asked for.
    pub(crate) fn writer(&self) -> Result<Branch> {
        let What::Branch { reader, writer, may_write } = &self.what else {
            return Err(read_only("main"));
        };
        if let Some(branch) = &*writer.read().expect("no panic holds it") {
            return Ok(branch.clone());
        }
        if !may_write {
            return Err(read_only(reader.name()));
        }
        let mut last = self.last.lock().expect("no panic holds it");
        let mut writer = writer.write().expect("no panic holds it");
        if let Some(branch) = &*writer {
            return Ok(branch.clone());
        }
        let branch = reader.session().open_branch(reader.name(), Access::Write)?;
        // From now on changes are ours. Others' are for the next look, as the kernel cannot be
        // told of them while it waits for an answer.
        if moved_on(reader, &mut last)? {
            self.missed.store(true, Relaxed);
        }
        Ok(writer.insert(branch).clone())
    }

    /// Makes what was written durable.
    pub(crate) fn sync(&self) -> Result<()> {
        match &self.what {
            What::Branch { writer, .. } => {
                let branch = writer.read().expect("no panic holds it").clone();
                branch.map_or(Ok(()), |branch| branch.sync())
            }
            What::Fixed(_) => Ok(()),
        }
    }

    /// Lets others write.
    pub(crate) fn release(&self) -> Result<()> {
        match &self.what {
            What::Branch { writer, .. } => {
                let branch = writer.write().expect("no panic holds it").take();
                branch.map_or(Ok(()), |branch| branch.release())
            }
            What::Fixed(_) => Ok(()),
        }
    }

    /// Notes that the kernel is told of an inode.
    pub(crate) fn note(&self, ino: u64) {
        if matches!(self.what, What::Branch { .. }) {
            self.known.insert(ino);
        }
    }

    /// Notes that the kernel gets, or had, some of a file's bytes.
    pub(crate) fn note_bytes(&self, ino: u64) {
        if matches!(self.what, What::Branch { .. }) {
            self.cached.insert(ino);
        }
    }

    /// Notes that an inode is no more, and that the kernel knows it no more.
    pub(crate) fn forget(&self, ino: u64) {
        self.known.remove(ino);
        self.cached.remove(ino);
    }

    /// Whether the kernel may know an inode.
    pub(crate) fn knows(&self, ino: u64) -> bool {
        self.known.contains(ino)
    }

    /// Whether the kernel may keep some of a file's bytes.
    pub(crate) fn caches(&self, ino: u64) -> bool {
        self.cached.contains(ino)
    }

    /// The inodes that the kernel may know.
    pub(crate) fn known(&self) -> Vec<u64> {
        self.known.list()
    }

    /// The files of whose bytes the kernel may keep some.
    pub(crate) fn cached(&self) -> Vec<u64> {
        self.cached.list()
    }

    /// Looks whether others changed or ended it since the last look.
    pub(crate) fn look(&self) -> Change {
        let What::Branch { reader, .. } = &self.what else { return Change::None };
        let mut last = self.last.lock().expect("no panic holds it");
        match moved_on(reader, &mut last) {
            // What this mount writes itself, the kernel knows.
            Ok(moved) if self.missed.swap(false, Relaxed) || moved && !self.is_ours() => {
                Change::Changed
            }
            Err(Error::Stale { .. }) => Change::Ended(last.take().map(|seen| seen.view)),
            _ => Change::None,
        }
    }
}

/// Whether a branch has changed since it was `last` seen, which is now.
fn moved_on(branch: &Branch, last: &mut Option<Seen>) -> Result<bool> {
    // An old view would keep the space of what has ended since.
    let seen = Seen { version: branch.version()?, view: branch.view()? };
    let version = seen.version;
    Ok(last.replace(seen).is_some_and(|before| before.version != version))
}

/// A set of inode numbers: words of 64, by what comes before the bit. An image may have numbers as
/// large as it likes.
#[derive(Debug, Default)]
struct InoSet(RwLock<HashMap<u64, AtomicU64>>);

impl InoSet {
    fn contains(&self, ino: u64) -> bool {
        let words = self.0.read().expect("no panic holds it");
        words.get(&(ino / 64)).is_some_and(|word| word.load(Relaxed) >> (ino % 64) & 1 == 1)
    }

    fn insert(&self, ino: u64) {
        let (word, bit) = (ino / 64, 1 << (ino % 64));
        if let Some(word) = self.0.read().expect("no panic holds it").get(&word) {
            if word.load(Relaxed) & bit == 0 {
                word.fetch_or(bit, Relaxed);
            }
            return;
        }
        let mut words = self.0.write().expect("no panic holds it");
        words.entry(word).or_default().fetch_or(bit, Relaxed);
    }

    fn remove(&self, ino: u64) {
        let (word, bit) = (ino / 64, 1 << (ino % 64));
        let mut words = self.0.write().expect("no panic holds it");
        if let Entry::Occupied(mut entry) = words.entry(word) {
            let bits = entry.get_mut().get_mut();
            *bits &= !bit;
            if *bits == 0 {
                entry.remove();
            }
        }
    }

    fn list(&self) -> Vec<u64> {
        let words = self.0.read().expect("no panic holds it");
        let bits = |(word, bits): (&u64, &AtomicU64)| {
            let (first, bits) = (word * 64, bits.load(Relaxed));
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| first + bit)
        };
        words.iter().flat_map(bits).collect()
    }
}

fn read_only(name: &str) -> Error {
    Error::ReadOnly { name: name.into(), why: "it is mounted for reading".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_numbers_lead_back() {
        for (tag, ino) in [(0, 1), (0, 77), (3, 1), (3, 1 << 32), (CONTROL, 1)] {
            let node = Node { tag, ino };
            // The first tree is shown no more once another is mounted.
            for mounted in [0, 3].into_iter().filter(|mounted| *mounted == 0 || tag > 0) {
                assert_eq!(Node::of(node.number(mounted), mounted), node);
            }
        }
    }

    #[test]
    fn numbers_that_only_an_attacker_gives_do_no_harm() {
        let ino = u64::MAX - 1;
        assert!(!Node { tag: 0, ino }.has_number());
        assert!(Node { tag: 5, ino: (1 << INO_BITS) - 1 }.has_number());
        let set = InoSet::default();
        for ino in [ino, 5, ino, 64] {
            set.insert(ino);
        }
        let mut list = set.list();
        list.sort_unstable();
        assert_eq!(list, [5, 64, ino]);
    }

    #[test]
    fn sets_keep_nothing_of_what_is_removed() {
        let set = InoSet::default();
        [5, 7, 64].into_iter().for_each(|ino| set.insert(ino));
        [5, 5, 64, 1000].into_iter().for_each(|ino| set.remove(ino));
        assert_eq!(set.list(), [7]);
        set.remove(7);
        assert!(set.0.read().expect("no panic holds it").is_empty());
    }

    #[test]
    fn numbers_of_the_first_tree_are_those_of_the_image() {
        assert_eq!(Node { tag: 0, ino: 4711 }.number(0), 4711);
    }
}
