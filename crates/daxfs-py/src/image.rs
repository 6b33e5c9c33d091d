// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An open image: the engine below `daxfs.Image`.

use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, RwLock};

use daxfs_core::Error;
use daxfs_core::branch::Table;
use daxfs_core::branch::look::look;
use daxfs_core::branch::reclaim;
use daxfs_core::format::{BLOCK_SIZE, MAIN_NAME, feature};
use daxfs_core::image::Unvalidated;
use daxfs_core::region::{self, Access, Region};
use daxfs_core::session::Session;
use daxfs_core::superblock;
use daxfs_core::view::View;
use pyo3::PyClassInitializer;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::branch::{BranchStatus, Opener};
use crate::error::{Failure, Result};
use crate::paths::{ImageSource, decode};
use crate::progress::watch;
use crate::tree::{Source, Tree};

/// A named range of bytes in an image.
#[pyclass(frozen, eq, hash, get_all, from_py_object, new = "from_fields", module = "daxfs._daxfs")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Span {
    /// What lies there.
    name: String,
    /// Offset in the image.
    offset: u64,
    /// Bytes.
    size: u64,
}

impl From<&superblock::Span> for Span {
    fn from(span: &superblock::Span) -> Self {
        Self { name: span.name.into(), offset: span.offset, size: span.size }
    }
}

#[pymethods]
impl Span {
    fn __repr__(&self) -> String {
        format!("Span(name={:?}, offset={}, size={})", self.name, self.offset, self.size)
    }

    fn __getnewargs__(&self) -> (&str, u64, u64) {
        (&self.name, self.offset, self.size)
    }
}

/// How an image was opened: enough to do it again.
struct Origin {
    source: region::Source,
    branch: Option<String>,
    writable: bool,
    trusted: bool,
    invalidate: bool,
}

/// An image that is open.
#[pyclass(frozen, subclass, extends = Tree, module = "daxfs._daxfs")]
pub(crate) struct Image {
    // Present while the image is open for writing.
    session: RwLock<Option<Arc<Session>>>,
    origin: Origin,
}

impl Image {
    /// The registration of this process in an image that is open for writing.
    pub(crate) fn session(&self) -> Result<Arc<Session>> {
        let session = self.session.read().expect("no panic holds it");
        Ok(session.clone().ok_or_else(|| {
            Error::invalid("the image is closed or not for writing; open it with writable=True")
        })?)
    }
}

/// A source that means the same wherever the process goes. A path is not normalised: what is before
/// a `..` may be a link.
fn lasting(source: region::Source) -> region::Source {
    match source {
        region::Source::Path(path) if path.is_relative() => {
            // Where there is no directory any more, the path leads nowhere else either.
            let here = std::env::current_dir().unwrap_or_default();
            region::Source::Path(here.join(path))
        }
        source => source,
    }
}

pub(crate) fn core(slf: &Bound<'_, Image>) -> Result<Arc<daxfs_core::image::Image>> {
    slf.as_super().get().image()
}

