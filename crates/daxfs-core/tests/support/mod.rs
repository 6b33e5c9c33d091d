// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the engine's tests share: sample images, changes to them, and readers of everything.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

pub(crate) mod change;
pub(crate) mod describe;
pub(crate) mod exhaust;
pub(crate) mod forge;
pub(crate) mod guard;
pub(crate) mod history;
pub(crate) mod judge;
pub(crate) mod ours;
pub(crate) mod sample;
