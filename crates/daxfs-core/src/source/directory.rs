// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Scanning a directory tree, breadth first, with every processor.

use std::collections::{HashMap, VecDeque};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::names::{Name, Names};
use super::xattrs::{XattrFailure, xattrs_at, xattrs_of};
use super::{Attributes, Child, Identity, NodeId, Origin, Scan, Selection, Tree};
use crate::error::{Error, InputProblem, Result};
use crate::format::{TARGET_MAX, device};
use crate::paths::{descend, join};
use crate::progress::Progress;

/// Entries that one task looks at; small enough to share a large directory among processors.
const BATCH: usize = 512;
/// Directories listed before what was found goes into the tree, where it takes a fraction of the
/// memory.
const WINDOW: usize = 128;

/// Attributes of a file, and its identity if it has several names; nothing of one that is left out.
pub(crate) type Looked = Option<(Attributes, Option<Identity>)>;

/// What one look at a directory entry found.
struct Found {
    name: Name,
    attributes: Attributes,
    /// Of a file with several names.
    identity: Option<Identity>,
}

/// Scans the tree below `path`. Where regular files are deferred, each of their names gets a node of
/// its own.
pub fn scan(path: &Path, selection: &Selection, progress: &Progress) -> Result<Scan> {
    let root = open_top(path)?;
    let stat = rustix::fs::fstat(&root).map_err(Error::io("examine", path))?;
    let mut attributes = attributes_of(&stat);
    attributes.xattrs = xattrs_of(&root).map_err(|failure| Error::Input {
        problems: vec![InputProblem { path: b".".to_vec(), reason: failure.reason() }],
    })?;
    selection.adjust(&mut attributes);

    let mut tree = Tree::new(attributes);
    let mut problems = Vec::new();
    let mut linked: HashMap<Identity, NodeId> = HashMap::new();
    let mut pending: VecDeque<NodeId> = [0].into();
    while !pending.is_empty() {
        progress.check()?;
        let window: Vec<NodeId> = pending.drain(..pending.len().min(WINDOW)).collect();
        let listings: Vec<_> = window
            .par_iter()
            .map(|directory| {
                let path = tree.path(*directory);
                let listing = list(&root, &path, selection, progress);
                (path, listing)
            })
            .collect();
        for (directory, (path, listing)) in window.into_iter().zip(listings) {
            let listing = match listing {
                Ok(listing) => listing,
                Err(reason) if directory == 0 => {
                    let path = b".".to_vec();
                    return Err(Error::Input { problems: vec![InputProblem { path, reason }] });
                }
                // The directory itself is taken: the slash tells of what is in it.
                Err(reason) => {
                    problems.push(InputProblem { path: join(&path, b""), reason });
                    continue;
                }
            };
            problems.extend(listing.problems);
            let names = &listing.names;
            let bytes = listing
                .found
                .iter()
                .map(|found| names.bytes(&found.name).len() + found.attributes.target.len());
            if !tree.has_room(listing.found.len(), bytes.sum()) {
                problems.push(InputProblem { path, reason: "too many names for one image".into() });
                pending.clear();
                break;
            }
            let mut number = tree.nodes().len() as NodeId;
            let children = listing.found.into_iter().map(|found| {
                let known = found.identity.and_then(|identity| linked.get(&identity));
                let child = match known {
                    Some(node) => Child::Link(*node),
                    None => {
                        if let Some(identity) = found.identity {
                            linked.insert(identity, number);
                        }
                        if is_directory(found.attributes.mode) {
                            pending.push_back(number);
                        }
                        number += 1;
                        Child::New(found.attributes)
                    }
                };
                (listing.names.bytes(&found.name), child)
            });
            tree.fill(directory, children);
        }
    }
    Ok(Scan { tree, origin: Origin::Directory(root), problems })
}

