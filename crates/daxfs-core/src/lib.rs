// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The daxfs engine: build, prove and read images that lie in shared memory.
//!
//! Each module uses only those above it: [`format`], [`error`], [`region`], [`persist`],
//! [`superblock`], [`base`], [`alloc`], [`name`], [`map`], [`delta`], [`extents`], [`index`],
//! [`merge`], [`opener`], [`branch`], [`validate`], [`image`], [`view`], [`paths`], [`session`],
//! [`write`]; beside them what only tools need: [`layout`], [`source`], [`newfile`], [`build`], [`extract`],
//! [`diff`], [`changes`], [`describe`], [`dump`], [`history`], [`kernel`].

pub mod alloc;
pub mod base;
pub mod branch;
mod buffer;
pub mod build;
pub mod changes;
mod clock;
pub mod delta;
pub mod describe;
pub mod diff;
pub mod dump;
pub mod error;
pub mod extents;
pub mod extract;
pub mod finding;
pub mod format;
pub mod history;
mod holes;
pub mod image;
pub mod index;
pub mod kernel;
pub mod layout;
mod log;
pub mod map;
pub mod merge;
pub mod name;
pub mod newfile;
pub mod opener;
pub mod paths;
pub mod persist;
pub mod progress;
pub mod region;
pub mod session;
pub mod source;
pub mod superblock;
pub mod validate;
pub mod view;
pub mod write;

pub use error::{Error, Result};
