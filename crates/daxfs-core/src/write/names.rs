// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Operations on names: make, link, remove, move.

use std::iter;

use super::{Operation, Purpose};
use crate::base::{Inode, Xattr};
use crate::branch::handle::Branch;
use crate::delta::{Change, is_name};
use crate::error::{Error, Result, quote, show};
use crate::format::{FILE_NLINK_MAX, NAME_MAX, TARGET_MAX, mode};
use crate::view::View;

/// What a new inode begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewInode {
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number, in the kernel's 32-bit encoding; devices only.
    pub rdev: u32,
}

impl NewInode {
    /// One made in `directory`, which gives it its own group if it has the set-group-ID bit, and
    /// that bit to a directory.
    pub fn made_in(directory: &Inode, mode: u32, uid: u32, gid: u32, rdev: u32) -> Self {
        if directory.mode & mode::SET_GROUP_ID == 0 {
            return Self { mode, uid, gid, rdev };
        }
        let is_dir = mode & mode::TYPE == mode::DIRECTORY;
        let mode = if is_dir { mode | mode::SET_GROUP_ID } else { mode };
        Self { mode, uid, gid: directory.gid, rdev }
    }
}

/// What a rename does to the new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rename {
    /// Replaces what is there.
    Replace,
    /// Fails if something is there.
    NoReplace,
    /// Swaps the two.
    Exchange,
}

impl Branch {
    /// Makes a file, directory, device, FIFO or socket.
    pub fn mknod(&self, parent: u64, name: &[u8], new: &NewInode) -> Result<Inode> {
        self.mknod_with(parent, name, new, &[])
    }

    /// The same, with extended attributes that it has from the beginning.
    pub fn mknod_with(
        &self,
        parent: u64,
        name: &[u8],
        new: &NewInode,
        xattrs: &[Xattr],
    ) -> Result<Inode> {
        let known = matches!(
            new.mode & mode::TYPE,
            mode::REGULAR | mode::DIRECTORY | mode::CHAR | mode::BLOCK | mode::FIFO | mode::SOCKET
        );
        if !known || new.mode & !(mode::TYPE | 0o7777) != 0 {
            return Err(Error::invalid(format!("mode {:#o} is that of no new file", new.mode)));
        }
        self.make(parent, name, new, None, xattrs)
    }

    /// Makes a symbolic link.
    pub fn symlink(
        &self,
        parent: u64,
        name: &[u8],
        target: &[u8],
        uid: u32,
        gid: u32,
    ) -> Result<Inode> {
        if target.is_empty() {
            return Err(Error::NotFound { path: target.to_vec() });
        }
        if target.len() as u64 > TARGET_MAX {
            return Err(Error::TooLong {
                what: "symlink target",
                length: target.len() as u64,
                limit: TARGET_MAX,
                path: name.to_vec(),
            });
        }
        if target.contains(&0) {
            return Err(Error::invalid("a symlink target cannot hold a NUL"));
        }
        let new = NewInode { mode: mode::SYMLINK | 0o777, uid, gid, rdev: 0 };
        self.make(parent, name, &new, Some(target.into()), &[])
    }

    fn make(
        &self,
        parent: u64,
        name: &[u8],
        new: &NewInode,
        target: Option<Box<[u8]>>,
        xattrs: &[Xattr],
    ) -> Result<Inode> {
        self.operate(|mut operation| {
            operation.free_name(parent, name)?;
            let ino = operation.open.session.new_ino()?;
            let NewInode { mode, uid, gid, rdev } = *new;
            // To anything else a device number means nothing.
            let rdev = if mode::is_device(mode) { rdev } else { 0 };
            let (name, target) = (name.into(), target.clone());
            let change = Change::Mknod { parent, mode, uid, gid, rdev, name, target };
            let set = |(name, value): &Xattr| {
                let (name, value) = (name[..].into(), Some(value[..].into()));
                (ino, Change::SetXattr { name, value })
            };
            let entries: Vec<_> = iter::once((ino, change)).chain(xattrs.iter().map(set)).collect();
            operation.log(&entries, Purpose::Growth)?;
            operation.inode(ino)
        })
    }

    /// Gives a file one more name.
    pub fn link(&self, ino: u64, parent: u64, name: &[u8]) -> Result<Inode> {
        self.operate(|mut operation| {
            let inode = operation.inode(ino)?;
            if inode.is_dir() {
                return Err(Error::NotPermitted {
                    what: "link to a directory",
                    path: name.to_vec(),
                });
            }
            if inode.nlink == 0 {
                return Err(Error::NotFound { path: name.to_vec() });
            }
            if inode.nlink >= FILE_NLINK_MAX {
                return Err(Error::TooManyLinks { path: name.to_vec() });
            }
            operation.free_name(parent, name)?;
            let change = Change::Link { parent, name: name.into() };
            operation.log(&[(ino, change)], Purpose::Growth)?;
            operation.inode(ino)
        })
    }

    /// Removes a name that is not a directory's.
    pub fn unlink(&self, parent: u64, name: &[u8]) -> Result<()> {
        self.remove(parent, name, |_, found| match found.is_dir() {
            true => Err(Error::IsDirectory { path: name.to_vec() }),
            false => Ok(()),
        })
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, parent: u64, name: &[u8]) -> Result<()> {
        self.remove(parent, name, |view, found| {
            if !found.is_dir() {
                return Err(Error::NotDirectory { path: name.to_vec() });
            }
            expect_empty(view, found, name)
        })
    }

