// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects the protocol as it is written, not as it is modelled: parties run the real code, and at
//! every access to shared memory the scheduler decides who goes on. What a party keeps for itself
//! is its own, as in processes of their own.

mod branching;

use std::sync::{Arc, LazyLock};

use branching::ops::{self, Kind, Op};
use branching::schedule::{self, expect_lost, party, wait_for};
use branching::script::path;
use daxfs_core::branch::handle::Branch;
use daxfs_core::error::{Error, Result};
use daxfs_core::region::{Access, Region};
use daxfs_core::session::Session;
use daxfs_core::view::View;

static IMAGE: LazyLock<Arc<[u8]>> = LazyLock::new(|| {
    let (region, session) = branching::fresh(320 << 10);
    let main = session.open_branch("main", Access::Write).expect("to be written");
    ops::apply(&main, &Op::Make(path("history"), Kind::File)).expect("made");
    drop((main, session));
    region.read_vec(0, region.len()).expect("all of it").into()
});

fn explore(scenario: fn(Arc<Region>)) {
    schedule::explore(&IMAGE, schedule::schedules(150), scenario);
}

fn content(view: &View, name: &str) -> Result<Option<Vec<u8>>> {
    let Some(inode) = view.lookup(&view.inode(1)?, name.as_bytes())? else { return Ok(None) };
    let mut bytes = vec![0; inode.size as usize];
    view.read(&inode, 0, &mut bytes)?;
    Ok(Some(bytes))
}

fn history(branch: &Branch) -> Result<Vec<u8>> {
    Ok(content(&branch.view()?, "history")?.expect("it exists"))
}

/// A change of a branch of its own, and a try to commit it; what the history was then.
fn attempt(session: &Arc<Session>, name: &str) -> Result<Vec<u8>> {
    let branch = session.create(name, "main")?;
    let before = history(&branch)?;
    ops::apply(&branch, &Op::Append(path("history"), vec![before.len() as u8]))?;
    branch.commit()?;
    Ok(before)
}

/// Writes to main, and begins its log anew.
fn write_and_renew(session: &Arc<Session>) {
    match session.open_branch("main", Access::Write) {
        Ok(main) => {
            let append = Op::Append(path("history"), vec![b'm']);
            if let Err(error) = ops::apply(&main, &append).and_then(|()| main.renew()) {
                expect_lost(&error);
            }
        }
        Err(error) => expect_lost(&error),
    }
}

/// Main's log is begun anew while others want to write main, or look after the image: none of them
/// takes what was committed for what was left behind.
#[test]
fn a_fresh_log_is_not_dropped() {
    explore(|region| {
        let writers = [write_and_renew, write_and_renew].map(|work| party(&region, work));
        let keeper = party(&region, |session| {
            session.maintain().expect("maintained");
        });
        wait_for(writers.into_iter().chain([keeper]));
        let session = branching::session(&region).expect("it opens");
        let main = session.open_branch("main", Access::Write).expect("free to take");
        assert!(matches!(&history(&main).expect("readable")[..], b"m" | b"mm"));
    });
}

/// Main's log is begun anew beside somebody who makes a branch: that one is not voided by it.
#[test]
fn a_fresh_log_voids_no_branch() {
    explore(|region| {
        let writer = party(&region, write_and_renew);
        let maker = party(&region, |session| match session.create("b", "main") {
            Ok(branch) => {
                ops::apply(&branch, &Op::Append(path("history"), vec![b'b'])).expect("alive");
                branch.commit().expect("nobody else commits");
            }
            Err(error) => expect_lost(&error),
        });
        wait_for([writer, maker]);
    });
}

/// Main's log is begun anew by who has main open for writing: nobody makes a branch of it meanwhile.
#[test]
fn a_fresh_log_lets_no_branch_in() {
    schedule::explore(&IMAGE, schedule::schedules(20), |region| {
        let session = branching::session(&region).expect("it opens");
        let main = session.open_branch("main", Access::Write).expect("nobody's");
        let append = || ops::apply(&main, &Op::Append(path("history"), vec![b'm']));
        append().expect("held");
        let rival = party(&region, |session| {
            expect_lost(&session.create("b", "main").expect_err("another writes to main"));
        });
        assert!(main.renew().expect("held"));
        append().expect("held");
        wait_for([rival]);
    });
}

/// A branch that somebody commits and somebody else aborts ends one way, for both.
#[test]
fn a_branch_ends_once() {
    type End = fn(&Arc<Session>) -> Result<()>;
    explore(|region| {
        let session = branching::session(&region).expect("it opens");
        let branch = session.create("b", "main").expect("a branch");
        ops::apply(&branch, &Op::Append(path("history"), vec![b'b'])).expect("written");
        drop((branch, session));
        let ended = Arc::new(std::sync::Mutex::new(Vec::new()));
        let ends: [(&str, End); 2] =
            [("commit", |session| session.commit("b")), ("abort", |session| session.abort("b"))];
        let parties = ends.map(|(name, end)| {
            let ended = Arc::clone(&ended);
            party(&region, move |session| match end(session) {
                Ok(()) => ended.lock().expect("no panic holds it").push(name),
                Err(error) => expect_lost(&error),
            })
        });
        wait_for(parties);
        let session = branching::session(&region).expect("it opens");
        let main = session.open_branch("main", Access::Write).expect("free to take");
        let ended = ended.lock().expect("no panic holds it").clone();
        let expected: &[u8] = match ended[..] {
            ["commit"] => b"b",
            ["abort"] => b"",
            _ => panic!("it ended by {ended:?}"),
        };
        assert_eq!(history(&main).expect("readable"), expected);
    });
}

