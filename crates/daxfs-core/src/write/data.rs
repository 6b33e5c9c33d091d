// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Operations on file data: write, append, allocate, punch.
//!
//! A page whose bytes already lie in a block of this branch is rewritten in place. Any other gets
//! a block, with what it held before and is not overwritten copied into it, and an EXTENT entry.

use std::ops::Range;

use super::attributes::expect_file;
use super::{Entry, Operation, Purpose, SetAttr, Tail};
use crate::alloc::Run;
use crate::base::Inode;
use crate::branch::handle::Branch;
use crate::delta::{Change, FILE_SIZE_MAX};
use crate::error::{Error, Result};
use crate::extents::Extent;
use crate::format::BLOCK_SIZE;
use crate::region::Region;
use crate::view::View;

/// A part of a write: file offsets, and where their bytes go.
#[derive(Debug)]
pub(super) struct Piece {
    range: Range<u64>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// Bytes that are there already, at this image offset.
    Owned(u64),
    /// The end of a file's last block grows; the bytes go to this image offset, and those from
    /// the second on before it are made zeroes.
    Tail(u64, u64),
    /// Blocks are needed.
    Fresh,
}

impl Piece {
    /// Stores its bytes, if they go where the file has a block.
    fn store_in_place(&self, region: &Region, bytes: &[u8]) -> Result<()> {
        match self.place {
            Place::Owned(image) => put(region, image, bytes),
            Place::Tail(image, gap) => {
                region.zero(gap, image.saturating_sub(gap))?;
                region.write_back(gap, image.saturating_sub(gap))?;
                put(region, image, bytes)
            }
            Place::Fresh => Ok(()),
        }
    }
}

pub(super) fn page(offset: u64) -> u64 {
    offset - offset % BLOCK_SIZE
}

impl Branch {
    /// Writes bytes at an offset of a regular file, which grows if need be.
    pub fn write(&self, ino: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        self.operate(|operation| operation.write(ino, Some(offset), bytes)).map(drop)
    }

    /// Writes bytes at the end of a regular file; returns where that was.
    pub fn append(&self, ino: u64, bytes: &[u8]) -> Result<u64> {
        self.operate(|operation| operation.write(ino, None, bytes))
    }

    /// Gives holes of a range blocks of zeroes, so that writing there needs none later; without
    /// `keep_size` the file grows to the end of the range.
    pub fn allocate(&self, ino: u64, offset: u64, len: u64, keep_size: bool) -> Result<()> {
        let range = checked_range(offset, len)?;
        self.operate(|operation| operation.allocate_range(ino, &range, keep_size))
    }

    /// Makes a range of a regular file zeroes that have blocks, as [`Self::allocate`] gives them,
    /// or changes nothing. What this branch has blocks of already is made zeroes in place.
    pub fn zero_range(&self, ino: u64, offset: u64, len: u64, keep_size: bool) -> Result<()> {
        let range = checked_range(offset, len)?;
        self.operate(|operation| operation.zero_range(ino, &range, keep_size))
    }

    /// Makes a range of a regular file a hole; its size stays.
    pub fn punch_hole(&self, ino: u64, offset: u64, len: u64) -> Result<()> {
        let range = checked_range(offset, len)?;
        self.operate(|mut operation| {
            expect_file(&operation.writable(&operation.view()?, ino)?)?;
            operation.writer.tails.remove(&ino);
            operation.log(&[(ino, punch(&range))], Purpose::Relief)
        })
    }
}

fn checked_range(offset: u64, len: u64) -> Result<Range<u64>> {
    if len == 0 {
        return Err(Error::invalid("a range of no bytes"));
    }
    match offset.checked_add(len).filter(|end| *end <= FILE_SIZE_MAX) {
        Some(end) => Ok(offset..end),
        None => Err(Error::FileTooBig { size: offset.saturating_add(len), limit: FILE_SIZE_MAX }),
    }
}

/// The pages of a range as a whole: what lies behind its end in the last one must not be taken for
/// a hole.
fn pages(range: &Range<u64>) -> Range<u64> {
    page(range.start)..range.end.next_multiple_of(BLOCK_SIZE)
}

