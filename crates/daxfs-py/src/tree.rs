// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A tree that can be read: what images and branches have in common.

use std::sync::{Arc, RwLock};

use daxfs_core::Error;
use daxfs_core::base::Inode;
use daxfs_core::branch::handle::Branch;
use daxfs_core::image::Image;
use daxfs_core::view::{Links, View};
use pyo3::exceptions::PyUnicodeEncodeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMemoryView, PyString};

use crate::buffer::Buffer;
use crate::error::Result;
use crate::file::{File, copy_bytes};
use crate::paths::{ImagePath, decode};
use crate::stat::{DirEntry, Extent, Stat};

/// What a tree is read from.
#[derive(Clone)]
pub(crate) enum Source {
    /// A tree as it was when it was opened.
    Fixed(Arc<View>),
    /// A branch, as it is at each moment.
    Live(Branch),
}

/// A tree open for reading.
///
/// Look-ups keep the interpreter's lock: they take less time than handing it over would.
#[pyclass(frozen, subclass, module = "daxfs._daxfs")]
pub(crate) struct Tree {
    // None once closed; what was handed out keeps the mapping.
    source: RwLock<Option<Source>>,
}

impl Tree {
    pub(crate) fn new(source: Source) -> Self {
        Self { source: RwLock::new(Some(source)) }
    }

    pub(crate) fn source(&self) -> Result<Source> {
        let source = self.source.read().expect("no panic holds it");
        Ok(source
            .clone()
            .ok_or_else(|| Error::invalid("the image or branch is closed; open it again"))?)
    }

    /// The tree as it is now.
    pub(crate) fn open_view(&self) -> Result<Arc<View>> {
        match self.source()? {
            Source::Fixed(view) => Ok(view),
            Source::Live(branch) => Ok(Arc::new(branch.view()?)),
        }
    }

    /// The image, whatever became of the branch.
    pub(crate) fn image(&self) -> Result<Arc<Image>> {
        Ok(Arc::clone(match &self.source()? {
            Source::Fixed(view) => view.image(),
            Source::Live(branch) => branch.session().image(),
        }))
    }

    /// Gives up what is read from, and returns it.
    pub(crate) fn take(&self) -> Option<Source> {
        self.source.write().expect("no panic holds it").take()
    }

    /// The inode at a path, and the view it was found in.
    pub(crate) fn resolve(&self, path: &ImagePath, links: Links) -> Result<(Arc<View>, Inode)> {
        let view = self.open_view()?;
        let inode = view.resolve(&path.0, links)?;
        Ok((view, inode))
    }

    fn file(&self, path: &ImagePath) -> Result<(Arc<View>, Inode)> {
        let (view, inode) = self.resolve(path, Links::Follow)?;
        expect_file(&inode, path)?;
        Ok((view, inode))
    }

