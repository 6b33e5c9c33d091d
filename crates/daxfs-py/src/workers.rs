// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The threads that share the engine's work.
//!
//! A forked child inherits the pool of its parent without the threads: work given to it would
//! wait for ever. So each process has a pool of its own, made when it first needs one.

use std::process;
use std::sync::{Arc, Mutex, PoisonError};

use daxfs_core::error::Result;
use daxfs_core::workers::start;
use rayon::ThreadPool;

struct Pool {
    process: u32,
    threads: Arc<ThreadPool>,
}

static POOL: Mutex<Option<Pool>> = Mutex::new(None);

/// The threads of this process.
pub(crate) fn threads() -> Result<Arc<ThreadPool>> {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    let process = process::id();
    match &*pool {
        Some(pool) if pool.process == process => Ok(Arc::clone(&pool.threads)),
        _ => {
            let threads = Arc::new(start()?);
            let stale = pool.replace(Pool { process, threads: Arc::clone(&threads) });
            // Its threads are the parent's: there is nobody to wake up for the end.
            std::mem::forget(stale);
            Ok(threads)
        }
    }
}
