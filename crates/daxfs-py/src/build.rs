// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Building images.

use std::os::fd::IntoRawFd;
use std::path::PathBuf;

use daxfs_core::Error;
use daxfs_core::build::{self as engine, BuildOptions, Input, Output, Summary};
use daxfs_core::layout::Shape;
use daxfs_core::source::{Exclude, Selection};
use pyo3::prelude::*;
use uuid::Uuid;

use crate::error::{Result, pairs};
use crate::image::Span;
use crate::paths::{HostPath, ImagePath, ImageSource, PathText};
use crate::progress::watch;
use crate::tree::Tree;

/// What to build, as `daxfs.build` hands it over.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Options {
    directory: Option<HostPath>,
    archive: Option<HostPath>,
    tree: Option<Py<Tree>>,
    file: Option<HostPath>,
    memory: Option<ImageSource>,
    heap: Option<String>,
    branches: bool,
    delta_size: Option<u64>,
    size: Option<u64>,
    label: ImagePath,
    uuid: Option<String>,
    exclude: Vec<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    latest: Option<i64>,
    data_checksums: bool,
    skip_errors: bool,
    force: bool,
}

impl Options {
    fn convert(self, dry_run: bool) -> Result<BuildOptions> {
        let input = match (self.directory, self.archive, self.tree) {
            (Some(path), None, None) => Input::Directory(path.0),
            (None, Some(path), None) if path.0.as_os_str() == "-" => Input::Archive(None),
            (None, Some(path), None) => Input::Archive(Some(path.0)),
            (None, None, Some(tree)) => Input::Image(tree.get().open_view()?),
            _ => return Err(Error::invalid("an image is made from exactly one source").into()),
        };
        let output = match (self.file, self.memory, self.heap) {
            (Some(path), None, None) => Output::File(path.0),
            (None, Some(source), None) => Output::Memory(source.0),
            (None, None, Some(heap)) => Output::Heap(heap),
            // Nothing is written, so it does not matter where.
            (None, None, None) if dry_run => Output::File(PathBuf::new()),
            _ => return Err(Error::invalid("an image goes to exactly one place").into()),
        };
        let uuid = match self.uuid {
            None => None,
            Some(text) => Some(
                Uuid::parse_str(&text)
                    .map_err(|_| Error::invalid(format!("{text:?} is not a UUID")))?,
            ),
        };
        let selection = Selection {
            exclude: Exclude::new(&self.exclude)?,
            uid: self.uid,
            gid: self.gid,
            latest: self.latest,
            ..Selection::default()
        };
        let shape = Shape { branches: self.branches, delta_size: self.delta_size, size: self.size };
        Ok(BuildOptions {
            input,
            output,
            shape,
            selection,
            label: self.label.0,
            uuid,
            data_checksums: self.data_checksums,
            skip_errors: self.skip_errors,
            force: self.force,
        })
    }
}

/// What was built, or would be.
#[pyclass(frozen, eq, hash, get_all, new = "from_fields", module = "daxfs._daxfs")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct BuildResult {
    /// Regular files.
    files: u64,
    /// Directories.
    directories: u64,
    /// Symbolic links.
    symlinks: u64,
    /// Devices, FIFOs and sockets.
    specials: u64,
    /// Names beyond the first of their inode.
    hard_links: u64,
    /// Bytes in regular files.
    data_bytes: u64,
    /// Bytes of inode table, directories and attribute sets.
    metadata_bytes: u64,
    /// Bytes of the whole image.
    size: u64,
    /// Its regions.
    spans: Vec<Span>,
    /// Its identity; none for a plan without one, as it depends on the contents.
    uuid: Option<String>,
    /// Paths that were left out, and why.
    skipped: Vec<(PathText, String)>,
    /// Descriptor of the DMA buffer, which is the caller's to close: a number of the process that
    /// built it.
    fd: Option<i32>,
}

impl BuildResult {
    fn new(summary: Summary) -> Self {
        Self {
            files: summary.files,
            directories: summary.directories,
            symlinks: summary.symlinks,
            specials: summary.specials,
            hard_links: summary.hard_links,
            data_bytes: summary.data_bytes,
            metadata_bytes: summary.metadata_bytes,
            size: summary.total_size,
            spans: summary.spans.iter().map(Span::from).collect(),
            uuid: summary.uuid.map(|uuid| uuid.hyphenated().to_string()),
            skipped: pairs(&summary.skipped),
            fd: summary.buffer.map(IntoRawFd::into_raw_fd),
        }
    }
}

/// Numbers and names of a [`BuildResult`], in order.
type Fields<'a> = (
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    Vec<Span>,
    Option<&'a str>,
    &'a [(PathText, String)],
    Option<i32>,
);

#[pymethods]
impl BuildResult {
    fn __repr__(&self) -> String {
        let Self { files, directories, size, .. } = self;
        format!("<BuildResult of {files} files, {directories} directories: {size} bytes>")
    }

    fn __getnewargs__(&self) -> Fields<'_> {
        let Self { files, directories, symlinks, specials, hard_links, .. } = *self;
        let Self { data_bytes, metadata_bytes, size, fd, .. } = *self;
        let (spans, uuid, skipped) = (self.spans.clone(), self.uuid.as_deref(), &self.skipped[..]);
        (
            files,
            directories,
            symlinks,
            specials,
            hard_links,
            data_bytes,
            metadata_bytes,
            size,
            spans,
            uuid,
            skipped,
            fd,
        )
    }
}

/// Builds an image, or says what would be built.
#[pyfunction]
#[pyo3(signature = (options, /, *, dry_run=false, watcher=None))]
pub(crate) fn build(
    py: Python<'_>,
    options: Options,
    dry_run: bool,
    watcher: Option<Py<PyAny>>,
) -> Result<BuildResult> {
    let options = options.convert(dry_run)?;
    let work = if dry_run { engine::plan } else { engine::build };
    let summary = watch(py, watcher, |progress| work(&options, progress))?;
    Ok(BuildResult::new(summary))
}
