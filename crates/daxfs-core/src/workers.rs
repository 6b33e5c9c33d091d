// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Threads that share work, as many as there is room for.

use std::error::Error as _;
use std::time::Duration;
use std::{io, iter, thread};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// Time between attempts to start fewer and fewer threads.
const PAUSE: Duration = Duration::from_millis(2);
/// Attempts to start a single one: the others may be slow to go.
const LAST_TRIES: usize = 50;

/// Starts a thread for each processor, or as many as the limits of the process leave room for.
pub fn start() -> Result<ThreadPool> {
    let build = |count| {
        let name = |index| format!("daxfs-{index}");
        // 0 is one for each.
        ThreadPoolBuilder::new().num_threads(count).thread_name(name).build()
    };
    let processors = thread::available_parallelism().map_or(1, Into::into);
    let fewer = iter::successors(Some(processors / 2), |count| Some(count / 2));
    let fewer = fewer.take_while(|count| *count > 1).chain(iter::repeat_n(1, LAST_TRIES));
    let again = |count| {
        // Those that were too many take a moment to go.
        thread::sleep(PAUSE);
        build(count)
    };
    fewer
        .fold(build(0), |built, count| built.or_else(|_| again(count)))
        .map_err(|error| Error::no_thread(&source(&error)))
}

fn source(error: &ThreadPoolBuildError) -> io::Error {
    let system = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let errno = system.and_then(io::Error::raw_os_error);
    errno.map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
}
