// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Changes of a branch: what each operation checks, stores and publishes.
//!
//! An operation is checked against the tree as it is, its data go into blocks that the branch
//! owns, its entries behind the published size of the log. They are then read back and applied to
//! the index, as every reader will do, and published by one store.

mod attributes;
mod data;
mod mapping;
mod names;
mod renew;
mod reuse;
mod room;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, MutexGuard, RwLockWriteGuard};

pub use attributes::{SetAttr, XattrMode};
pub use mapping::Mapping;
pub(crate) use mapping::Mappings;
pub use names::{NewInode, Rename};
pub use reuse::Kept;

use crate::alloc::Spare;
use crate::base::Inode;
use crate::branch::handle::{Branch, Open, State};
use crate::branch::hold::Intent;
use crate::clock;
use crate::delta::Change;
use crate::error::{Error, Result};
use crate::log::Appender;
use crate::opener::Pin;
use crate::view::View;
use room::{Merged, Purpose};

/// What a branch has been asked to change: the inode concerned and how.
type Entry = (u64, Change);

/// Bytes of entries that may wait for publication.
const DEFERRED_MAX: u64 = 4 << 20;

/// What only the writer of a branch knows.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    buffer: Vec<u8>,
    spare: Spare,
    /// Files rewritten in place, whose times no entry tells yet.
    touched: HashSet<u64>,
    /// Whether anything was stored in place that may not be on disk yet, behind a file there.
    stored: bool,
    /// Blocks at the ends of files: how far each was ever written. What lies behind was never
    /// published, so a file can grow there in place.
    tails: HashMap<u64, Tail>,
    /// Inodes that lost their last names here. Layers above cannot have entries for them: a fold
    /// leaves them out.
    orphans: HashSet<u64>,
    /// The segments of the log, from the first search for unused blocks on.
    segments: Vec<Range<u64>>,
    pieces: Vec<data::Piece>,
    /// The record and the end of its log when all had been given back that ever could be of what
    /// came before.
    collected: Option<(u64, u64)>,
    /// The epoch up to which readers were waited for in vain the last time.
    hindered: Option<u64>,
    /// How long the log may get before it is tried again to begin it anew.
    renewed_to: u64,
    merged: Merged,
}

/// A file's last block.
#[derive(Debug, Clone, Copy)]
struct Tail {
    block: u64,
    used: u64,
}

impl Writer {
    /// Forgets everything: the branch has been in other hands.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// An operation under way: nobody else writes to the branch meanwhile.
struct Operation<'a> {
    open: &'a Open,
    writer: MutexGuard<'a, Writer>,
    /// The record's.
    id: u64,
    _pin: Arc<Pin>,
    time: i64,
}

impl Branch {
    fn begin(&self) -> Result<Operation<'_>> {
        self.check_access()?;
        let mut writer = self.open.lock_writer()?;
        self.open.renew_if_long(&mut writer);
        self.open.ensure_held(&mut writer, Intent::Write)?;
        let (id, _pin) = self.open.held_record()?;
        Ok(Operation { open: &self.open, writer, id, _pin, time: clock::now() })
    }
}

impl Operation<'_> {
    /// The tree as it is. To be dropped before anything is logged: what the index shares with
    /// others it must copy.
    fn view(&self) -> Result<View> {
        self.open.view()
    }

    fn log(&mut self, entries: &[Entry], purpose: Purpose) -> Result<()> {
        self.open.transact(&mut self.writer, self.time, entries, purpose, || Ok(()))
    }

    fn inode(&self, ino: u64) -> Result<Inode> {
        self.view()?.inode(ino)
    }

    /// An inode that may be changed.
    fn writable(&self, view: &View, ino: u64) -> Result<Inode> {
        let inode = view.remaining_inode(ino)?;
        if inode.nlink == 0 && !self.writer.orphans.contains(&ino) {
            return Err(Error::NotFound { path: format!("inode {ino}").into_bytes() });
        }
        Ok(inode)
    }

    /// An inode has lost a name.
    fn dropped(&mut self, inode: &Inode) {
        if inode.nlink <= 1 || inode.is_dir() {
            self.writer.orphans.insert(inode.ino);
            self.writer.tails.remove(&inode.ino);
        }
    }
}

