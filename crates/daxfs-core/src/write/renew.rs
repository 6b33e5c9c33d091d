// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A fresh log for main, when what its writer did is far more than what is left of it.
//!
//! Only layers below main's tip are folded. So the writer makes a branch of main, commits it with
//! nothing in it, goes on in that, and folds what is then below. `docs/branches.md` knows this as
//! renew; nothing in it is new to the protocol.

use super::Writer;
use crate::branch::handle::{Branch, Open};
use crate::branch::hold::Intent;
use crate::error::{Error, Result};
use crate::format::{BLOCK_SIZE, MAIN_NAME, OWNER_FROZEN};

/// A log is long when it takes this share of the heap.
const LONG: u64 = 16;

impl Branch {
    /// Begins main's log anew, and folds what there was of it. Says whether that was possible: not
    /// while files without names are in use, and not without room for its tree in a log once more.
    pub fn renew(&self) -> Result<bool> {
        self.check_access()?;
        if self.name() != MAIN_NAME {
            return Err(Error::invalid("only main's log is begun anew; other branches end"));
        }
        self.open.renew(&mut *self.open.lock_writer()?, false)
    }
}

impl Open {
    /// Begins the log anew if it is long. That it could not be is no failure of what comes next.
    pub(super) fn renew_if_long(&self, writer: &mut Writer) {
        if !self.is_main() {
            return;
        }
        let position = self.read_state().cursor.position;
        let long = self.session.heap.blocks() * BLOCK_SIZE / LONG;
        if position > long.max(writer.renewed_to) && !self.renew(writer, false).unwrap_or(false) {
            writer.renewed_to = position + long;
        }
    }

    /// With `anyway` also if little comes of it, but the blocks that nothing names any more.
    pub(crate) fn renew(&self, writer: &mut Writer, anyway: bool) -> Result<bool> {
        self.ensure_held(writer, Intent::Write)?;
        let kept = self.lock_kept();
        let in_use = writer.orphans.iter().any(|ino| kept.contains_key(ino));
        drop(kept);
        let (session, records) = (&self.session, &self.session.records);
        let logs = |chain: &[u64]| {
            let add =
                |sum, slot: &u64| Ok::<_, Error>(u64::saturating_add(sum, records.size(*slot)?));
            chain.iter().try_fold(0, add)
        };
        self.flush(writer)?;
        let chain = records.chain(self.id())?;
        let (own, all) = (logs(&chain[..1])?, logs(&chain)?);
        // Shorter than what it lies on, it would be folded again and again for little.
        let pays = own > 0 && (anyway || own >= all.saturating_sub(own));
        if in_use || !pays {
            return Ok(false);
        }
        // What is not folded would stay below for good.
        let Some(needed) = self.measure(writer)? else { return Ok(false) };
        if session.heap.unowned()? < needed {
            self.collect_for(writer)?;
            if session.heap.unowned()? < needed {
                return Ok(false);
            }
        }
        self.expect_unmapped()?;
        let me = session.opener.id;
        if !records.take(chain[0], me, me | OWNER_FROZEN)? {
            return Ok(false);
        }
        let committed = session.create_renewal().and_then(|branch| {
            // RenewAlone: the commit would void what others made of main meanwhile.
            if records.has_others(records.head()?, branch.id())? {
                branch.abort().map(|()| false)
            } else {
                // Nobody else gets it before it is opened as main.
                branch.open.commit_and(false).map(|()| true)
            }
        });
        // Main is held again, whatever came of it, before anybody else can write to it.
        self.ensure_held(writer, Intent::Write)?;
        if !committed? {
            return Ok(false);
        }
        session.maintain_to(0)?;
        // What was found to be of no use in the first round is free in the next.
        session.maintain()?;
        self.reload()?;
        Ok(true)
    }

    /// Takes the tree as the fold has it, which knows nothing of what came and went meanwhile.
    fn reload(&self) -> Result<()> {
        let mut state = self.write_state();
        self.session.forget_trees();
        (state.cursor, state.index) = self.session.replay_record(state.slot, state.id)?;
        Ok(())
    }
}
