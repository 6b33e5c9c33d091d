// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Extended attributes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use daxfs_core::base::Xattr;
use daxfs_core::branch::handle::Branch;
use daxfs_core::error::Error;
use daxfs_core::format::feature;
use daxfs_core::write::{SetAttr, XattrMode};
use daxfs_core::xattr;
use fuser::{Errno, ReplyXattr, Request};

use crate::acl::{self, Acl};
use crate::caller::{has_group, is_root};
use crate::tree::{CONTROL, Node};
use crate::vfs_super::{Answer, Mounted, errno, stale};

const BOTH: i32 = libc::XATTR_CREATE | libc::XATTR_REPLACE;

impl Mounted {
    /// The attributes of a node. Where none can exist the kernel is told not to ask again.
    fn xattrs(&self, node: Node) -> Answer<Vec<Xattr>> {
        if self.immutable && !self.image.superblock().has(feature::XATTRS) {
            return Err(Errno::ENOSYS);
        }
        if node.tag == CONTROL {
            return Ok(Vec::new());
        }
        let view = match self.tree(node)?.view() {
            // The way to what can be shown instead must stay open, also for those whose
            // permissions the kernel looks for in a list.
            Err(Error::Stale { .. }) if self.is_mounted_root(node) => return Ok(Vec::new()),
            view => view.map_err(errno)?,
        };
        let inode = view.remaining_inode(node.ino).map_err(stale)?;
        view.xattrs(&inode).map_err(errno)
    }

    pub(crate) fn get_xattr(&self, node: Node, name: &OsStr, size: u32, reply: ReplyXattr) {
        answer(self.xattr(node, name.as_bytes()), size, reply);
    }

    fn xattr(&self, node: Node, name: &[u8]) -> Answer<Vec<u8>> {
        check_name(name)?;
        let found = self.xattrs(node)?.into_iter().find(|(other, _)| other == name);
        Ok(found.ok_or_else(|| missing(name))?.1)
    }

    pub(crate) fn list_xattrs(&self, request: &Request, node: Node, size: u32, reply: ReplyXattr) {
        let names = self.xattrs(node).map(|xattrs| {
            let shown = |name: &[u8]| !name.starts_with(xattr::TRUSTED) || is_root(request);
            let mut names = Vec::new();
            for (name, _) in xattrs.iter().filter(|(name, _)| shown(name)) {
                names.extend_from_slice(name);
                names.push(0);
            }
            names
        });
        answer(names, size, reply);
    }

    pub(crate) fn set_xattr(
        &self,
        request: &Request,
        node: Node,
        name: &OsStr,
        value: &[u8],
        flags: i32,
    ) -> Answer<()> {
        let name = name.as_bytes();
        if name == acl::ACCESS {
            return self.set_access(request, node, value);
        }
        if name == acl::DEFAULT {
            let list = Acl::parse(value).ok_or(Errno::EINVAL)?.value();
            let set = self.writer(node)?.set_xattr(node.ino, name, &list, XattrMode::Either);
            return set.map_err(errno);
        }
        if !xattr::is_known(name) {
            return Err(Errno::EOPNOTSUPP);
        }
        check_name(name)?;
        let how = match flags {
            0 => XattrMode::Either,
            libc::XATTR_CREATE => XattrMode::Create,
            libc::XATTR_REPLACE => XattrMode::Replace,
            // Both at once never succeed; which one fails is for the attribute to say.
            BOTH => return Err(self.xattr(node, name).err().unwrap_or(Errno::EEXIST)),
            _ => return Err(Errno::EINVAL),
        };
        self.writer(node)?.set_xattr(node.ino, name, value, how).map_err(errno)
    }

    /// Sets a list of access control, and the mode with it.
    fn set_access(&self, request: &Request, node: Node, value: &[u8]) -> Answer<()> {
        let mut list = Acl::parse(value).ok_or(Errno::EINVAL)?;
        let branch = self.writer(node)?;
        let inode = branch.view().and_then(|view| view.remaining_inode(node.ino)).map_err(errno)?;
        let mut mode = list.mode(inode.mode);
        // As with chmod, set-group-ID is not for others to give.
        if mode & libc::S_ISGID != 0 && !is_root(request) && !has_group(request, inode.gid) {
            mode &= !libc::S_ISGID;
        }
        if list.is_a_mode() {
            remove_list(&branch, node.ino, acl::ACCESS)?;
        } else {
            let set = branch.set_xattr(node.ino, acl::ACCESS, &list.value(), XattrMode::Either);
            set.map_err(errno)?;
        }
        if mode != inode.mode {
            let attributes = SetAttr { mode: Some(mode), ..SetAttr::default() };
            branch.set_attr(node.ino, &attributes).map_err(errno)?;
        }
        Ok(())
    }

    pub(crate) fn remove_xattr(&self, node: Node, name: &OsStr) -> Answer<()> {
        let name = name.as_bytes();
        check_name(name)?;
        let branch = self.writer(node)?;
        if name == acl::ACCESS || name == acl::DEFAULT {
            return remove_list(&branch, node.ino, name);
        }
        branch.remove_xattr(node.ino, name).map_err(|error| match error {
            Error::NoAttribute { .. } => missing(name),
            error => errno(error),
        })
    }
}

/// The error for an attribute that is not there, or that none can be called.
fn missing(name: &[u8]) -> Errno {
    if xattr::is_known(name) { Errno::NO_XATTR } else { Errno::EOPNOTSUPP }
}

/// A namespace alone names nothing.
fn check_name(name: &[u8]) -> Answer<()> {
    if xattr::is_namespace(name) { Err(Errno::EINVAL) } else { Ok(()) }
}

/// Removes a list of access control, if there is one.
fn remove_list(branch: &Branch, ino: u64, name: &[u8]) -> Answer<()> {
    match branch.remove_xattr(ino, name) {
        Ok(()) | Err(Error::NoAttribute { .. }) => Ok(()),
        Err(error) => Err(errno(error)),
    }
}

/// Replies with bytes, or with how many they are if that is asked for.
fn answer(bytes: Answer<Vec<u8>>, size: u32, reply: ReplyXattr) {
    match bytes {
        Ok(bytes) if size == 0 => reply.size(bytes.len() as u32),
        Ok(bytes) if bytes.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(bytes) => reply.data(&bytes),
        Err(errno) => reply.error(errno),
    }
}
