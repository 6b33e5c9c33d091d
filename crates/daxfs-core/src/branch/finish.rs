// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ends of a branch: commit by name, abort, delete.

use std::sync::Arc;

use super::record::UNSTAMPED;
use crate::error::{Error, Result};
use crate::format::state;
use crate::region::Access;
use crate::session::Session;

impl Session {
    /// Commits a branch by its name.
    pub fn commit(self: &Arc<Self>, name: &str) -> Result<()> {
        self.open_branch(name, Access::Read)?.open.commit()
    }

    /// Aborts a branch by its name; also one that somebody left.
    pub fn abort(self: &Arc<Self>, name: &str) -> Result<()> {
        self.open_branch(name, Access::Read)?.open.abort()
    }

    /// Retires a record that this session holds.
    pub(crate) fn retire(&self, slot: u64) -> Result<()> {
        let records = &self.records;
        if records.is_quarantined(slot)? {
            return Err(Error::Busy {
                name: records.name(slot)?,
                why: "it was taken by force, and its owner may be about to commit it".into(),
            });
        }
        // AbortUnstamp, AbortRetire
        records.set_stamp(slot, UNSTAMPED)?;
        records.set_state(slot, state::RETIRED)?;
        // AbortEpoch, AbortStamp: the epoch of after nobody could open it any more.
        records.set_stamp(slot, records.epoch()?)?;
        // AbortAcknowledge
        records.persist(slot)?;
        records.bump_epoch()
    }
}
