// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How a tree in an image and a directory differ.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::iter;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::OFlags;

use crate::base::{Inode, Xattr};
use crate::buffer::Buffer;
use crate::error::{Error, InputProblem, Result, reason, show};
use crate::format::{device, feature, mode};
use crate::holes::data_runs;
use crate::paths::join;
use crate::progress::Progress;
use crate::source::pax::format_time;
use crate::source::{
    Link, Node, NodeId, Origin, Scan, Selection, Tree, open_beneath, scan_directory,
};
use crate::view::View;

/// Bytes compared at once.
const PIECE: usize = 256 << 10;

/// What not to compare.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiffOptions {
    /// Modification times; also left out for images that keep none.
    pub ignore_mtime: bool,
    /// Owners and groups.
    pub ignore_owner: bool,
    /// Extended attributes.
    pub ignore_xattrs: bool,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Path relative to the top; empty for the top itself.
    pub path: Vec<u8>,
    /// What differs.
    pub what: What,
}

/// What differs; where both sides are given, the image's comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The directory has no such name. What is below is not listed.
    OnlyInImage,
    /// The image has no such name. What is below is not listed.
    OnlyInDirectory,
    /// Types, as in `mode`. What is below is not compared.
    Type(u32, u32),
    /// Permissions.
    Mode(u32, u32),
    /// Owner and group.
    Owner((u32, u32), (u32, u32)),
    /// Bytes of a regular file.
    Size(u64, u64),
    /// Contents of regular files of one size, from this offset on.
    Content(u64),
    /// Targets of symbolic links.
    Target(Vec<u8>, Vec<u8>),
    /// Device numbers, in the kernel's 32-bit encoding.
    Device(u32, u32),
    /// Modification times, ns since 1970.
    Mtime(i64, i64),
    /// Names of the extended attributes that differ.
    Xattrs(Vec<Vec<u8>>),
    /// The names that lead to this file are not the same ones.
    HardLinks,
}

impl What {
    /// Name of the kind, for machines.
    pub fn name(&self) -> &'static str {
        match self {
            Self::OnlyInImage => "only-in-image",
            Self::OnlyInDirectory => "only-in-directory",
            Self::Type(..) => "type",
            Self::Mode(..) => "mode",
            Self::Owner(..) => "owner",
            Self::Size(..) => "size",
            Self::Content(..) => "content",
            Self::Target(..) => "target",
            Self::Device(..) => "device",
            Self::Mtime(..) => "mtime",
            Self::Xattrs(..) => "xattrs",
            Self::HardLinks => "hard-links",
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyInImage => write!(f, "only in the image"),
            Self::OnlyInDirectory => write!(f, "only in the directory"),
            Self::Type(a, b) => {
                write!(f, "{} in the image, {} in the directory", kind(*a), kind(*b))
            }
            Self::Mode(a, b) => write!(f, "mode {a:04o} in the image, {b:04o} in the directory"),
            Self::Owner((u, g), (v, h)) => {
                write!(f, "owner {u}:{g} in the image, {v}:{h} in the directory")
            }
            Self::Size(a, b) => write!(f, "{a} bytes in the image, {b} in the directory"),
            Self::Content(offset) => write!(f, "contents differ from byte {offset} on"),
            Self::Target(a, b) => {
                write!(f, "target {} in the image, {} in the directory", show(a), show(b))
            }
            Self::Device(a, b) => {
                let ((a, b), (c, d)) = (device::numbers(*a), device::numbers(*b));
                write!(f, "device {a}:{b} in the image, {c}:{d} in the directory")
            }
            Self::Mtime(a, b) => {
                let (a, b) = (format_time(*a), format_time(*b));
                write!(f, "modified at {a} in the image, at {b} in the directory")
            }
            Self::Xattrs(names) => {
                let names: Vec<_> = names.iter().map(|name| show(name)).collect();
                write!(f, "extended attributes differ: {}", names.join(", "))
            }
            Self::HardLinks => write!(f, "hard links lead to other names"),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { ".".into() } else { show(&self.path) };
        write!(f, "{path}: {}", self.what)
    }
}

fn kind(mode: u32) -> &'static str {
    match mode {
        mode::REGULAR => "regular file",
        mode::DIRECTORY => "directory",
        mode::SYMLINK => "symbolic link",
        mode::CHAR => "character device",
        mode::BLOCK => "block device",
        mode::FIFO => "FIFO",
        mode::SOCKET => "socket",
        _ => "file of unknown type",
    }
}

