// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How many log entries a core replays in a second, when a branch is opened; what a look-up costs
//! in the tree that came of it; and what siblings add to a proof.

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;

use common::{Log, base, image, open};
use daxfs_core::validate::{Depth, validate};
use daxfs_core::view::View;
use rustix::time::{ClockId, clock_gettime};

const ENTRIES: u64 = 1_000_000;
const ROUNDS: u32 = 5;
/// A directory with as many files.
const MANY: u64 = 99;

fn measure(question: &str, log: &Log) {
    // `cargo bench --bench replay -- WORDS` asks only what has these words in it.
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    if wanted.is_some_and(|words| !question.contains(&words)) {
        return;
    }
    let image = open(&image(&[("main", 0, log)])).expect("a sound image");
    let time = best(|| {
        black_box(&View::open(image.clone(), "main").expect("a sound log"));
    });
    let rate = log.starts.len() as f64 / time / 1e6;
    println!("{question:40} {rate:8.2} million entries/s");
}

/// Time that this thread has had a processor for, in seconds: what others do on the machine
/// counts less.
fn now() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The best of some rounds, in seconds.
fn best(mut work: impl FnMut()) -> f64 {
    let round = |_| {
        let start = now();
        work();
        now() - start
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

fn look_up(log: &Log) {
    let image = open(&image(&[("main", 0, log)])).expect("a sound image");
    let view = View::open(image, "main").expect("a sound log");
    let directory = view.inode(MANY).expect("a directory");
    let names: Vec<String> = (0..ENTRIES)
        .map(|at| format!("file-{:08}", at.wrapping_mul(0x9e37_79b9_7f4a_7c15) % ENTRIES))
        .collect();
    let time = best(|| {
        for name in &names {
            black_box(view.lookup(&directory, name.as_bytes()).expect("sound"));
        }
    });
    println!("{:40} {:8.0} ns", "look-up among a million, at random", time / ENTRIES as f64 * 1e9);
}

fn siblings(main: &Log) {
    let small = Log::default().create(base::DIR, 1 << 30, "own");
    let names: Vec<String> = (0..255).map(|at| format!("b{at}")).collect();
    let mut table = vec![("main", 0, main)];
    table.extend(names.iter().map(|name| (name.as_str(), 1, &small)));
    let prove = |bytes: &[u8]| {
        let region = common::region(bytes);
        best(|| {
            let findings = validate(&region, Depth::Metadata).expect("an image").findings;
            assert_eq!(findings.errors(), 0, "{:?}", findings.list());
        })
    };
    let (alone, all) = (prove(&image(&table[..1])), prove(&image(&table)));
    println!("{:40} {:8.2} times main's alone", "proof of main and 255 siblings", all / alone);
}

fn main() {
    let range = 0..ENTRIES;
    measure(
        "append to one file",
        &range.clone().fold(Log::default(), |log, at| log.write(base::BASE_TXT, at * 16, &[1; 16])),
    );
    measure(
        "rewrite one file at random",
        &range.clone().fold(Log::default(), |log, at| {
            let offset = at.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (1 << 24);
            log.write(base::BASE_TXT, offset, &[1; 16])
        }),
    );
    let files = range.clone().fold(Log::default().mkdir(base::DIR, MANY, "many"), |log, at| {
        log.create(MANY, 100 + at, &format!("file-{at:08}"))
    });
    measure("create in one directory, in order", &files);
    look_up(&files);
    siblings(&files);
    measure(
        "create and write, 1000 a directory",
        &(0..ENTRIES / 2).fold(Log::default(), |log, at| {
            let (directory, ino) = (100 + at / 1000 * 1001, 101 + at / 1000 * 1001 + at % 1000);
            let log = if at % 1000 == 0 {
                log.mkdir(base::DIR, directory, &format!("directory-{directory}"))
            } else {
                log
            };
            log.create(directory, ino, &format!("file-{ino}")).write(ino, 0, &[1; 16])
        }),
    );
    measure(
        "create, write, rename, delete",
        &(0..ENTRIES / 4).fold(Log::default(), |log, at| {
            let ino = 100 + at;
            log.create(base::DIR, ino, "temporary")
                .write(ino, 0, &[1; 16])
                .rename(ino, (base::DIR, "temporary"), (base::DIR, "final"))
                .delete(base::DIR, ino, "final")
        }),
    );
    measure(
        "change attributes of one file",
        &range.clone().fold(Log::default(), |log, _| log.truncate(base::BASE_TXT, 5)),
    );
}
