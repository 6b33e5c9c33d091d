// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An open branch: its tree as of now, for reading and for writing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};

use super::hold::Intent;
use crate::delta::Cursor;
use crate::error::{Error, Result};
use crate::format::{MAIN_NAME, OWNER_FROZEN, state};
use crate::index::Index;
use crate::opener::Pin;
use crate::region::Access;
use crate::session::Session;
use crate::view::View;
use crate::write::{Mappings, Writer};

/// What became of a branch whose generation is over.
const LOST: &str = "another branch was committed meanwhile, so its changes are void";
const COMMITTED: &str = "it was committed, and its content is main's now";
const ABORTED: &str = "it was aborted";

/// A handle of a branch. Clones share what they are open on; when the last one that writes goes,
/// the branch is released.
#[derive(Debug, Clone)]
pub struct Branch {
    pub(crate) open: Arc<Open>,
    /// Of who writes.
    hold: Option<Arc<Hold>>,
}

impl Branch {
    /// A handle. Whoever makes one that writes takes the branch, too.
    pub(crate) fn new(open: Arc<Open>, access: Access) -> Self {
        let hold = (access == Access::Write).then(|| open.hold());
        Self { open, hold }
    }

    /// The name it was opened under.
    pub fn name(&self) -> &str {
        &self.open.name
    }

    /// Identity of its record now; main's changes with each commit.
    pub fn id(&self) -> u64 {
        self.open.id()
    }

    /// The session that it is open in.
    pub fn session(&self) -> &Arc<Session> {
        &self.open.session
    }

    /// Whether it was opened for writing.
    pub fn is_writable(&self) -> bool {
        self.hold.is_some()
    }

    /// Its tree as it is now, at no cost that grows with the tree. Of main, that of the newest
    /// commit; of a branch that is no more, [`Error::Stale`].
    pub fn view(&self) -> Result<View> {
        self.open.view()
    }

    /// What tells one state of the tree from another, at less cost than a view: the record that it
    /// ends with, and how far that one's log was read.
    pub fn version(&self) -> Result<(u64, u64)> {
        let state = self.open.current()?;
        Ok((state.id, state.cursor.position))
    }

    /// Makes everything done so far durable, and visible to every party.
    pub fn sync(&self) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        let mut writer = self.open.lock_writer()?;
        drop(self.open.current()?);
        self.open.flush(&mut writer)
    }

    /// Makes the branch main, and with it the branches that it was made from. Every other branch
    /// is dead then. One compare-and-swap decides; who comes second gets [`Error::Stale`].
    pub fn commit(&self) -> Result<()> {
        self.check_access()?;
        self.open.commit()
    }

    /// Ends the branch and drops its changes.
    pub fn abort(&self) -> Result<()> {
        self.check_access()?;
        self.open.abort()
    }

    /// Lets others write. What was done stays; the next write through a handle takes it again.
    /// [`Error::Busy`] while there are writable [mappings](Branch::map), as for commit. Who only
    /// reads lets go of nothing.
    pub fn release(&self) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        // A fork of the process that holds it holds nothing.
        let Ok(mut writer) = self.open.lock_writer() else { return Ok(()) };
        self.open.release_for(&mut writer)
    }

    pub(crate) fn check_access(&self) -> Result<()> {
        if self.is_writable() {
            return Ok(());
        }
        Err(Error::ReadOnly {
            name: self.name().into(),
            why: "the handle was opened for reading; open it for writing".into(),
        })
    }
}

/// What those handles of a branch share that write.
#[derive(Debug)]
struct Hold(Arc<Open>);

impl Drop for Hold {
    fn drop(&mut self) {
        // A fork has nothing to let go of.
        let Ok(mut writer) = self.0.lock_writer() else { return };
        // Somebody may write again since the last one went.
        if self.0.lock_hold().strong_count() == 0 {
            // Nobody is there to hear of a failure, and a hold that stays can be broken.
            let _ = self.0.release_for(&mut writer);
        }
    }
}