/// Compares `top` and what is below it with a directory; differences come in order of paths.
pub fn compare(
    view: &View,
    top: &Inode,
    directory: &Path,
    options: DiffOptions,
    progress: &Progress,
) -> Result<Vec<Difference>> {
    if !top.is_dir() {
        return Err(Error::invalid("only a directory can be compared with a directory"));
    }
    let scan = scan_directory(directory, &Selection::default(), progress)?;
    if !scan.problems.is_empty() {
        return Err(Error::Input { problems: scan.problems });
    }
    let Scan { tree, origin: Origin::Directory(root), .. } = scan else {
        unreachable!("a scanned directory has one as its origin");
    };
    let times = view.image().base().has(feature::INODE_EXT);
    let mut comparison = Comparison {
        view,
        tree: &tree,
        options: DiffOptions { ignore_mtime: options.ignore_mtime || !times, ..options },
        differences: Vec::new(),
        contents: Vec::new(),
        pairs: HashSet::new(),
        nodes: HashMap::new(),
        inodes: HashMap::new(),
    };
    comparison.walk(top, progress)?;
    let Comparison { mut differences, contents, .. } = comparison;
    let found: Vec<_> = contents
        .par_iter()
        .map(|pair| {
            let path = pair.place.path(&tree);
            let found = match first_difference(view, &root, &path, &pair.inode, directory, progress)
            {
                Err(Error::Io { action, source, .. }) => {
                    Err(format!("cannot {action}: {}", reason(&source)))
                }
                found => Ok(found?),
            };
            progress.advance(1, 0);
            Ok(found)
        })
        .collect::<Result<_>>()?;
    let mut problems = Vec::new();
    for (Pair { place, .. }, found) in contents.into_iter().zip(found) {
        let path = || place.path(&tree);
        match found {
            Ok(None) => {}
            Ok(Some(offset)) => {
                differences.push(Difference { path: path(), what: What::Content(offset) });
            }
            Err(reason) => problems.push(InputProblem { path: path(), reason }),
        }
    }
    if !problems.is_empty() {
        return Err(Error::Input { problems });
    }
    // Stable: what differs in one file stays in the order of comparison.
    differences.sort_by(|a, b| path_order(&a.path, &b.path));
    Ok(differences)
}

/// Directories before what is below them, and that before their next sibling.
pub(crate) fn path_order(a: &[u8], b: &[u8]) -> Ordering {
    // The top's empty path, split, is one empty name, which comes before all others.
    let names = |path| <[u8]>::split(path, |byte| *byte == b'/');
    names(a).cmp(names(b))
}

/// Where a name lies that both sides have. Its path, kept for each, could take far more memory than
/// a deep tree has bytes.
#[derive(Clone, Copy)]
enum Place {
    Top,
    Below(NodeId, Link),
}

impl Place {
    /// Path relative to the top; empty for the top itself.
    fn path(self, tree: &Tree) -> Vec<u8> {
        match self {
            Self::Top => Vec::new(),
            Self::Below(directory, link) => join(&tree.path(directory), tree.name(&link)),
        }
    }
}

/// Regular files of one size.
struct Pair {
    place: Place,
    inode: Inode,
}

struct Comparison<'a> {
    view: &'a View,
    tree: &'a Tree,
    options: DiffOptions,
    differences: Vec<Difference>,
    /// Files whose contents are still to be compared.
    contents: Vec<Pair>,
    /// Files with several names that were compared under another one.
    pairs: HashSet<(u64, NodeId)>,
    /// The file of the directory that an inode with several names was first met with, and the
    /// other way round.
    nodes: HashMap<u64, NodeId>,
    inodes: HashMap<NodeId, u64>,
}

