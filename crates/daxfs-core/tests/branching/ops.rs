// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One enumeration of operations, for a branch and for the model alike.

use daxfs_core::base::Inode;
use daxfs_core::branch::handle::Branch;
use daxfs_core::error::{Error, Result};
use daxfs_core::format::mode;
use daxfs_core::view::View;
use daxfs_core::write::{NewInode, Rename, SetAttr, XattrMode};
use proptest::prelude::*;

/// Names from the root down.
pub(crate) type Path = Vec<Vec<u8>>;

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    File,
    Directory,
    Fifo,
    Symlink(Vec<u8>),
}

impl Kind {
    /// Permissions that one of this kind is made with.
    pub(crate) fn mode(&self) -> u32 {
        match self {
            Self::File => 0o640,
            Self::Directory => 0o751,
            Self::Fifo => 0o600,
            Self::Symlink(_) => 0o777,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Make(Path, Kind),
    Link(Path, Path),
    Unlink(Path),
    Rmdir(Path),
    Rename(Path, Path),
    Exchange(Path, Path),
    Write(Path, u64, Vec<u8>),
    Append(Path, Vec<u8>),
    Truncate(Path, u64),
    Punch(Path, u64, u64),
    Allocate(Path, u64, u64),
    Chmod(Path, u32),
    Chown(Path, u32, u32),
    SetXattr(Path, Vec<u8>, Vec<u8>),
    RemoveXattr(Path, Vec<u8>),
}

fn parent<'p>(view: &View, path: &'p Path) -> Result<(Inode, &'p [u8])> {
    let (name, directories) = path.split_last().expect("paths have names");
    let mut at = view.inode(1)?;
    for directory in directories {
        if !at.is_dir() {
            return Err(Error::NotDirectory { path: directory.clone() });
        }
        let found = view.lookup(&at, directory)?;
        at = found.ok_or_else(|| Error::NotFound { path: directory.clone() })?;
    }
    if !at.is_dir() {
        return Err(Error::NotDirectory { path: name.clone() });
    }
    Ok((at, name))
}

fn find(view: &View, path: &Path) -> Result<u64> {
    let (directory, name) = parent(view, path)?;
    let found = view.lookup(&directory, name)?;
    found.map(|found| found.ino).ok_or_else(|| Error::NotFound { path: name.to_vec() })
}

/// Does to a branch what the operation asks.
pub(crate) fn apply(branch: &Branch, op: &Op) -> Result<()> {
    // No view is held while something is changed: it would keep what that leaves behind.
    let find = |path| find(&branch.view()?, path);
    let place = |path| parent(&branch.view()?, path).map(|(directory, name)| (directory.ino, name));
    match op {
        Op::Make(path, kind) => {
            let (directory, name) = place(path)?;
            let kind_bits = match kind {
                Kind::File => mode::REGULAR,
                Kind::Directory => mode::DIRECTORY,
                Kind::Fifo => mode::FIFO,
                Kind::Symlink(target) => {
                    return branch.symlink(directory, name, target, 1, 2).map(drop);
                }
            };
            let new = NewInode { mode: kind_bits | kind.mode(), uid: 1, gid: 2, rdev: 0 };
            branch.mknod(directory, name, &new).map(drop)
        }
        Op::Link(old, new) => {
            let ino = find(old)?;
            let (directory, name) = place(new)?;
            branch.link(ino, directory, name).map(drop)
        }
        Op::Unlink(path) => {
            let (directory, name) = place(path)?;
            branch.unlink(directory, name)
        }
        Op::Rmdir(path) => {
            let (directory, name) = place(path)?;
            branch.rmdir(directory, name)
        }
        Op::Rename(old, new) | Op::Exchange(old, new) => {
            let how =
                if matches!(op, Op::Exchange(..)) { Rename::Exchange } else { Rename::Replace };
            let (from, old_name) = place(old)?;
            find(old)?;
            let (to, new_name) = place(new)?;
            branch.rename(from, old_name, to, new_name, how)
        }
        Op::Write(path, offset, bytes) => branch.write(find(path)?, *offset, bytes),
        Op::Append(path, bytes) => branch.append(find(path)?, bytes).map(drop),
        Op::Truncate(path, size) => {
            let attributes = SetAttr { size: Some(*size), ..SetAttr::default() };
            branch.set_attr(find(path)?, &attributes).map(drop)
        }
        Op::Punch(path, offset, len) => branch.punch_hole(find(path)?, *offset, *len),
        Op::Allocate(path, offset, len) => branch.allocate(find(path)?, *offset, *len, false),
        Op::Chmod(path, mode) => {
            let attributes = SetAttr { mode: Some(*mode), ..SetAttr::default() };
            branch.set_attr(find(path)?, &attributes).map(drop)
        }
        Op::Chown(path, uid, gid) => {
            let attributes = SetAttr { uid: Some(*uid), gid: Some(*gid), ..SetAttr::default() };
            branch.set_attr(find(path)?, &attributes).map(drop)
        }
        Op::SetXattr(path, name, value) => {
            branch.set_xattr(find(path)?, name, value, XattrMode::Either)
        }
        Op::RemoveXattr(path, name) => branch.remove_xattr(find(path)?, name),
    }
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::sample::select(vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]),
        1 => Just(b"base".to_vec()),
        1 => Just(vec![b'n'; 128]),
    ]
}

