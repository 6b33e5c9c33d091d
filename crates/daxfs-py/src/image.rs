// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An open image: the engine below `daxfs.Image`.

use std::sync::{Arc, RwLock};

use daxfs_core::Error;
use daxfs_core::base::Inode;
use daxfs_core::branch::{BranchInfo, Table};
use daxfs_core::format::{MAIN_NAME, feature};
use daxfs_core::image::Unvalidated;
use daxfs_core::region::{Access, Region};
use daxfs_core::superblock;
use daxfs_core::view::{Links, View};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMemoryView, PyString};

use crate::buffer::Buffer;
use crate::error::Result;
use crate::file::{File, copy_bytes};
use crate::paths::{ImagePath, ImageSource, decode};
use crate::stat::{DirEntry, Extent, Stat};
use crate::workers::share;

/// A named range of bytes in an image.
#[pyclass(frozen, eq, hash, get_all, module = "daxfs._daxfs")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Span {
    /// What lies there.
    name: &'static str,
    /// Offset in the image.
    offset: u64,
    /// Bytes.
    size: u64,
}

impl From<&superblock::Span> for Span {
    fn from(span: &superblock::Span) -> Self {
        Self { name: span.name, offset: span.offset, size: span.size }
    }
}

#[pymethods]
impl Span {
    fn __repr__(&self) -> String {
        format!("Span(name={:?}, offset={}, size={})", self.name, self.offset, self.size)
    }
}

/// A branch of an image.
#[pyclass(frozen, eq, hash, get_all, module = "daxfs._daxfs")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Branch {
    /// Its name.
    name: String,
    /// Name of the branch that it was made from; none for main.
    parent: Option<String>,
    /// Bytes that its log has published.
    log_size: u64,
}

#[pymethods]
impl Branch {
    fn __repr__(&self) -> String {
        let parent = self.parent.as_ref().map_or("None".into(), |parent| format!("{parent:?}"));
        format!("Branch(name={:?}, parent={parent}, log_size={})", self.name, self.log_size)
    }
}

/// An image open for reading.
///
/// Look-ups keep the interpreter's lock: they take less time than handing it over would.
#[pyclass(frozen, subclass, module = "daxfs._daxfs")]
pub(crate) struct Image {
    // None once closed; what was handed out keeps the mapping.
    view: RwLock<Option<Arc<View>>>,
}

impl Image {
    fn open_view(&self) -> Result<Arc<View>> {
        let view = self.view.read().expect("no panic holds it");
        Ok(view.clone().ok_or_else(|| Error::invalid("the image is closed"))?)
    }

    /// The inode at a path, and the view it was found in.
    pub(crate) fn resolve(&self, path: &ImagePath, links: Links) -> Result<(Arc<View>, Inode)> {
        let view = self.open_view()?;
        let inode = view.resolve(&path.0, links)?;
        Ok((view, inode))
    }

    fn file(&self, path: &ImagePath) -> Result<(Arc<View>, Inode)> {
        let (view, inode) = self.resolve(path, Links::Follow)?;
        if inode.is_dir() {
            return Err(Error::IsDirectory { path: path.0.clone() }.into());
        }
        if !inode.is_file() {
            let path = daxfs_core::error::show(&path.0);
            return Err(Error::invalid(format!("{path}: not a regular file")).into());
        }
        Ok((view, inode))
    }

    fn is(&self, path: ImagePath, test: impl Fn(&Inode) -> bool) -> Result<bool> {
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

fn links(follow_symlinks: bool) -> Links {
    if follow_symlinks { Links::Follow } else { Links::Keep }
}

#[pymethods]
impl Image {
    #[new]
    #[pyo3(signature = (source, /, *, branch=None, trusted=false, invalidate=false))]
    fn new(
        py: Python<'_>,
        source: ImageSource,
        branch: Option<&str>,
        trusted: bool,
        invalidate: bool,
    ) -> Result<Self> {
        let view = py.detach(|| {
            let region = Arc::new(Region::open(&source.0, Access::Read)?);
            if invalidate {
                region.invalidate();
            }
            let image = Unvalidated::open(region)?;
            let image = Arc::new(if trusted { image.trust() } else { share(|| image.validate())? });
            View::open(image, branch.unwrap_or(MAIN_NAME))
        })?;
        Ok(Self { view: RwLock::new(Some(Arc::new(view))) })
    }

    /// Closes the image. Views and open files of it stay usable.
    fn close(&self) {
        *self.view.write().expect("no panic holds it") = None;
    }

    /// Whether the image was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.view.read().expect("no panic holds it").is_none()
    }

    /// What the image was opened from.
    #[getter]
    fn name(&self) -> Result<String> {
        Ok(self.open_view()?.image().region().name().display().to_string())
    }

    /// Size of the whole image in bytes.
    #[getter]
    fn size(&self) -> Result<u64> {
        Ok(self.open_view()?.image().superblock().total_size.get())
    }

    /// The label, empty when there is none.
    #[getter]
    fn label<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyString>> {
        Ok(decode(py, self.open_view()?.image().superblock().label())?)
    }

    /// The identity, if the image has one.
    #[getter]
    fn uuid(&self) -> Result<Option<String>> {
        let view = self.open_view()?;
        let superblock = view.image().superblock();
        let uuid = uuid::Uuid::from_bytes(superblock.uuid);
        Ok(superblock.has(feature::IDENTITY).then(|| uuid.hyphenated().to_string()))
    }

    /// Names of the features in use.
    #[getter]
    fn features(&self) -> Result<Vec<&'static str>> {
        let view = self.open_view()?;
        let has = |bit| view.image().superblock().has(bit);
        Ok(feature::NAMES.iter().filter(|(bit, _)| has(*bit)).map(|(_, name)| *name).collect())
    }

