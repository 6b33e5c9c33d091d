// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The mounted file system as a whole: the trees it shows, and what is common to all of them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, RwLock};
use std::time::Duration;

use daxfs_core::alloc::Heap;
use daxfs_core::branch::handle::Branch;
use daxfs_core::error::{Error, Result};
use daxfs_core::format::{BLOCK_SIZE, feature};
use daxfs_core::image::Image;
use daxfs_core::session::Session;
use daxfs_core::write::Kept;
use fuser::{Errno, FileHandle, Generation, INodeNo, Notifier};

use crate::acl;
use crate::place::Place;
use crate::tree::{CONTROL, Node, Tree};
use crate::vfs_dir::{Directory, Listings};
use crate::vfs_inode::NOTHING;

/// What an operation gives, or the errno that the kernel gets instead.
pub(crate) type Answer<T> = std::result::Result<T, Errno>;

/// How long the kernel may keep what cannot change without its being told.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Inode numbers are never used twice.
pub(crate) const GENERATION: Generation = Generation(0);

/// What a mount is made of.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) image: Arc<Image>,
    /// The party that this server is in the image; none where nothing can change.
    pub(crate) session: Option<Arc<Session>>,
    pub(crate) tree: Tree,
    /// Whether branches may be taken for writing.
    pub(crate) writes: bool,
    /// Whether main may be written once it is shown in the place of a branch that has ended.
    pub(crate) writes_main: bool,
    /// Whether there is a control directory.
    pub(crate) control: bool,
    /// How long the kernel may keep attributes and names of what others may change.
    pub(crate) actimeo: Duration,
}

/// An image that is mounted.
#[derive(Debug)]
pub(crate) struct Mounted {
    pub(crate) image: Arc<Image>,
    pub(crate) session: Option<Arc<Session>>,
    pub(crate) place: Place,
    pub(crate) writes: bool,
    pub(crate) writes_main: bool,
    pub(crate) control: bool,
    pub(crate) actimeo: Duration,
    /// Whether nothing of the image can ever change.
    pub(crate) immutable: bool,
    /// Whether there are, or may be, lists of access control. Where there are none the kernel
    /// need not ask for them.
    pub(crate) lists: bool,
    /// Who may control branches, beside root and those who may write to the root directory.
    pub(crate) owner: u32,
    pub(crate) notifier: OnceLock<Notifier>,
    trees: RwLock<HashMap<u64, Arc<Tree>>>,
    /// Held by whoever looks a branch up, so that nobody makes a second tree of it.
    pub(crate) looking_up: Mutex<()>,
    /// Tag of the tree that the mount's root is.
    mounted: AtomicU64,
    next_tag: AtomicU64,
    directories: Mutex<HashMap<u64, Arc<Directory>>>,
    pub(crate) listings: Listings,
    next_handle: AtomicU64,
    /// The directory that each directory which the kernel knows lies in.
    parents: RwLock<HashMap<Node, Node>>,
    /// How often the kernel was told of each node; it says how many of these it forgets.
    told: Mutex<HashMap<Node, u64>>,
    /// Files that lost their last names and that the kernel still knows: somebody may use them.
    nameless: Mutex<HashMap<Node, Kept>>,
    /// Files of which pages that the kernel wrote back were refused, and why. Whoever syncs such a
    /// file is told by the kernel, which does not say so.
    refused: Mutex<HashMap<Node, Errno>>,
    /// Whether the kernel may know of errors that came of what was refused.
    refused_any: AtomicBool,
    heap: Option<Heap>,
}

