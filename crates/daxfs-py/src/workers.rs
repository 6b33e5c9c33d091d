// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The threads that share the engine's work.
//!
//! A forked child inherits the pool of its parent without the threads: work given to it would
//! wait for ever. So each process has a pool of its own, made when it first needs one.

use std::process;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

struct Pool {
    process: u32,
    threads: Arc<ThreadPool>,
}

static POOL: Mutex<Option<Pool>> = Mutex::new(None);

/// Does `work` on this process's threads.
pub(crate) fn share<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    threads().install(work)
}

fn threads() -> Arc<ThreadPool> {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    let process = process::id();
    if pool.as_ref().is_none_or(|pool| pool.process != process) {
        let threads = ThreadPoolBuilder::new()
            .thread_name(|index| format!("daxfs-{index}"))
            .build()
            .expect("the system starts threads");
        let stale = pool.replace(Pool { process, threads: Arc::new(threads) });
        // Its threads are the parent's: there is nobody to wake up for the end.
        std::mem::forget(stale);
    }
    Arc::clone(&pool.as_ref().expect("made above").threads)
}