/// Those of `pages` that nothing reaches into of what is `held`, in order.
fn holes(pages: Range<u64>, held: impl IntoIterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut holes = Vec::new();
    let mut at = pages.start;
    for run in held {
        if page(run.start) > at {
            holes.push(at..page(run.start));
        }
        at = at.max(run.end.next_multiple_of(BLOCK_SIZE));
    }
    if at < pages.end {
        holes.push(at..pages.end);
    }
    holes
}

/// Adds a range to others, in one piece with the last if it goes on where that ends.
fn push(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

/// What is to become of a range that is made zeroes.
#[derive(Debug, Default)]
struct Zeroed {
    /// What stays where it lies, in the file.
    held: Vec<Range<u64>>,
    /// What of it is in the range, in the image.
    in_place: Vec<Range<u64>>,
    /// What cannot be changed where it lies, in the file.
    dropped: Vec<Range<u64>>,
}

fn punch(hole: &Range<u64>) -> Change {
    Change::Punch { offset: hole.start, len: hole.end - hole.start }
}

/// The entry that makes a file as large as a range demands.
fn grown(inode: &Inode, range: &Range<u64>, keep_size: bool) -> Option<Entry> {
    let attributes = SetAttr { size: Some(range.end), ..SetAttr::default() };
    (!keep_size && range.end > inode.size).then(|| (inode.ino, attributes.change()))
}

impl Operation<'_> {
    /// Takes 1 to `want` adjacent blocks.
    fn allocate(&mut self, want: u64) -> Result<Run> {
        let heap = &self.open.session.heap;
        let keep = self.open.keep(&mut self.writer, Purpose::Growth)?;
        self.writer.spare.allocate(heap, self.id, 1..=want, keep)
    }

    fn allocate_range(mut self, ino: u64, range: &Range<u64>, keep_size: bool) -> Result<()> {
        let view = self.view()?;
        let inode = self.writable(&view, ino)?;
        expect_file(&inode)?;
        let pages = pages(range);
        let runs = view.extents_within(&inode, pages.clone());
        let holes = holes(pages, runs.map(|run| run.file_offset..run.end()));
        drop(view);
        self.log_filled(ino, Vec::new(), &holes, grown(&inode, range, keep_size))
    }

    fn zero_range(mut self, ino: u64, range: &Range<u64>, keep_size: bool) -> Result<()> {
        let view = self.view()?;
        let inode = self.writable(&view, ino)?;
        expect_file(&inode)?;
        let zeroed = self.plan_zeroes(&view, &inode, range)?;
        drop(view);
        let dropped = zeroed.dropped.iter().map(|hole| (ino, punch(hole))).collect();
        let holes = holes(pages(range), zeroed.held);
        self.log_filled(ino, dropped, &holes, grown(&inode, range, keep_size))?;
        let region = &self.open.session.region;
        for bytes in zeroed.in_place {
            region.zero(bytes.start, bytes.end - bytes.start)?;
            region.write_back(bytes.start, bytes.end - bytes.start)?;
        }
        region.fence();
        Ok(())
    }

    fn plan_zeroes(&self, view: &View, inode: &Inode, range: &Range<u64>) -> Result<Zeroed> {
        let mut zeroed = Zeroed::default();
        for run in view.extents_within(inode, pages(range)) {
            let mut at = run.file_offset;
            while at < run.end() {
                // A part is of one page, and in the range or beside it.
                let ends = [page(at) + BLOCK_SIZE, range.start, range.end, run.end()];
                let end = ends.into_iter().filter(|end| *end > at).min().expect("its page ends");
                if !range.contains(&at) {
                    push(&mut zeroed.held, at..end);
                } else if let Place::Owned(image) = self.place(inode, &run, &(at..end))? {
                    push(&mut zeroed.held, at..end);
                    push(&mut zeroed.in_place, image..image + (end - at));
                } else {
                    push(&mut zeroed.dropped, at..end);
                }
                at = end;
            }
        }
        Ok(zeroed)
    }

    /// Gives holes blocks of zeroes, and logs that between other entries about the file, or does
    /// nothing.
    fn log_filled(
        &mut self,
        ino: u64,
        mut entries: Vec<Entry>,
        holes: &[Range<u64>],
        last: Option<Entry>,
    ) -> Result<()> {
        let mut taken = Vec::new();
        let filled =
            holes.iter().try_for_each(|hole| self.fill_hole(ino, hole, &mut entries, &mut taken));
        let logged = filled.and_then(|()| {
            entries.extend(last);
            self.writer.tails.remove(&ino);
            match entries.is_empty() {
                true => self.open.touch(&mut self.writer, ino, self.time),
                false => self.log(&entries, Purpose::Growth),
            }
        });
        if logged.is_err() {
            self.writer.spare.give(taken);
        }
        logged
    }

    fn fill_hole(
        &mut self,
        ino: u64,
        hole: &Range<u64>,
        entries: &mut Vec<Entry>,
        taken: &mut Vec<Run>,
    ) -> Result<()> {
        let mut at = hole.start;
        while at < hole.end {
            let want = (hole.end - at) / BLOCK_SIZE;
            let run = self.allocate(want)?;
            taken.push(run);
            let session = &self.open.session;
            session.region.zero(run.offset, run.len())?;
            session.region.write_back(run.offset, run.len())?;
            session.heap.persist(run)?;
            // The last page that a file can have is not whole.
            let len = run.len().min(FILE_SIZE_MAX - at);
            entries.push((ino, extent(at, len, run.offset, true)));
            at += run.len();
        }
        Ok(())
    }

    fn write(mut self, ino: u64, offset: Option<u64>, bytes: &[u8]) -> Result<u64> {
        let view = self.view()?;
        let inode = self.writable(&view, ino)?;
        expect_file(&inode)?;
        let offset = offset.unwrap_or(inode.size);
        if bytes.is_empty() {
            return Ok(offset);
        }
        let range = checked_range(offset, bytes.len() as u64)?;
        let mut pieces = std::mem::take(&mut self.writer.pieces);
        let mut taken = Vec::new();
        let written = self
            .plan(&view, &inode, &range, &mut pieces)
            .and_then(|()| self.store(view, &inode, &range, bytes, &pieces, &mut taken));
        pieces.clear();
        self.writer.pieces = pieces;
        if written.is_err() {
            self.writer.spare.give(taken);
        }
        written.map(|()| offset)
    }

    /// Says of each part of a write where it goes.
    fn plan(
        &self,
        view: &View,
        inode: &Inode,
        range: &Range<u64>,
        pieces: &mut Vec<Piece>,
    ) -> Result<()> {
        let mut runs = view.extents_within(inode, page(range.start)..range.end).peekable();
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(page(at) + BLOCK_SIZE);
            // What ends before this page is of no more use.
            while runs.next_if(|run| run.file_offset + run.len <= page(at)).is_some() {}
            let place = match runs.peek() {
                Some(run) => self.place(inode, run, &(at..end))?,
                None => Place::Fresh,
            };
            match (pieces.last_mut(), &place) {
                (Some(Piece { range, place: Place::Fresh }), Place::Fresh) => range.end = end,
                (Some(Piece { range, place: Place::Owned(last) }), Place::Owned(next))
                    if *last + (range.end - range.start) == *next =>
                {
                    range.end = end;
                }
                _ => pieces.push(Piece { range: at..end, place }),
            }
            at = end;
        }
        Ok(())
    }

    /// Where a part of one page goes, given the first run of bytes in that page.
    fn place(&self, inode: &Inode, run: &Extent, part: &Range<u64>) -> Result<Place> {
        let start = page(part.start);
        if run.file_offset > part.start {
            return Ok(Place::Fresh);
        }
        let image = run.image_offset + (part.start - run.file_offset);
        let mine = self.open.session.heap.owner_at(image)? == Some(self.id);
        if !mine || image % BLOCK_SIZE != part.start % BLOCK_SIZE {
            return Ok(Place::Fresh);
        }
        let covered = run.file_offset + run.len;
        if covered >= part.end {
            return Ok(Place::Owned(image));
        }
        let block = image - part.start % BLOCK_SIZE;
        match self.writer.tails.get(&inode.ino) {
            Some(tail) if tail.block == block && start + tail.used == covered => {
                let grown = part.start.max(covered) - start;
                Ok(match part.start < covered {
                    // A part is rewritten, and the rest follows it.
                    true => Place::Tail(image, image),
                    false => Place::Tail(block + grown, block + tail.used),
                })
            }
            _ => Ok(Place::Fresh),
        }
    }

    /// Stores and logs a write, or changes nothing: blocks are taken and filled first, and what is
    /// to be replaced where it lies is so when the log has found its room, too.
    fn store(
        &mut self,
        view: View,
        inode: &Inode,
        range: &Range<u64>,
        bytes: &[u8],
        pieces: &[Piece],
        taken: &mut Vec<Run>,
    ) -> Result<()> {
        let part = |part: &Range<u64>| {
            &bytes[(part.start - range.start) as usize..(part.end - range.start) as usize]
        };
        let size = inode.size.max(range.end);
        let mut entries = Vec::new();
        for Piece { range, place } in pieces {
            match place {
                Place::Owned(_) => {}
                Place::Tail(image, _) => {
                    let start = page(range.start);
                    let len = range.end - start;
                    entries.push((inode.ino, extent(start, len, page(*image), false)));
                }
                Place::Fresh => {
                    let mut at = page(range.start);
                    while at < range.end {
                        let run = self.allocate((range.end - at).div_ceil(BLOCK_SIZE))?;
                        taken.push(run);
                        let end = size.min(at + run.len());
                        self.fill(&view, inode, at..end, &run, range, &part)?;
                        self.open.session.heap.persist(run)?;
                        entries.push((inode.ino, extent(at, end - at, run.offset, false)));
                        at += run.len();
                    }
                }
            }
        }
        drop(view);
        let ends = (range.end == size && !entries.is_empty()).then(|| tail(size, &entries));
        if let [.., Piece { range: last, place: Place::Owned(image) }] = pieces
            && size > inode.size
        {
            // Space behind the end was there for it; nothing else says that the file has grown.
            entries.push((inode.ino, extent(last.start, last.end - last.start, *image, false)));
        }
        let open = self.open;
        let region = &open.session.region;
        let replace =
            || pieces.iter().try_for_each(|piece| piece.store_in_place(region, part(&piece.range)));
        if entries.is_empty() {
            replace()?;
            open.touch(&mut self.writer, inode.ino, self.time)?;
        } else {
            open.transact(&mut self.writer, self.time, &entries, Purpose::Growth, replace)?;
        }
        match ends {
            Some(Some(tail)) => drop(self.writer.tails.insert(inode.ino, tail)),
            Some(None) => drop(self.writer.tails.remove(&inode.ino)),
            None => {}
        }
        Ok(())
    }

    /// Fills new blocks for `covered`: with the bytes of the write where it reaches, and with
    /// what the file held where it does not.
    fn fill<'b>(
        &self,
        view: &View,
        inode: &Inode,
        covered: Range<u64>,
        run: &Run,
        written: &Range<u64>,
        part: &impl Fn(&Range<u64>) -> &'b [u8],
    ) -> Result<()> {
        let region = &self.open.session.region;
        let start = written.start.max(covered.start);
        let end = written.end.min(covered.end);
        let image = |offset: u64| run.offset + (offset - covered.start);
        put(region, image(start), part(&(start..end)))?;
        let mut buffer = [0; BLOCK_SIZE as usize];
        for rest in [covered.start..start, end..covered.end] {
            if rest.is_empty() {
                continue;
            }
            let old = &mut buffer[..(rest.end - rest.start) as usize];
            let read = view.read(inode, rest.start, old)?;
            old[read..].fill(0);
            put(region, image(rest.start), old)?;
        }
        Ok(())
    }
}

/// How far the last block of a file of `size` bytes is in use, if entries put one there that is not
/// full.
fn tail(size: u64, entries: &[Entry]) -> Option<Tail> {
    let tail = entries.iter().rev().find_map(|(_, change)| match change {
        Change::Extent { offset, len, image_offset, .. } if offset + len == size => {
            Some(Tail { block: image_offset + page(size) - offset, used: size % BLOCK_SIZE })
        }
        _ => None,
    });
    tail.filter(|tail| tail.used > 0)
}

pub(super) fn put(region: &Region, image: u64, bytes: &[u8]) -> Result<()> {
    region.write(image, bytes)?;
    region.write_back(image, bytes.len() as u64)
}

pub(super) fn extent(offset: u64, len: u64, image_offset: u64, keep_size: bool) -> Change {
    Change::Extent { offset, len, image_offset, keep_size }
}
