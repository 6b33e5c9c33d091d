// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writable windows on a branch's files: stores go to the image itself.
//!
//! While there is one, its branch cannot be frozen, committed or let go: nobody could take the
//! window away again.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::attributes::expect_file;
use super::data::{extent, page, put};
use super::{Entry, Operation, Purpose};
use crate::base::Inode;
use crate::branch::handle::{Branch, Open};
use crate::clock;
use crate::error::{Error, Result};
use crate::extents::Extent;
use crate::format::BLOCK_SIZE;
use crate::opener::Pin;
use crate::region::DataView;
use crate::view::View;

/// Bytes copied at once into blocks of the branch's own.
const COPY_SIZE: u64 = 1 << 20;

/// A writable window on a part of a file. It holds the branch; what is stored is durable once the
/// branch has been synced or the window is gone.
#[derive(Debug)]
pub struct Mapping {
    branch: Branch,
    data: DataView,
    key: u64,
}

impl Mapping {
    /// The bytes, all of them in blocks that the branch owns.
    pub fn data(&self) -> &DataView {
        &self.data
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let open = &self.branch.open;
        let mapped = open.mappings.lock().remove(&self.key);
        if let Some(Mapped { ino, image, .. }) = mapped {
            // Nobody is there to hear of a failure. The range was in the region all the time.
            let region = &open.session.region;
            let _ = region.write_back(image.start, image.end - image.start);
            // The last moment at which something can have been stored.
            let _ = open.lock_writer().and_then(|mut it| open.touch(&mut it, ino, clock::now()));
        }
    }
}

/// What is mapped of an open branch.
#[derive(Debug, Default)]
pub(crate) struct Mappings {
    ranges: Mutex<HashMap<u64, Mapped>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Mapped {
    ino: u64,
    image: Range<u64>,
    // Keeps the blocks when the branch has ended; as long as it is held, nobody else frees them.
    pin: Pin,
}

impl Mappings {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Mapped>> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Branch {
    /// Gives a writable window on bytes that a regular file has. What lies in blocks of others, or
    /// in several places, is copied into adjacent blocks of the branch's own first.
    pub fn map(&self, ino: u64, offset: u64, len: u64) -> Result<Mapping> {
        self.operate(|operation| operation.map(self, ino, offset, len))
    }
}

impl Operation<'_> {
    fn map(mut self, branch: &Branch, ino: u64, offset: u64, len: u64) -> Result<Mapping> {
        let view = self.view()?;
        let inode = self.writable(&view, ino)?;
        expect_file(&inode)?;
        let Some(range) = offset
            .checked_add(len)
            .map(|end| offset..end)
            .filter(|range| len > 0 && range.end <= inode.size)
        else {
            return Err(Error::invalid(format!(
                "{len} bytes from {offset} on cannot be mapped of a file of {} bytes",
                inode.size
            )));
        };
        let image = match self.owned(&view, &inode, &range)? {
            Some(image) => image,
            None => {
                self.expect_unmapped(&view, &inode, &range)?;
                self.gather(view, &inode, &range)?
            }
        };
        self.open.touch(&mut self.writer, ino, self.time)?;
        let session = &self.open.session;
        let data = session.region.view(image, len)?;
        let mapped = Mapped { ino, image: image..image + len, pin: session.opener.pin()? };
        let key = self.open.mappings.next.fetch_add(1, Relaxed);
        self.open.mappings.lock().insert(key, mapped);
        Ok(Mapping { branch: branch.clone(), data, key })
    }

    /// Where a range lies, if it is in one piece, on its place in blocks of this record.
    fn owned(&self, view: &View, inode: &Inode, range: &Range<u64>) -> Result<Option<u64>> {
        let run = view.extents_within(inode, range.clone()).next();
        let whole = |run: &Extent| {
            run.file_offset == range.start
                && run.len == range.end - range.start
                && run.image_offset % BLOCK_SIZE == range.start % BLOCK_SIZE
        };
        let Some(run) = run.filter(whole) else { return Ok(None) };
        for block in
            (page(run.image_offset)..run.image_offset + run.len).step_by(BLOCK_SIZE as usize)
        {
            if self.open.session.heap.owner_at(block)? != Some(self.id) {
                return Ok(None);
            }
        }
        Ok(Some(run.image_offset))
    }