impl Comparison<'_> {
    fn walk(&mut self, top: &Inode, progress: &Progress) -> Result<()> {
        let mut pending = vec![(Place::Top, *top, 0)];
        let mut seen = HashSet::new();
        while let Some((place, inode, node)) = pending.pop() {
            progress.check()?;
            self.compare(place, &inode, node)?;
            let tree = self.tree;
            if !inode.is_dir() || !tree.node(node).is_dir() {
                continue;
            }
            // The directory's depth bounds the walk; a sound tree has each directory once.
            if !seen.insert(inode.ino) {
                let at = self.view.image().base().inode_offset(inode.ino);
                return Err(Error::corrupt("directory", at, "one name", show(&place.path(tree))));
            }
            let mut entries = self.view.read_dir(&inode)?.into_iter().peekable();
            let mut links = tree.children(tree.node(node)).iter().peekable();
            let mut both = Vec::new();
            loop {
                let order = match (entries.peek(), links.peek()) {
                    (None, None) => break,
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (Some(entry), Some(link)) => entry.name[..].cmp(tree.name(link)),
                };
                let entry = if order.is_le() { entries.next() } else { None };
                let link = if order.is_ge() { links.next() } else { None };
                match (entry, link) {
                    (Some(entry), Some(link)) => {
                        let place = Place::Below(node, *link);
                        both.push((place, self.view.inode(entry.ino)?, link.node));
                    }
                    (Some(entry), None) => {
                        let path = join(&place.path(tree), &entry.name);
                        self.differences.push(Difference { path, what: What::OnlyInImage });
                    }
                    (None, Some(link)) => {
                        self.add(Place::Below(node, *link), What::OnlyInDirectory);
                    }
                    (None, None) => break,
                }
            }
            // Last in, first out: in order of paths.
            pending.extend(both.into_iter().rev());
        }
        Ok(())
    }

    fn add(&mut self, place: Place, what: What) {
        self.differences.push(Difference { path: place.path(self.tree), what });
    }

    fn compare(&mut self, place: Place, inode: &Inode, id: NodeId) -> Result<()> {
        let node: &Node = self.tree.node(id);
        if inode.kind() != node.mode & mode::TYPE {
            self.add(place, What::Type(inode.kind(), node.mode & mode::TYPE));
            return Ok(());
        }
        let (here, there) = (inode.mode & 0o7777, node.mode & 0o7777);
        if here != there {
            self.add(place, What::Mode(here, there));
        }
        let (here, there) = ((inode.uid, inode.gid), (node.uid, node.gid));
        if here != there && !self.options.ignore_owner {
            self.add(place, What::Owner(here, there));
        }
        match inode.kind() {
            mode::REGULAR if inode.size != node.size => {
                self.add(place, What::Size(inode.size, node.size));
            }
            mode::REGULAR => {
                let several = inode.nlink > 1 && node.nlink > 1;
                if !several || self.pairs.insert((inode.ino, id)) {
                    self.contents.push(Pair { place, inode: *inode });
                }
            }
            mode::SYMLINK => {
                let (here, there) = (self.view.readlink(inode)?, self.tree.target(node));
                if here != there {
                    self.add(place, What::Target(here, there.to_vec()));
                }
            }
            mode::CHAR | mode::BLOCK if inode.rdev != node.rdev => {
                self.add(place, What::Device(inode.rdev, node.rdev));
            }
            _ => {}
        }
        if inode.mtime != node.mtime && !self.options.ignore_mtime {
            self.add(place, What::Mtime(inode.mtime, node.mtime));
        }
        if !self.options.ignore_xattrs {
            let here = self.view.xattrs(inode)?;
            let there = match node.xattrs {
                0 => &[][..],
                set => &self.tree.xattr_sets()[set as usize - 1],
            };
            if here != there {
                self.add(place, What::Xattrs(changed_names(&here, there)));
            }
        }
        if !inode.is_dir() && (inode.nlink > 1 || node.nlink > 1) {
            let known_node = *self.nodes.entry(inode.ino).or_insert(id);
            let known_inode = *self.inodes.entry(id).or_insert(inode.ino);
            if (known_node, known_inode) != (id, inode.ino) {
                self.add(place, What::HardLinks);
            }
        }
        Ok(())
    }
}

/// Names of attributes that only one side has, or with another value.
fn changed_names(here: &[Xattr], there: &[Xattr]) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = here
        .iter()
        .filter(|xattr| !there.contains(xattr))
        .chain(there.iter().filter(|xattr| !here.contains(xattr)))
        .map(|(name, _)| name.clone())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Offset of the first byte in which two files of one size differ.
fn first_difference(
    view: &View,
    root: &OwnedFd,
    path: &[u8],
    inode: &Inode,
    directory: &Path,
    progress: &Progress,
) -> Result<Option<u64>> {
    use std::os::unix::ffi::OsStrExt;
    let size = inode.size;
    if size == 0 {
        return Ok(None);
    }
    let shown = || directory.join(std::ffi::OsStr::from_bytes(path));
    // Should a FIFO have taken the file's place, opening it must not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file =
        open_beneath(root, path, flags).map_err(|errno| Error::io("open", shown())(errno))?;
    let file = File::from(file);
    let len = PIECE.min(size as usize);
    let (mut here, mut there) = (Buffer::of(len), Buffer::of(len));
    let (runs, mut offset) = (data_of_either(view, inode, &file, shown())?, 0);
    for run in runs {
        progress.advance(0, run.start - offset);
        offset = run.start;
        while offset < run.end {
            progress.check()?;
            let len = (len as u64).min(run.end - offset) as usize;
            let read = view.read(inode, offset, &mut here[..len])?;
            if read == 0 {
                return Ok(Some(offset));
            }
            match file.read_exact_at(&mut there[..read], offset) {
                Ok(()) => {}
                // It has shrunk since it was scanned.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Ok(Some(offset));
                }
                Err(error) => return Err(Error::io("read", shown())(error)),
            }
            if here[..read] != there[..read] {
                let same = here.iter().zip(&*there).take_while(|(a, b)| a == b).count();
                return Ok(Some(offset + same as u64));
            }
            offset += read as u64;
            progress.advance(0, read as u64);
        }
    }
    Ok(None)
}

/// The ranges of a file that are more than a hole in the image or in the directory, in order. The last
/// byte is among them, which shows whether the file is as long as it was.
fn data_of_either(
    view: &View,
    inode: &Inode,
    file: &File,
    path: PathBuf,
) -> Result<Vec<Range<u64>>> {
    let last = inode.size - 1..inode.size;
    let here = view.data_extents(inode)?.into_iter();
    let here = here.map(|extent| extent.file_offset..extent.file_offset + extent.len);
    let there =
        data_runs(file.as_fd(), 0..inode.size, usize::MAX).map_err(Error::io("examine", path))?;
    let mut ranges: Vec<_> = here.chain(there).chain(iter::once(last)).collect();
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut().filter(|last| range.start <= last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => merged.push(range),
        }
    }
    Ok(merged)
}
