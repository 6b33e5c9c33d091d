// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Paths in a tree: what they lead to, and where their last name is to be made, moved or removed.

use std::borrow::Cow;

use crate::base::Inode;
use crate::error::{Error, Result, show};
use crate::format::ROOT_INO;
use crate::view::{Links, View};

/// Most symbolic links followed on one path, as in Linux.
const LINKS_MAX: usize = 40;

/// Where a name is, or can be made.
#[derive(Debug, Clone)]
pub struct Place {
    /// The directory.
    pub directory: Inode,
    /// The name in it.
    pub name: Vec<u8>,
}

impl View {
    /// The inode at `path`, which is taken from the root whether or not it begins with a slash.
    pub fn resolve(&self, path: &[u8], links: Links) -> Result<Inode> {
        let mut at = self.inode(ROOT_INO)?;
        // Directories walked through, for `..`.
        let mut parents: Vec<Inode> = Vec::new();
        let mut followed = 0;
        // Owned once a symlink has been followed, borrowed until then.
        let mut pending: Cow<'_, [u8]> = path.into();
        let mut start = 0;
        loop {
            while pending.get(start) == Some(&b'/') {
                start += 1;
            }
            if start == pending.len() {
                return Ok(at);
            }
            let rest = &pending[start..];
            let len = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            let name = &rest[..len];
            if !at.is_dir() {
                return Err(Error::NotDirectory { path: path.to_vec() });
            }
            let next = match name {
                b"." => {
                    start += len;
                    continue;
                }
                b".." => {
                    at = parents.pop().unwrap_or(at);
                    start += len;
                    continue;
                }
                _ => self.lookup(&at, name)?,
            };
            let Some(next) = next else {
                return Err(Error::NotFound { path: path.to_vec() });
            };
            // As in POSIX, a trailing slash asks for what the link points to.
            let last = len == rest.len();
            if next.is_symlink() && (!last || links == Links::Follow) {
                followed += 1;
                if followed > LINKS_MAX {
                    return Err(Error::Loop { path: path.to_vec() });
                }
                let mut target = self.readlink(&next)?;
                if target.first() == Some(&b'/') {
                    at = self.inode(ROOT_INO)?;
                    parents.clear();
                }
                target.extend_from_slice(&rest[len..]);
                pending = target.into();
                start = 0;
                continue;
            }
            start += len;
            let slash = start < pending.len();
            if slash && !next.is_dir() {
                return Err(Error::NotDirectory { path: path.to_vec() });
            }
            parents.push(at);
            at = next;
        }
    }

    /// The place of a path's last name, which is not followed if it is a link's. Links on the way
    /// are, inside the image.
    pub fn place(&self, path: &[u8]) -> Result<Place> {
        let (above, name) = split(path);
        if matches!(name, b"" | b"." | b"..") {
            let path = show(path);
            return Err(Error::invalid(format!("{path:?} names no entry of a directory")));
        }
        let directory = self.resolve(above, Links::Follow)?;
        if !directory.is_dir() {
            return Err(Error::NotDirectory { path: path.to_vec() });
        }
        Ok(Place { directory, name: name.to_vec() })
    }

    /// The place of something new that is no directory, which a slash at the end asks for.
    pub fn place_of_new(&self, path: &[u8]) -> Result<Place> {
        let place = self.place(path)?;
        if path.ends_with(b"/") && self.lookup(&place.directory, &place.name)?.is_none() {
            return Err(Error::NotFound { path: path.to_vec() });
        }
        Ok(place)
    }

    /// The place of something that is moved or removed; a directory if there is a slash at the end.
    pub fn place_of_old(&self, path: &[u8]) -> Result<Place> {
        let place = self.place(path)?;
        if path.ends_with(b"/") {
            let found = self.lookup(&place.directory, &place.name)?;
            if found.is_some_and(|found| !found.is_dir()) {
                return Err(Error::NotDirectory { path: path.to_vec() });
            }
        }
        Ok(place)
    }

    /// The place of a file that is opened and made if need be: links at the end are followed,
    /// also those that lead to nothing yet.
    pub fn place_of_file(&self, path: &[u8]) -> Result<Place> {
        let mut at = path.to_vec();
        for _ in 0..=LINKS_MAX {
            if at.ends_with(b"/") {
                return Err(Error::IsDirectory { path: path.to_vec() });
            }
            let place = self.place(&at)?;
            let found = self.lookup(&place.directory, &place.name)?;
            let Some(link) = found.filter(Inode::is_symlink) else { return Ok(place) };
            let target = self.readlink(&link)?;
            at = match target.first() {
                Some(b'/') => target,
                _ => [split(&at).0, b"/", &target].concat(),
            };
        }
        Err(Error::Loop { path: path.to_vec() })
    }
}

/// Longest path handed to the kernel at once.
const PIECE: usize = 4000;

/// Opens directories on a relative path that the kernel would not take whole. Returns the last of
/// them, if any was needed, and the path from there on.
pub(crate) fn descend<D, E>(
    path: &[u8],
    open: impl Fn(Option<&D>, &[u8]) -> std::result::Result<D, E>,
) -> std::result::Result<(Option<D>, &[u8]), E> {
    let (mut above, mut rest) = (None, path);
    while rest.len() > PIECE {
        let slash = rest[..PIECE].iter().rposition(|byte| *byte == b'/');
        let cut = slash.expect("names are shorter than a piece");
        above = Some(open(above.as_ref(), &rest[..cut])?);
        rest = &rest[cut + 1..];
    }
    Ok((above, rest))
}

/// The path of a name in a directory, relative to the root, whose own path is empty.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// A path's last name, and what is before it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let start = path[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    (&path[..start], &path[start..end])
}