    /// An error if a window is open on bytes that would be copied elsewhere: what is stored through
    /// it from then on would be lost.
    fn expect_unmapped(&self, view: &View, inode: &Inode, range: &Range<u64>) -> Result<()> {
        let pages = page(range.start)..range.end.next_multiple_of(BLOCK_SIZE);
        let mapped = self.open.mappings.lock();
        let met = view.extents_within(inode, pages).any(|run| {
            let run = run.image_offset..run.image_offset + run.len;
            mapped
                .values()
                .any(|mapped| mapped.image.start < run.end && run.start < mapped.image.end)
        });
        if !met {
            return Ok(());
        }
        let why = "a writable view of a part of these bytes is in use, and they would have to move \
                   to lie in one piece; release it, or view exactly its range";
        Err(Error::Busy { name: self.open.name.clone(), why: why.into() })
    }

    /// Copies the pages of a range into adjacent new blocks; returns where the range lies then.
    fn gather(&mut self, view: View, inode: &Inode, range: &Range<u64>) -> Result<u64> {
        let pages = page(range.start)..range.end.next_multiple_of(BLOCK_SIZE);
        let count = (pages.end - pages.start) / BLOCK_SIZE;
        let (session, id) = (Arc::clone(&self.open.session), self.id);
        let keep = self.open.keep(&mut self.writer, Purpose::Growth)?;
        let run = self.writer.spare.allocate(&session.heap, id, count..=count, keep)?;
        let covered = pages.start..pages.end.min(inode.size);
        let copy = || {
            let mut buffer = vec![0; COPY_SIZE.min(covered.end - covered.start) as usize];
            for at in covered.clone().step_by(buffer.len()) {
                let part = &mut buffer[..COPY_SIZE.min(covered.end - at) as usize];
                view.read(inode, at, part)?;
                put(&session.region, run.offset + (at - covered.start), part)?;
            }
            session.heap.persist(run)
        };
        let copied = copy();
        drop(view);
        let entries: [Entry; 1] =
            [(inode.ino, extent(covered.start, covered.end - covered.start, run.offset, false))];
        self.writer.tails.remove(&inode.ino);
        let logged = copied.and_then(|()| self.log(&entries, Purpose::Growth));
        if logged.is_err() {
            self.writer.spare.give(vec![run]);
        }
        logged.map(|()| run.offset + (range.start - pages.start))
    }
}

impl Open {
    /// An error as long as somebody could store to the branch through a window.
    pub(crate) fn expect_unmapped(&self) -> Result<()> {
        match self.mappings.lock().len() {
            0 => Ok(()),
            count => {
                let why = format!("{count} writable views of it are in use here; release them");
                Err(Error::Busy { name: self.name.clone(), why })
            }
        }
    }

    /// Whether something may be stored through a window at any time.
    pub(super) fn is_mapped(&self) -> bool {
        !self.mappings.lock().is_empty()
    }

    /// Begins to write back what may have been stored through windows.
    pub(super) fn write_back_mapped(&self) -> Result<()> {
        let region = &self.session.region;
        self.mappings.lock().values().try_for_each(|Mapped { image, .. }| {
            region.write_back(image.start, image.end - image.start)
        })
    }

    /// The ranges of the image that can be stored to through windows; of a branch that is held.
    /// What was removed before is not kept on their account any more.
    pub(super) fn mapped(&self) -> Result<Vec<Range<u64>>> {
        let mut mapped = self.mappings.lock();
        let repin = |mapped: &mut Mapped| {
            mapped.pin = self.session.opener.pin()?;
            Ok(mapped.image.clone())
        };
        mapped.values_mut().map(repin).collect()
    }
}
