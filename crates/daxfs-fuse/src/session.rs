// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A mount from beginning to end.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daxfs_core::error::{Error, Result};
use daxfs_core::format::MAIN_NAME;
use daxfs_core::image::{Image, Unvalidated};
use daxfs_core::region::{self, Region, Source};
use daxfs_core::view::View;
use fuser::{Session, SessionACL};
use rustix::mount::MountFlags;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::daemon::{self, Failure, Waiting};
use crate::journal::Journal;
use crate::mount::{attach, detach};
use crate::options::{Access, Options};
use crate::tree::Tree;
use crate::vfs_super::Mounted;

/// Threads, if the options do not say: one for each processor, within these limits. With two,
/// nobody waits behind a reader whose memory is slow.
const THREADS: std::ops::RangeInclusive<usize> = 2..=16;

/// How long a server that was told to end waits for files that are still open.
const PATIENCE: Duration = Duration::from_secs(2);

/// What to mount, and where.
#[derive(Debug, Clone)]
pub struct Mount {
    /// Where the image lies.
    pub source: Source,
    /// The directory to mount on.
    pub mountpoint: PathBuf,
    /// How.
    pub options: Options,
}

impl Mount {
    /// Mounts and serves in a process of its own; returns once the mount answers.
    pub fn background(mut self) -> std::result::Result<(), Failure> {
        self.make_absolute().map_err(|error| Failure::from(&error))?;
        let keep = self.descriptor();
        daemon::background(keep, move |waiting| {
            Journal::system().install();
            self.serve(waiting)
        })
    }

    /// Mounts and serves in this process until the mount is gone or a signal ends it.
    pub fn foreground(mut self) -> Result<()> {
        self.make_absolute()?;
        Journal::Stderr.install();
        self.serve(Waiting::nobody())
    }

    /// A server has a working directory of its own.
    fn make_absolute(&mut self) -> Result<()> {
        self.mountpoint = std::fs::canonicalize(&self.mountpoint)
            .or_else(|error| match error.raw_os_error() {
                // A stale mount cannot be resolved; it is cleared away later.
                Some(libc::ENOTCONN) => std::path::absolute(&self.mountpoint),
                _ => Err(error),
            })
            .map_err(Error::io("mount on", &self.mountpoint))?;
        if let Source::Path(path) = &mut self.source {
            *path = std::path::absolute(&path).map_err(Error::io("open", &path))?;
        }
        Ok(())
    }

    fn descriptor(&self) -> Option<RawFd> {
        match self.source {
            Source::Fd(fd) => Some(fd),
            _ => None,
        }
    }

    fn serve(self, waiting: Waiting) -> Result<()> {
        let image = self.open()?;
        let branch = self.options.branch.as_deref().unwrap_or(MAIN_NAME);
        let tree = Tree::fixed(View::open(Arc::clone(&image), branch)?);
        let mut flags = self.options.flags;
        flags.set(MountFlags::RDONLY, !self.options.writes());
        let root = rustix::process::geteuid().is_root();
        let device = attach(&crate::mount::Request {
            source: &self.shown_source(),
            mountpoint: &self.mountpoint,
            flags,
            allow_other: self.options.allow_other.unwrap_or(root),
        })?;
        let mut config = fuser::Config::default();
        config.n_threads = Some(self.threads());
        config.clone_fd = true;
        // Who may look is the kernel's business, which also has requests of its own to make.
        let session = Session::from_fd(Mounted::new(image, tree), device, SessionACL::All, config)
            .map_err(|error| self.give_up(error))?;
        let ends = Ends::watch(self.mountpoint.clone())?;
        log::info!("{}: {} mounted", self.mountpoint.display(), self.source);
        waiting.ready();
        let served = session.run().map_err(Error::io("serve", &self.mountpoint));
        ends.stop();
        log::info!("{}: unmounted", self.mountpoint.display());
        served
    }

    fn give_up(&self, error: std::io::Error) -> Error {
        let _ = detach(&self.mountpoint, true);
        Error::io("mount on", &self.mountpoint)(error)
    }

    fn open(&self) -> Result<Arc<Image>> {
        if self.options.access == Access::ReadWrite || self.options.writes() {
            return Err(Error::Unsupported { what: "writing through a mount".into() });
        }
        let region = Arc::new(Region::open(&self.source, region::Access::Read)?);
        if self.options.invalidate {
            region.invalidate();
        }
        let image = Unvalidated::open(region)?;
        Ok(Arc::new(if self.options.validate { image.validate()? } else { image.trust() }))
    }

    fn threads(&self) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let fitting = processors.clamp(*THREADS.start(), *THREADS.end());
        self.options.threads.unwrap_or(fitting)
    }

    /// The source as /proc/mounts shows it.
    fn shown_source(&self) -> OsString {
        match &self.source {
            Source::Path(path) => path.clone().into(),
            other => other.to_string().into(),
        }
    }
}

/// Watches for signals that end the server.
struct Ends(signal_hook::iterator::Handle);

impl Ends {
    fn watch(mountpoint: PathBuf) -> Result<Self> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
            .map_err(Error::io("catch signals for", &mountpoint))?;
        let handle = signals.handle();
        std::thread::Builder::new()
            .name("daxfs-signals".into())
            .spawn(move || {
                if signals.forever().next().is_some() {
                    end(&mountpoint);
                }
            })
            .map_err(Error::io("start a thread for", "signals"))?;
        Ok(Self(handle))
    }

    fn stop(self) {
        self.0.close();
    }
}

/// Takes the mount away. The server ends with the last open file, or when its patience does: then
/// the files that are still open give errors.
fn end(mountpoint: &Path) {
    if let Err(error) = detach(mountpoint, true) {
        log::error!("{error}");
    }
    std::thread::sleep(PATIENCE);
    log::warn!("{}: files are still open; ending", mountpoint.display());
    std::process::exit(0);
}