impl Open {
    /// Logs entries, applies them and publishes them, all or none. What `store` changes that is
    /// published already it changes once nothing can be short of space any more.
    fn transact(
        &self,
        writer: &mut Writer,
        time: i64,
        entries: &[Entry],
        purpose: Purpose,
        store: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let (region, records) = (&self.session.region, &self.session.records);
        let keep = self.keep(writer, purpose)?;
        if purpose == Purpose::Growth {
            // The log may have room for them yet; for a log of all that there is then, there may be
            // none.
            self.session.heap.expect_free(keep)?;
        }
        let mut state = self.held_state()?;
        let (slot, from) = (state.slot, state.cursor);
        let Writer { spare, buffer, segments, .. } = writer;
        let record = (slot, state.id);
        let mut log = Appender::new(&self.session, record, from, keep, spare, buffer);
        let appended = entries.iter().try_for_each(|(ino, change)| log.append(*ino, time, change));
        let appended = appended.and_then(|()| store());
        if let Err(error) = appended {
            log.give_up();
            return Err(error);
        }
        let (end, begun) = log.finish();
        if !segments.is_empty() {
            segments.extend(begun.iter().map(|run| run.offset..run.end()));
        }
        // A log without a first segment has one by now.
        let from = if from.position == 0 { self.session.log_start(slot)? } else { from };
        let session = &self.session;
        let base = session.image.base();
        match state.index.replay(base, region, &session.space, from, end.position) {
            Ok(cursor) => state.cursor = cursor,
            Err(error) => {
                // Nothing was published; what was applied of it goes.
                let id = state.id;
                (state.cursor, state.index) = session.replay_record(slot, id)?;
                return Err(error);
            }
        }
        if !session.defers() {
            // AppendPublish, AppendAcknowledge
            records.publish(slot, end.position)?;
        } else if end.position.saturating_sub(records.size(slot)?) > DEFERRED_MAX {
            self.publish_deferred(state)?;
        }
        Ok(())
    }

    /// Publishes what waits, and makes everything durable.
    pub(crate) fn flush(&self, writer: &mut Writer) -> Result<()> {
        if !self.is_held() {
            return Ok(());
        }
        self.write_back_mapped()?;
        for ino in std::mem::take(&mut writer.touched) {
            let Some(inode) = self.write_state().index.inode(ino).copied() else { continue };
            let (mtime, ctime) = (Some(inode.mtime), Some(inode.ctime));
            let change = Change::SetAttr {
                mode: None,
                uid: None,
                gid: None,
                size: None,
                atime: None,
                mtime,
                ctime,
            };
            match self.transact(writer, inode.ctime, &[(ino, change)], Purpose::Relief, || Ok(())) {
                // The end of a branch must not need space: then the times are lost.
                Err(Error::NoSpace { .. }) => break,
                done => done?,
            }
        }
        let state = self.held_state()?;
        if !self.session.defers() {
            drop(state);
            self.session.region.fence();
            return Ok(());
        }
        let published = self.session.records.size(state.slot)? == state.cursor.position;
        if !published || writer.stored || self.is_mapped() {
            self.publish_deferred(state)?;
            writer.stored = false;
        }
        Ok(())
    }

    /// A file was changed where it is: an entry says so at the next flush.
    fn touch(&self, writer: &mut Writer, ino: u64, time: i64) -> Result<()> {
        self.session.region.fence();
        writer.stored = true;
        writer.touched.insert(ino);
        self.write_state().index.touch(self.session.image.base(), ino, time)
    }

    /// Waits for the disk, and keeps nobody else waiting meanwhile: with the pin, the slot stays its
    /// own.
    fn publish_deferred(&self, state: RwLockWriteGuard<'_, State>) -> Result<()> {
        let (slot, position, _pin) = (state.slot, state.cursor.position, state.pin.clone());
        drop(state);
        let session = &self.session;
        session.persist_deferred()?;
        if session.records.size(slot)? != position {
            session.records.publish(slot, position)?;
        }
        Ok(())
    }
}
