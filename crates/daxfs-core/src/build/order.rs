// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Work that is done side by side, but for a last part that has an order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// Does `work` for every number below `count`, with every processor; what a task does in its turn
/// it does alone, and after all that lower numbers did in theirs.
///
/// Gives the error of the lowest number that fails; those above it may not have been done.
pub(super) fn in_order<State: Send>(
    count: usize,
    state: &mut State,
    work: impl Fn(usize, &Turn<'_, '_, State>) -> Result<()> + Sync,
) -> Result<()> {
    let line = Line {
        given: AtomicUsize::new(0),
        now: Mutex::new(Now { number: 0, state, stopped: false, error: None }),
        changed: (0..rayon::current_num_threads()).map(|_| Condvar::new()).collect(),
    };
    rayon::broadcast(|_| {
        loop {
            // In order: whoever has the turn has begun, so nobody waits for one who has not.
            let number = line.given.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                break;
            }
            let turn = Turn { line: &line, number, done: false };
            let result = work(number, &turn);
            if !turn.end(result) {
                break;
            }
        }
    });
    let now = line.now.into_inner().unwrap_or_else(PoisonError::into_inner);
    now.error.map_or(Ok(()), Err)
}

/// Those who wait for their turns.
struct Line<'state, State> {
    /// How many numbers were given out.
    given: AtomicUsize,
    now: Mutex<Now<'state, State>>,
    /// There are not more in line than threads: each waits at its own.
    changed: Vec<Condvar>,
}

/// Whose turn it is.
struct Now<'state, State> {
    number: usize,
    state: &'state mut State,
    /// Nobody goes on.
    stopped: bool,
    error: Option<Error>,
}

/// A place in the line; whoever leaves it lets the next one have the turn.
pub(super) struct Turn<'line, 'state, State> {
    line: &'line Line<'state, State>,
    number: usize,
    done: bool,
}

/// The state that tasks have in turn.
pub(super) struct Held<'line, 'state, State>(MutexGuard<'line, Now<'state, State>>);

impl<'line, 'state, State> Turn<'line, 'state, State> {
    /// Waits for the turn; it lasts while the state is held. None if somebody failed meanwhile.
    pub(super) fn wait(&self) -> Option<Held<'line, 'state, State>> {
        let mut now = self.line.now.lock().unwrap_or_else(PoisonError::into_inner);
        while now.number != self.number && !now.stopped {
            let changed = &self.line.changed[self.number % self.line.changed.len()];
            now = changed.wait(now).unwrap_or_else(PoisonError::into_inner);
        }
        (!now.stopped).then_some(Held(now))
    }

    /// Ends the turn, once it has come; whether the others go on.
    fn end(mut self, result: Result<()>) -> bool {
        self.done = true;
        let Some(Held(mut now)) = self.wait() else { return false };
        now.number += 1;
        if let Err(error) = result {
            now.error = Some(error);
            self.stop(now);
            return false;
        }
        let next = now.number;
        drop(now);
        self.line.changed[next % self.line.changed.len()].notify_one();
        true
    }

    fn stop(&self, mut now: MutexGuard<'_, Now<'state, State>>) {
        now.stopped = true;
        drop(now);
        self.line.changed.iter().for_each(Condvar::notify_one);
    }
}

impl<State> Drop for Turn<'_, '_, State> {
    /// Whoever panics leaves nobody waiting.
    fn drop(&mut self) {
        if !self.done {
            self.stop(self.line.now.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl<State> std::ops::Deref for Held<'_, '_, State> {
    type Target = State;

    fn deref(&self) -> &State {
        self.0.state
    }
}

impl<State> std::ops::DerefMut for Held<'_, '_, State> {
    fn deref_mut(&mut self) -> &mut State {
        self.0.state
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// More threads than processors, so that they overtake each other.
    fn with_threads<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        rayon::ThreadPoolBuilder::new().num_threads(7).build().expect("threads").install(work)
    }

    fn dawdle(number: usize) {
        std::thread::sleep(std::time::Duration::from_micros(number as u64 * 37 % 200));
    }

    #[test]
    fn turns_come_in_order() {
        let mut seen = Vec::new();
        with_threads(|| {
            in_order(500, &mut seen, |number, turn| {
                dawdle(number);
                // Some leave without a word.
                if number % 5 != 3 {
                    turn.wait().expect("nobody fails").push(number);
                }
                Ok(())
            })
        })
        .unwrap();
        let expected: Vec<usize> = (0..500).filter(|number| number % 5 != 3).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_lowest_failure_ends_it() {
        let mut seen = Vec::new();
        let failed = with_threads(|| {
            in_order(500, &mut seen, |number, turn| {
                dawdle(number);
                if number >= 40 {
                    return Err(Error::invalid(number.to_string()));
                }
                turn.wait().expect("nobody below fails").push(number);
                Ok(())
            })
        });
        assert!(failed.unwrap_err().to_string().contains("40"));
        assert_eq!(seen, (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn nobody_waits_for_one_who_panicked() {
        let mut seen = Vec::new();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            with_threads(|| {
                in_order(500, &mut seen, |number, turn| {
                    dawdle(number);
                    assert_ne!(number, 40);
                    if let Some(mut seen) = turn.wait() {
                        seen.push(number);
                    }
                    Ok(())
                })
            })
        }));
        assert!(panicked.is_err());
        assert!(seen.len() <= 40);
        assert_eq!(seen, (0..seen.len()).collect::<Vec<_>>());
    }
}