impl Mounted {
    pub(crate) fn new(setup: Setup, place: Place) -> Self {
        let Setup { image, session, tree, writes, writes_main, control, actimeo } = setup;
        let superblock = image.superblock();
        let branches = superblock.has(feature::BRANCHES);
        let heap = branches.then(|| Heap::new(Arc::clone(image.region()), superblock));
        let tag = tree.tag;
        Self {
            control: control && session.is_some(),
            actimeo: actimeo.min(FOREVER),
            immutable: !branches,
            lists: branches || acl::may_be_in(image.base()),
            owner: rustix::process::geteuid().as_raw(),
            notifier: OnceLock::new(),
            trees: RwLock::new(HashMap::from([(tag, Arc::new(tree))])),
            looking_up: Mutex::default(),
            mounted: AtomicU64::new(tag),
            next_tag: AtomicU64::new(tag + 1),
            directories: Mutex::default(),
            listings: Listings::default(),
            next_handle: AtomicU64::new(1),
            parents: RwLock::default(),
            told: Mutex::default(),
            nameless: Mutex::default(),
            refused: Mutex::default(),
            refused_any: AtomicBool::default(),
            heap,
            image,
            session,
            place,
            writes,
            writes_main,
        }
    }

    fn mounted_tag(&self) -> u64 {
        self.mounted.load(Ordering::Acquire)
    }

    pub(crate) fn node(&self, number: INodeNo) -> Node {
        Node::of(number.0, self.mounted_tag())
    }

    pub(crate) fn number(&self, node: Node) -> INodeNo {
        INodeNo(node.number(self.mounted_tag()))
    }

    /// The tree that a node is of; it may be gone.
    pub(crate) fn tree(&self, node: Node) -> Answer<Arc<Tree>> {
        if node.tag == CONTROL {
            return Err(Errno::EPERM);
        }
        let trees = self.trees.read().expect("no panic holds it");
        trees.get(&node.tag).cloned().ok_or(Errno::ESTALE)
    }

    /// The branch that a node is of, for writing.
    pub(crate) fn writer(&self, node: Node) -> Answer<Branch> {
        self.tree(node)?.writer().map_err(errno)
    }

    /// The tree that the mount's root is.
    pub(crate) fn mounted_tree(&self) -> Answer<Arc<Tree>> {
        self.tree(Node::of(1, self.mounted_tag()))
    }

    pub(crate) fn trees(&self) -> Vec<Arc<Tree>> {
        self.trees.read().expect("no panic holds it").values().cloned().collect()
    }

    /// Shows one more tree, made with the tag that it gets.
    pub(crate) fn add_tree(&self, branch: Branch, may_write: bool) -> Arc<Tree> {
        let tree = Arc::new(Tree::branch(self.new_tag(), branch, may_write));
        self.trees.write().expect("no panic holds it").insert(tree.tag, Arc::clone(&tree));
        tree
    }

    /// A tag of which the kernel knows nothing. There are as many as fit a number, so those of
    /// trees that are gone serve again, the one longest unused first.
    fn new_tag(&self) -> u64 {
        let used: HashSet<u64> = self.told().keys().map(|node| node.tag).collect();
        let trees = self.trees.read().expect("no panic holds it");
        let mut tags =
            (0..CONTROL).map(|_| self.next_tag.fetch_add(1, Ordering::Relaxed) % CONTROL);
        // A root of tag 0 has the number of the mount's: that is for the first tree alone.
        tags.find(|tag| *tag > 0 && !used.contains(tag) && !trees.contains_key(tag))
            .expect("few are in use")
    }

    /// Shows a tree no longer: what the kernel asks about it is stale.
    pub(crate) fn drop_tree(&self, tree: &Tree) {
        self.trees.write().expect("no panic holds it").remove(&tree.tag);
        self.parents.write().expect("no panic holds it").retain(|node, _| node.tag != tree.tag);
        self.refused().retain(|node, _| node.tag != tree.tag);
    }

    /// Makes a tree the one that the mount's root is.
    pub(crate) fn mount_tree(&self, tree: &Tree) {
        self.mounted.store(tree.tag, Ordering::Release);
    }

