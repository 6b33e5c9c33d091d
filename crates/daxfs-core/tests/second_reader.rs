// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: what the entries of ours mean, as `docs/format.md` has it. A reader written from that
//! page alone, in another language, shows every name of every branch as the engine does.

mod support;

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use daxfs_core::base::Inode;
use daxfs_core::delta::Change;
use daxfs_core::format::{MAIN_ID, MAIN_NAME, ROOT_INO};
use daxfs_core::view::View;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use support::history::{self, Draw, History, open};
use support::ours::{Ours, every_entry};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A tree in the words of the second reader.
fn details(view: &View) -> Vec<Value> {
    let mut lines = Vec::new();
    for found in view.walk(view.inode(ROOT_INO).unwrap()) {
        let (path, inode) = found.unwrap();
        let Inode { ino, mode, uid, gid, size, nlink, rdev, atime, mtime, ctime, .. } = inode;
        let xattrs = view.xattrs(&inode).unwrap();
        let xattrs: Map<_, _> =
            xattrs.iter().map(|(name, value)| (hex(name), hex(value).into())).collect();
        let mut line = json!({
            "path": hex(&[b"/", &path[..]].concat()), "ino": ino, "mode": mode, "owner": [uid, gid],
            "rdev": rdev, "times": [atime, mtime, ctime], "xattrs": xattrs, "nlink": nlink,
            "size": size,
        });
        if inode.is_symlink() {
            line["target"] = hex(&view.readlink(&inode).unwrap()).into();
        } else if inode.is_file() {
            let mut bytes = vec![0; size as usize];
            view.read(&inode, 0, &mut bytes).unwrap();
            line["sha256"] = hex(&Sha256::digest(&bytes)).into();
        }
        lines.push(line);
    }
    lines.sort_by_key(|line| line["path"].as_str().unwrap().to_owned());
    lines
}

#[track_caller]
fn agree(image: &Ours, branch: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&image.bytes).unwrap();
    let output = Command::new("python3")
        .args(["-m", "support.v3delta"])
        .arg(file.path())
        .arg(branch)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let theirs: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ours = details(&View::open(open(&image.bytes), branch).unwrap());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs, "{branch}");
    }
    assert_eq!(ours.len(), theirs.len(), "{branch}");
}

#[test]
fn every_entry_means_the_same() {
    let image = every_entry();
    agree(&image, "main");
    agree(&image, "b");
}

#[test]
fn histories_come_to_the_same() {
    let mut kinds = HashMap::new();
    for seed in 10..22 {
        let (mut image, data) = history::image();
        let mut history = History::new(&image, data);
        Draw::many(seed, 400).iter().for_each(|draw| history.step(draw));
        let (main, child) = history.steps.split_at(history.steps.len() / 2);
        image.branch(0, MAIN_NAME, 0, main);
        image.branch(1, "child", MAIN_ID, child);
        agree(&image, "main");
        agree(&image, "child");
        for (_, _, change, _) in &history.steps {
            *kinds.entry(std::mem::discriminant::<Change>(change)).or_insert(0) += 1;
        }
    }
    // All but those that MKNOD stands in for, each many times.
    assert_eq!(kinds.len(), 10);
    assert!(kinds.values().all(|count| *count > 40), "{kinds:?}");
}