/// Opens the directory that the caller named, which may be a link to it; below it none is followed.
fn open_top(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, directory_flags() - OFlags::NOFOLLOW, Mode::empty())
        .map_err(Error::io("open the directory", path))
}

#[derive(Default)]
struct Listing {
    names: Names,
    found: Vec<Found>,
    problems: Vec<InputProblem>,
}

/// Reads one directory: names in byte order, each with its attributes. Says why it cannot be read.
fn list(
    root: &OwnedFd,
    path: &[u8],
    selection: &Selection,
    progress: &Progress,
) -> std::result::Result<Listing, String> {
    let mut listing = Listing::default();
    let directory = open_beneath(root, path, directory_flags())
        .map_err(|errno| format!("cannot open the directory: {}", reason(errno)))?;
    let names = Names::of(&directory)
        .map_err(|errno| format!("cannot read the directory: {}", reason(errno)))?;
    let batches: Vec<Listing> = names
        .entries()
        .par_chunks(BATCH)
        .map(|batch| {
            let mut part = Listing::default();
            for entry in batch {
                let name = names.text(entry);
                if progress.is_cancelled() {
                    break;
                }
                let full = || join(path, name.to_bytes());
                let exclude = &selection.exclude;
                if !exclude.is_empty()
                    && exclude.matches(&full(), names_directory(&directory, entry.kind, name))
                {
                    continue;
                }
                let looked = if selection.defer_files && entry.kind == FileType::RegularFile {
                    Ok(Some((Attributes::deferred(), None)))
                } else {
                    look(directory.as_fd(), name, selection)
                };
                match looked {
                    Ok(None) => {}
                    Ok(Some((attributes, identity))) => {
                        match super::name_problem(name.to_bytes()) {
                            None => {
                                let name = entry.clone();
                                part.found.push(Found { name, attributes, identity });
                            }
                            Some(reason) => {
                                part.problems.push(InputProblem { path: full(), reason });
                            }
                        }
                    }
                    Err(reason) => part.problems.push(InputProblem { path: full(), reason }),
                }
            }
            progress.advance(batch.len() as u64, 0);
            part
        })
        .collect();
    for part in batches {
        listing.found.extend(part.found);
        listing.problems.extend(part.problems);
    }
    listing.names = names;
    Ok(listing)
}

/// Whether a name is a directory's; if its own does not say so, asks.
fn names_directory(directory: &OwnedFd, kind: FileType, name: &CStr) -> bool {
    match kind {
        FileType::Unknown => rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| is_directory(stat.st_mode)),
        kind => kind == FileType::Directory,
    }
}

/// Attributes of a name.
fn look(
    directory: BorrowedFd<'_>,
    name: &CStr,
    selection: &Selection,
) -> std::result::Result<Looked, String> {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(examining)?;
    if selection.defer_files && is_regular(stat.st_mode) {
        return Ok(Some((Attributes::deferred(), None)));
    }
    let Some((mut attributes, identity)) = status(&stat, selection) else { return Ok(None) };
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        attributes.target = rustix::fs::readlinkat(directory, name, Vec::new())
            .map_err(|errno| format!("cannot read the link: {}", reason(errno)))?
            .into_bytes();
        let len = attributes.target.len() as u64;
        if len > TARGET_MAX {
            return Err(format!("link target of {len} bytes, at most {TARGET_MAX} are possible"));
        }
    }
    attributes.xattrs = xattrs_at(directory, name).map_err(XattrFailure::reason)?;
    Ok(Some((attributes, identity)))
}

/// Attributes of an open regular file, which the scan deferred.
pub(crate) fn look_into(
    file: BorrowedFd<'_>,
    selection: &Selection,
) -> std::result::Result<Looked, String> {
    let stat = rustix::fs::fstat(file).map_err(examining)?;
    if !is_regular(stat.st_mode) {
        return Err("was a regular file when its directory was read, and is none now".into());
    }
    let Some((mut attributes, identity)) = status(&stat, selection) else { return Ok(None) };
    attributes.xattrs = xattrs_of(file).map_err(XattrFailure::reason)?;
    Ok(Some((attributes, identity)))
}

