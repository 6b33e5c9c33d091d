// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A plain in-memory tree, written from POSIX alone: what a branch has to show.

use std::collections::BTreeMap;

use rustix::io::Errno;

use super::ops::{Kind, Op, Path};

/// An inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Directory(BTreeMap<Vec<u8>, usize>),
    File(Vec<u8>),
    Symlink(Vec<u8>),
    Fifo,
}

#[derive(Debug, Clone)]
struct Inode {
    node: Node,
    mode: u32,
    owner: (u32, u32),
    links: u32,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A tree; inode 0 is the root.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    inodes: Vec<Inode>,
}

type Result<T> = std::result::Result<T, Errno>;

impl Inode {
    fn new(node: Node, mode: u32) -> Self {
        let links = if matches!(node, Node::Directory(_)) { 2 } else { 1 };
        Self { node, mode, owner: (1, 2), links, xattrs: BTreeMap::new() }
    }

    fn is_dir(&self) -> bool {
        matches!(self.node, Node::Directory(_))
    }
}

impl Tree {
    pub(crate) fn new(mode: u32, owner: (u32, u32)) -> Self {
        let root = Inode { owner, ..Inode::new(Node::Directory(BTreeMap::new()), mode) };
        Self { inodes: vec![root] }
    }

    /// A file of the image that the branches stand on.
    pub(crate) fn add(&mut self, name: &[u8], mode: u32, owner: (u32, u32), bytes: &[u8]) {
        let inode = Inode { owner, ..Inode::new(Node::File(bytes.to_vec()), mode) };
        self.inodes.push(inode);
        let ino = self.inodes.len() - 1;
        self.names(0).expect("the root").insert(name.to_vec(), ino);
    }

    fn names(&mut self, ino: usize) -> Result<&mut BTreeMap<Vec<u8>, usize>> {
        match &mut self.inodes[ino].node {
            Node::Directory(names) => Ok(names),
            _ => Err(Errno::NOTDIR),
        }
    }

    fn child(&self, directory: usize, name: &[u8]) -> Result<Option<usize>> {
        match &self.inodes[directory].node {
            Node::Directory(names) => Ok(names.get(name).copied()),
            _ => Err(Errno::NOTDIR),
        }
    }

