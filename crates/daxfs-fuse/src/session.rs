// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A mount from beginning to end.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daxfs_core::branch::handle::Branch;
use daxfs_core::error::{Error, Result};
use daxfs_core::format::{MAIN_NAME, feature};
use daxfs_core::image::{Image, Unvalidated};
use daxfs_core::region::{self, Region, Source};
use daxfs_core::session::Session;
use daxfs_core::view::View;
use fuser::SessionACL;
use rustix::mount::MountFlags;
use signal_hook::iterator::Signals;

use crate::beside::{Beside, Until};
use crate::control;
use crate::daemon::{self, Failure, Waiting};
use crate::fuse::Fuse;
use crate::logger::Logger;
use crate::mount::attach;
use crate::options::Options;
use crate::place::Place;
use crate::readahead::{self, Readahead};
use crate::start::Start;
use crate::tree::Tree;
use crate::vfs_super::{Mounted, Setup};

/// Threads at most, if the options do not say: one for each processor, and one that waits for the
/// next request while they answer. Nobody waits behind a reader whose memory is slow, then.
const DEFAULT_THREADS_MAX: usize = 16;

/// Threads beside those that serve, at most: for orders or for reading ahead, for syncing, and for
/// signals.
const BESIDE: usize = 3;

/// How long a server that was told to end waits for files that are still open.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long others may have to wait for news of what was written: that bytes of a file were replaced
/// where they lie, or anything where the image is a file on disk.
const SYNC_PERIOD: Duration = Duration::from_secs(1);