    /// Number of inodes in the base image.
    #[getter]
    fn inode_count(&self) -> Result<u32> {
        Ok(self.open_view()?.image().base().inode_count())
    }

    /// The regions of the image, in the order of the format.
    #[getter]
    fn spans(&self) -> Result<Vec<Span>> {
        let view = self.open_view()?;
        let superblock = view.image().superblock();
        let spans = superblock.spans();
        Ok(spans.iter().chain(&superblock.delta_spans()).map(Span::from).collect())
    }

    /// The branches of the image, as they are now.
    #[getter]
    fn branches(&self) -> Result<Vec<Branch>> {
        let view = self.open_view()?;
        let table = Table::read(view.image().region(), view.image().superblock())?;
        let main = table.find(MAIN_NAME)?.map(|main| main.id);
        let name = |record: &BranchInfo| {
            if Some(record.id) == main { MAIN_NAME.into() } else { record.name.clone() }
        };
        let parent = |id| table.records().iter().find(|record| record.id == id).map(name);
        let branch = |record: &BranchInfo| Branch {
            name: name(record),
            parent: parent(record.parent),
            log_size: record.log_size,
        };
        Ok(table.live().map(branch).collect())
    }

    /// Attributes of a file.
    #[pyo3(signature = (path, /, *, follow_symlinks=true))]
    fn stat(&self, path: ImagePath, follow_symlinks: bool) -> Result<Stat> {
        Ok(self.resolve(&path, links(follow_symlinks))?.1.into())
    }

    /// Attributes of a file, of a symbolic link itself.
    #[pyo3(signature = (path, /))]
    fn lstat(&self, path: ImagePath) -> Result<Stat> {
        self.stat(path, false)
    }

    /// Whether a path leads to something.
    #[pyo3(signature = (path, /))]
    fn exists(&self, path: ImagePath) -> Result<bool> {
        self.is(path, |_| true)
    }

    /// Whether a path leads to a directory.
    #[pyo3(signature = (path, /))]
    fn is_dir(&self, path: ImagePath) -> Result<bool> {
        self.is(path, Inode::is_dir)
    }

    /// Whether a path leads to a regular file.
    #[pyo3(signature = (path, /))]
    fn is_file(&self, path: ImagePath) -> Result<bool> {
        self.is(path, Inode::is_file)
    }

    /// Names in a directory, in byte order.
    #[pyo3(signature = (path=ImagePath(Vec::new()), /), text_signature = "($self, path='/', /)")]
    fn listdir<'py>(&self, py: Python<'py>, path: ImagePath) -> Result<Vec<Bound<'py, PyString>>> {
        let (_, entries) = self.entries(py, &path)?;
        Ok(entries.iter().map(|entry| decode(py, &entry.name)).collect::<PyResult<_>>()?)
    }

    /// Entries of a directory, in byte order of their names.
    #[pyo3(signature = (path=ImagePath(b"/".into()), /), text_signature = "($self, path='/', /)")]
    fn scandir(&self, py: Python<'_>, path: ImagePath) -> Result<Vec<DirEntry>> {
        let (view, entries) = self.entries(py, &path)?;
        Ok(entries.into_iter().map(|entry| DirEntry::new(&view, &path.0, entry)).collect())
    }

    /// Target of a symbolic link.
    #[pyo3(signature = (path, /))]
    fn readlink<'py>(&self, py: Python<'py>, path: ImagePath) -> Result<Bound<'py, PyString>> {
        let (view, inode) = self.resolve(&path, Links::Keep)?;
        if !inode.is_symlink() {
            let path = daxfs_core::error::show(&path.0);
            return Err(Error::invalid(format!("{path}: not a symbolic link")).into());
        }
        Ok(decode(py, &view.readlink(&inode)?)?)
    }

    /// Extended attributes of a file.
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
    #[pyo3(signature = (path, /))]
    fn read_bytes<'py>(&self, py: Python<'py>, path: ImagePath) -> Result<Bound<'py, PyBytes>> {
        let (view, inode) = self.file(&path)?;
        copy_bytes(py, &view, &inode, 0, inode.size)
    }

    /// A file's contents without a copy: a read-only view of the image itself.
    #[pyo3(signature = (path, /))]
    fn view<'py>(&self, py: Python<'py>, path: ImagePath) -> Result<Bound<'py, PyMemoryView>> {
        let (view, inode) = self.file(&path)?;
        let region = view.image().region();
        let data = match *view.extents(&inode)?.as_slice() {
            [] if inode.size == 0 => region.view(0, 0)?,
            [one] if one.file_offset == 0 && one.len == inode.size => {
                region.view(one.image_offset, one.len)?
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
        Ok(PyMemoryView::from(Bound::new(py, Buffer(data))?.as_any())?)
    }

    /// Where a file's bytes lie in the image; what no extent covers reads as zeroes.
    #[pyo3(signature = (path, /))]
    fn extents(&self, path: ImagePath) -> Result<Vec<Extent>> {
        let (view, inode) = self.file(&path)?;
        Ok(view.extents(&inode)?.into_iter().map(Extent::from).collect())
    }

    /// Opens a file for reading at any offset.
    #[pyo3(signature = (path, /))]
    fn open_file(&self, path: ImagePath) -> Result<File> {
        let (view, inode) = self.file(&path)?;
        Ok(File::new(view, inode))
    }
}
