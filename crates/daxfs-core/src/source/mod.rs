// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where a tree to build comes from: a directory, a tar archive, or another image.

mod archive;
mod directory;
mod entry;
mod image;
mod names;
pub(crate) mod pax;
mod spool;
mod tree;
pub(crate) mod xattrs;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::error::{Error, InputProblem, Result};
use crate::format::NAME_MAX;
use crate::view::View;

pub use archive::scan as scan_archive;
pub use directory::scan as scan_directory;
pub(crate) use directory::{look_into, open_beneath};
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

/// Shell patterns of what to leave out.
///
/// A pattern without a slash is compared with names, one with a slash with paths relative to the
/// root; one that ends in a slash is for directories only. Leaving out a directory leaves out what
/// is below it.
#[derive(Debug, Clone, Default)]
pub struct Exclude {
    everything: Patterns,
    directories: Patterns,
}

#[derive(Debug, Clone, Default)]
struct Patterns {
    names: GlobSet,
    paths: GlobSet,
}

impl Exclude {
    /// Compiles patterns.
    pub fn new(patterns: &[String]) -> Result<Self> {
        let (directories, everything): (Vec<&String>, Vec<&String>) =
            patterns.iter().partition(|pattern| pattern.ends_with('/'));
        Ok(Self {
            everything: Patterns::new(&everything)?,
            directories: Patterns::new(&directories)?,
        })
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.everything.is_empty() && self.directories.is_empty()
    }

    /// Whether the file at `path`, relative to the root, is left out.
    pub fn matches(&self, path: &[u8], directory: bool) -> bool {
        self.everything.match_with(path) || directory && self.directories.match_with(path)
    }
}

impl Patterns {
    fn new(patterns: &[&String]) -> Result<Self> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns {
            let trimmed = pattern.trim_matches('/');
            let anchored = pattern.trim_end_matches('/').contains('/');
            let glob = GlobBuilder::new(trimmed)
                .literal_separator(true)
                .build()
                .map_err(|error| Error::invalid(format!("exclude pattern {pattern:?}: {error}")))?;
            if anchored { &mut paths } else { &mut names }.add(glob);
        }
        let build = |set: GlobSetBuilder| {
            set.build().map_err(|error| Error::invalid(format!("exclude patterns: {error}")))
        };
        Ok(Self { names: build(names)?, paths: build(paths)? })
    }

    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.paths.is_empty()
    }

    fn match_with(&self, path: &[u8]) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        self.names.is_match(std::ffi::OsStr::from_bytes(name))
            || self.paths.is_match(std::ffi::OsStr::from_bytes(path))
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