    pub(crate) fn new_handle(&self) -> FileHandle {
        FileHandle(self.next_handle.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn directories(&self) -> MutexGuard<'_, HashMap<u64, Arc<Directory>>> {
        self.directories.lock().expect("no panic holds it")
    }

    /// How long the kernel may keep attributes and names of a tree that are found after this call:
    /// what was found before the tree was taken for writing may be old.
    pub(crate) fn ttl(&self, tree: &Tree) -> Duration {
        if self.immutable || tree.is_ours() { FOREVER } else { self.actimeo }
    }

    pub(crate) fn remember_parent(&self, directory: Node, parent: Node) {
        let parents = self.parents.read().expect("no panic holds it");
        if parents.get(&directory) == Some(&parent) {
            return;
        }
        drop(parents);
        self.parents.write().expect("no panic holds it").insert(directory, parent);
    }

    /// The directory that a directory lies in; the root lies in itself.
    pub(crate) fn parent(&self, directory: Node) -> Node {
        let parents = self.parents.read().expect("no panic holds it");
        parents.get(&directory).copied().unwrap_or(directory)
    }

    /// Removes what `name` in `directory` is by `remove`. If that is a file's last name, the file
    /// stays until the kernel forgets it.
    pub(crate) fn removing(
        &self,
        branch: &Branch,
        directory: Node,
        name: &OsStr,
        remove: impl FnOnce() -> Result<()>,
    ) -> Answer<()> {
        let view = branch.view().map_err(errno)?;
        let parent = view.remaining_inode(directory.ino).map_err(errno)?;
        let found = view.lookup(&parent, name.as_bytes()).map_err(errno)?;
        let kept = found
            .filter(|inode| !inode.is_dir() && inode.nlink == 1)
            .map(|inode| (Node { tag: directory.tag, ino: inode.ino }, branch.keep(inode.ino)));
        drop(view);
        remove().map_err(errno)?;
        if let Some((node, kept)) = kept {
            self.nameless().insert(node, kept);
        }
        Ok(())
    }

    fn told(&self) -> MutexGuard<'_, HashMap<Node, u64>> {
        self.told.lock().expect("no panic holds it")
    }

    /// The kernel is told of a node, which it will forget as often. The root it never forgets.
    pub(crate) fn tell(&self, number: INodeNo) {
        if !self.immutable && number != INodeNo::ROOT && number != NOTHING.ino {
            *self.told().entry(self.node(number)).or_default() += 1;
        }
    }

