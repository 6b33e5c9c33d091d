// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where a tree to build comes from: a directory, a tar archive, or another image.

mod acl;
mod amend;
mod archive;
mod directory;
mod entry;
mod exclude;
mod image;
mod names;
pub(crate) mod pax;
mod spool;
mod tree;
pub(crate) mod xattrs;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::error::InputProblem;
use crate::format::NAME_MAX;
use crate::view::View;

pub use archive::scan as scan_archive;
pub use directory::scan as scan_directory;
pub(crate) use directory::{look_into, open_beneath};
pub use exclude::Exclude;
pub use image::scan as scan_image;
pub(crate) use names::Names;
pub use spool::ArchiveInput;
pub use tree::{Attributes, Child, Content, Link, Node, NodeId, Tree};

/// Device and inode number of a file.
pub type Identity = (u64, u64);

/// What to take from a source, and as whose.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Leave out what matches.
    pub exclude: Exclude,
    /// Owner of everything.
    pub uid: Option<u32>,
    /// Group of everything.
    pub gid: Option<u32>,
    /// Latest modification time, ns since 1970; later ones are cut to it.
    pub latest: Option<i64>,
    /// Leave the attributes of a directory's regular files to whoever opens them for their contents.
    pub defer_files: bool,
    /// A file to leave out.
    pub apart: Option<Identity>,
}

impl Selection {
    /// Applies overrides of owner, group and time.
    pub fn adjust(&self, attributes: &mut Attributes) {
        attributes.uid = self.uid.unwrap_or(attributes.uid);
        attributes.gid = self.gid.unwrap_or(attributes.gid);
        attributes.mtime = self.latest.map_or(attributes.mtime, |late| attributes.mtime.min(late));
    }
}

/// Where the bytes of regular files are read from.
#[derive(Debug)]
pub enum Origin {
    /// Files below an open directory.
    Directory(OwnedFd),
    /// One file that holds them all, at each node's position.
    Archive(File),
    /// The files of another image; each node's position is the number of its inode there.
    Image(Arc<View>),
}

/// A scanned source: the tree, and where its bytes are.
#[derive(Debug)]
pub struct Scan {
    /// Names and attributes.
    pub tree: Tree,
    /// Contents.
    pub origin: Origin,
    /// What could not be taken.
    pub problems: Vec<InputProblem>,
}

/// What keeps the format from holding a name, if anything does.
fn name_problem(name: &[u8]) -> Option<String> {
    (name.len() > NAME_MAX)
        .then(|| format!("name of {} bytes, at most {NAME_MAX} are possible", name.len()))
}
