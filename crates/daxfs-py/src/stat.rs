// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is known of a file: attributes, directory entries, extents.

use std::sync::Arc;

use daxfs_core::Error;
use daxfs_core::base::Inode;
use daxfs_core::format::mode;
use daxfs_core::view::{self, Links, View};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::error::Result;
use crate::paths::decode;

/// Attributes of a file, named as in `os.stat_result`.
#[pyclass(frozen, eq, hash, from_py_object, new = "from_fields", module = "daxfs._daxfs")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Stat {
    /// Type and permissions.
    #[pyo3(get)]
    st_mode: u32,
    /// Inode number.
    #[pyo3(get)]
    st_ino: u64,
    /// Number of names.
    #[pyo3(get)]
    st_nlink: u32,
    /// Owner.
    #[pyo3(get)]
    st_uid: u32,
    /// Group.
    #[pyo3(get)]
    st_gid: u32,
    /// Size in bytes.
    #[pyo3(get)]
    st_size: u64,
    /// Device number, for `os.major` and `os.minor`.
    #[pyo3(get)]
    st_rdev: u32,
    /// Time of last access in nanoseconds since 1970.
    #[pyo3(get)]
    st_atime_ns: i64,
    /// Modification time in nanoseconds since 1970.
    #[pyo3(get)]
    st_mtime_ns: i64,
    /// Time of the last change of any kind in nanoseconds since 1970.
    #[pyo3(get)]
    st_ctime_ns: i64,
}

impl From<Inode> for Stat {
    fn from(inode: Inode) -> Self {
        Self {
            st_mode: inode.mode,
            st_ino: inode.ino,
            st_nlink: inode.nlink,
            st_uid: inode.uid,
            st_gid: inode.gid,
            st_size: inode.size,
            // The kernel's 32-bit encoding is the low half of the C library's.
            st_rdev: inode.rdev,
            st_atime_ns: inode.atime,
            st_mtime_ns: inode.mtime,
            st_ctime_ns: inode.ctime,
        }
    }
}

/// A time in seconds, rounded as `os.stat` does it: who compares the two shall find them equal.
fn seconds(ns: i64) -> f64 {
    ns.div_euclid(1_000_000_000) as f64 + 1e-9 * ns.rem_euclid(1_000_000_000) as f64
}

#[pymethods]
impl Stat {
    /// Time of last access in seconds since 1970.
    #[getter]
    fn st_atime(&self) -> f64 {
        seconds(self.st_atime_ns)
    }

    /// Time of the last change of any kind in seconds since 1970.
    #[getter]
    fn st_ctime(&self) -> f64 {
        seconds(self.st_ctime_ns)
    }

    /// Modification time in seconds since 1970.
    #[getter]
    fn st_mtime(&self) -> f64 {
        seconds(self.st_mtime_ns)
    }

    /// Whether it is a directory.
    fn is_dir(&self) -> bool {
        self.st_mode & mode::TYPE == mode::DIRECTORY
    }

    /// Whether it is a regular file.
    fn is_file(&self) -> bool {
        self.st_mode & mode::TYPE == mode::REGULAR
    }

    /// Whether it is a symbolic link.
    fn is_symlink(&self) -> bool {
        self.st_mode & mode::TYPE == mode::SYMLINK
    }

    fn __repr__(&self) -> String {
        let Self {
            st_mode, st_ino, st_nlink, st_uid, st_gid, st_size, st_rdev, st_mtime_ns, ..
        } = self;
        format!(
            "Stat(st_mode={st_mode:#o}, st_ino={st_ino}, st_nlink={st_nlink}, st_uid={st_uid}, \
             st_gid={st_gid}, st_size={st_size}, st_rdev={st_rdev}, st_mtime_ns={st_mtime_ns})"
        )
    }

    fn __getnewargs__(&self) -> (u32, u64, u32, u32, u32, u64, u32, i64, i64, i64) {
        let Self { st_mode, st_ino, st_nlink, st_uid, st_gid, st_size, st_rdev, .. } = *self;
        let Self { st_atime_ns, st_mtime_ns, st_ctime_ns, .. } = *self;
        (
            st_mode,
            st_ino,
            st_nlink,
            st_uid,
            st_gid,
            st_size,
            st_rdev,
            st_atime_ns,
            st_mtime_ns,
            st_ctime_ns,
        )
    }
}

