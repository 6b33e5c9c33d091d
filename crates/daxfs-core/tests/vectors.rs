// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: what another v3 implementation wrote is read as it was meant, branches included.

mod common;

use std::fmt::Write;

use common::{findings, vector, view};
use daxfs_core::format::ROOT_INO;
use daxfs_core::view::View;
use sha2::{Digest, Sha256};

/// A tree in the words of the manifests.
fn manifest(view: &View) -> Vec<serde_json::Value> {
    let root = view.inode(ROOT_INO).unwrap();
    let line = |(path, inode): (Vec<u8>, daxfs_core::base::Inode)| {
        let mut line = serde_json::json!({
            "path": format!("/{}", String::from_utf8(path).unwrap()),
            "mode": format!("0o{:o}", inode.mode),
            "uid": inode.uid,
            "gid": inode.gid,
        });
        if inode.is_symlink() {
            let target = view.readlink(&inode).unwrap();
            line["target"] = String::from_utf8(target).unwrap().into();
        } else if inode.is_file() {
            let mut bytes = vec![0; inode.size as usize];
            assert_eq!(view.read(&inode, 0, &mut bytes).unwrap(), bytes.len());
            line["size"] = inode.size.into();
            line["sha256"] = hex(&Sha256::digest(&bytes)).into();
        }
        line
    };
    let mut lines: Vec<_> = view.walk(root).map(|found| line(found.unwrap())).collect();
    lines.sort_by_key(|line| line["path"].as_str().unwrap().to_owned());
    lines
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn expected(name: &str) -> Vec<serde_json::Value> {
    let text = String::from_utf8(vector(name)).unwrap();
    let mut lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.sort_by_key(|line| line["path"].as_str().unwrap().to_owned());
    lines
}

#[test]
fn a_branch_shows_its_log_over_the_base() {
    let view = view(&vector("delta.daxfs"), "b1").unwrap();
    assert_eq!(manifest(&view), expected("delta-b1.manifest.jsonl"));
}

#[test]
fn main_is_the_base_while_nothing_was_written_to_it() {
    for name in ["static.daxfs", "branching.daxfs", "delta.daxfs"] {
        let view = view(&vector(name), "main").unwrap();
        assert_eq!(manifest(&view), expected("static.manifest.jsonl"), "{name}");
    }
}

#[test]
fn pieces_of_a_file_read_like_the_whole() {
    let view = view(&vector("delta.daxfs"), "b1").unwrap();
    let whole = common::contents(&view, "newdir/big");
    let file = view.resolve(b"newdir/big", daxfs_core::view::Links::Keep).unwrap();
    for step in [1, 7, 4095, 4096, 4097] {
        let mut bytes = Vec::new();
        let mut buffer = vec![0xee; step];
        loop {
            match view.read(&file, bytes.len() as u64, &mut buffer).unwrap() {
                0 => break,
                len => bytes.extend_from_slice(&buffer[..len]),
            }
        }
        assert_eq!(bytes, whole, "{step} bytes at a time");
    }
}

#[test]
fn the_proof_finds_no_error() {
    for name in ["static.daxfs", "branching.daxfs", "delta.daxfs"] {
        let findings = findings(&vector(name)).unwrap();
        assert_eq!(findings.errors(), 0, "{name}: {:?}", findings.list());
    }
}

#[test]
fn an_unknown_branch_is_named() {
    for name in ["static.daxfs", "branching.daxfs", "delta.daxfs"] {
        let error = view(&vector(name), "b2").unwrap_err();
        assert_eq!(error.to_string(), "no such branch: b2", "{name}");
    }
}

#[test]
fn branches_are_listed() {
    let image = common::open(&vector("delta.daxfs")).unwrap();
    let branches = image.branches().unwrap();
    let listed: Vec<_> =
        branches.iter().map(|branch| (branch.id, branch.parent, branch.name.as_str())).collect();
    assert_eq!(listed, [(1, 0, "main"), (2, 1, "b1")]);
    assert_eq!(branches[1].log_size, 7472);
}