/// Bytes that the kernel reads ahead in a file. Copying them takes it less than 0.1 ms; more would
/// make those wait who touch few pages of a mapping.
const READ_AHEAD: u32 = 512 << 10;

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
    /// Mounts and serves in a process of its own; returns once the mount answers. Until then
    /// `interrupted` is asked whether to give up.
    pub fn background(
        mut self,
        interrupted: impl FnMut() -> bool,
    ) -> std::result::Result<(), Failure> {
        self.make_absolute().map_err(|error| Failure::from(&error))?;
        let keep = self.descriptor();
        daemon::background(keep, interrupted, move |waiting| {
            Logger::system().install();
            self.serve(waiting)
        })
    }

    /// Mounts and serves in this process until the mount is gone or a signal ends it.
    pub fn foreground(mut self) -> Result<()> {
        self.make_absolute()?;
        Logger::Stderr.install();
        self.serve(Waiting::nobody())
    }

    /// A server has a working directory of its own.
    fn make_absolute(&mut self) -> Result<()> {
        self.mountpoint = std::fs::canonicalize(&self.mountpoint)
            .or_else(|error| match error.raw_os_error() {
                // A stale mount cannot be resolved; it is cleared away later.
                Some(libc::ENOTCONN | libc::ECONNABORTED) => std::path::absolute(&self.mountpoint),
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

    fn serve(&self, waiting: Waiting) -> Result<()> {
        let mut start = Start::new(waiting)?;
        let (setup, mut made) = self.open(&mut start)?;
        let served = self.room().and_then(|threads| {
            start.check()?;
            let (device, place) = self.attach(setup.writes)?;
            let mounted = Arc::new(Mounted::new(setup, place));
            // Nobody else would answer.
            self.answer(device, &mounted, threads, start, &mut made)
                .inspect_err(|_| drop(mounted.place.detach()))
        });
        if let Some(branch) = made {
            // It would keep its parent from being written, and nobody was told of it.
            let _ = branch.abort();
        }
        served
    }

    fn attach(&self, writes: bool) -> Result<(OwnedFd, Place)> {
        let mut flags = self.options.flags;
        flags.set(MountFlags::RDONLY, !writes);
        let root = rustix::process::geteuid().is_root();
        let device = attach(&crate::mount::Request {
            source: &self.shown_source(),
            mountpoint: &self.mountpoint,
            flags,
            allow_other: self.options.allow_other.unwrap_or(root),
            labels: &self.options.labels,
        })?;
        let place = Place::of(&self.mountpoint)
            .inspect_err(|_| drop(crate::mount::detach(&self.mountpoint, true)))?;
        Ok((device, place))
    }

    /// Answers an attached connection. A branch that was `made` for it stays once it answers.
    fn answer(
        &self,
        device: OwnedFd,
        mounted: &Arc<Mounted>,
        threads: usize,
        start: Start,
        made: &mut Option<Branch>,
    ) -> Result<()> {
        let mut config = fuser::Config::default();
        config.n_threads = Some(threads);
        config.clone_fd = true;
        daemon::map_large_buffers();
        let (orders, taken) = channel();
        let (readahead, files) = mounted.immutable.then(Readahead::new).unzip();
        let fuse = Fuse {
            mounted: Arc::clone(mounted),
            orders: Mutex::new(orders),
            readahead,
            idmap: self.options.idmap,
        };
        // Who may look is the kernel's business, which also has requests of its own to make.
        let session = fuser::Session::from_fd(fuse, device, SessionACL::All, config)
            .map_err(Error::io("mount on", &self.mountpoint))?;
        let _ = mounted.notifier.set(session.notifier());
        // Ordinary users take what the kernel does by itself.
        let _ = mounted.place.read_ahead(READ_AHEAD);
        let mut beside = Beside::default();
        if let Some(files) = files {
            let read = Arc::clone(mounted);
            beside.start("daxfs-readahead", move |_| readahead::run(&read, &files))?;
        }
        if !mounted.immutable && mounted.session.is_some() {
            let watched = Arc::clone(mounted);
            beside.start("daxfs-control", move |_| control::run(&watched, &taken))?;
        } else {
            // Orders are refused rather than kept.
            drop(taken);
        }
        if mounted.writes {
            let synced = Arc::clone(mounted);
            beside.start("daxfs-sync", move |until| {
                while until.recv_timeout(SYNC_PERIOD) == Err(RecvTimeoutError::Timeout) {
                    synced.sync_all();
                }
            })?;
        }
        let signalled = Arc::clone(mounted);
        let (hand_over, handed): (_, Receiver<Signals>) = channel();
        beside.start("daxfs-signals", move |until| {
            if handed.recv().is_ok_and(|mut signals| signals.forever().next().is_some()) {
                end(&signalled, until);
            }
        })?;
        log::info!("{}: {} mounted", self.mountpoint.display(), self.source);
        // The library opens the device for each thread when it begins to serve. That must not fail
        // once somebody was told that the mount answers.
        let spare: Vec<OwnedFd> = (1..threads)
            .map(|_| rustix::io::fcntl_dupfd_cloexec(&session, 0))
            .collect::<std::result::Result<_, _>>()
            .map_err(Error::io("serve", &self.mountpoint))?;
        let signals = start.ready()?;
        *made = None;
        let caught = signals.handle();
        // Its thread waits for nothing else.
        let _ = hand_over.send(signals);
        drop(spare);
        let served = session.run().map_err(Error::io("serve", &self.mountpoint));
        caught.close();
        // Where the kernel was left without answers, some thread may wait for one for ever.
        if served.is_ok() {
            beside.end();
        }
        mounted.release_all();
        log::info!("{}: unmounted", self.mountpoint.display());
        served
    }

    /// Opens what is to be shown; also returns the branch if it was made for that.
    fn open(&self, start: &mut Start) -> Result<(Setup, Option<Branch>)> {
        let writes = self.options.writes();
        let image = self.open_image(writes, start)?;
        let branches = image.superblock().has(feature::BRANCHES);
        // Only who can store to the memory can say that it reads there.
        let registers = branches && (writes || image.region().is_writable());
        let session = registers.then(|| Session::open(Arc::clone(&image))).transpose()?;
        let name = self.options.branch.as_deref().unwrap_or(MAIN_NAME);
        let mut made = None;
        let tree = match &session {
            Some(session) => {
                let (branch, new) = self.open_branch(session, name, writes)?;
                made = new.then(|| branch.clone());
                Tree::branch(0, branch, writes)
            }
            // Says what kind of image it is that cannot be written.
            None if writes => return Err(Session::open(image).expect_err("it has no branches")),
            None => Tree::fixed(0, View::open(Arc::clone(&image), name)?),
        };
        let writes_main = name == MAIN_NAME;
        let Options { control, actimeo, .. } = self.options;
        Ok((Setup { image, session, tree, writes, writes_main, control, actimeo }, made))
    }

    fn open_image(&self, writes: bool, start: &mut Start) -> Result<Arc<Image>> {
        let region = match Region::open(&self.source, region::Access::Write) {
            Err(error) if writes => return Err(error),
            // Whoever only reads need not be allowed more.
            Err(_) => Region::open(&self.source, region::Access::Read)?,
            Ok(region) => region,
        };
        let region = Arc::new(region);
        if self.options.invalidate {
            region.invalidate();
        }
        let image = Unvalidated::open(region)?;
        if !self.options.validate {
            return Ok(Arc::new(image.trust()));
        }
        start.watch(|progress| image.validate_watched(progress)).map(Arc::new)
    }

    /// The branch to show, and whether it is new.
    fn open_branch(
        &self,
        session: &Arc<Session>,
        name: &str,
        writes: bool,
    ) -> Result<(Branch, bool)> {
        if !writes {
            return Ok((session.open_branch(name, region::Access::Read)?, false));
        }
        match session.open_branch(name, region::Access::Write) {
            Err(Error::NoBranch { .. }) if self.options.parent.is_some() => {
                let parent = self.options.parent.as_deref().expect("it is some");
                Ok((session.create(name, parent)?, true))
            }
            Err(Error::ReadOnly { name, why }) if name == MAIN_NAME => {
                let branches = session.branches()?;
                let names: Vec<_> =
                    branches.iter().skip(1).map(|branch| branch.name.as_str()).collect();
                let why = format!("{why}. Mount with branch=NAME: {}", names.join(", "));
                Err(Error::ReadOnly { name, why })
            }
            opened => Ok((opened?, false)),
        }
    }

    /// How many threads can serve. The library starts them when somebody was told that the mount
    /// answers already, and what is mounted may take a process to be taken away again.
    fn room(&self) -> Result<usize> {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let most = self.options.threads.unwrap_or((processors + 1).min(DEFAULT_THREADS_MAX));
        Ok(Beside::room(BESIDE + 1..=BESIDE + most)? - BESIDE)
    }

    /// The source as /proc/mounts shows it.
    fn shown_source(&self) -> OsString {
        match &self.source {
            Source::Path(path) => path.clone().into(),
            other => other.to_string().into(),
        }
    }
}

/// Takes the mount away. The server ends with the last open file, or when its patience does: then
/// the files that are still open give errors.
fn end(mounted: &Mounted, until: &Until) {
    for done in [mounted.write_out(), mounted.place.detach()] {
        if let Err(error) = done {
            log::error!("{error}");
        }
    }
    if until.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
        log::warn!("{}: files are still open; ending", mounted.place.path().display());
        mounted.release_all();
        std::process::exit(0);
    }
}
