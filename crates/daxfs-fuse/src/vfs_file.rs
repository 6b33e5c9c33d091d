// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The contents of files.
#![allow(unsafe_code)]

use std::cell::RefCell;

use daxfs_core::base::Inode;
use daxfs_core::region::DataView;
use daxfs_core::view::View;
use fuser::{Errno, ReplyData, Request, WriteFlags};

use crate::caller::is_root;
use crate::tree::Node;
use crate::vfs_inode::drop_privileges;
use crate::vfs_super::{Answer, Mounted, errno, stale};

/// Bytes copied at once from one file to another.
const COPY_SIZE: usize = 1 << 20;
/// Most bytes copied in one request.
const COPY_MAX: u64 = 64 << 20;

thread_local! {
    /// Where a reply is put together that does not lie in one piece in the image.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Two files and a range, as copy_file_range takes them.
pub(crate) struct CopyRange {
    pub(crate) from: Node,
    pub(crate) from_offset: u64,
    pub(crate) to: Node,
    pub(crate) to_offset: u64,
    pub(crate) len: u64,
}

impl Mounted {
    fn file(&self, node: Node) -> Answer<(View, Inode)> {
        let view = self.tree(node)?.view().map_err(errno)?;
        let inode = view.remaining_inode(node.ino).map_err(stale)?;
        Ok((view, inode))
    }

    pub(crate) fn read_file(&self, node: Node, offset: u64, size: u32, reply: ReplyData) {
        let found = self.tree(node).and_then(|tree| {
            tree.note_bytes(node.ino);
            let view = tree.view().map_err(errno)?;
            let inode = view.remaining_inode(node.ino).map_err(stale)?;
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

    /// Writes for a caller. If `strips` tells one, privileges of the file end with its write.
    pub(crate) fn write_file(
        &self,
        strips: Option<&Request>,
        node: Node,
        offset: u64,
        data: &[u8],
        flags: WriteFlags,
    ) -> Answer<u32> {
        let written = self.write_bytes(strips, node, offset, data);
        if let Err(why) = written
            && flags.contains(WriteFlags::FUSE_WRITE_CACHE)
        {
            self.refuse_pages(node, why);
        }
        written
    }

    fn write_bytes(
        &self,
        strips: Option<&Request>,
        node: Node,
        offset: u64,
        data: &[u8],
    ) -> Answer<u32> {
        let branch = self.writer(node)?;
        if let Some(request) = strips {
            drop_privileges(request, &branch, node.ino)?;
        }
        self.tree(node)?.note_bytes(node.ino);
        branch.write(node.ino, offset, data).map_err(stale)?;
        Ok(data.len() as u32)
    }

    pub(crate) fn allocate(
        &self,
        request: &Request,
        node: Node,
        offset: u64,
        len: u64,
        mode: i32,
    ) -> Answer<()> {
        let branch = self.writer(node)?;
        let keep_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        match mode & !libc::FALLOC_FL_KEEP_SIZE {
            0 => branch.allocate(node.ino, offset, len, keep_size),
            libc::FALLOC_FL_PUNCH_HOLE if keep_size => branch.punch_hole(node.ino, offset, len),
            libc::FALLOC_FL_ZERO_RANGE => branch.zero_range(node.ino, offset, len, keep_size),
            _ => return Err(Errno::EOPNOTSUPP),
        }
        .map_err(stale)?;
        if !is_root(request) {
            drop_privileges(request, &branch, node.ino)?;
        }
        Ok(())
    }

    /// Copies in the server what would otherwise go through the kernel twice.
    pub(crate) fn copy_range(&self, request: &Request, range: &CopyRange) -> Answer<u32> {
        let CopyRange { from, from_offset, to, to_offset, len } = *range;
        let branch = self.writer(to)?;
        if !is_root(request) {
            drop_privileges(request, &branch, to.ino)?;
        }
        let end = self.file(from)?.1.size.min(from_offset.saturating_add(len.min(COPY_MAX)));
        let mut at = from_offset;
        let mut buffer = vec![0; end.saturating_sub(at).min(COPY_SIZE as u64) as usize];
        while at < end {
            let part = (end - at).min(COPY_SIZE as u64) as usize;
            // Not held while writing, which may wait for those who read.
            let (view, inode) = self.file(from)?;
            let read = view.read(&inode, at, &mut buffer[..part]).map_err(errno)?;
            drop(view);
            // It was cut meanwhile.
            if read == 0 {
                break;
            }
            let target = to_offset + (at - from_offset);
            match branch.write(to.ino, target, &buffer[..read]) {
                Ok(()) => at += read as u64,
                // What was copied counts.
                Err(_) if at > from_offset => break,
                Err(error) => return Err(stale(error)),
            }
        }
        Ok((at - from_offset.min(at)) as u32)
    }

    pub(crate) fn sync(&self, node: Node) -> Answer<()> {
        if self.immutable {
            return Ok(());
        }
        self.tree(node)?.sync().map_err(errno)
    }

    pub(crate) fn seek(&self, node: Node, offset: i64, whence: i32) -> Answer<i64> {
        let (view, inode) = self.file(node)?;
        let from = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        if from >= inode.size {
            return Err(Errno::ENXIO);
        }
        let mut at = from;
        for extent in view.extents_within(&inode, from..inode.size) {
            let data = view.first_data(&extent);
            match (whence, data) {
                (libc::SEEK_DATA, Some(data)) => return Ok(data.start as i64),
                (libc::SEEK_DATA, None) => {}
                (libc::SEEK_HOLE, Some(data)) if data.start == at => {
                    at = data.end;
                    if at < extent.file_offset + extent.len {
                        break;
                    }
                }
                (libc::SEEK_HOLE, _) => break,
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
pub(crate) fn bytes(data: &DataView) -> &[u8] {
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
