// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is not an answer to one request: switching between branches, noticing what others do to
//! them, and telling the kernel.
//!
//! All of it is done by one thread that serves no requests. While the kernel is told to forget a
//! name it may wait for a look-up in the same directory, which the serving threads must answer.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use daxfs_core::branch::handle::Branch;
use daxfs_core::error::{Error, Result};
use daxfs_core::format::{MAIN_NAME, ROOT_INO};
use daxfs_core::region::Access;
use daxfs_core::view::View;
use fuser::{INodeNo, Notifier, ReplyIoctl};

use crate::tree::{Change, Node, Tree};
use crate::vfs_super::{Mounted, errno};

/// Between two looks at what others do: how long the kernel may go on with what it remembers of a
/// branch that has ended.
const PERIOD: Duration = Duration::from_millis(10);

/// Between two times of giving back space that nobody needs any more.
const MAINTENANCE: Duration = Duration::from_secs(10);

/// A request about branches; no name means the branch that is mounted.
#[derive(Debug)]
pub(crate) enum Order {
    /// Make a branch and show it.
    Create { name: String, parent: Option<String> },
    /// Show another branch.
    Switch { name: String },
    /// Commit a branch.
    Commit { name: Option<String> },
    /// Abort a branch.
    Abort { name: Option<String> },
}

