// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How many log entries a core replays in a second, when a branch is opened.

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::time::Instant;

use common::{Log, base, image, open};
use daxfs_core::view::View;

const ENTRIES: u64 = 1_000_000;
const ROUNDS: u32 = 5;

fn measure(question: &str, log: &Log) {
    let image = open(&image(&[("main", 0, log)])).expect("a sound image");
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let view = View::open(image.clone(), "main").expect("a sound log");
        best = best.min(start.elapsed().as_secs_f64());
        black_box(&view);
    }
    let rate = log.starts.len() as f64 / best / 1e6;
    println!("{question:40} {rate:8.2} million entries/s");
}

fn main() {
    let range = 0..ENTRIES;
    measure("append to one file", &range.clone().fold(Log::default(), |log, at| {
        log.write(base::BASE_TXT, at * 16, &[1; 16])
    }));
    measure("rewrite one file at random", &range.clone().fold(Log::default(), |log, at| {
        let offset = at.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (1 << 24);
        log.write(base::BASE_TXT, offset, &[1; 16])
    }));
    measure("create in one directory, in order", &range.clone().fold(Log::default(), |log, at| {
        log.create(base::DIR, 100 + at, &format!("file-{at:08}"))
    }));
    measure("create and write, 1000 a directory", &(0..ENTRIES / 2).fold(
        Log::default(),
        |log, at| {
            let (directory, ino) = (100 + at / 1000 * 1001, 101 + at / 1000 * 1001 + at % 1000);
            let log = if at % 1000 == 0 {
                log.mkdir(base::DIR, directory, &format!("directory-{directory}"))
            } else {
                log
            };
            log.create(directory, ino, &format!("file-{ino}")).write(ino, 0, &[1; 16])
        },
    ));
    measure("create, write, rename, delete", &(0..ENTRIES / 4).fold(Log::default(), |log, at| {
        let ino = 100 + at;
        log.create(base::DIR, ino, "temporary")
            .write(ino, 0, &[1; 16])
            .rename(ino, (base::DIR, "temporary"), (base::DIR, "final"))
            .delete(base::DIR, ino, "final")
    }));
    measure("change attributes of one file", &range.clone().fold(Log::default(), |log, _| {
        log.truncate(base::BASE_TXT, 5)
    }));
}