#[pymethods]
impl Image {
    #[new]
    #[pyo3(signature = (
        source, /, branch=None, writable=false, trusted=false, invalidate=false
    ))]
    fn new(
        py: Python<'_>,
        source: ImageSource,
        branch: Option<String>,
        writable: bool,
        trusted: bool,
        invalidate: bool,
    ) -> Result<PyClassInitializer<Self>> {
        let ImageSource(place) = source;
        let name = branch.as_deref().unwrap_or(MAIN_NAME);
        let (source, session) = py.detach(|| {
            let access = if writable { Access::Write } else { Access::Read };
            let region = Arc::new(Region::open(&place, access)?);
            if invalidate {
                region.invalidate();
            }
            let image = Unvalidated::open(region)?;
            let image = Arc::new(if trusted {
                image.trust()
            } else {
                Python::attach(|py| watch(py, None, |progress| image.validate_watched(progress)))?
            });
            if !writable {
                let view = View::open(image, name)?;
                return Ok::<_, Failure>((Source::Fixed(Arc::new(view)), None));
            }
            let session = Session::open(image)?;
            let source = Source::Live(session.open_branch(name, Access::Read)?);
            Ok((source, Some(session)))
        })?;
        let origin = Origin { source: lasting(place), branch, writable, trusted, invalidate };
        let image = Self { session: RwLock::new(session), origin };
        Ok(PyClassInitializer::from(Tree::new(source)).add_subclass(image))
    }

    /// Closes the image. Views, open files and open branches of it stay usable.
    fn close(slf: &Bound<'_, Self>) {
        let session = slf.get().session.write().expect("no panic holds it").take();
        let source = slf.as_super().get().take();
        // The last one gone, this process leaves the opener table.
        slf.py().detach(move || drop((source, session)));
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_raised))]
    fn __exit__(slf: &Bound<'_, Self>, _raised: &Bound<'_, PyTuple>) {
        Self::close(slf);
    }

    /// What leads to the image also from another directory or process; none for a descriptor.
    #[getter]
    fn _origin<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyString>>> {
        match &self.origin.source {
            region::Source::Fd(_) => Ok(None),
            region::Source::Path(path) => decode(py, path.as_os_str().as_bytes()).map(Some),
            physical @ region::Source::Physical { .. } => {
                Ok(Some(PyString::new(py, &physical.to_string())))
            }
        }
    }

    /// The options that it was opened with.
    #[getter]
    fn _options<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let Origin { branch, writable, trusted, invalidate, .. } = &self.origin;
        let options = PyDict::new(py);
        options.set_item("branch", branch)?;
        options.set_item("writable", writable)?;
        options.set_item("trusted", trusted)?;
        options.set_item("invalidate", invalidate)?;
        Ok(options)
    }

    /// Whether the image was closed.
    #[getter]
    fn closed(slf: &Bound<'_, Self>) -> bool {
        slf.as_super().get().source().is_err()
    }

    /// Whether the image is open for writing.
    #[getter]
    fn writable(&self) -> bool {
        self.session().is_ok()
    }

    /// What the image was opened from.
    #[getter]
    fn name<'py>(slf: &Bound<'py, Self>) -> Result<Bound<'py, PyString>> {
        let name = core(slf)?.region().name().as_os_str().as_bytes().to_vec();
        Ok(decode(slf.py(), &name)?)
    }

    /// Size of the whole image in bytes.
    #[getter]
    fn size(slf: &Bound<'_, Self>) -> Result<u64> {
        Ok(core(slf)?.superblock().total_size.get())
    }

    /// The label, empty when there is none.
    #[getter]
    fn label<'py>(slf: &Bound<'py, Self>) -> Result<Bound<'py, PyString>> {
        Ok(decode(slf.py(), core(slf)?.superblock().label())?)
    }

    /// The identity, if the image has one.
    #[getter]
    fn uuid(slf: &Bound<'_, Self>) -> Result<Option<String>> {
        let image = core(slf)?;
        let superblock = image.superblock();
        let uuid = uuid::Uuid::from_bytes(superblock.uuid);
        Ok(superblock.has(feature::IDENTITY).then(|| uuid.hyphenated().to_string()))
    }

    /// Names of the features in use.
    #[getter]
    fn features(slf: &Bound<'_, Self>) -> Result<Vec<&'static str>> {
        let image = core(slf)?;
        let has = |bit| image.superblock().has(bit);
        Ok(feature::NAMES.iter().filter(|(bit, _)| has(*bit)).map(|(_, name)| *name).collect())
    }

    /// Number of inodes in the base image.
    #[getter]
    fn inode_count(slf: &Bound<'_, Self>) -> Result<u32> {
        Ok(core(slf)?.base().inode_count())
    }

    /// The regions of the image, in the order of the format.
    #[getter]
    fn spans(slf: &Bound<'_, Self>) -> Result<Vec<Span>> {
        let image = core(slf)?;
        let superblock = image.superblock();
        let spans = superblock.spans();
        Ok(spans.iter().chain(&superblock.delta_spans()).map(Span::from).collect())
    }

    /// What the branch table says of the branches there are now.
    ///
    /// Returns
    /// -------
    /// list of BranchStatus
    ///     Main first, then in the order of their ids.
    ///
    /// Raises
    /// ------
    /// CorruptImageError
    ///     The table makes no sense.
    fn branch_statuses(slf: &Bound<'_, Self>) -> Result<Vec<BranchStatus>> {
        if let Ok(session) = slf.get().session() {
            let branches = slf.py().detach(|| session.branches())?;
            return Ok(branches.into_iter().map(BranchStatus::from).collect());
        }
        let image = core(slf)?;
        let list = |table: &Table| Ok(table.branches()?.iter().map(BranchStatus::from).collect());
        let (branches, _) = slf.py().detach(|| look(&image, list))?;
        Ok(branches)
    }

    /// The tree of a branch: as it is now, or in an image that is open for writing as it is at
    /// each moment.
    ///
    /// Parameters
    /// ----------
    /// name : str
    ///     The branch.
    ///
    /// Returns
    /// -------
    /// Tree
    ///     For reading.
    ///
    /// Raises
    /// ------
    /// NoBranchError
    ///     There is none of this name.
    #[pyo3(signature = (name, /))]
    pub(crate) fn tree(slf: &Bound<'_, Self>, name: &str) -> Result<Tree> {
        let source = match slf.get().session() {
            Ok(session) => Source::Live(session.open_branch(name, Access::Read)?),
            Err(_) => Source::Fixed(Arc::new(View::open(core(slf)?, name)?)),
        };
        Ok(Tree::new(source))
    }

    /// The other parties that have the image open for writing.
    #[getter]
    fn openers(&self) -> Result<Vec<Opener>> {
        Ok(self.session()?.others()?.into_iter().map(Opener::from).collect())
    }

    /// Commits a branch by its name.
    ///
    /// Parameters
    /// ----------
    /// name : str
    ///     The branch; it becomes main, and others made of main end.
    ///
    /// Raises
    /// ------
    /// NoBranchError
    ///     There is none of this name.
    /// BranchBusyError
    ///     Another party writes to it, or branches that were made of it live.
    /// BranchStaleError
    ///     Another was committed before.
    /// InvalidError
    ///     It is main, or the image is not open for writing.
    #[pyo3(signature = (name, /))]
    fn commit_branch(&self, py: Python<'_>, name: &str) -> Result<()> {
        let session = self.session()?;
        Ok(py.detach(|| session.commit(name))?)
    }

    /// Aborts a branch by its name.
    ///
    /// Parameters
    /// ----------
    /// name : str
    ///     The branch; what was done in it is gone.
    ///
    /// Raises
    /// ------
    /// NoBranchError
    ///     There is none of this name.
    /// BranchBusyError
    ///     Another party writes to it, or branches that were made of it live.
    /// InvalidError
    ///     It is main, or the image is not open for writing.
    #[pyo3(signature = (name, /))]
    fn abort_branch(&self, py: Python<'_>, name: &str) -> Result<()> {
        let session = self.session()?;
        Ok(py.detach(|| session.abort(name))?)
    }

    /// Takes a branch from whoever writes to it, if that one is dead.
    ///
    /// Parameters
    /// ----------
    /// name : str
    ///     The branch.
    /// force : bool, optional
    ///     Also if nobody can tell whether it is. A branch other than main can only be read then.
    ///
    /// Returns
    /// -------
    /// bool
    ///     Whether anybody had it.
    ///
    /// Raises
    /// ------
    /// NoBranchError
    ///     There is none of this name.
    /// BranchBusyError
    ///     Its writer lives, or may live.
    /// InvalidError
    ///     The image is not open for writing.
    #[pyo3(signature = (name, /, *, force=false))]
    fn release_branch(&self, py: Python<'_>, name: &str, force: bool) -> Result<bool> {
        let session = self.session()?;
        Ok(py.detach(|| session.release(name, force))?)
    }

    /// Gives back what is not needed any more.
    ///
    /// Returns
    /// -------
    /// Maintained
    ///     What was freed, in bytes, records and layers.
    ///
    /// Raises
    /// ------
    /// InvalidError
    ///     The image is not open for writing.
    fn maintain(&self, py: Python<'_>) -> Result<Maintained> {
        let session = self.session()?;
        Ok(py.detach(|| session.collect())?.into())
    }
}

