// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files that take their name when they are whole.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD};
use tempfile::{Builder, NamedTempFile};

use crate::error::{Error, Result, show_path};

/// Bytes of the final name in the temporary one, which has a dozen more.
const NAME_PART: usize = 200;
/// Permissions of a new file, less what the umask takes.
const MODE: u32 = 0o666;

/// A file on its way to its final name. Dropped before it is finished, it leaves nothing behind.
#[derive(Debug)]
pub struct NewFile {
    file: Content,
    path: PathBuf,
    force: bool,
}

#[derive(Debug)]
enum Content {
    /// Without a name: the system frees it with the process, however that ends. In shared memory
    /// nothing else would, when a builder is killed because memory runs out.
    Unnamed(File),
    /// Under a temporary name beside the final one, where there are no files without one.
    Named(NamedTempFile),
}

impl NewFile {
    /// Begins the file `path`; without `force` nothing may be there, now and when it is finished.
    /// What it replaces must be a regular file, whose owner and permissions it takes over; a link
    /// stays, and what it leads to is replaced.
    pub fn create(path: &Path, force: bool) -> Result<Self> {
        let there = match path.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            // Nobody shall hear of a name that cannot be after all has been written.
            there => Some(there.map_err(Error::io("examine", path))?),
        };
        let followed = match &there {
            Some(there) if there.is_symlink() => {
                Some(path.canonicalize().map_err(Error::io("follow the link", path))?)
            }
            _ => None,
        };
        let named = path;
        let path = followed.as_deref().unwrap_or(path);
        let replaced = there.and_then(|_| path.metadata().ok());
        // Nor of what nobody can replace that `force` does it.
        if replaced.as_ref().is_some_and(|replaced| !replaced.is_file()) {
            return Err(Error::invalid(format!(
                "{}: not a regular file, so it cannot be replaced",
                show_path(path)
            )));
        }
        if !force && replaced.is_some() {
            return Err(Error::Exists { path: named.to_owned() });
        }
        if path.file_name().is_none() || path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(Error::invalid(format!("{}: not the name of a file", show_path(path))));
        }
        let (directory, name) = split(path);
        let open = |path: &Path| {
            File::options().read(true).write(true).create_new(true).mode(MODE).open(path)
        };
        let file = match unnamed(directory) {
            Some(file) => Content::Unnamed(file),
            None => Content::Named(
                beside((directory, name), open)
                    .map_err(Error::io("create a file in the directory", directory))?,
            ),
        };
        let new = Self { file, path: path.to_owned(), force };
        if let Some(replaced) = replaced {
            // Only root can give files away, and others need not: the permissions are what counts.
            let _ =
                std::os::unix::fs::fchown(new.file(), Some(replaced.uid()), Some(replaced.gid()));
            new.file()
                .set_permissions(replaced.permissions())
                .map_err(Error::io("set the permissions of", path))?;
        }
        Ok(new)
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        match &self.file {
            Content::Unnamed(file) => file,
            Content::Named(file) => file.as_file(),
        }
    }

    /// The name that it will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Brings the file to the disk and gives it its name.
    pub fn finish(self) -> Result<()> {
        self.file().sync_all().map_err(Error::io("write to disk", &self.path))?;
        let Self { file, path, force } = self;
        let named = match file {
            Content::Named(file) if force => file.persist(&path).map_err(io::Error::from).map(drop),
            Content::Named(file) => {
                file.persist_noclobber(&path).map_err(io::Error::from).map(drop)
            }
            Content::Unnamed(file) if force => replace(&file, &path),
            Content::Unnamed(file) => name(&file, &path),
        };
        named.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => Error::Exists { path: path.clone() },
            _ => Error::io("name the finished file", &path)(error),
        })?;
        sync(directory_of(&path));
        Ok(())
    }
}

/// Brings the names in a directory to the disk, so that a crash does not take the new one back.
fn sync(directory: &Path) {
    // Files may be made also in directories that may not be read; then the system writes them in its
    // own time.
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
}

/// A file in a directory that has no name, if the file system has such files and there is a way to
/// name it later.
fn unnamed(directory: &Path) -> Option<File> {
    let mut how = File::options();
    let file = how.read(true).write(true).mode(MODE).custom_flags(libc::O_TMPFILE).open(directory);
    file.ok().filter(|file| handle(file).exists())
}

/// A path to an open file.
fn handle(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Gives a file without a name one that nothing has.
fn name(file: &File, path: &Path) -> io::Result<()> {
    Ok(rustix::fs::linkat(CWD, handle(file), CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

/// Puts a file without a name in the place of what has the name, which only one with a name can
/// take.
fn replace(file: &File, path: &Path) -> io::Result<()> {
    let named = beside(split(path), |path| name(file, path))?;
    Ok(named.into_temp_path().persist(path)?)
}

/// The directory that a file of this path lies in.
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The directory of a path, and its last name.
fn split(path: &Path) -> (&Path, &OsStr) {
    (directory_of(path), path.file_name().unwrap_or_default())
}

/// Makes something under a temporary name beside a final one; what fails, fails with the system's
/// error, without more words around it.
fn beside<T>(
    (directory, name): (&Path, &OsStr),
    make: impl FnMut(&Path) -> io::Result<T>,
) -> io::Result<NamedTempFile<T>> {
    let name = name.as_bytes();
    let prefix = [b".", &name[..name.len().min(NAME_PART)], b"."].concat();
    Builder::new().prefix(&OsString::from_vec(prefix)).suffix(".tmp").make_in(directory, make)
}