/// An entry of a directory, as `os.DirEntry`.
#[pyclass(frozen, module = "daxfs._daxfs")]
pub(crate) struct DirEntry {
    view: Arc<View>,
    /// Path of the directory, up to the name. Shared by all entries, as it may be long.
    directory: Arc<[u8]>,
    name: Vec<u8>,
    ino: u64,
    mode: u32,
}

impl DirEntry {
    /// The entries of the directory at `directory`.
    pub(crate) fn all(view: &Arc<View>, directory: &[u8], entries: Vec<view::Entry>) -> Vec<Self> {
        let mut directory = directory.to_vec();
        if directory.last().is_some_and(|last| *last != b'/') {
            directory.push(b'/');
        }
        let directory: Arc<[u8]> = directory.into();
        let entry = |view::Entry { name, ino, mode }| Self {
            view: Arc::clone(view),
            directory: Arc::clone(&directory),
            name,
            ino,
            mode,
        };
        entries.into_iter().map(entry).collect()
    }

    fn full(&self) -> Vec<u8> {
        [&self.directory, &self.name[..]].concat()
    }

    /// The mode, of what the entry leads to when links are followed; none if that is nothing.
    fn mode(&self, follow_symlinks: bool) -> Result<Option<u32>> {
        if !follow_symlinks || self.mode & mode::TYPE != mode::SYMLINK {
            return Ok(Some(self.mode));
        }
        match self.view.resolve(&self.full(), Links::Follow) {
            Ok(inode) => Ok(Some(inode.mode)),
            Err(Error::NotFound { .. } | Error::NotDirectory { .. } | Error::Loop { .. }) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn is(&self, kind: u32, follow_symlinks: bool) -> Result<bool> {
        Ok(self.mode(follow_symlinks)?.is_some_and(|mode| mode & mode::TYPE == kind))
    }
}

#[pymethods]
impl DirEntry {
    /// The entry's name.
    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        decode(py, &self.name)
    }

    /// The directory's path as it was given, and the name.
    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        decode(py, &self.full())
    }

    /// Inode number.
    fn inode(&self) -> u64 {
        self.ino
    }

    /// Whether it is, or leads to, a directory.
    #[pyo3(signature = (*, follow_symlinks=true))]
    fn is_dir(&self, follow_symlinks: bool) -> Result<bool> {
        self.is(mode::DIRECTORY, follow_symlinks)
    }

    /// Whether it is, or leads to, a regular file.
    #[pyo3(signature = (*, follow_symlinks=true))]
    fn is_file(&self, follow_symlinks: bool) -> Result<bool> {
        self.is(mode::REGULAR, follow_symlinks)
    }

    /// Whether it is a symbolic link.
    fn is_symlink(&self) -> bool {
        self.mode & mode::TYPE == mode::SYMLINK
    }

    /// Attributes of what the entry names or leads to.
    #[pyo3(signature = (*, follow_symlinks=true))]
    fn stat(&self, follow_symlinks: bool) -> Result<Stat> {
        if follow_symlinks && self.is_symlink() {
            return Ok(self.view.resolve(&self.full(), Links::Follow)?.into());
        }
        Ok(self.view.inode(self.ino)?.into())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<DirEntry {}>", self.name(py)?.repr()?))
    }
}

/// A run of a file's bytes that lies in one piece in the image.
#[pyclass(frozen, eq, hash, get_all, new = "from_fields", module = "daxfs._daxfs")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Extent {
    /// Offset in the file.
    file_offset: u64,
    /// Offset in the image.
    image_offset: u64,
    /// Bytes.
    length: u64,
}

impl From<view::Extent> for Extent {
    fn from(extent: view::Extent) -> Self {
        Self {
            file_offset: extent.file_offset,
            image_offset: extent.image_offset,
            length: extent.len,
        }
    }
}

#[pymethods]
impl Extent {
    fn __repr__(&self) -> String {
        let Self { file_offset, image_offset, length } = self;
        format!("Extent(file_offset={file_offset}, image_offset={image_offset}, length={length})")
    }

    fn __getnewargs__(&self) -> (u64, u64, u64) {
        (self.file_offset, self.image_offset, self.length)
    }
}