fn path() -> impl Strategy<Value = Path> {
    prop::collection::vec(name(), 1..4)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    (any::<u8>(), prop_oneof![0..40usize, 4000..4200usize, 8000..20000usize])
        .prop_map(|(byte, len)| (0..len).map(|at| byte.wrapping_add(at as u8)).collect())
}

fn place() -> impl Strategy<Value = u64> {
    prop_oneof![0..100u64, 4000..4200u64, 0..30000u64]
}

/// Any operation, on few names so that they meet.
pub(crate) fn op() -> impl Strategy<Value = Op> {
    let kind = prop_oneof![
        3 => Just(Kind::File),
        3 => Just(Kind::Directory),
        1 => Just(Kind::Fifo),
        1 => prop::collection::vec(b'a'..=b'z', 1..50).prop_map(Kind::Symlink),
    ];
    prop_oneof![
        8 => (path(), kind).prop_map(|(path, kind)| Op::Make(path, kind)),
        2 => (path(), path()).prop_map(|(old, new)| Op::Link(old, new)),
        2 => path().prop_map(Op::Unlink),
        2 => path().prop_map(Op::Rmdir),
        4 => (path(), path()).prop_map(|(old, new)| Op::Rename(old, new)),
        2 => (path(), path()).prop_map(|(old, new)| Op::Exchange(old, new)),
        8 => (path(), place(), bytes()).prop_map(|(path, at, bytes)| Op::Write(path, at, bytes)),
        4 => (path(), bytes()).prop_map(|(path, bytes)| Op::Append(path, bytes)),
        4 => (path(), place()).prop_map(|(path, size)| Op::Truncate(path, size)),
        2 => (path(), place(), 1..9000u64).prop_map(|(path, at, len)| Op::Punch(path, at, len)),
        1 => (path(), place(), 1..9000u64).prop_map(|(path, at, len)| Op::Allocate(path, at, len)),
        1 => (path(), 0..0o10000u32).prop_map(|(path, mode)| Op::Chmod(path, mode)),
        1 => (path(), 0..5u32, 0..5u32).prop_map(|(path, uid, gid)| Op::Chown(path, uid, gid)),
        1 => (path(), prop::sample::select(vec![b"user.a".to_vec(), b"user.b".to_vec()]), bytes())
            .prop_map(|(path, name, value)| Op::SetXattr(path, name, value)),
        1 => (path(), prop::sample::select(vec![b"user.a".to_vec(), b"user.b".to_vec()]))
            .prop_map(|(path, name)| Op::RemoveXattr(path, name)),
    ]
}
