// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The daxfs engine: build, prove and read images that lie in shared memory.
//!
//! Each module uses only those above it: [`format`], [`error`], [`region`], [`persist`],
//! [`superblock`], [`base`], [`delta`], [`extents`], [`index`], [`branch`], [`validate`],
//! [`image`], [`view`]; beside them what only tools need:
//! [`layout`], [`source`], [`build`], [`extract`], [`diff`], [`dump`], [`kernel`].

pub mod base;
pub mod branch;
pub mod build;
pub mod delta;
pub mod diff;
pub mod dump;
pub mod error;
pub mod extents;
pub mod extract;
pub mod finding;
pub mod format;
pub mod image;
pub mod index;
pub mod kernel;
pub mod layout;
pub mod persist;
pub mod progress;
pub mod region;
pub mod source;
pub mod superblock;
pub mod validate;
pub mod view;

pub use error::{Error, Result};
