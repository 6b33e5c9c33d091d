// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Taking the tree of an image: the base, or what a branch shows.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Attributes, Child, NodeId, Origin, Scan, Selection, Tree};
use crate::base::Inode;
use crate::error::{Error, Result, show};
use crate::format::{ROOT_INO, mode};
use crate::paths::join;
use crate::progress::Progress;
use crate::view::{BYTES_PER_NAME, View};

/// Scans the whole tree that a view shows.
pub fn scan(view: &Arc<View>, selection: &Selection, progress: &Progress) -> Result<Scan> {
    let root = view.inode(ROOT_INO)?;
    let mut tree = Tree::new(attributes_of(view, &root, selection)?);
    // Every inode has one node, which its first name gives it.
    let mut nodes: HashMap<u64, NodeId> = HashMap::from([(ROOT_INO, 0)]);
    // Directories that share their bytes would make this quadratic.
    let mut room = view.image().superblock().total_size.get() / BYTES_PER_NAME;
    let mut level: Vec<(NodeId, Vec<u8>, Inode)> = vec![(0, Vec::new(), root)];
    while !level.is_empty() {
        let mut below = Vec::new();
        for (directory, path, inode) in &level {
            progress.check()?;
            let at = view.image().base().inode_offset(inode.ino);
            let entries = view.read_dir(inode)?;
            room = room.checked_sub(entries.len() as u64).ok_or_else(|| {
                let found = format!("more, up to {}", show(path));
                Error::corrupt("directory", at, "names that fit into the image", found)
            })?;
            let mut children = Vec::with_capacity(entries.len());
            let mut number = tree.nodes().len() as NodeId;
            let mut bytes = 0;
            for entry in entries {
                let full = || join(path, &entry.name);
                let inode = view.inode(entry.ino)?;
                let exclude = &selection.exclude;
                if !exclude.is_empty() && exclude.matches(&full(), inode.is_dir()) {
                    continue;
                }
                bytes += entry.name.len();
                let child = match nodes.get(&entry.ino) {
                    Some(_) if inode.is_dir() => {
                        let found = format!("a second one, {}", show(&full()));
                        return Err(Error::corrupt("directory", at, "one name", found));
                    }
                    Some(node) => Child::Link(*node),
                    None => {
                        let attributes = attributes_of(view, &inode, selection)?;
                        bytes += attributes.target.len();
                        nodes.insert(entry.ino, number);
                        if inode.is_dir() {
                            below.push((number, full(), inode));
                        }
                        number += 1;
                        Child::New(attributes)
                    }
                };
                children.push((entry.name, child));
            }
            if !tree.has_room(children.len(), bytes) {
                return Err(Error::invalid("too many names for one base image"));
            }
            progress.advance(children.len() as u64, 0);
            tree.fill(*directory, children);
        }
        level = below;
    }
    Ok(Scan { tree, origin: Origin::Image(Arc::clone(view)), problems: Vec::new() })
}

fn attributes_of(view: &View, inode: &Inode, selection: &Selection) -> Result<Attributes> {
    let mut xattrs = view.xattrs(inode)?;
    xattrs.sort_unstable();
    let mut attributes = Attributes {
        mode: inode.mode,
        uid: inode.uid,
        gid: inode.gid,
        rdev: if mode::is_device(inode.mode) { inode.rdev } else { 0 },
        size: inode.size,
        mtime: inode.mtime,
        xattrs,
        target: if inode.is_symlink() { view.readlink(inode)? } else { Vec::new() },
        // Where to read it from: a view has no other positions.
        position: inode.ino,
    };
    selection.adjust(&mut attributes);
    Ok(attributes)
}