/// Carries out orders and watches, until the mount is gone.
pub(crate) fn run(mounted: &Mounted, orders: &Receiver<(Order, ReplyIoctl)>) {
    let mut maintained = Instant::now();
    loop {
        match orders.recv_timeout(PERIOD) {
            Ok((order, reply)) => {
                match mounted.carry_out(&order) {
                    Ok(()) => reply.ioctl(0, &[]),
                    Err(error) => {
                        log::warn!("{}: {error}", mounted.place.path().display());
                        reply.error(errno(error));
                    }
                }
                // A branch may have ended, and its space can come back.
                maintained = mounted.maintain();
            }
            Err(RecvTimeoutError::Timeout) if maintained.elapsed() > MAINTENANCE => {
                mounted.look_around();
                maintained = mounted.maintain();
            }
            Err(RecvTimeoutError::Timeout) => mounted.look_around(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

impl Mounted {
    fn carry_out(&self, order: &Order) -> Result<()> {
        let session = self.party()?;
        let tree = self.mounted_tree().map_err(|_| not_a_branch())?;
        let mounted = tree.name().ok_or_else(not_a_branch)?.to_owned();
        if !self.writes && !matches!(order, Order::Switch { .. }) {
            let why = "the mount is for reading".into();
            return Err(Error::ReadOnly { name: mounted, why });
        }
        let unchanged = matches!(order, Order::Switch { name }
            if *name == mounted && tree.may_write() == self.writes);
        // With names that the kernel forgets goes what is mounted on them, without a word.
        if !unchanged && let Some(below) = self.place.below().first() {
            let why = format!("{} is mounted below; unmount it first", below.display());
            return Err(Error::Busy { name: mounted, why });
        }
        let written = self.write_out();
        // What is dropped, or lost already, need not have been written.
        if !matches!(order, Order::Abort { .. }) && tree.view().is_ok() {
            written?;
        }
        match order {
            Order::Create { name, parent } => {
                let parent = match parent {
                    Some(parent) => parent,
                    None => {
                        // One that has ended says so; its name is nobody's, or another's.
                        tree.view()?;
                        &mounted
                    }
                };
                let branch = session.create(name, parent)?;
                for other in self.trees() {
                    // Shown in the control directory, too, it is nobody's to write from now on.
                    if other.tag != tree.tag && other.name() == Some(parent.as_str()) {
                        let last = other.view().ok();
                        self.release(&other);
                        self.forget(&other, last.as_ref(), false);
                    }
                }
                self.show(&tree, branch, self.writes);
            }
            Order::Switch { .. } if unchanged => {}
            Order::Switch { name } => {
                let branch = self.open_for_mount(name)?;
                match tree.sync() {
                    Ok(()) | Err(Error::Stale { .. }) => {}
                    Err(error) => return Err(error),
                }
                self.show(&tree, branch, self.writes);
            }
            Order::Commit { name } => {
                let name = name.as_deref().unwrap_or(&mounted);
                self.take(&tree, name)?.commit()?;
                self.end(&tree, name == mounted, MAIN_NAME)?;
            }
            Order::Abort { name } => {
                let name = name.as_deref().unwrap_or(&mounted);
                let branches = session.branches()?;
                let parent = branches.iter().find(|branch| branch.name == name);
                let parent = parent.and_then(|branch| branch.parent.clone());
                self.take(&tree, name)?.abort()?;
                self.end(&tree, name == mounted, parent.as_deref().unwrap_or(MAIN_NAME))?;
            }
        }
        Ok(())
    }

    /// A branch that is to end; the one that is mounted may have ended already, and says so.
    fn take(&self, mounted: &Tree, name: &str) -> Result<Branch> {
        if mounted.name() == Some(name) {
            return mounted.writer();
        }
        self.party()?.open_branch(name, Access::Write)
    }

    /// A branch as a mount shows it. Main is taken when it is written, as whoever holds it keeps
    /// others from making branches; any other is there to be written, if it lets itself be.
    fn open_for_mount(&self, name: &str) -> Result<Branch> {
        let session = self.party()?;
        if !self.writes || name == MAIN_NAME {
            return session.open_branch(name, Access::Read);
        }
        match session.open_branch(name, Access::Write) {
            Err(Error::ReadOnly { .. }) => session.open_branch(name, Access::Read),
            opened => opened,
        }
    }

    /// After a branch has ended: if it was the one that is mounted, `next` is shown.
    fn end(&self, tree: &Arc<Tree>, mounted: bool, next: &str) -> Result<()> {
        if mounted {
            let next = self.open_for_mount(next).or_else(|error| match error {
                Error::Busy { .. } => self.party()?.open_branch(next, Access::Read),
                error => Err(error),
            })?;
            // Whoever worked in a branch may still be at it, and was not let into main.
            let may_write = self.writes && (self.writes_main || next.name() != MAIN_NAME);
            self.show(tree, next, may_write);
        }
        self.look_around();
        Ok(())
    }

    /// Mounts a branch in the place of another.
    fn show(&self, old: &Arc<Tree>, branch: Branch, may_write: bool) {
        let last = match old.look() {
            Change::Ended(last) => last,
            _ => old.view().ok(),
        };
        let new = self.add_tree(branch, may_write);
        self.mount_tree(&new);
        self.drop_tree(old);
        self.release(old);
        self.forget(old, last.as_ref(), true);
        // The control directory showed it until now, with a cache that would go on.
        for twin in self.trees() {
            if twin.tag != new.tag && twin.name() == new.name() {
                let last = twin.view().ok();
                self.drop_tree(&twin);
                self.forget(&twin, last.as_ref(), false);
            }
        }
    }

    /// Lets others write to a tree.
    fn release(&self, tree: &Tree) {
        match tree.release() {
            Ok(()) | Err(Error::Stale { .. }) => {}
            Err(error) => log::error!("{}: {error}", self.place.path().display()),
        }
    }

    /// Gives back space that nobody needs any more; says when.
    fn maintain(&self) -> Instant {
        if self.writes
            && let Some(session) = &self.session
            && let Err(error) = session.maintain()
        {
            log::warn!("{}: {error}", self.place.path().display());
        }
        Instant::now()
    }

    /// Looks what became of the trees that are shown.
    pub(crate) fn look_around(&self) {
        for tree in self.trees() {
            match tree.look() {
                Change::None => {}
                Change::Changed => self.forget_changed(&tree),
                Change::Ended(last) => {
                    let mounted = self.is_mounted_root(Node::root(tree.tag));
                    // The mounted tree stays, stale, until something else is shown.
                    if last.is_some() || !mounted {
                        self.forget(&tree, last.as_ref(), mounted);
                    }
                    if !mounted {
                        self.drop_tree(&tree);
                    }
                }
            }
        }
    }

    /// Lets the kernel forget what it keeps of files that others may have changed, which those that
    /// are as in the base image are not.
    fn forget_changed(&self, tree: &Tree) {
        let Some(notifier) = self.notifier.get() else { return };
        // Attributes that it may not keep for a while it asks for each time.
        let keeps = |ino: u64| tree.caches(ino) || !self.actimeo.is_zero() && tree.knows(ino);
        // Nothing is looked at while the kernel writes pages, which may have to wait for that.
        let touched = tree.view().map(|view| view.touched().filter(|ino| keeps(*ino)).collect());
        let touched: Vec<u64> = touched.unwrap_or_default();
        for ino in touched {
            let _ = notifier.inval_inode(self.number(Node { tag: tree.tag, ino }), 0, 0);
        }
    }

    /// Lets the kernel forget the contents and attributes of a tree's files.
    fn forget_data(&self, tree: &Tree) {
        let Some(notifier) = self.notifier.get() else { return };
        for ino in tree.known() {
            // Nothing can be done about what the kernel cannot let go of.
            let _ = notifier.inval_inode(self.number(Node { tag: tree.tag, ino }), 0, 0);
        }
    }

    /// Lets the kernel forget a tree: names, attributes, contents, mapped pages.
    fn forget(&self, tree: &Tree, last: Option<&View>, mounted: bool) {
        let Some(notifier) = self.notifier.get() else { return };
        let top = if mounted { INodeNo::ROOT } else { self.number(Node::root(tree.tag)) };
        if let Some(view) = last
            && let Ok(directory) = view.inode(ROOT_INO)
        {
            // With a directory the kernel forgets all below it, and takes away what is mounted there.
            for below in self.place.below().into_iter().filter(|_| mounted) {
                log::warn!("{}: taken away with the branch that has ended", below.display());
            }
            for entry in view.entries(&directory).flatten() {
                forget_name(notifier, top, &entry.name);
            }
        }
        self.forget_data(tree);
        let _ = notifier.inval_inode(top, 0, 0);
    }
}

fn forget_name(notifier: &Notifier, directory: INodeNo, name: &[u8]) {
    let _ = notifier.inval_entry(directory, OsStr::from_bytes(name));
}

/// The error for a request that only makes sense about a branch.
fn not_a_branch() -> Error {
    Error::invalid("main is what branches are committed to")
}
