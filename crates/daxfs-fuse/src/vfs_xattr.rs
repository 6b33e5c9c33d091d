// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Extended attributes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use daxfs_core::base::Xattr;
use daxfs_core::format::feature;
use daxfs_core::write::XattrMode;
use fuser::{Errno, ReplyXattr};

use crate::tree::{CONTROL, Node};
use crate::vfs_super::{Answer, Mounted, errno};

/// What attributes can be set: not lists of access control, which nobody would obey.
const NAMESPACES: [&[u8]; 3] = [b"security.", b"trusted.", b"user."];

impl Mounted {
    /// The attributes of a node. Where none can exist the kernel is told not to ask again.
    fn xattrs(&self, node: Node) -> Answer<Vec<Xattr>> {
        if self.immutable && !self.image.superblock().has(feature::XATTRS) {
            return Err(Errno::ENOSYS);
        }
        if node.tag == CONTROL {
            return Ok(Vec::new());
        }
        let view = self.tree(node)?.view().map_err(errno)?;
        let inode = view.inode(node.ino).map_err(errno)?;
        view.xattrs(&inode).map_err(errno)
    }

    pub(crate) fn get_xattr(&self, node: Node, name: &OsStr, size: u32, reply: ReplyXattr) {
        let value = self.xattrs(node).and_then(|xattrs| {
            let found = xattrs.into_iter().find(|(other, _)| other == name.as_bytes());
            Ok(found.ok_or(Errno::NO_XATTR)?.1)
        });
        answer(value, size, reply);
    }

    pub(crate) fn list_xattrs(&self, node: Node, size: u32, reply: ReplyXattr) {
        let names = self.xattrs(node).map(|xattrs| {
            let mut names = Vec::new();
            for (name, _) in xattrs {
                names.extend_from_slice(&name);
                names.push(0);
            }
            names
        });
        answer(names, size, reply);
    }

    pub(crate) fn set_xattr(
        &self,
        node: Node,
        name: &OsStr,
        value: &[u8],
        flags: i32,
    ) -> Answer<()> {
        let name = name.as_bytes();
        if !NAMESPACES.iter().any(|namespace| name.starts_with(namespace)) {
            return Err(Errno::EOPNOTSUPP);
        }
        let how = match flags {
            0 => XattrMode::Either,
            libc::XATTR_CREATE => XattrMode::Create,
            libc::XATTR_REPLACE => XattrMode::Replace,
            _ => return Err(Errno::EINVAL),
        };
        self.writer(node)?.set_xattr(node.ino, name, value, how).map_err(errno)
    }

    pub(crate) fn remove_xattr(&self, node: Node, name: &OsStr) -> Answer<()> {
        self.writer(node)?.remove_xattr(node.ino, name.as_bytes()).map_err(errno)
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