/// What a file's status says of it.
fn status(stat: &Stat, selection: &Selection) -> Looked {
    #[allow(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
    let identity = (stat.st_dev as u64, stat.st_ino as u64);
    if selection.apart == Some(identity) {
        return None;
    }
    let mut attributes = attributes_of(stat);
    selection.adjust(&mut attributes);
    let several = stat.st_nlink > 1 && !is_directory(stat.st_mode);
    Some((attributes, several.then_some(identity)))
}

fn examining(errno: Errno) -> String {
    format!("cannot examine: {}", reason(errno))
}

fn attributes_of(stat: &Stat) -> Attributes {
    let mtime = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
    Attributes {
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: device::encode(rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
            .expect("the kernel's numbers have 32 bits"),
        size: stat.st_size.cast_unsigned(),
        // Years 1677 to 2262; what lies outside is cut to them.
        mtime: mtime.clamp(i64::MIN.into(), i64::MAX.into()) as i64,
        ..Attributes::default()
    }
}

fn is_directory(mode: u32) -> bool {
    FileType::from_raw_mode(mode) == FileType::Directory
}

fn is_regular(mode: u32) -> bool {
    FileType::from_raw_mode(mode) == FileType::RegularFile
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// Opens a path below `root`, without following a link anywhere on the way: somebody may put one in
/// the place of a directory at any time.
pub(crate) fn open_beneath(
    root: &OwnedFd,
    path: &[u8],
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let open = |at: BorrowedFd<'_>, path: &[u8], flags| {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(at, path, flags, Mode::empty(), resolve) {
            // Not every sandbox or emulator has the call.
            Err(Errno::NOSYS | Errno::PERM) => open_by_names(at, path, flags),
            opened => opened,
        }
    };
    let (above, rest) = descend(path, |above, piece| {
        open(above.unwrap_or(root).as_fd(), piece, directory_flags())
    })?;
    let rest = if rest.is_empty() { b"." } else { rest };
    open(above.as_ref().unwrap_or(root).as_fd(), rest, flags)
}

/// The same one name at a time.
fn open_by_names(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let mut names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).peekable();
    let mut at = None;
    while let Some(name) = names.next() {
        if name == b".." {
            return Err(Errno::XDEV);
        }
        let on_the_way = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let flags = if names.peek().is_some() { on_the_way } else { flags };
        let above = at.as_ref().map_or(root, AsFd::as_fd);
        at = Some(rustix::fs::openat(above, name, flags | OFlags::NOFOLLOW, Mode::empty())?);
    }
    at.ok_or(Errno::NOENT)
}

fn reason(errno: Errno) -> String {
    crate::error::reason(&errno.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_is_followed_on_the_way() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tree.path().join("dir/below")).unwrap();
        std::os::unix::fs::symlink("dir", tree.path().join("link")).unwrap();
        let root = open_top(tree.path()).unwrap();
        let deep = [b"./".repeat(3000), b"link/below".to_vec()].concat();
        for path in [&b"link"[..], b"link/below", &deep] {
            assert!(open_beneath(&root, path, directory_flags()).is_err(), "{}", path.len());
            assert!(open_by_names(root.as_fd(), path, directory_flags()).is_err());
        }
        for path in [&b""[..], b"dir", b"dir/below"] {
            assert!(open_beneath(&root, path, directory_flags()).is_ok());
        }
        for path in [&b"."[..], b"dir", b"dir/below", b"./dir//below"] {
            assert!(open_by_names(root.as_fd(), path, directory_flags()).is_ok());
        }
        for path in [&b".."[..], b"dir/../dir", b"none"] {
            assert!(open_by_names(root.as_fd(), path, directory_flags()).is_err());
        }
    }
}