    /// The directory that a path's last name is in, and that name.
    fn parent<'p>(&self, path: &'p Path) -> Result<(usize, &'p [u8])> {
        let (name, directories) = path.split_last().expect("paths have names");
        let mut at = 0;
        for directory in directories {
            at = self.child(at, directory)?.ok_or(Errno::NOENT)?;
        }
        self.child(at, b"")?;
        Ok((at, name))
    }

    fn find(&self, path: &Path) -> Result<usize> {
        let (directory, name) = self.parent(path)?;
        self.child(directory, name)?.ok_or(Errno::NOENT)
    }

    fn file(&mut self, path: &Path) -> Result<&mut Vec<u8>> {
        let ino = self.find(path)?;
        match &mut self.inodes[ino].node {
            Node::File(bytes) => Ok(bytes),
            Node::Directory(_) => Err(Errno::ISDIR),
            _ => Err(Errno::INVAL),
        }
    }

    /// Users attach attributes to files and directories alone.
    fn user_xattrs(&mut self, path: &Path) -> Result<&mut BTreeMap<Vec<u8>, Vec<u8>>> {
        let ino = self.find(path)?;
        match &mut self.inodes[ino] {
            Inode { node: Node::File(_) | Node::Directory(_), xattrs, .. } => Ok(xattrs),
            _ => Err(Errno::PERM),
        }
    }

    fn is_below(&self, at: usize, above: usize) -> bool {
        at == above
            || match &self.inodes[above].node {
                Node::Directory(names) => names.values().any(|child| self.is_below(at, *child)),
                _ => false,
            }
    }

    fn count_subdirectory(&mut self, directory: usize, child: usize, by: i32) {
        if self.inodes[child].is_dir() {
            let links = &mut self.inodes[directory].links;
            *links = links.checked_add_signed(by).expect("links");
        }
    }

    fn attach(&mut self, directory: usize, name: &[u8], child: usize) {
        self.names(directory).expect("a directory").insert(name.to_vec(), child);
        self.count_subdirectory(directory, child, 1);
    }

    fn detach(&mut self, directory: usize, name: &[u8]) -> usize {
        let child = self.names(directory).expect("a directory").remove(name).expect("a name");
        self.count_subdirectory(directory, child, -1);
        child
    }

    fn drop_link(&mut self, ino: usize) {
        self.inodes[ino].links -= 1;
    }

    fn is_empty(&self, ino: usize) -> bool {
        matches!(&self.inodes[ino].node, Node::Directory(names) if names.is_empty())
    }

    /// Does what an operation asks, or says why not.
    pub(crate) fn apply(&mut self, op: &Op) -> Result<()> {
        match op {
            Op::Make(path, kind) => {
                let (directory, name) = self.parent(path)?;
                if self.child(directory, name)?.is_some() {
                    return Err(Errno::EXIST);
                }
                let node = match kind {
                    Kind::File => Node::File(Vec::new()),
                    Kind::Directory => Node::Directory(BTreeMap::new()),
                    Kind::Fifo => Node::Fifo,
                    Kind::Symlink(target) => Node::Symlink(target.clone()),
                };
                self.inodes.push(Inode::new(node, kind.mode()));
                self.attach(directory, name, self.inodes.len() - 1);
            }
            Op::Link(old, new) => {
                let ino = self.find(old)?;
                let (directory, name) = self.parent(new)?;
                if self.inodes[ino].is_dir() {
                    return Err(Errno::PERM);
                }
                if self.child(directory, name)?.is_some() {
                    return Err(Errno::EXIST);
                }
                self.inodes[ino].links += 1;
                self.attach(directory, name, ino);
            }
            Op::Unlink(path) => {
                let (directory, name) = self.parent(path)?;
                let ino = self.child(directory, name)?.ok_or(Errno::NOENT)?;
                if self.inodes[ino].is_dir() {
                    return Err(Errno::ISDIR);
                }
                self.detach(directory, name);
                self.drop_link(ino);
            }
            Op::Rmdir(path) => {
                let (directory, name) = self.parent(path)?;
                let ino = self.child(directory, name)?.ok_or(Errno::NOENT)?;
                if !self.inodes[ino].is_dir() {
                    return Err(Errno::NOTDIR);
                }
                if !self.is_empty(ino) {
                    return Err(Errno::NOTEMPTY);
                }
                self.detach(directory, name);
                self.drop_link(ino);
            }
            Op::Rename(old, new) => self.rename(old, new, false)?,
            Op::Exchange(old, new) => self.rename(old, new, true)?,
            Op::Write(path, offset, bytes) => {
                let file = self.file(path)?;
                let (start, end) = (*offset as usize, *offset as usize + bytes.len());
                if file.len() < end && !bytes.is_empty() {
                    file.resize(end, 0);
                }
                if !bytes.is_empty() {
                    file[start..end].copy_from_slice(bytes);
                }
            }
            Op::Append(path, bytes) => self.file(path)?.extend_from_slice(bytes),
            Op::Truncate(path, size) => self.file(path)?.resize(*size as usize, 0),
            Op::Punch(path, offset, len) => {
                let file = self.file(path)?;
                let end = file.len().min((offset + len) as usize);
                if let Some(hole) = file.get_mut(*offset as usize..end) {
                    hole.fill(0);
                }
            }
            Op::Allocate(path, offset, len) => {
                let file = self.file(path)?;
                let size = file.len().max((offset + len) as usize);
                file.resize(size, 0);
            }
            Op::Chmod(path, mode) => {
                let ino = self.find(path)?;
                self.inodes[ino].mode = *mode;
            }
            Op::Chown(path, uid, gid) => {
                let ino = self.find(path)?;
                self.inodes[ino].owner = (*uid, *gid);
            }
            Op::SetXattr(path, name, value) => {
                self.user_xattrs(path)?.insert(name.clone(), value.clone());
            }
            Op::RemoveXattr(path, name) => {
                self.user_xattrs(path)?.remove(name).ok_or(Errno::NODATA)?;
            }
        }
        Ok(())
    }

    fn rename(&mut self, old: &Path, new: &Path, exchange: bool) -> Result<()> {
        let (from, old_name) = self.parent(old)?;
        let moved = self.child(from, old_name)?.ok_or(Errno::NOENT)?;
        let (to, new_name) = self.parent(new)?;
        let replaced = self.child(to, new_name)?;
        if self.is_below(to, moved) {
            return Err(Errno::INVAL);
        }
        if exchange && replaced.is_none() {
            return Err(Errno::NOENT);
        }
        if let Some(replaced) = replaced.filter(|replaced| *replaced != moved) {
            if exchange {
                if self.is_below(from, replaced) {
                    return Err(Errno::INVAL);
                }
                self.detach(from, old_name);
                self.detach(to, new_name);
                self.attach(from, old_name, replaced);
                self.attach(to, new_name, moved);
                return Ok(());
            }
            match (self.inodes[moved].is_dir(), self.inodes[replaced].is_dir()) {
                (true, false) => return Err(Errno::NOTDIR),
                (false, true) => return Err(Errno::ISDIR),
                (true, true) if !self.is_empty(replaced) => return Err(Errno::NOTEMPTY),
                _ => {}
            }
            self.detach(to, new_name);
            self.drop_link(replaced);
        } else if replaced.is_some() {
            return Ok(());
        }
        self.detach(from, old_name);
        self.attach(to, new_name, moved);
        Ok(())
    }

    /// The tree as text, a line for each name.
    pub(crate) fn dump(&self) -> String {
        let mut lines = Vec::new();
        self.dump_below(0, "", &mut lines);
        lines.join("\n")
    }

    fn dump_below(&self, ino: usize, path: &str, lines: &mut Vec<String>) {
        let inode = &self.inodes[ino];
        let content = match &inode.node {
            Node::Directory(_) => String::new(),
            Node::File(bytes) => super::show(bytes),
            Node::Symlink(target) => String::from_utf8_lossy(target).into_owned(),
            Node::Fifo => "fifo".into(),
        };
        let (mode, (uid, gid), links) = (inode.mode, inode.owner, inode.links);
        lines.push(format!("{path}/ {mode:o} {uid}:{gid} {links} {content} {:?}", inode.xattrs));
        if let Node::Directory(names) = &inode.node {
            for (name, child) in names {
                let name = String::from_utf8_lossy(name);
                self.dump_below(*child, &format!("{path}/{name}"), lines);
            }
        }
    }
}