    fn nameless(&self) -> MutexGuard<'_, HashMap<Node, Kept>> {
        self.nameless.lock().expect("no panic holds it")
    }

    /// The kernel forgets so many times that it was told of a node. It may have been told of it
    /// once more meanwhile.
    pub(crate) fn let_go(&self, node: Node, times: u64) {
        let mut told = self.told();
        match told.entry(node) {
            Entry::Occupied(mut told) if *told.get() > times => {
                *told.get_mut() -= times;
                return;
            }
            Entry::Occupied(told) => drop(told.remove()),
            Entry::Vacant(_) => {}
        }
        // Who walks through everything once makes it large.
        if told.len() < told.capacity() / 8 {
            let twice = 2 * told.len();
            told.shrink_to(twice);
        }
        // Before it is told of the file anew, which could be opened then and lose its name.
        let kept = self.nameless().remove(&node);
        drop(told);
        // What has names may be asked for again, also from another directory by `..`.
        if !self.immutable && (kept.is_some() || !self.has_name(node)) {
            self.forget_gone(node);
        }
    }

    /// Nobody asks for a node any more.
    fn forget_gone(&self, node: Node) {
        self.refused().remove(&node);
        self.parents.write().expect("no panic holds it").remove(&node);
        if let Ok(tree) = self.tree(node) {
            tree.forget(node.ino);
        }
    }

    fn refused(&self) -> MutexGuard<'_, HashMap<Node, Errno>> {
        self.refused.lock().expect("no panic holds it")
    }

    /// Pages of a file are not written, and the kernel does not try again.
    pub(crate) fn refuse_pages(&self, node: Node, why: Errno) {
        self.refused_any.store(true, Ordering::Relaxed);
        self.refused().insert(node, why);
    }

    /// Why pages were refused of some file that can be reached by a name; told once. What belongs to
    /// a tree that has ended is lost with it.
    pub(crate) fn lost_pages(&self) -> Option<Errno> {
        let mut refused = self.refused();
        let lost: Vec<_> = refused.extract_if(|node, _| self.has_name(*node)).collect();
        lost.first().map(|(_, why)| *why)
    }

    /// Whether errors that the kernel tells of may have come of what was refused; asked once.
    pub(crate) fn has_refused(&self) -> bool {
        self.refused_any.swap(false, Ordering::Relaxed)
    }

    fn has_name(&self, node: Node) -> bool {
        let view = self.tree(node).ok().and_then(|tree| tree.view().ok());
        view.and_then(|view| view.remaining_inode(node.ino).ok())
            .is_some_and(|inode| inode.nlink > 0)
    }

    pub(crate) fn statfs(&self) -> Answer<Statfs> {
        let superblock = self.image.superblock();
        let blocks = superblock.total_size.get() / BLOCK_SIZE;
        let files = u64::from(self.image.base().inode_count());
        let tree = self.mounted_tree()?;
        let free = match &self.heap {
            Some(_) if tree.is_ours() => tree.writer().and_then(|branch| branch.free_blocks()),
            Some(heap) => heap.free_blocks(),
            None => Ok(0),
        };
        let free = free.map_err(errno)?;
        // Inodes take space alone, so there is room for as many as there are blocks.
        Ok(Statfs { blocks, free, files: files + free, files_free: free })
    }

    /// Makes what was written to any branch durable.
    pub(crate) fn sync_all(&self) {
        for tree in self.trees() {
            match tree.sync() {
                // Somebody else's commit has made it void.
                Ok(()) | Err(Error::Stale { .. }) => {}
                Err(error) => log::error!("{error}"),
            }
        }
    }

    /// Lets go of everything that others could wait for.
    pub(crate) fn release_all(&self) {
        for tree in self.trees() {
            if let Err(error) = tree.release() {
                log::error!("{error}");
            }
        }
    }

    /// The party that this server is.
    pub(crate) fn party(&self) -> Result<&Arc<Session>> {
        self.session.as_ref().ok_or_else(|| Error::Unsupported {
            what: "branches of this image through this mount".into(),
        })
    }
}

/// Space, in blocks, and inodes.
pub(crate) struct Statfs {
    pub(crate) blocks: u64,
    pub(crate) free: u64,
    pub(crate) files: u64,
    pub(crate) files_free: u64,
}

/// The errno for an error of what is known by its number: others have removed what is not found.
pub(crate) fn stale(error: Error) -> Errno {
    if matches!(error, Error::NotFound { .. }) { Errno::ESTALE } else { errno(error) }
}

