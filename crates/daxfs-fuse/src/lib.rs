// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mounts of daxfs images through FUSE.
//!
//! [`session`] opens an image, attaches it to a directory and serves it; [`daemon`] lets that be
//! done in the background. What the kernel asks is answered in the files `vfs_*`, which are named
//! as in the kernel's module; each turns a request into calls of the engine and back.

mod acl;
mod beside;
mod caller;
mod control;
pub mod daemon;
mod fuse;
pub mod logger;
pub mod mount;
mod mountinfo;
pub mod options;
mod place;
mod readahead;
pub mod session;
mod start;
mod tree;
mod vfs_control;
mod vfs_dir;
mod vfs_file;
mod vfs_inode;
mod vfs_ioctl;
mod vfs_super;
mod vfs_xattr;
mod writeback;
