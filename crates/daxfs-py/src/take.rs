// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is taken out of an image: trees, comparisons with directories, dumps.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::AsFd;
use std::path::Path;

use daxfs_core::Error;
use daxfs_core::changes::{PathChange as Change, between};
use daxfs_core::diff::{self, DiffOptions};
use daxfs_core::dump::{self as dumping, DumpFormat, DumpOptions};
use daxfs_core::extract::{self as engine, ExtractOptions};
use daxfs_core::history::{self, Event};
use daxfs_core::newfile::NewFile;
use daxfs_core::patient::Patient;
use daxfs_core::region::{Access, Region};
use daxfs_core::view::Links;
use pyo3::prelude::*;

use crate::error::Result;
use crate::image::{Image, core};
use crate::paths::{HostPath, ImagePath, ImageSource, PathText, decode};
use crate::progress::watch;
use crate::stat::Stat;
use crate::tree::Tree;

/// What was taken out of an image.
#[pyclass(frozen, eq, hash, get_all, new = "from_fields", module = "daxfs._daxfs")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct ExtractResult {
    /// Entries made.
    entries: u64,
    /// Bytes of regular files.
    bytes: u64,
    /// Files that miss what only root may restore, or what the archive has no form for.
    unrestored: u64,
}

#[pymethods]
impl ExtractResult {
    fn __repr__(&self) -> String {
        format!("<ExtractResult {} entries, {} bytes>", self.entries, self.bytes)
    }

    fn __getnewargs__(&self) -> (u64, u64, u64) {
        (self.entries, self.bytes, self.unrestored)
    }
}

/// Extracts a file, or a directory and what is below it.
#[pyfunction]
#[pyo3(signature = (tree, path, destination, /, *, force=false, watcher=None))]
pub(crate) fn extract(
    py: Python<'_>,
    tree: &Bound<'_, Tree>,
    path: ImagePath,
    destination: HostPath,
    force: bool,
    watcher: Option<Py<PyAny>>,
) -> Result<ExtractResult> {
    let (view, top) = tree.get().resolve(&path, Links::Follow)?;
    let options = ExtractOptions { force };
    let done = watch(py, watcher, |progress| {
        engine::to_directory(&view, &top, &destination.0, options, progress)
    })?;
    Ok(ExtractResult {
        entries: done.files + done.directories,
        bytes: done.bytes,
        unrestored: done.unrestored,
    })
}

/// What standard output is called in messages.
const STDOUT: &str = "standard output";

/// Standard output, not by way of the library's line buffer.
fn stdout() -> daxfs_core::Result<File> {
    let fd = std::io::stdout().as_fd().try_clone_to_owned();
    fd.map_err(Error::io("open", STDOUT)).map(File::from)
}

/// Writes a directory and what is below it as a tar archive: to a file, which takes its name when
/// it is whole, to a device or pipe, or without either to standard output.
#[pyfunction]
#[pyo3(signature = (tree, path, archive=None, /, *, force=false, watcher=None))]
pub(crate) fn extract_tar(
    py: Python<'_>,
    tree: &Bound<'_, Tree>,
    path: ImagePath,
    archive: Option<HostPath>,
    force: bool,
    watcher: Option<Py<PyAny>>,
) -> Result<ExtractResult> {
    let (view, top) = tree.get().resolve(&path, Links::Follow)?;
    if !top.is_dir() {
        return Err(Error::NotDirectory { path: path.0 }.into());
    }
    let done = watch(py, watcher, |progress| {
        let write =
            |out: &mut dyn Write, name: &Path| engine::to_tar(&view, &top, out, name, progress);
        match archive.map(|path| path.0) {
            None => write(&mut stdout()?, STDOUT.as_ref()),
            Some(path) if path.metadata().is_ok_and(|there| !there.is_file()) => {
                write(&mut Patient::open_to_write(&path, progress)?, &path)
            }
            Some(path) => {
                let file = NewFile::create(&path, force)?;
                let done = write(&mut file.file(), &path)?;
                file.finish()?;
                Ok(done)
            }
        }
    })?;
    Ok(ExtractResult { entries: done.entries, bytes: done.bytes, unrestored: done.sockets })
}

/// One difference between an image and a directory.
#[pyclass(frozen, eq, hash, get_all, new = "from_fields", module = "daxfs._daxfs")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Difference {
    /// Path relative to what was compared; empty for that itself.
    path: PathText,
    /// What differs, in a word.
    kind: String,
    /// What differs, in words.
    detail: String,
}

#[pymethods]
impl Difference {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let path = decode(py, &self.path.0)?.repr()?;
        Ok(format!("<Difference {path}: {}>", self.detail))
    }

    fn __getnewargs__(&self) -> (&PathText, &str, &str) {
        (&self.path, &self.kind, &self.detail)
    }
}