/// What maintenance did.
#[pyclass(frozen, eq, hash, get_all, new = "from_fields", module = "daxfs._daxfs")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Maintained {
    /// Parties that had died.
    dead_openers: u64,
    /// Holds of theirs that were broken.
    broken_holds: u64,
    /// Records of branches that were given back.
    records: u64,
    /// Bytes given back with them.
    bytes: u64,
    /// Bytes given back that no record knew of.
    leaked_bytes: u64,
    /// Layers of main that were made one.
    folded_layers: u64,
    /// Records of branches that have ended, and stay for who may still read them.
    kept_records: u64,
    /// The process of one of these readers.
    reader: Option<u32>,
    /// Whether another party was at it, so that only holds were broken.
    busy: bool,
}

#[pymethods]
impl Maintained {
    fn __repr__(&self) -> String {
        format!("<Maintained {} records, {} bytes>", self.records, self.bytes)
    }

    fn __getnewargs__(&self) -> (u64, u64, u64, u64, u64, u64, u64, Option<u32>, bool) {
        let Self { dead_openers, broken_holds, records, bytes, leaked_bytes, .. } = *self;
        let Self { folded_layers, kept_records, reader, busy, .. } = *self;
        (
            dead_openers,
            broken_holds,
            records,
            bytes,
            leaked_bytes,
            folded_layers,
            kept_records,
            reader,
            busy,
        )
    }
}

impl From<reclaim::Maintained> for Maintained {
    fn from(done: reclaim::Maintained) -> Self {
        Self {
            dead_openers: done.dead_openers,
            broken_holds: done.broken_holds,
            records: done.records,
            bytes: done.blocks * BLOCK_SIZE,
            leaked_bytes: done.leaked_blocks * BLOCK_SIZE,
            folded_layers: done.folded_layers,
            kept_records: done.kept_records,
            reader: done.reader,
            busy: done.busy,
        }
    }
}
