// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The contents of files.
#![allow(unsafe_code)]

use std::cell::RefCell;

use daxfs_core::base::Inode;
use daxfs_core::region::DataView;
use daxfs_core::view::View;
use fuser::{Errno, FileHandle, FopenFlags, OpenFlags, ReplyData};

use crate::tree::Node;
use crate::vfs_super::{Answer, Mounted, errno};

thread_local! {
    /// Where a reply is put together that does not lie in one piece in the image.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Mounted {
    pub(crate) fn open_file(
        &self,
        node: Node,
        _flags: OpenFlags,
    ) -> Answer<(FileHandle, FopenFlags)> {
        self.tree(node)?;
        if self.immutable {
            // The kernel then opens files by itself from now on.
            return Err(Errno::ENOSYS);
        }
        Ok((FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE))
    }

    pub(crate) fn read_file(&self, node: Node, offset: u64, size: u32, reply: ReplyData) {
        let found = self.tree(node).and_then(|tree| {
            let view = tree.view().map_err(errno)?;
            let inode = view.inode(node.ino).map_err(errno)?;
            Ok((view, inode))
        });
        let (view, inode) = match found {
            Ok(found) => found,
            Err(errno) => return reply.error(errno),
        };
        let len = inode.size.saturating_sub(offset).min(size.into());
        match view.contiguous(&inode, offset, len) {
            Ok(Some(data)) => reply.data(bytes(&data)),
            Ok(None) => copy(&view, &inode, offset, len as usize, reply),
            Err(error) => reply.error(errno(error)),
        }
    }

    pub(crate) fn seek(&self, node: Node, offset: i64, whence: i32) -> Answer<i64> {
        let view = self.tree(node)?.view().map_err(errno)?;
        let inode = view.inode(node.ino).map_err(errno)?;
        let from = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        if from >= inode.size {
            return Err(Errno::ENXIO);
        }
        let extents = view.extents(&inode).map_err(errno)?;
        let mut at = from;
        for extent in extents {
            let end = extent.file_offset + extent.len;
            if end <= at {
                continue;
            }
            match whence {
                libc::SEEK_DATA => return Ok(at.max(extent.file_offset) as i64),
                libc::SEEK_HOLE if extent.file_offset > at => break,
                libc::SEEK_HOLE => at = end,
                _ => return Err(Errno::EINVAL),
            }
        }
        match whence {
            libc::SEEK_HOLE => Ok(at.min(inode.size) as i64),
            libc::SEEK_DATA => Err(Errno::ENXIO),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// The bytes of a view, for handing to the kernel and for nothing else.
fn bytes(data: &DataView) -> &[u8] {
    if data.is_empty() {
        return &[];
    }
    // SAFETY: the range is mapped and readable for as long as the view lives. Others may store to
    // it meanwhile; but nothing in this process loads from the slice: it becomes the address in
    // one system call, and the kernel does the copying.
    unsafe { std::slice::from_raw_parts(data.as_ptr(), data.len()) }
}

fn copy(view: &View, inode: &Inode, offset: u64, len: usize, reply: ReplyData) {
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        match view.read(inode, offset, &mut buffer[..len]) {
            Ok(read) => reply.data(&buffer[..read]),
            Err(error) => reply.error(errno(error)),
        }
    });
}
