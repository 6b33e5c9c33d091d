// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Taking the tree of an image: the base, or what a branch shows.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Attributes, Child, NodeId, Origin, Scan, Selection, Tree};
use crate::base::Inode;
use crate::error::{Error, Result, quote, show};
use crate::format::{ROOT_INO, mode};
use crate::names::Names;
use crate::paths::join;
use crate::progress::Progress;
use crate::view::View;

/// Scans the whole tree that a view shows.
pub fn scan(view: &Arc<View>, selection: &Selection, progress: &Progress) -> Result<Scan> {
    let root = view.inode(ROOT_INO)?;
    if !root.is_dir() {
        return Err(wrong_type(view, &root, "a directory"));
    }
    let mut tree = Tree::new(attributes_of(view, &root, selection)?);
    // Every inode has one node, which its first name gives it.
    let mut nodes: HashMap<u64, NodeId> = HashMap::from([(ROOT_INO, 0)]);
    // What cannot be would become an image that looks sound, with checksums of its own.
    let names = Names::new(view);
    let mut level: Vec<(NodeId, Inode)> = vec![(0, root)];
    while !level.is_empty() {
        let mut below = Vec::new();
        for (directory, inode) in &level {
            progress.check()?;
            // Kept for each, paths would take far more memory than a deep tree has bytes.
            let path = tree.path(*directory);
            let at = view.image().base().inode_offset(inode.ino);
            let entries = names.of(inode)?;
            let mut children = Vec::with_capacity(entries.len());
            let mut number = tree.nodes().len() as NodeId;
            let mut bytes = 0;
            for entry in entries {
                let full = || join(&path, &entry.name);
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
                            below.push((number, inode));
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

fn wrong_type(view: &View, inode: &Inode, expected: &str) -> Error {
    let at = view.image().base().inode_offset(inode.ino) + 4;
    Error::corrupt("mode of an inode", at, expected, format_args!("{:#o}", inode.mode))
}

fn attributes_of(view: &View, inode: &Inode, selection: &Selection) -> Result<Attributes> {
    if !mode::KINDS.contains(&inode.kind()) || inode.mode > mode::TYPE | 0o7777 {
        return Err(wrong_type(view, inode, "a file type"));
    }
    let target = if inode.is_symlink() { view.readlink(inode)? } else { Vec::new() };
    if inode.is_symlink() && (target.is_empty() || target.contains(&0)) {
        let found = quote(&target);
        return Err(Error::corrupt("target of a symlink", inode.data, "one without NUL", found));
    }
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
        target,
        // Where to read it from: a view has no other positions.
        position: inode.ino,
    };
    selection.adjust(&mut attributes);
    Ok(attributes)
}
