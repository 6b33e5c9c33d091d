// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What trees show by path, and what became of each path between two of them.
#![allow(dead_code, reason = "each test uses its own part")]

use std::collections::BTreeMap;

use daxfs_core::base::Inode;
use daxfs_core::changes::PathChange;
use daxfs_core::view::View;

/// What became of each path.
pub(crate) type Kinds = BTreeMap<Vec<u8>, &'static str>;

/// The bytes of a file, or where a symlink points; nothing of any other inode.
pub(crate) fn held(view: &View, inode: &Inode) -> Vec<u8> {
    let mut bytes = Vec::new();
    if inode.is_file() {
        bytes.resize(inode.size as usize, 0xee);
        assert_eq!(view.read(inode, 0, &mut bytes).expect("a file"), bytes.len());
    } else if inode.is_symlink() {
        bytes = view.readlink(inode).expect("a link");
    }
    bytes
}

/// What became of the paths at which `new` shows something else than `old`.
pub(crate) fn expected<Shown: PartialEq>(
    old: &BTreeMap<Vec<u8>, Shown>,
    new: &BTreeMap<Vec<u8>, Shown>,
) -> Kinds {
    let mut kinds = Kinds::new();
    for path in old.keys().chain(new.keys()) {
        let kind = match (old.get(path), new.get(path)) {
            (Some(old), Some(new)) if old == new => continue,
            (Some(_), Some(_)) => "changed",
            (None, _) => "added",
            (_, None) => "removed",
        };
        kinds.insert(path.clone(), kind);
    }
    kinds
}

/// What became of paths by the engine's word, which names each once.
pub(crate) fn kinds(changes: &[PathChange]) -> Kinds {
    let kinds: Kinds = changes.iter().map(|change| (change.path.clone(), change.kind())).collect();
    assert_eq!(kinds.len(), changes.len());
    kinds
}
