// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was done in a branch, entry by entry, and to which paths.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::branch::look::look;
use crate::delta::{Change, Entry, LogSpace, scan};
use crate::error::Result;
use crate::format::ROOT_INO;
use crate::image::Image;
use crate::view::View;

/// An entry of a log, and the paths that it concerned when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The entry.
    pub entry: Entry,
    /// Of a name that was made or removed, that; otherwise one of the inode's. None if the inode
    /// had no name, or the log does not tell: a file that another one was renamed over.
    pub path: Option<Vec<u8>>,
    /// What a name became, or what another name is.
    pub new_path: Option<Vec<u8>>,
}

/// What a branch's own log holds, oldest entry first: nothing of the branches below it.
pub fn log(image: &Arc<Image>, branch: &str) -> Result<Vec<Event>> {
    let (events, _) = look(image, |table| {
        let Some(record) = table.find(branch)? else { return Ok(Vec::new()) };
        let space = LogSpace::of(image.superblock());
        let entries = scan(image.region(), &space, record.log, record.log_size);
        events(&View::replay(image, table, branch)?, entries.collect::<Result<_>>()?)
    })?;
    Ok(events)
}

/// Entries name inodes by their numbers. What these were called follows from what they are called
/// in `view`, the branch's tree, when the names that the log made are taken back from its end on.
fn events(view: &View, entries: Vec<Entry>) -> Result<Vec<Event>> {
    let mut names = Names::of(view, &entries)?;
    let mut events: Vec<_> =
        entries.into_iter().rev().map(|entry| names.take_back(entry)).collect();
    events.reverse();
    Ok(events)
}

/// A directory, and a name in it.
type Place = (u64, Vec<u8>);

/// Which names inodes have, both ways.
#[derive(Default)]
struct Names {
    places: HashMap<u64, Vec<Place>>,
    inodes: HashMap<Place, u64>,
}

impl Names {
    /// The names of all directories, and of those files that entries concern.
    fn of(view: &View, entries: &[Entry]) -> Result<Self> {
        let concerned: HashSet<u64> = entries.iter().map(|entry| entry.ino).collect();
        // An exchange tells the number of one of its two inodes.
        let exchanged =
            |entry: &Entry| matches!(entry.change, Change::Rename { exchange: true, .. });
        let all = entries.iter().any(exchanged);
        let (mut names, tree) = (Self::default(), crate::names::Names::new(view));
        let mut pending = vec![view.inode(ROOT_INO)?];
        while let Some(directory) = pending.pop() {
            for entry in tree.of(&directory)? {
                let inode = view.inode(entry.ino)?;
                let known = names.places.contains_key(&inode.ino);
                if all || inode.is_dir() || concerned.contains(&inode.ino) {
                    names.add(inode.ino, (directory.ino, entry.name));
                }
                if inode.is_dir() && !known {
                    pending.push(inode);
                }
            }
        }
        Ok(names)
    }

    fn add(&mut self, ino: u64, place: Place) {
        self.inodes.insert(place.clone(), ino);
        self.places.entry(ino).or_default().push(place);
    }

    /// Makes the names what they were before an entry.
    fn take_back(&mut self, entry: Entry) -> Event {
        let ino = entry.ino;
        let (path, new_path) = match &entry.change {
            Change::Create { parent, ino, name, .. }
            | Change::Symlink { parent, ino, name, .. } => (self.take(*ino, *parent, name), None),
            Change::Mknod { parent, name, .. } => (self.take(ino, *parent, name), None),
            Change::Link { parent, name } => {
                let made = self.take(ino, *parent, name);
                (self.path(ino), made)
            }
            Change::Delete { parent, name } => (self.give(ino, *parent, name), None),
            Change::Rename { ino, old_parent, new_parent, old_name, new_name, exchange } => {
                let other = exchange.then(|| self.at(*old_parent, old_name)).flatten();
                let new = self.take(*ino, *new_parent, new_name);
                if let Some(other) = other {
                    self.take(other, *old_parent, old_name);
                    self.give(other, *new_parent, new_name);
                }
                (self.give(*ino, *old_parent, old_name), new)
            }
            _ => (self.path(ino), None),
        };
        Event { entry, path, new_path }
    }

    fn give(&mut self, ino: u64, parent: u64, name: &[u8]) -> Option<Vec<u8>> {
        self.add(ino, (parent, name.to_vec()));
        self.join(parent, name)
    }

    fn take(&mut self, ino: u64, parent: u64, name: &[u8]) -> Option<Vec<u8>> {
        let place = (parent, name.to_vec());
        if let Some(places) = self.places.get_mut(&ino) {
            places.retain(|one| *one != place);
        }
        self.inodes.remove(&place);
        self.join(parent, name)
    }

    /// The inode that a name names.
    fn at(&self, parent: u64, name: &[u8]) -> Option<u64> {
        self.inodes.get(&(parent, name.to_vec())).copied()
    }

    fn join(&self, parent: u64, name: &[u8]) -> Option<Vec<u8>> {
        let above = self.path(parent)?;
        let slash: &[u8] = if above == b"/" { b"" } else { b"/" };
        Some([&above, slash, name].concat())
    }

    fn path(&self, ino: u64) -> Option<Vec<u8>> {
        let mut names = Vec::new();
        let mut at = ino;
        while at != ROOT_INO {
            // Paths have ends; what is put together of strange logs may have none.
            if names.len() > self.places.len() {
                return None;
            }
            let (parent, name) = self.places.get(&at)?.last()?;
            names.push(&name[..]);
            at = *parent;
        }
        names.reverse();
        Some([b"/", &names.join(&b'/')[..]].concat())
    }
}