#[test]
fn one_of_a_generation_wins() {
    explore(|region| {
        let won = Arc::new(std::sync::Mutex::new(0));
        let racers = ["one", "two", "three"].map(|name| {
            let won = Arc::clone(&won);
            party(&region, move |session| {
                for _ in 0..2 {
                    match attempt(session, name) {
                        Ok(_) => *won.lock().expect("no panic holds it") += 1,
                        Err(error) => expect_lost(&error),
                    }
                }
            })
        });
        wait_for(racers);
        let session = branching::session(&region).expect("it opens");
        let main = session.open_branch("main", Access::Read).expect("it exists");
        // Each byte was written by a winner who had seen all those before.
        let expected: Vec<u8> = (0..*won.lock().expect("no panic holds it")).collect();
        assert_eq!(history(&main).expect("readable"), expected);
    });
}

#[test]
fn readers_move_on_while_layers_are_folded() {
    explore(|region| {
        let writer = party(&region, |session| {
            for name in ["one", "two", "three"] {
                attempt(session, name).expect("nobody else commits");
                // Another may be at it.
                session.maintain_to(0).expect("maintained");
            }
        });
        let keeper = party(&region, |session| {
            for _ in 0..2 {
                session.maintain_to(0).expect("maintained");
            }
        });
        let reader = party(&region, |session| {
            let main = session.open_branch("main", Access::Read).expect("it exists");
            let mut last = 0;
            for _ in 0..3 {
                let seen = history(&main).expect("readable");
                assert!(seen.len() >= last, "it went back");
                assert!(seen.iter().enumerate().all(|(at, byte)| at == usize::from(*byte)));
                last = seen.len();
            }
        });
        let unregistered = {
            let region = Arc::clone(&region);
            shuttle::thread::spawn(move || {
                let image = branching::open(&region).expect("it opens");
                for _ in 0..2 {
                    // Space may be given back at every moment.
                    let seen = match View::open(Arc::clone(&image), "main") {
                        Ok(view) => content(&view, "history"),
                        Err(Error::Busy { .. }) => continue,
                        Err(error) => Err(error),
                    };
                    match seen {
                        Ok(seen) => {
                            let seen = seen.expect("it exists");
                            assert!(
                                seen.iter().enumerate().all(|(at, byte)| at == usize::from(*byte))
                            );
                        }
                        Err(error) => assert!(matches!(error, Error::Stale { .. }), "{error:?}"),
                    }
                }
            })
        };
        wait_for([writer, keeper, reader, unregistered]);
    });
}

#[test]
fn a_parent_is_frozen_or_written() {
    explore(|region| {
        let writer = party(&region, |session| {
            for byte in 0..3 {
                let written = session.open_branch("main", Access::Write).and_then(|main| {
                    ops::apply(&main, &Op::Append(path("history"), vec![byte]))?;
                    main.release()
                });
                if let Err(error) = written {
                    expect_lost(&error);
                }
            }
        });
        let children = ["one", "two"].map(|name| {
            party(&region, move |session| match session.create(name, "main") {
                Ok(child) => {
                    let before = history(&child).expect("readable");
                    for _ in 0..3 {
                        assert_eq!(history(&child).expect("readable"), before, "it changed");
                    }
                    child.abort().expect("it is its own");
                }
                Err(error) => expect_lost(&error),
            })
        });
        wait_for(children.into_iter().chain([writer]));
    });
}

#[test]
fn readers_never_see_blocks_of_another_file() {
    const LEN: usize = 5000;
    explore(|region| {
        let session = branching::session(&region).expect("it opens");
        let branch = session.create("b", "main").expect("a branch");
        ops::apply(&branch, &Op::Make(path("f"), Kind::File)).expect("made");
        ops::apply(&branch, &Op::Write(path("f"), 0, vec![0; LEN])).expect("written");
        drop(branch);
        drop(session);
        let writer = party(&region, |session| {
            let branch = session.open_branch("b", Access::Write).expect("free to take");
            for byte in 1..4 {
                ops::apply(&branch, &Op::Unlink(path("f"))).expect("removed");
                branch.free_blocks().expect("a count");
                ops::apply(&branch, &Op::Make(path("f"), Kind::File)).expect("made");
                let bytes = vec![byte; LEN + usize::from(byte)];
                ops::apply(&branch, &Op::Write(path("f"), 0, bytes)).expect("written");
            }
        });
        let readers = [0, 1].map(|_| {
            party(&region, |session| {
                let branch = session.open_branch("b", Access::Read).expect("alive");
                for _ in 0..3 {
                    let seen = content(&branch.view().expect("alive"), "f").expect("readable");
                    let seen = seen.unwrap_or_default();
                    // What a file holds follows from its size.
                    let byte = seen.len().saturating_sub(LEN) as u8;
                    assert!(seen.iter().all(|found| *found == byte), "another's: {seen:?}");
                }
            })
        });
        wait_for(readers.into_iter().chain([writer]));
    });
}
