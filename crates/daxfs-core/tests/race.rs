// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects the one winner among real processes: many map one file, all branch from main, change
//! the same counter and race to commit; some are killed at any moment. Each commit that was
//! reported is there, none twice, and nothing that the dead had is lost or owned twice.

mod branching;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use branching::ops::{self, Kind, Op};
use daxfs_core::error::{Error, Result};
use daxfs_core::region::{Access, Region, Source};
use daxfs_core::session::Session;
use daxfs_core::view::View;

const RACERS: usize = 16;
const IMAGE: &str = "DAXFS_RACE_IMAGE";
/// How many racers are killed.
const KILLS: &str = "DAXFS_RACE_KILLS";

fn open(path: &Path) -> Arc<Region> {
    Arc::new(Region::open(&Source::Path(path.into()), Access::Write).expect("an image"))
}

fn content(view: &View, name: &[u8]) -> Result<Vec<u8>> {
    let inode = view.lookup(&view.inode(1)?, name)?.expect("it exists");
    let mut bytes = vec![0; inode.size as usize];
    view.read(&inode, 0, &mut bytes)?;
    Ok(bytes)
}

fn name(text: &str) -> Vec<Vec<u8>> {
    vec![text.as_bytes().to_vec()]
}

/// One branch, one change, one try to commit it; the number of the commit if it won.
fn attempt(session: &Arc<Session>, own: &str) -> Result<u64> {
    let branch = session.create(own, "main")?;
    let history = content(&branch.view()?, b"history")?;
    let next = history.len() as u64 / 8 + 1;
    ops::apply(&branch, &Op::Append(name("history"), next.to_le_bytes().to_vec()))?;
    let scratch = name(own);
    ops::apply(&branch, &Op::Make(scratch.clone(), Kind::File))?;
    ops::apply(&branch, &Op::Write(scratch.clone(), 0, vec![next as u8; 10_000]))?;
    ops::apply(&branch, &Op::Unlink(scratch))?;
    branch.commit()?;
    Ok(next)
}

/// Runs in each process: prints the numbers of the commits it won.
#[test]
fn racer() {
    let Some(image) = std::env::var_os(IMAGE) else { return };
    let region = open(Path::new(&image));
    let session = branching::session(&region).expect("it opens");
    let own = format!("racer{}", std::process::id());
    loop {
        match attempt(&session, &own) {
            // One write, so that it is whole or not there.
            Ok(number) => println!("won {number}"),
            Err(Error::Stale { .. } | Error::Busy { .. } | Error::ReadOnly { .. }) => {}
            // Who is slow to be given a processor keeps what is to go: records run out, too.
            Err(Error::NoSpace { .. } | Error::NoRecord) => {
                session.maintain().expect("maintained");
            }
            // Another racer of this number was killed; its branch dies with the next commit.
            Err(Error::BranchExists { .. }) => {
                let _ = session.abort(&own);
            }
            Err(error) => panic!("{error}"),
        }
        if std::process::id().is_multiple_of(4) {
            session.maintain().expect("maintained");
        }
    }
}

/// What a racer is heard of.
enum News {
    Won,
    Ended,
}

struct Racer {
    process: Child,
    wins: std::thread::JoinHandle<Vec<u64>>,
}

impl Racer {
    fn start(image: &Path, news: Sender<News>) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "racer", "--nocapture", "--test-threads=1"])
            .env(IMAGE, image)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let wins = std::thread::spawn(move || {
            let mut wins = Vec::new();
            for line in output.lines().map_while(std::io::Result::ok) {
                // The name of the test may come before the first.
                if let Some((_, number)) = line.split_once("won ") {
                    wins.push(number.parse().expect("a number"));
                    let _ = news.send(News::Won);
                }
            }
            let _ = news.send(News::Ended);
            wins
        });
        Self { process, wins }
    }

    fn kill(mut self) -> Vec<u64> {
        let early = self.process.try_wait().expect("a child");
        assert_eq!(early, None, "a racer gave up");
        self.process.kill().expect("a child");
        self.process.wait().expect("a child");
        self.wins.join().expect("its output")
    }
}

#[test]
fn one_winner_each_round() {
    if std::env::var_os(IMAGE).is_some() {
        return;
    }
    let folder = tempfile::tempdir_in("/dev/shm").expect("shared memory");
    let image = folder.path().join("image");
    let (bytes, _) = branching::image(64 << 20);
    std::fs::write(&image, bytes).expect("an image");
    let region = open(&image);
    let session = branching::session(&region).expect("it opens");
    let main = session.open_branch("main", Access::Write).expect("main");
    ops::apply(&main, &Op::Make(name("history"), Kind::File)).expect("made");
    drop(main);

    let rounds = std::env::var(KILLS).ok().and_then(|text| text.parse().ok()).unwrap_or(150);
    let (tell, news) = channel();
    let start = || Racer::start(&image, tell.clone());
    let mut racers: Vec<Racer> = (0..RACERS).map(|_| start()).collect();
    let (mut won, mut kills, mut ended, mut random) = (Vec::new(), 0, 0, 0x9e37_79b9_u64);
    while kills < rounds {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        // From now on: what was told while a racer was started counts for nothing.
        ended += news.try_iter().filter(|news| matches!(news, News::Ended)).count();
        let mut races = random >> 32 & 127;
        while races > 0 {
            match news.recv().expect("they are there") {
                News::Won => races -= 1,
                News::Ended => ended += 1,
            }
            assert!(ended <= kills, "a racer gave up");
        }
        let racer = racers.swap_remove(random as usize % RACERS);
        won.extend(racer.kill());
        kills += 1;
        racers.push(start());
    }
    for racer in racers {
        won.extend(racer.kill());
        kills += 1;
    }

    branching::expect_clean(&region);
    // Branches of the killed, which nobody committed.
    for status in session.branches().expect("a list").iter().skip(1) {
        session.abort(&status.name).expect("nobody holds it");
    }
    for _ in 0..3 {
        session.maintain_to(0).expect("recovered");
    }
    let done = session.maintain_to(0).expect("nothing is left");
    assert_eq!((done.broken_holds, done.records, done.leaked_blocks), (0, 0, 0), "{done:?}");
    let findings = branching::findings(&region);
    let left: Vec<_> =
        findings.list().iter().filter(|finding| finding.what != "unused opener entry").collect();
    assert!(left.is_empty(), "{left:#?}");
    let statuses = session.branches().expect("a list");
    assert_eq!(statuses.len(), 1, "only main is left: {statuses:?}");

    // The history counts every commit once, in order.
    let view = session.open_branch("main", Access::Read).and_then(|main| main.view());
    let history = content(&view.expect("alive"), b"history").expect("readable");
    let numbers: Vec<u64> = history
        .chunks_exact(8)
        .map(|number| u64::from_le_bytes(number.try_into().expect("eight bytes")))
        .collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "not one after the other");
    won.sort_unstable();
    assert!(won.windows(2).all(|pair| pair[0] < pair[1]), "two were told that they had won");
    assert!(won.last().is_none_or(|last| *last <= numbers.len() as u64), "a commit is lost");
    // A racer may be killed between its commit and the word of it.
    let untold = numbers.len() - won.len();
    println!("{} commits, {kills} killed, {untold} of them before they could tell", numbers.len());
    assert!(untold <= kills, "{untold} commits that nobody knows of");
}