/// The errno that the kernel gets for an error of the engine.
pub(crate) fn errno(error: Error) -> Errno {
    if matches!(error, Error::Corrupt { .. } | Error::Unsound { .. }) {
        log::error!("{error}");
    }
    Errno::from_i32(error.errno())
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use daxfs_core::build::{BuildOptions, Input, Output, build};
    use daxfs_core::format::{MAIN_NAME, ROOT_INO, mode};
    use daxfs_core::image::Unvalidated;
    use daxfs_core::layout::Shape;
    use daxfs_core::progress::Progress;
    use daxfs_core::region::{Access, Region, Source};
    use daxfs_core::write::NewInode;
    use fuser::{RenameFlags, WriteFlags};

    use super::*;

    const ROOT: Node = Node { tag: 0, ino: ROOT_INO };

    /// An image that is written, and served to nobody.
    fn mounted() -> (tempfile::TempDir, Mounted) {
        let folder = tempfile::tempdir().expect("a folder");
        let (source, output) = (folder.path().join("source"), folder.path().join("image"));
        std::fs::create_dir(&source).expect("a folder");
        let mut options = BuildOptions::new(Input::Directory(source), Output::File(output.clone()));
        options.shape = Shape { branches: true, delta_size: Some(1 << 20), size: None };
        build(&options, &Progress::default()).expect("an image");
        let region = Region::open(&Source::Path(output), Access::Write).expect("it opens");
        let image = Unvalidated::open(Arc::new(region)).expect("an image").trust();
        let image = Arc::new(image);
        let session = Session::open(Arc::clone(&image)).expect("a party");
        let main = session.open_branch(MAIN_NAME, Access::Write).expect("main");
        let setup = Setup {
            image,
            session: Some(session),
            tree: Tree::branch(0, main, true),
            writes: true,
            writes_main: true,
            control: true,
            actimeo: Duration::ZERO,
        };
        let place = Place::of(folder.path()).expect("a place");
        (folder, Mounted::new(setup, place))
    }

    /// Makes a file or directory in the root and tells the kernel of it.
    fn make(mounted: &Mounted, name: &str, mode: u32) -> Node {
        let new = NewInode { mode, uid: 0, gid: 0, rdev: 0 };
        let branch = mounted.writer(ROOT).expect("ours");
        let ino = branch.mknod(ROOT_INO, name.as_bytes(), &new).expect("made").ino;
        mounted.tell(mounted.look_up(ROOT, OsStr::new(name)).expect("there").0.ino);
        Node { tag: 0, ino }
    }

    #[test]
    fn nothing_is_remembered_of_what_is_gone() {
        let (_folder, mounted) = mounted();
        let tree = mounted.mounted_tree().expect("shown");
        let stays = make(&mounted, "stays", mode::DIRECTORY);
        let known = tree.known();
        for kind in [mode::DIRECTORY, mode::REGULAR] {
            let node = make(&mounted, "goes", kind);
            tree.note_bytes(node.ino);
            mounted.refuse_pages(node, Errno::ENOSPC);
            let is_dir = kind == mode::DIRECTORY;
            mounted.remove(ROOT, OsStr::new("goes"), is_dir).expect("removed");
            mounted.let_go(node, 1);
        }
        // It may be come back to, and from there to what it lies in.
        mounted.let_go(stays, 1);
        let parents = mounted.parents.read().expect("no panic holds it");
        assert_eq!(*parents, HashMap::from([(stays, ROOT)]));
        assert_eq!(tree.known(), known);
        assert!(tree.cached().is_empty());
        assert!(mounted.refused().is_empty());
        assert!(mounted.told().is_empty());
    }

    #[test]
    fn what_many_look_ups_took_is_given_back() {
        let (_folder, mounted) = mounted();
        let nodes = (2..100_000).map(|ino| Node { tag: 0, ino });
        nodes.clone().for_each(|node| mounted.tell(mounted.number(node)));
        nodes.for_each(|node| mounted.let_go(node, 1));
        assert!(mounted.told().is_empty());
        assert!(mounted.told().capacity() < 100);
    }

    #[test]
    fn what_was_refused_is_lost_while_it_has_a_name() {
        let (_folder, mounted) = mounted();
        let node = make(&mounted, "file", mode::REGULAR);
        mounted.refuse_pages(node, Errno::ENOSPC);
        assert!(mounted.has_refused());
        assert!(!mounted.has_refused());
        assert_eq!(mounted.lost_pages(), Some(Errno::ENOSPC));
        assert_eq!(mounted.lost_pages(), None);
        mounted.refuse_pages(node, Errno::ENOSPC);
        mounted.remove(ROOT, OsStr::new("file"), false).expect("removed");
        assert_eq!(mounted.lost_pages(), None);
    }

    #[test]
    fn what_was_exchanged_and_forgotten_is_lost_all_the_same() {
        let (_folder, mounted) = mounted();
        let [_, node] = ["one", "two"].map(|name| make(&mounted, name, mode::REGULAR));
        mounted.refuse_pages(node, Errno::ENOSPC);
        let exchange = RenameFlags::from_bits_retain(libc::RENAME_EXCHANGE);
        let names = ["one", "two"].map(|name| (ROOT, OsStr::new(name)));
        mounted.move_name(names[0], names[1], exchange).expect("exchanged");
        mounted.let_go(node, 1);
        assert_eq!(mounted.lost_pages(), Some(Errno::ENOSPC));
    }

    #[test]
    fn what_is_found_again_while_it_is_forgotten_is_kept() {
        let (_folder, mounted) = mounted();
        let branch = mounted.writer(ROOT).expect("ours");
        let node = make(&mounted, "file", mode::REGULAR);
        for round in 0..20_000 {
            let start = Barrier::new(2);
            thread::scope(|scope| {
                scope.spawn(|| {
                    start.wait();
                    mounted.let_go(node, 1);
                });
                start.wait();
                mounted.tell(mounted.number(node));
                mounted.nameless().insert(node, branch.keep(node.ino));
            });
            assert!(mounted.nameless().remove(&node).is_some(), "round {round}");
        }
    }

    #[test]
    fn what_is_refused_of_a_tree_that_has_ended_is_not_lost() {
        let (_folder, mounted) = mounted();
        let session = mounted.party().expect("a party");
        let branch = session.create("branch", MAIN_NAME).expect("made");
        let tree = mounted.add_tree(branch.clone(), true);
        let new = NewInode { mode: mode::REGULAR, uid: 0, gid: 0, rdev: 0 };
        let ino = branch.mknod(ROOT_INO, b"file", &new).expect("made").ino;
        branch.abort().expect("ended");
        let node = Node { tag: tree.tag, ino };
        let written = mounted.write_file(None, node, 0, b"late", WriteFlags::FUSE_WRITE_CACHE);
        assert_eq!(written, Err(Errno::ESTALE));
        assert_eq!(mounted.lost_pages(), None);
        // The kernel was told, and tells it on.
        assert!(mounted.has_refused());
    }

    #[test]
    fn a_branch_that_many_look_up_has_one_tree() {
        let (_folder, mounted) = mounted();
        let session = mounted.party().expect("a party");
        for round in 0..50 {
            let name = format!("branch-{round}");
            session.create(&name, MAIN_NAME).expect("made").release().expect("released");
            let start = Barrier::new(4);
            let look_up = || {
                start.wait();
                mounted.look_up_branch(format!("@{name}").as_bytes()).expect("there").0.ino
            };
            let numbers = thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(look_up)).collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().expect("no panic"))
                    .collect::<HashSet<_>>()
            });
            assert_eq!(numbers.len(), 1, "round {round}");
        }
    }

    #[test]
    fn tags_serve_again_once_the_kernel_knows_nothing_of_them() {
        let (_folder, mounted) = mounted();
        let session = mounted.party().expect("a party");
        session.create("branch", MAIN_NAME).expect("made").release().expect("released");
        let show = || {
            let branch = session.open_branch("branch", Access::Read).expect("there");
            mounted.add_tree(branch, false)
        };
        let first = show();
        let known = mounted.number(Node { tag: first.tag, ino: 7 });
        mounted.tell(known);
        mounted.drop_tree(&first);
        mounted.next_tag.store(CONTROL - 1, Ordering::Relaxed);
        assert_eq!(show().tag, CONTROL - 1);
        // Neither the control directory's nor that of the mount's root nor what the kernel knows.
        let after = show();
        assert_eq!(after.tag, first.tag + 1);
        mounted.drop_tree(&after);
        mounted.let_go(mounted.node(known), 1);
        // Nor the first tree's, whose root has the number of the mount's.
        mounted.mount_tree(&after);
        mounted.drop_tree(&mounted.tree(ROOT).expect("shown"));
        mounted.next_tag.store(CONTROL, Ordering::Relaxed);
        assert_eq!(show().tag, first.tag);
    }
}