/// What all handles of a branch in a session share.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) session: Arc<Session>,
    pub(crate) name: String,
    state: RwLock<State>,
    // Taken before `state` by whoever takes both.
    writer: Mutex<Writer>,
    /// Files in use, and how often: they outlive their last names.
    pub(crate) kept: Mutex<HashMap<u64, usize>>,
    pub(crate) mappings: Mappings,
    // Whether this session is in the owner word, as far as it knows.
    held: AtomicBool,
    // Taken after `writer` by whoever takes both.
    hold: Mutex<Weak<Hold>>,
}

/// Where an open branch stands.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) slot: u64,
    pub(crate) id: u64,
    /// The value of `head` under which it was last found current.
    head: u64,
    /// How far the index has come. Ahead of what is published while publication waits.
    pub(crate) cursor: Cursor,
    pub(crate) index: Index,
    /// The epoch at which all this was found.
    epoch: u64,
    /// Who writes keeps a pin; who only reads has one with each view.
    pub(crate) pin: Option<Arc<Pin>>,
    ended: Option<&'static str>,
}

impl Open {
    #[expect(clippy::too_many_arguments, reason = "each is a part of the state")]
    pub(crate) fn new(
        session: &Arc<Session>,
        name: &str,
        slot: u64,
        id: u64,
        head: u64,
        cursor: Cursor,
        index: Index,
        pin: Pin,
        held: bool,
    ) -> Self {
        let (epoch, ended) = (pin.epoch(), None);
        let pin = held.then(|| Arc::new(pin));
        Self {
            session: Arc::clone(session),
            name: name.into(),
            state: RwLock::new(State { slot, id, head, cursor, index, epoch, pin, ended }),
            writer: Mutex::default(),
            kept: Mutex::default(),
            mappings: Mappings::default(),
            held: AtomicBool::new(held),
            hold: Mutex::default(),
        }
    }

    /// Keeps other threads from writing. A fork has nothing to write, and may have inherited the lock
    /// from a thread that it does not have.
    pub(crate) fn lock_writer(&self) -> Result<MutexGuard<'_, Writer>> {
        self.session.opener.expect_mine()?;
        Ok(self.writer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn read_state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For whoever may be a fork, which does not wait: the thread that changes the state may be one
    /// that it does not have.
    fn state_now(&self) -> Result<RwLockReadGuard<'_, State>> {
        if let Ok(state) = self.state.try_read() {
            return Ok(state);
        }
        self.session.opener.expect_mine()?;
        Ok(self.read_state())
    }