    fn is(&self, path: &Bound<'_, PyAny>, test: impl Fn(&Inode) -> bool) -> Result<bool> {
        let path = match path.extract::<ImagePath>() {
            Ok(path) => path,
            // No file can have such a name.
            Err(error) if error.is_instance_of::<PyUnicodeEncodeError>(path.py()) => {
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        match self.open_view()?.resolve(&path.0, Links::Follow) {
            Ok(inode) => Ok(test(&inode)),
            Err(Error::NotFound { .. } | Error::NotDirectory { .. } | Error::Loop { .. }) => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn entries(
        &self,
        py: Python<'_>,
        path: &ImagePath,
    ) -> Result<(Arc<View>, Vec<daxfs_core::view::Entry>)> {
        let (view, inode) = self.resolve(path, Links::Follow)?;
        if !inode.is_dir() {
            return Err(Error::NotDirectory { path: path.0.clone() }.into());
        }
        let entries = py.detach(|| view.read_dir(&inode))?;
        Ok((view, entries))
    }
}

/// Only regular files have contents.
pub(crate) fn expect_file(inode: &Inode, path: &ImagePath) -> Result<()> {
    if inode.is_dir() {
        return Err(Error::IsDirectory { path: path.0.clone() }.into());
    }
    if !inode.is_file() {
        return Err(Error::WrongType { wanted: "regular file", path: path.0.clone() }.into());
    }
    Ok(())
}

pub(crate) fn links(follow_symlinks: bool) -> Links {
    if follow_symlinks { Links::Follow } else { Links::Keep }
}

#[pymethods]
impl Tree {
    /// Attributes of a file.
    ///
    /// Parameters
    /// ----------
    /// path : str, bytes or os.PathLike
    ///     Any file.
    /// follow_symlinks : bool, optional
    ///     Whether a symbolic link stands for what it leads to, or for itself.
    ///
    /// Returns
    /// -------
    /// Stat
    ///     As `os.stat_result`; times in ns since 1970 as well.
    ///
    /// Raises
    /// ------
    /// NotFoundError, NotDirectoryError, LoopError
    ///     The path leads to nothing.
    /// CorruptImageError
    ///     What the image says there makes no sense.
    #[pyo3(signature = (path, /, *, follow_symlinks=true))]
    fn stat(&self, path: ImagePath, follow_symlinks: bool) -> Result<Stat> {
        Ok(self.resolve(&path, links(follow_symlinks))?.1.into())
    }

    /// Attributes of a file, of a symbolic link itself.
    ///
    /// Parameters
    /// ----------
    /// path : str, bytes or os.PathLike
    ///     Any file.
    ///
    /// Returns
    /// -------
    /// Stat
    ///     As of `stat`.
    ///
    /// Raises
    /// ------
    /// NotFoundError, NotDirectoryError, LoopError
    ///     The path leads to nothing.
    /// CorruptImageError
    ///     What the image says there makes no sense.
    #[pyo3(signature = (path, /))]
    fn lstat(&self, path: ImagePath) -> Result<Stat> {
        self.stat(path, false)
    }

    /// Whether a path leads to something.
    ///
    /// Parameters
    /// ----------
    /// path : str, bytes or os.PathLike
    ///     Any path; no file can have some names, which is no error.
    ///
    /// Returns
    /// -------
    /// bool
    ///     Links that lead nowhere, or in a circle, lead to nothing.
    #[pyo3(signature = (path, /))]
    fn exists(&self, path: &Bound<'_, PyAny>) -> Result<bool> {
        self.is(path, |_| true)
    }

    /// Whether a path leads to a directory.
    ///
    /// Parameters
    /// ----------
    /// path : str, bytes or os.PathLike
    ///     As for `exists`.
    ///
    /// Returns
    /// -------
    /// bool
    ///     Also of a link to one.
    #[pyo3(signature = (path, /))]
    fn is_dir(&self, path: &Bound<'_, PyAny>) -> Result<bool> {
        self.is(path, Inode::is_dir)
    }

    /// Whether a path leads to a regular file.
    ///
    /// Parameters
    /// ----------
    /// path : str, bytes or os.PathLike
    ///     As for `exists`.
    ///
    /// Returns
    /// -------
    /// bool
    ///     Also of a link to one.
    #[pyo3(signature = (path, /))]
    fn is_file(&self, path: &Bound<'_, PyAny>) -> Result<bool> {
        self.is(path, Inode::is_file)
    }

    /// Names in a directory, in byte order.
    ///
    /// Parameters
    /// ----------
    /// path : str, bytes or os.PathLike, optional
    ///     The directory; the root if left out.
    ///
    /// Returns
    /// -------
    /// list of str
    ///     Without . and ..; bytes that are not UTF-8 are surrogates.
    ///
    /// Raises
    /// ------
    /// NotFoundError, NotDirectoryError, LoopError
    ///     The path leads to nothing.
    /// CorruptImageError
    ///     What the image says there makes no sense.
    #[pyo3(signature = (path=ImagePath(Vec::new()), /), text_signature = "($self, path='/', /)")]
    fn listdir<'py>(&self, py: Python<'py>, path: ImagePath) -> Result<Vec<Bound<'py, PyString>>> {
        let (_, entries) = self.entries(py, &path)?;
        Ok(entries.iter().map(|entry| decode(py, &entry.name)).collect::<PyResult<_>>()?)
    }

    /// Entries of a directory, in byte order of their names.
    ///
    /// Parameters
    /// ----------
    /// path : str, bytes or os.PathLike, optional
    ///     The directory; the root if left out.
    ///
    /// Returns
    /// -------
    /// list of DirEntry
    ///     As of `os.scandir`: with types and attributes.
    ///
    /// Raises
    /// ------
    /// NotFoundError, NotDirectoryError, LoopError
    ///     The path leads to nothing.
    /// CorruptImageError
    ///     What the image says there makes no sense.
    #[pyo3(signature = (path=ImagePath(b"/".into()), /), text_signature = "($self, path='/', /)")]
    fn scandir(&self, py: Python<'_>, path: ImagePath) -> Result<Vec<DirEntry>> {
        let (view, entries) = self.entries(py, &path)?;
        Ok(DirEntry::all(&view, &path.0, entries))
    }

    /// Target of a symbolic link.
    ///
    /// Parameters
    /// ----------
    /// path : str, bytes or os.PathLike
    ///     The link.
    ///
    /// Returns
    /// -------
    /// str
    ///     As it was stored.
    ///
    /// Raises
    /// ------
    /// NotFoundError, NotDirectoryError, LoopError
    ///     The path leads to nothing.
    /// InvalidError
    ///     It is no symbolic link.
    #[pyo3(signature = (path, /))]
    fn readlink<'py>(&self, py: Python<'py>, path: ImagePath) -> Result<Bound<'py, PyString>> {
        let (view, inode) = self.resolve(&path, Links::Keep)?;
        if !inode.is_symlink() {
            return Err(Error::WrongType { wanted: "symbolic link", path: path.0 }.into());
        }
        Ok(decode(py, &view.readlink(&inode)?)?)
    }

