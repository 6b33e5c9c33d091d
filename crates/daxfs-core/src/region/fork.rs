// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether this process is a fork of the one that did something: without asking the kernel, since
//! every write to a branch wants to know.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static GENERATION: AtomicU64 = AtomicU64::new(0);
static REGISTERED: Once = Once::new();

/// A number that every fork changes.
pub(crate) fn generation() -> u64 {
    // SAFETY: the handler is a function of this library, which is never unloaded, and does nothing
    // that is forbidden in a fork of a process with threads.
    REGISTERED.call_once(|| unsafe {
        // Where there is no memory for it, forks go unnoticed.
        libc::pthread_atfork(None, None, Some(forked));
    });
    GENERATION.load(Relaxed)
}

extern "C" fn forked() {
    GENERATION.fetch_add(1, Relaxed);
}
