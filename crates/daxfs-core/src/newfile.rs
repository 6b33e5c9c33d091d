// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files that take their name when they are whole.

use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Bytes of the final name in the temporary one, which has a dozen more.
const NAME_PART: usize = 200;

/// A file under a temporary name beside its final one. Dropped before it is finished, it leaves
/// nothing behind.
#[derive(Debug)]
pub struct NewFile {
    file: NamedTempFile,
    path: PathBuf,
    force: bool,
}

impl NewFile {
    /// Begins the file `path`; without `force` nothing may be there, now and when it is finished.
    /// What it replaces must be a regular file, whose owner and permissions it takes over; a link
    /// stays, and what it leads to is replaced.
    pub fn create(path: &Path, force: bool) -> Result<Self> {
        let there = path.symlink_metadata().ok();
        if !force && there.is_some() {
            return Err(Error::Exists { path: path.to_owned() });
        }
        let followed = match &there {
            Some(there) if there.is_symlink() => {
                Some(path.canonicalize().map_err(Error::io("follow the link", path))?)
            }
            _ => None,
        };
        let path = followed.as_deref().unwrap_or(path);
        let replaced = there.and_then(|_| path.metadata().ok());
        if replaced.as_ref().is_some_and(|replaced| !replaced.is_file()) {
            return Err(Error::invalid(format!(
                "{}: not a regular file, so it cannot be replaced",
                path.display()
            )));
        }
        let name = path
            .file_name()
            .ok_or_else(|| Error::invalid(format!("{}: not the name of a file", path.display())))?
            .as_bytes();
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let prefix = [b".", &name[..name.len().min(NAME_PART)], b"."].concat();
        let file = tempfile::Builder::new()
            .prefix(&OsString::from_vec(prefix))
            .suffix(".tmp")
            // What is opened here fails with the system's error, without more words around it.
            .make_in(directory, |path| {
                File::options().read(true).write(true).create_new(true).mode(0o666).open(path)
            })
            .map_err(Error::io("create a file in the directory", directory))?;
        if let Some(replaced) = replaced {
            // Only root can give files away, and others need not: the permissions are what counts.
            let _ = std::os::unix::fs::fchown(
                file.as_file(),
                Some(replaced.uid()),
                Some(replaced.gid()),
            );
            file.as_file()
                .set_permissions(replaced.permissions())
                .map_err(Error::io("set the permissions of", path))?;
        }
        Ok(Self { file, path: path.to_owned(), force })
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        self.file.as_file()
    }

    /// The name that it will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Brings the file to the disk and gives it its name.
    pub fn finish(self) -> Result<()> {
        let Self { file, path, force } = self;
        file.as_file().sync_all().map_err(Error::io("write to disk", &path))?;
        let named = if force { file.persist(&path) } else { file.persist_noclobber(&path) };
        named.map(drop).map_err(|failure| match failure.error.kind() {
            ErrorKind::AlreadyExists => Error::Exists { path },
            _ => Error::io("rename the finished file to", &path)(failure.error),
        })
    }
}
