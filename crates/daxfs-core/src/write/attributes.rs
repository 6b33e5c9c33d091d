// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Operations on inodes: permissions, owner, size, times, extended attributes.

use super::Purpose;
use crate::base::Inode;
use crate::branch::handle::Branch;
use crate::delta::{Change, FILE_SIZE_MAX};
use crate::error::{Error, Result, show};
use crate::format::{XATTR_NAME_MAX, XATTR_SET_MAX, XATTR_VALUE_MAX, mode};
use crate::index::xattr_set_size;
use crate::xattr;

/// Attributes to change; what is absent stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Permissions; type bits are ignored.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size of a regular file.
    pub size: Option<u64>,
    /// Time of last access, ns since 1970.
    pub atime: Option<i64>,
    /// Time of last modification, ns since 1970.
    pub mtime: Option<i64>,
}

impl SetAttr {
    pub(super) fn change(&self) -> Change {
        let Self { mode, uid, gid, size, atime, mtime } = *self;
        let mode = mode.map(|mode| mode & 0o7777);
        Change::SetAttr { mode, uid, gid, size, atime, mtime, ctime: None }
    }
}

/// What a new value of an extended attribute may find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrMode {
    /// A value or none.
    Either,
    /// None: the attribute is new.
    Create,
    /// A value.
    Replace,
}

impl Branch {
    /// Changes attributes; a new size cuts a file or extends it by zeroes.
    pub fn set_attr(&self, ino: u64, attributes: &SetAttr) -> Result<Inode> {
        self.operate(|mut operation| {
            let view = operation.view()?;
            let inode = operation.writable(&view, ino)?;
            // What is allocated behind the end goes, too.
            let cuts = attributes.size.is_some_and(|size| {
                size < inode.size || view.extents_within(&inode, size..u64::MAX).next().is_some()
            });
            drop(view);
            if let Some(size) = attributes.size {
                expect_file(&inode)?;
                if size > FILE_SIZE_MAX {
                    return Err(Error::FileTooBig { size, limit: FILE_SIZE_MAX });
                }
                let same = SetAttr { size: Some(inode.size), ..SetAttr::default() };
                if !cuts && *attributes == same {
                    // The times change and nothing else, as where bytes are replaced.
                    operation.open.touch(&mut operation.writer, ino, operation.time)?;
                    return operation.inode(ino);
                }
                operation.writer.tails.remove(&ino);
            }
            let purpose = if cuts { Purpose::Relief } else { Purpose::Growth };
            operation.log(&[(ino, attributes.change())], purpose)?;
            operation.inode(ino)
        })
    }

    /// Sets an extended attribute.
    pub fn set_xattr(&self, ino: u64, name: &[u8], value: &[u8], how: XattrMode) -> Result<()> {
        let too_long = |what, length: usize, limit: usize| Error::TooLong {
            what,
            length: length as u64,
            limit: limit as u64,
            path: name.to_vec(),
        };
        if name.is_empty() || name.contains(&0) || xattr::is_namespace(name) {
            let why = "an attribute's name cannot be empty, a namespace alone, or hold a NUL";
            return Err(Error::invalid(why));
        }
        if !xattr::is_known(name) {
            let what = format!(
                "attribute {}: a name begins with user., trusted. or security., or is an access \
                 control list's",
                show(name)
            );
            return Err(Error::Unsupported { what });
        }
        if name.len() > XATTR_NAME_MAX {
            return Err(too_long("attribute name", name.len(), XATTR_NAME_MAX));
        }
        if value.len() > XATTR_VALUE_MAX {
            return Err(too_long("attribute value", value.len(), XATTR_VALUE_MAX));
        }
        self.operate(|mut operation| {
            let view = operation.view()?;
            let inode = operation.writable(&view, ino)?;
            expect_user_attributes(&inode, name)?;
            let there = view.xattrs(&inode)?.iter().any(|(known, _)| known == name);
            match how {
                XattrMode::Create if there => {
                    return Err(Error::FileExists { path: inode_path(&inode) });
                }
                XattrMode::Replace if !there => {
                    return Err(missing(&inode, name));
                }
                _ => {}
            }
            let set = view.xattrs(&inode)?;
            let others = set.iter().filter(|(other, _)| other != name);
            let pairs = others.map(|(name, value)| (&**name, &**value)).chain([(name, value)]);
            let size = xattr_set_size(pairs);
            if size > XATTR_SET_MAX {
                return Err(Error::NoSpace {
                    what: "the set of attributes of one file",
                    needed: size as u64,
                    available: XATTR_SET_MAX as u64,
                    advice: "",
                });
            }
            drop(view);
            let change = Change::SetXattr { name: name.into(), value: Some(value.into()) };
            operation.log(&[(ino, change)], Purpose::Growth)
        })
    }

    /// Removes an extended attribute.
    pub fn remove_xattr(&self, ino: u64, name: &[u8]) -> Result<()> {
        self.operate(|mut operation| {
            let view = operation.view()?;
            let inode = operation.writable(&view, ino)?;
            expect_user_attributes(&inode, name)?;
            if !view.xattrs(&inode)?.iter().any(|(known, _)| known == name) {
                return Err(missing(&inode, name));
            }
            drop(view);
            let change = Change::SetXattr { name: name.into(), value: None };
            operation.log(&[(ino, change)], Purpose::Relief)
        })
    }
}

/// Data belong to regular files alone.
pub(super) fn expect_file(inode: &Inode) -> Result<()> {
    match inode.kind() {
        mode::REGULAR => Ok(()),
        mode::DIRECTORY => Err(Error::IsDirectory { path: inode_path(inode) }),
        _ => Err(Error::invalid(format!("inode {} is not a regular file", inode.ino))),
    }
}

/// Permissions of links and special files do not say who may change what users attach, so that
/// Linux lets nobody (xattr(7)).
fn expect_user_attributes(inode: &Inode, name: &[u8]) -> Result<()> {
    if name.starts_with(xattr::USER) && !matches!(inode.kind(), mode::REGULAR | mode::DIRECTORY) {
        let what = "only files and directories have attributes of users";
        return Err(Error::NotPermitted { what, path: inode_path(inode) });
    }
    Ok(())
}

fn missing(inode: &Inode, name: &[u8]) -> Error {
    Error::NoAttribute { name: name.to_vec(), path: inode_path(inode) }
}

fn inode_path(inode: &Inode) -> Vec<u8> {
    format!("inode {}", inode.ino).into_bytes()
}
