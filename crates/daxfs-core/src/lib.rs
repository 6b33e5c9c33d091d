// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The daxfs engine: build, prove and read images that lie in shared memory.
//!
//! From below: [`mod@format`], [`error`], [`finding`], [`progress`], [`persist`], [`region`],
//! [`superblock`], [`base`], [`name`], [`alloc`], [`map`], [`delta`], [`extents`], [`index`],
//! [`merge`], [`opener`], [`validate`], [`image`]; the life of branches, [`branch`], [`view`],
//! [`session`] and [`mod@write`], which use one another, and [`paths`]; beside them what only tools
//! need: [`source`], [`layout`], [`newfile`], [`build`], [`extract`], [`diff`], [`changes`], [`describe`],
//! [`dump`], [`history`], [`mount_options`], [`kernel`]. `docs/architecture.md` says what each is for.

#[cfg(not(target_pointer_width = "64"))]
compile_error!("daxfs takes a 64-bit processor: an image is mapped whole, however large it is");

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
pub mod mount_options;
pub mod name;
mod names;
pub mod newfile;
pub mod opener;
pub mod paths;
pub mod patient;
pub mod persist;
pub mod progress;
pub mod region;
pub mod session;
pub mod source;
pub mod superblock;
pub mod validate;
pub mod view;
pub mod workers;
pub mod write;
pub mod xattr;

pub use error::{Error, Result};
