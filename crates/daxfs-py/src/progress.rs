// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Long work that can be watched and stopped.

use std::sync::Arc;

use daxfs_core::progress;
use pyo3::prelude::*;

use crate::error::{Failure, Result};
use crate::workers::threads;

/// How far work has come.
#[pyclass(frozen, module = "daxfs._daxfs")]
#[derive(Default)]
pub(crate) struct Progress(Arc<progress::Progress>);

#[pymethods]
impl Progress {
    /// Files done.
    #[getter]
    fn files(&self) -> u64 {
        self.0.done().0
    }

    /// Bytes done.
    #[getter]
    fn bytes(&self) -> u64 {
        self.0.done().1
    }

    /// Files to do, 0 while unknown.
    #[getter]
    fn total_files(&self) -> u64 {
        self.0.total().0
    }

    /// Bytes to do, 0 while unknown.
    #[getter]
    fn total_bytes(&self) -> u64 {
        self.0.total().1
    }

    /// Asks the work to stop; it then fails with `CancelledError`.
    fn cancel(&self) {
        self.0.cancel();
    }
}

/// Does `work` on this process's threads, the interpreter's lock released. Meanwhile the caller's
/// thread calls `watcher` and lets signal handlers run; an exception of either stops the work.
pub(crate) fn watch<T: Send>(
    py: Python<'_>,
    watcher: Option<Py<PyAny>>,
    work: impl FnOnce(&progress::Progress) -> daxfs_core::Result<T> + Send,
) -> Result<T> {
    let shared = Py::new(py, Progress::default())?;
    let progress = &*Arc::clone(&shared.get().0);
    py.detach(|| {
        let tick = || Python::attach(|py| tick(py, watcher.as_ref(), &shared));
        progress::watch(&*threads()?, progress, work, || tick().map_err(Failure::Python))
    })
}

fn tick(py: Python<'_>, watcher: Option<&Py<PyAny>>, progress: &Py<Progress>) -> PyResult<()> {
    py.check_signals()?;
    if let Some(watcher) = watcher {
        watcher.call1(py, (progress,))?;
    }
    Ok(())
}