/// Compares a directory of an image with one of the host.
#[pyfunction]
#[pyo3(signature = (
    tree, path, directory, /, *,
    ignore_mtime=false, ignore_owner=false, ignore_xattrs=false, watcher=None
))]
pub(crate) fn compare(
    py: Python<'_>,
    tree: &Bound<'_, Tree>,
    path: ImagePath,
    directory: HostPath,
    ignore_mtime: bool,
    ignore_owner: bool,
    ignore_xattrs: bool,
    watcher: Option<Py<PyAny>>,
) -> Result<Vec<Difference>> {
    let (view, top) = tree.get().resolve(&path, Links::Follow)?;
    let options = DiffOptions { ignore_mtime, ignore_owner, ignore_xattrs };
    let found =
        watch(py, watcher, |progress| diff::compare(&view, &top, &directory.0, options, progress))?;
    let difference = |found: diff::Difference| Difference {
        kind: found.what.name().into(),
        detail: found.what.to_string(),
        path: PathText(found.path),
    };
    Ok(found.into_iter().map(difference).collect())
}

/// A path that is not what it was.
#[pyclass(frozen, eq, hash, get_all, new = "from_fields", module = "daxfs._daxfs")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct PathChange {
    /// Path from the root, with a slash in front.
    path: PathText,
    /// What became of it: `added`, `changed` or `removed`.
    kind: String,
    /// What changed.
    aspects: Vec<String>,
    /// Attributes that it had; none if it was added.
    before: Option<Stat>,
    /// Attributes that it has; none if it was removed.
    after: Option<Stat>,
}

#[pymethods]
impl PathChange {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let path = decode(py, &self.path.0)?.repr()?;
        let aspects = if self.aspects.is_empty() { "" } else { ": " };
        Ok(format!("<PathChange {} {path}{aspects}{}>", self.kind, self.aspects.join(", ")))
    }

    fn __getnewargs__(&self) -> (&PathText, &str, &[String], Option<Stat>, Option<Stat>) {
        let Self { path, kind, aspects, before, after } = self;
        (path, kind, aspects, before.clone(), after.clone())
    }
}

/// Compares two trees, best of one image.
#[pyfunction]
#[pyo3(signature = (
    before, after, /, *, ignore_mtime=false, ignore_owner=false, ignore_xattrs=false, watcher=None
))]
pub(crate) fn changes(
    py: Python<'_>,
    before: &Bound<'_, Tree>,
    after: &Bound<'_, Tree>,
    ignore_mtime: bool,
    ignore_owner: bool,
    ignore_xattrs: bool,
    watcher: Option<Py<PyAny>>,
) -> Result<Vec<PathChange>> {
    let (before, after) = (before.get().open_view()?, after.get().open_view()?);
    let options = DiffOptions { ignore_mtime, ignore_owner, ignore_xattrs };
    let found = watch(py, watcher, |progress| between(&before, &after, options, progress))?;
    let change = |change: Change| PathChange {
        path: PathText([b"/", &change.path[..]].concat()),
        kind: change.kind().into(),
        aspects: change.aspects.iter().map(|aspect| aspect.name().into()).collect(),
        before: change.before.map(Stat::from),
        after: change.after.map(Stat::from),
    };
    Ok(found.into_iter().map(change).collect())
}

/// An entry of a branch's log.
#[pyclass(frozen, eq, hash, get_all, new = "from_fields", module = "daxfs._daxfs")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct LogEntry {
    /// Image offset.
    offset: u64,
    /// When it was made, ns since 1970.
    time_ns: i64,
    /// Number of the inode concerned.
    ino: u64,
    /// The path concerned, as it was then; None if the inode had none that is known.
    path: Option<PathText>,
    /// What a name became, or what another name is.
    new_path: Option<PathText>,
    /// What was done, in a word.
    kind: String,
    /// What was done, in words.
    detail: String,
}

#[pymethods]
impl LogEntry {
    fn __repr__(&self) -> String {
        format!("<LogEntry at {:#x}: {} of inode {}>", self.offset, self.kind, self.ino)
    }

    fn __getnewargs__(&self) -> (u64, i64, u64, Option<&PathText>, Option<&PathText>, &str, &str) {
        let Self { offset, time_ns, ino, path, new_path, kind, detail } = self;
        (*offset, *time_ns, *ino, path.as_ref(), new_path.as_ref(), kind, detail)
    }
}

/// What a branch's own log holds, oldest entry first.
#[pyfunction]
#[pyo3(signature = (image, branch, /))]
pub(crate) fn log(py: Python<'_>, image: &Bound<'_, Image>, branch: &str) -> Result<Vec<LogEntry>> {
    let image = core(image)?;
    let events = py.detach(|| history::log(&image, branch))?;
    let entry = |Event { entry, path, new_path }| LogEntry {
        offset: entry.at,
        time_ns: entry.time,
        ino: entry.ino,
        path: path.map(PathText),
        new_path: new_path.map(PathText),
        kind: entry.change.kind().into(),
        detail: entry.change.to_string(),
    };
    Ok(events.into_iter().map(entry).collect())
}

/// Writes every metadata structure of an image to standard output, sound or not.
#[pyfunction]
#[pyo3(signature = (source, /, *, json=false, limit=1000))]
pub(crate) fn dump(py: Python<'_>, source: ImageSource, json: bool, limit: u64) -> Result<()> {
    let format = if json { DumpFormat::Json } else { DumpFormat::Text };
    let mut out = BufWriter::new(stdout()?);
    py.detach(|| {
        let region = Region::open(&source.0, Access::Read)?;
        dumping::dump(&region, DumpOptions { format, limit }, &mut out, STDOUT.as_ref())?;
        out.flush().map_err(Error::io("write", STDOUT))
    })?;
    Ok(())
}
