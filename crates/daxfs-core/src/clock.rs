// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The wall clock, and waiting by a clock.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    let time = clock_gettime(ClockId::Realtime);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(1);
/// Looks that a wait has at least.
const LOOKS: u32 = 20;

/// A wait for others that ends. Not by the clock alone: where processors are scarce, the time may be
/// over as soon as whoever waits, or is waited for, gets one.
#[derive(Debug)]
pub(crate) struct Patience {
    end: Instant,
    looks: u32,
}

impl Patience {
    /// A wait of `time`, or longer if there were only a few looks by then.
    pub(crate) fn new(time: Duration) -> Self {
        Self { end: Instant::now() + time, looks: 0 }
    }

    /// Whether the look that was had just now was the last.
    pub(crate) fn is_over(&mut self) -> bool {
        self.looks += 1;
        self.looks >= LOOKS && Instant::now() >= self.end
    }

    /// Pauses before the next look.
    pub(crate) fn pause(&self) {
        std::thread::sleep(PAUSE);
    }
}