    /// Extended attributes of a file.
    ///
    /// Parameters
    /// ----------
    /// path : str, bytes or os.PathLike
    ///     Any file.
    /// follow_symlinks : bool, optional
    ///     Whether a symbolic link stands for what it leads to, or for itself.
    ///
    /// Returns
    /// -------
    /// dict of str to bytes
    ///     Values by whole names, ``user.comment``.
    ///
    /// Raises
    /// ------
    /// NotFoundError, NotDirectoryError, LoopError
    ///     The path leads to nothing.
    /// CorruptImageError
    ///     What the image says there makes no sense.
    #[pyo3(signature = (path, /, *, follow_symlinks=true))]
    fn xattrs<'py>(
        &self,
        py: Python<'py>,
        path: ImagePath,
        follow_symlinks: bool,
    ) -> Result<Bound<'py, PyDict>> {
        let (view, inode) = self.resolve(&path, links(follow_symlinks))?;
        let xattrs = PyDict::new(py);
        for (name, value) in view.xattrs(&inode)? {
            xattrs.set_item(decode(py, &name)?, PyBytes::new(py, &value))?;
        }
        Ok(xattrs)
    }

    /// A file's contents.
    ///
    /// Parameters
    /// ----------
    /// path : str, bytes or os.PathLike
    ///     A regular file.
    ///
    /// Returns
    /// -------
    /// bytes
    ///     A copy; holes are zeroes.
    ///
    /// Raises
    /// ------
    /// NotFoundError, NotDirectoryError, LoopError
    ///     The path leads to nothing.
    /// IsDirectoryError, InvalidError
    ///     It is no regular file.
    /// BranchStaleError
    ///     A branch had changed it, and the space was given back since.
    #[pyo3(signature = (path, /))]
    fn read_bytes<'py>(&self, py: Python<'py>, path: ImagePath) -> Result<Bound<'py, PyBytes>> {
        let (view, inode) = self.file(&path)?;
        copy_bytes(py, &view, &inode, 0, inode.size)
    }

    /// A file's contents without a copy: a read-only view of the image itself.
    ///
    /// Parameters
    /// ----------
    /// path : str, bytes or os.PathLike
    ///     A regular file.
    ///
    /// Returns
    /// -------
    /// memoryview
    ///     Bytes, of the image's memory. It stays mapped as long as the view is there.
    ///
    /// Raises
    /// ------
    /// NotFoundError, NotDirectoryError, LoopError
    ///     The path leads to nothing.
    /// IsDirectoryError, InvalidError
    ///     It is no regular file.
    /// UnsupportedError
    ///     The file lies in several pieces, or a branch changed it and the image was not opened with
    ///     ``writable=True``, so that nothing would keep the bytes; `read_bytes` copies them.
    #[pyo3(signature = (path, /))]
    fn view<'py>(&self, py: Python<'py>, path: ImagePath) -> Result<Bound<'py, PyMemoryView>> {
        let (view, inode) = self.file(&path)?;
        let region = view.image().region();
        let (data, guard) = match *view.extents(&inode)?.as_slice() {
            [] if inode.size == 0 => (region.view(0, 0)?, None),
            [one] if one.file_offset == 0 && one.len == inode.size => {
                // The base image stays as it is. A guard would keep others' old branches.
                let fixed = view.image().base().holds(one.image_offset);
                (view.window(&one)?, (!fixed).then_some(view))
            }
            ref several => {
                let (shown, pieces) = (daxfs_core::error::show(&path.0), several.len());
                let what = format!(
                    "{shown}: a view without a copy, as the file lies in {pieces} pieces with \
                     possible holes; read_bytes copies it, extents tells where the pieces are"
                );
                return Err(Error::Unsupported { what }.into());
            }
        };
        Ok(PyMemoryView::from(Bound::new(py, Buffer::shown(data, guard))?.as_any())?)
    }

    /// Where a file's bytes lie in the image; what no extent covers reads as zeroes.
    ///
    /// Parameters
    /// ----------
    /// path : str, bytes or os.PathLike
    ///     A regular file.
    ///
    /// Returns
    /// -------
    /// list of Extent
    ///     In order; offsets and lengths in bytes.
    ///
    /// Raises
    /// ------
    /// NotFoundError, NotDirectoryError, LoopError
    ///     The path leads to nothing.
    /// IsDirectoryError, InvalidError
    ///     It is no regular file.
    #[pyo3(signature = (path, /))]
    fn extents(&self, path: ImagePath) -> Result<Vec<Extent>> {
        let (view, inode) = self.file(&path)?;
        Ok(view.extents(&inode)?.into_iter().map(Extent::from).collect())
    }

    /// Opens a file for reading at any offset.
    #[pyo3(signature = (path, /))]
    fn open_file(&self, path: ImagePath) -> Result<File> {
        match self.source()? {
            Source::Live(branch) => {
                let (_, inode) = self.file(&path)?;
                Ok(File::live(branch, inode.ino))
            }
            Source::Fixed(_) => {
                let (view, inode) = self.file(&path)?;
                Ok(File::fixed(view, inode))
            }
        }
    }
}