    pub(crate) fn write_state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, for who is about to store to the branch: another thread may have found out that it
    /// has ended, and let go of it. It cannot, as long as this is held.
    pub(crate) fn held_state(&self) -> Result<RwLockWriteGuard<'_, State>> {
        let state = self.write_state();
        if self.is_held() { Ok(state) } else { Err(self.lost(&state)) }
    }

    /// The record, and a pin for who stores to its blocks: should another thread let go of it, nobody
    /// gets them meanwhile.
    pub(crate) fn held_record(&self) -> Result<(u64, Arc<Pin>)> {
        let state = self.read_state();
        let pin = state.pin.clone().ok_or_else(|| self.lost(&state))?;
        Ok((state.id, pin))
    }

    fn lost(&self, state: &State) -> Error {
        self.stale(state.ended.unwrap_or(LOST))
    }

    pub(crate) fn id(&self) -> u64 {
        self.read_state().id
    }

    pub(crate) fn is_main(&self) -> bool {
        self.name == MAIN_NAME
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held.load(SeqCst)
    }

    pub(crate) fn set_held(&self, held: bool) {
        self.held.store(held, SeqCst);
    }

    /// The tree, if all of it is published.
    pub(crate) fn published(&self) -> Result<Option<(Cursor, Index)>> {
        let state = self.read_state();
        let published = self.session.records.size(state.slot)? == state.cursor.position;
        Ok((published && state.ended.is_none()).then(|| {
            let mut index = state.index.clone();
            index.bury(self.session.image.base(), |_| false);
            (state.cursor, index)
        }))
    }

    pub(crate) fn view(&self) -> Result<View> {
        loop {
            let state = self.current()?;
            let pin = match &state.pin {
                Some(pin) => Arc::clone(pin),
                None => {
                    let pin = Arc::new(self.session.opener.pin()?);
                    // The pin comes first, then what it is for.
                    if !self.is_up_to_date(&state)? {
                        continue;
                    }
                    pin
                }
            };
            let image = Arc::clone(&self.session.image);
            return Ok(View::pinned(image, state.index.clone(), pin));
        }
    }

    /// The state, once it is that of now.
    pub(crate) fn current(&self) -> Result<RwLockReadGuard<'_, State>> {
        loop {
            let state = self.state_now()?;
            if let Some(why) = state.ended {
                return Err(self.stale(why));
            }
            if self.is_up_to_date(&state)? {
                return Ok(state);
            }
            drop(state);
            self.catch_up()?;
        }
    }

    fn is_up_to_date(&self, at: &State) -> Result<bool> {
        let records = &self.session.records;
        Ok(records.head()? == at.head
            && records.epoch()? == at.epoch
            && records.id(at.slot)? == at.id
            && (at.head == at.id || records.state(at.slot)? == state::ACTIVE)
            && (self.is_held() || records.size(at.slot)? == at.cursor.position))
    }

    /// Moves on to what is there now, or finds out that the branch has ended.
    pub(crate) fn catch_up(&self) -> Result<()> {
        self.session.opener.expect_mine()?;
        let mut state = self.write_state();
        let (session, records) = (&self.session, &self.session.records);
        // The pin before `head`, and the old one goes last.
        let pin = session.opener.pin()?;
        let head = records.head()?;
        if head != state.head {
            records.persist_head()?;
        }
        let same = records.id(state.slot)? == state.id;
        if self.is_main() && head != state.id {
            self.let_go(&mut state)?;
            let slot = records.slot_of(head)?.ok_or_else(|| {
                Error::corrupt("head", super::record::HEAD, "a record in use", head)
            })?;
            (state.slot, state.id) = (slot, head);
            (state.cursor, state.index) = session.replay_record(slot, head)?;
        } else if !self.is_main() && records.base_head(state.slot)? != head {
            let main = records.chain(head)?;
            let why = if same && main.contains(&state.slot) { COMMITTED } else { LOST };
            return self.end(&mut state, why);
        } else if !same || head != state.id && records.state(state.slot)? != state::ACTIVE {
            return self.end(&mut state, ABORTED);
        } else if !self.is_held() {
            self.replay(&mut state)?;
        }
        state.head = head;
        state.epoch = pin.epoch();
        state.pin = self.is_held().then(|| Arc::new(pin));
        Ok(())
    }

    /// Follows the log as far as it is published.
    pub(crate) fn replay(&self, state: &mut State) -> Result<()> {
        let session = &self.session;
        let size = session.records.size(state.slot)?;
        if state.cursor.position == 0 {
            state.cursor = session.log_start(state.slot)?;
        }
        let base = session.image.base();
        let State { cursor, index, .. } = state;
        *cursor = index.replay(base, &session.region, &session.space, *cursor, size)?;
        // Files without names are their writer's alone.
        index.bury(base, |_| false);
        Ok(())
    }

    pub(crate) fn stale(&self, why: &'static str) -> Error {
        Error::Stale { name: self.name.clone(), why }
    }

    /// The branch is no more. Its index goes with the last handle: that takes time with its size.
    fn end(&self, state: &mut State, why: &'static str) -> Result<()> {
        state.ended = Some(why);
        self.let_go(state)
    }

    /// Gives the owner word back, if this session is in it.
    fn let_go(&self, state: &mut State) -> Result<()> {
        if self.is_held() {
            self.set_held(false);
            self.session.let_go(state.slot)?;
        }
        state.pin = None;
        Ok(())
    }

    /// Takes the branch for writing.
    pub(crate) fn write_open(&self) -> Result<()> {
        let mut writer = self.lock_writer()?;
        self.ensure_held(&mut writer, Intent::Write)
    }

    /// Makes sure that this session may store to the branch now.
    pub(crate) fn ensure_held(&self, writer: &mut Writer, intent: Intent) -> Result<()> {
        self.session.opener.expect_mine()?;
        let state = self.current()?;
        let (slot, id) = (state.slot, state.id);
        drop(state);
        let (session, me) = (&self.session, self.session.opener.id);
        let word = session.records.owner(slot)?;
        if self.is_held() && word == me && !session.records.is_quarantined(slot)? {
            return Ok(());
        }
        if self.is_held() && word & !OWNER_FROZEN != me {
            // The hold was broken: what was not published is lost.
            self.set_held(false);
            writer.forget();
            let mut state = self.write_state();
            state.pin = None;
            (state.cursor, state.index) = session.replay_record(slot, id)?;
        }
        // Before the owner word, so that it is there for as long.
        let pin = Arc::new(session.opener.pin()?);
        if let Err(error) = session.take_for_writing(&self.name, slot, id, intent) {
            // Frozen, so all was published; or lost.
            self.set_held(false);
            self.write_state().pin = None;
            writer.forget();
            return Err(error);
        }
        let mut state = self.write_state();
        if state.ended.is_some() {
            session.let_go(slot)?;
            return Err(self.lost(&state));
        }
        if !self.is_held() {
            writer.forget();
            self.replay(&mut state)?;
            state.pin = Some(pin);
            self.set_held(true);
        }
        Ok(())
    }

    pub(crate) fn commit(&self) -> Result<()> {
        self.commit_and(true)
    }

    /// As [`Open::commit`], but lets go of the record, which is main's tip then, only if `let_go`.
    pub(crate) fn commit_and(&self, let_go: bool) -> Result<()> {
        if self.is_main() {
            return Err(Error::invalid("main is what branches are committed to"));
        }
        let mut writer = self.lock_writer()?;
        self.expect_unmapped()?;
        self.ensure_held(&mut writer, Intent::Finish)?;
        self.flush(&mut writer)?;
        let mut state = self.held_state()?;
        let records = &self.session.records;
        // CommitSwap
        records.persist(state.slot)?;
        let base_head = records.base_head(state.slot)?;
        let won = records.swap_head(base_head, state.id)?;
        records.persist_head()?;
        if won {
            state.index.bury(self.session.image.base(), |_| false);
            self.session.remember(state.id, state.cursor, &state.index)?;
            if !let_go {
                // The owner word stays: to end is to let go of what is held.
                self.set_held(false);
            }
        }
        self.end(&mut state, if won { COMMITTED } else { LOST })?;
        if won { Ok(()) } else { Err(self.stale(LOST)) }
    }

    pub(crate) fn abort(&self) -> Result<()> {
        if self.is_main() {
            return Err(Error::invalid("main cannot be aborted"));
        }
        let mut writer = self.lock_writer()?;
        self.ensure_held(&mut writer, Intent::Finish)?;
        writer.forget();
        let mut state = self.held_state()?;
        if let Err(refused) = self.session.retire(state.slot) {
            // One that was taken by force stays for whoever commits it.
            self.let_go(&mut state)?;
            return Err(refused);
        }
        self.end(&mut state, ABORTED)
    }

    fn hold(self: &Arc<Self>) -> Arc<Hold> {
        let mut last = self.lock_hold();
        last.upgrade().unwrap_or_else(|| {
            let hold = Arc::new(Hold(Arc::clone(self)));
            *last = Arc::downgrade(&hold);
            hold
        })
    }

    fn lock_hold(&self) -> MutexGuard<'_, Weak<Hold>> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn release_for(&self, writer: &mut Writer) -> Result<()> {
        if !self.is_held() {
            return Ok(());
        }
        self.expect_unmapped()?;
        let flushed = self.flush(writer);
        let mut state = self.write_state();
        self.let_go(&mut state)?;
        flushed
    }
}
