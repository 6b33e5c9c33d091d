// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A tree in words.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

use daxfs_core::Result;
use daxfs_core::base::Inode;
use daxfs_core::error::show;
use daxfs_core::format::ROOT_INO;
use daxfs_core::view::View;

/// Everything that a tree shows, a line for each name; the bytes of files as digests of their
/// extents. Where bytes in a log lie is nobody's business.
pub fn describe(view: &View) -> Result<String> {
    let mut text = String::new();
    for found in view.walk(view.inode(ROOT_INO)?) {
        let (path, inode) = found?;
        let Inode { ino, mode, uid, gid, size, nlink, rdev, atime, mtime, ctime, .. } = inode;
        let path = show(&path);
        let mut words = format!("{path} {ino} {mode:o} {uid}:{gid} {size} {nlink} {rdev}");
        write!(words, " {atime} {mtime} {ctime} {}", view.blocks(&inode)).expect("memory");
        for (name, value) in view.xattrs(&inode)? {
            write!(words, " {}={}", show(&name), show(&value)).expect("memory");
        }
        if inode.is_symlink() {
            write!(words, " -> {}", show(&view.readlink(&inode)?)).expect("memory");
        }
        for extent in view.extents(&inode)?.into_iter().filter(|_| inode.is_file()) {
            let mut digest = DefaultHasher::new();
            view.image().region().read_vec(extent.image_offset, extent.len)?.hash(&mut digest);
            let place = if extent.in_log { 0 } else { extent.image_offset };
            let (at, len, digest) = (extent.file_offset, extent.len, digest.finish());
            write!(words, " {at}+{len}@{place:x}:{digest:x}").expect("memory");
        }
        text.push_str(&words);
        text.push('\n');
    }
    Ok(text)
}
