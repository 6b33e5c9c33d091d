// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parties under a scheduler that decides, at every access to shared memory, who goes on.

use std::sync::Arc;

use daxfs_core::error::Error;
use daxfs_core::region::Region;
use daxfs_core::session::Session;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::atomic::{AtomicBool, Ordering};

/// Lets the scheduler choose.
fn step() {
    AtomicBool::new(false).load(Ordering::SeqCst);
}

/// How many schedules of each kind to try, if `usual` is what suits a test run.
pub(crate) fn schedules(usual: usize) -> usize {
    let count = std::env::var("DAXFS_INTERLEAVINGS").ok().and_then(|count| count.parse().ok());
    count.unwrap_or(usual)
}

/// Runs a scenario on an image under many schedules, at random and by priorities that change a few
/// times.
pub(crate) fn explore(
    image: &Arc<[u8]>,
    count: usize,
    scenario: impl Fn(Arc<Region>) + Clone + Send + Sync + 'static,
) {
    let run = |scheduler: Box<dyn Scheduler + Send>| {
        let mut config = shuttle::Config::new();
        config.stack_size = 1 << 20;
        config.max_steps = shuttle::MaxSteps::FailAfter(10_000_000);
        let (image, scenario) = (Arc::clone(image), scenario.clone());
        shuttle::Runner::new(scheduler, config).run(move || {
            let region = Arc::new(Region::interleaved(&image, step).expect("memory"));
            scenario(Arc::clone(&region));
            settle(&region);
        });
    };
    run(Box::new(RandomScheduler::new(count)));
    run(Box::new(PctScheduler::new(3, count)));
}

/// When everybody has gone nothing is left over.
fn settle(region: &Arc<Region>) {
    super::expect_clean(region);
    let session = super::session(region).expect("it opens");
    for _ in 0..2 {
        session.maintain_to(0).expect("maintained");
    }
    let done = session.maintain_to(0).expect("maintained");
    assert_eq!((done.broken_holds, done.leaked_blocks, done.records), (0, 0, 0), "{done:?}");
    super::expect_clean(region);
}

pub(crate) type Party = shuttle::thread::JoinHandle<()>;

pub(crate) fn party(
    region: &Arc<Region>,
    work: impl FnOnce(&Arc<Session>) + Send + 'static,
) -> Party {
    let region = Arc::clone(region);
    shuttle::thread::spawn(move || work(&super::session(&region).expect("it opens")))
}

pub(crate) fn wait_for(parties: impl IntoIterator<Item = Party>) {
    parties.into_iter().for_each(|party| party.join().expect("no party failed"));
}

/// What may come of a race that was lost.
pub(crate) fn expect_lost(error: &Error) {
    let fine = matches!(
        error,
        Error::Stale { .. } | Error::Busy { .. } | Error::NoBranch { .. } | Error::ReadOnly { .. }
    );
    assert!(fine, "{error:?}");
}
