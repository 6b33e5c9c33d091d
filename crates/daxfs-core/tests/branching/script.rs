// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is done to an image, step by step, and what it shows then.

use std::collections::BTreeMap;
use std::sync::Arc;

use daxfs_core::format::{OPENER_ENTRIES, OpenerEntry, Superblock};
use daxfs_core::region::Access;
use daxfs_core::session::Session;
use zerocopy::FromBytes;

use super::ops::{self, Kind, Op, Path};

/// One thing done to an image.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Create(&'static str, &'static str),
    Operate(&'static str, Op),
    Commit(&'static str),
    Abort(&'static str),
    Sync(&'static str),
    Maintain(usize),
    Renew,
}

pub(crate) fn path(text: &str) -> Path {
    text.split('/').map(|name| name.as_bytes().to_vec()).collect()
}

pub(crate) fn file(text: &str) -> Op {
    Op::Make(path(text), Kind::File)
}

pub(crate) fn directory(text: &str) -> Op {
    Op::Make(path(text), Kind::Directory)
}

pub(crate) fn write(text: &str, offset: u64, byte: u8, len: usize) -> Op {
    Op::Write(path(text), offset, vec![byte; len])
}

/// Every branch as text.
pub(crate) type Shown = BTreeMap<String, String>;

pub(crate) fn show(session: &Arc<Session>) -> Shown {
    let names = session.branches().expect("a list").into_iter().map(|status| status.name);
    let dump = |name: String| {
        let branch = session.open_branch(&name, Access::Read).expect("it exists");
        let text = super::dump(&branch.view().expect("alive")).expect("readable");
        (name, text)
    };
    names.map(dump).collect()
}

pub(crate) fn run(session: &Arc<Session>, step: &Step) {
    let branch = |name| session.open_branch(name, Access::Write).expect("to be written");
    match step {
        Step::Create(name, parent) => drop(session.create(name, parent).expect("a branch")),
        Step::Operate(name, op) => ops::apply(&branch(name), op).expect("done"),
        Step::Commit(name) => session.commit(name).expect("committed"),
        Step::Abort(name) => session.abort(name).expect("aborted"),
        Step::Sync(name) => branch(name).sync().expect("synced"),
        Step::Renew => assert!(branch("main").renew().expect("to be tried"), "not renewed"),
        Step::Maintain(layers) => drop(session.maintain_to(*layers).expect("maintained")),
    }
}

/// Power loss ends every process: none of the openers is one that lives now.
pub(crate) fn bury(image: &mut [u8]) {
    let superblock = Superblock::read_from_bytes(&image[..4096]).expect("a block");
    let table = superblock.opener_table_offset.get() as usize;
    let start = std::mem::offset_of!(OpenerEntry, start_time);
    for slot in 0..OPENER_ENTRIES as usize {
        let entry = table + slot * size_of::<OpenerEntry>();
        if image[entry..entry + 8] != [0; 8] {
            image[entry + start..][..8].copy_from_slice(&1_u64.to_le_bytes());
        }
    }
}