    fn remove(
        &self,
        parent: u64,
        name: &[u8],
        check: impl Fn(&View, &Inode) -> Result<()>,
    ) -> Result<()> {
        self.operate(|mut operation| {
            let view = operation.view()?;
            let directory = directory(&view, parent, name)?;
            let found = existing(&view, &directory, name)?;
            check(&view, &found)?;
            drop(view);
            let change = Change::Delete { parent, name: name.into() };
            operation.log(&[(found.ino, change)], Purpose::Relief)?;
            operation.dropped(&found);
            Ok(())
        })
    }

    /// Moves a name, as renameat2 does.
    pub fn rename(
        &self,
        parent: u64,
        name: &[u8],
        new_parent: u64,
        new_name: &[u8],
        how: Rename,
    ) -> Result<()> {
        self.operate(|operation| operation.rename((parent, name), (new_parent, new_name), how))
    }
}

impl Operation<'_> {
    fn rename(
        mut self,
        (parent, name): (u64, &[u8]),
        (new_parent, new_name): (u64, &[u8]),
        how: Rename,
    ) -> Result<()> {
        let view = self.view()?;
        let old_directory = directory(&view, parent, name)?;
        let moved = existing(&view, &old_directory, name)?;
        let new_directory = directory(&view, new_parent, new_name)?;
        check_name(new_name)?;
        let replaced = view.lookup(&new_directory, new_name)?;
        if moved.is_dir() {
            expect_outside(&view, &moved, new_parent, name)?;
        }
        match (how, &replaced) {
            (Rename::Exchange, None) => {
                return Err(Error::NotFound { path: new_name.to_vec() });
            }
            (Rename::Exchange, Some(other)) if other.is_dir() => {
                expect_outside(&view, other, parent, new_name)?;
            }
            (Rename::NoReplace, Some(_)) => {
                return Err(Error::FileExists { path: new_name.to_vec() });
            }
            (Rename::Replace, Some(other)) if other.ino != moved.ino => {
                match (moved.is_dir(), other.is_dir()) {
                    (true, false) => {
                        return Err(Error::NotDirectory { path: new_name.to_vec() });
                    }
                    (false, true) => {
                        return Err(Error::IsDirectory { path: new_name.to_vec() });
                    }
                    (true, true) => expect_empty(&view, other, new_name)?,
                    (false, false) => {}
                }
            }
            _ => {}
        }
        // Two names of one inode: nothing happens.
        if replaced.is_some_and(|replaced| replaced.ino == moved.ino) {
            return Ok(());
        }
        drop(view);
        let change = Change::Rename {
            ino: moved.ino,
            old_parent: parent,
            new_parent,
            old_name: name.into(),
            new_name: new_name.into(),
            exchange: how == Rename::Exchange,
        };
        self.log(&[(moved.ino, change)], Purpose::Growth)?;
        if let Some(replaced) = replaced.filter(|_| how == Rename::Replace) {
            self.dropped(&replaced);
        }
        Ok(())
    }

    /// Makes sure that a name can be made in a directory.
    fn free_name(&self, parent: u64, name: &[u8]) -> Result<()> {
        let view = self.view()?;
        let directory = directory(&view, parent, name)?;
        check_name(name)?;
        match view.lookup(&directory, name)? {
            None => Ok(()),
            Some(_) => Err(Error::FileExists { path: name.to_vec() }),
        }
    }
}

/// A directory that names can be in: a removed one cannot hold any.
fn directory(view: &View, ino: u64, name: &[u8]) -> Result<Inode> {
    let directory = view.inode(ino)?;
    if !directory.is_dir() {
        return Err(Error::NotDirectory { path: name.to_vec() });
    }
    if directory.nlink == 0 {
        return Err(Error::NotFound { path: name.to_vec() });
    }
    Ok(directory)
}

fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > NAME_MAX {
        return Err(Error::TooLong {
            what: "name",
            length: name.len() as u64,
            limit: NAME_MAX as u64,
            path: name.to_vec(),
        });
    }
    if name == b"." || name == b".." {
        return Err(Error::FileExists { path: name.to_vec() });
    }
    if !is_name(name) {
        return Err(Error::invalid(format!("{} cannot name a file", quote(name))));
    }
    Ok(())
}

fn existing(view: &View, directory: &Inode, name: &[u8]) -> Result<Inode> {
    if name.len() > NAME_MAX {
        check_name(name)?;
    }
    view.lookup(directory, name)?.ok_or_else(|| Error::NotFound { path: name.to_vec() })
}

fn expect_empty(view: &View, directory: &Inode, name: &[u8]) -> Result<()> {
    match view.entries(directory).next() {
        None => Ok(()),
        Some(entry) => entry.and_then(|_| Err(Error::NotEmpty { path: name.to_vec() })),
    }
}

/// A directory, of this name, cannot be moved into itself or to below itself.
fn expect_outside(view: &View, moved: &Inode, into: u64, name: &[u8]) -> Result<()> {
    if view.is_below(into, moved.ino)? {
        return Err(Error::invalid(format!(
            "{}: a directory cannot be moved to below itself",
            show(name)
        )));
    }
    Ok(())
}
