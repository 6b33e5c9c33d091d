// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pipes and devices that may keep whoever uses them waiting for long.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::progress::Progress;

/// How often to ask whether the caller still wants to wait.
const TICK: Duration = Duration::from_millis(50);

/// A file that may have nothing to read, or no room to write, for long. Waiting for it ends when the
/// caller cancels.
#[derive(Debug)]
pub struct Patient<'a> {
    file: File,
    progress: &'a Progress,
}

impl<'a> Patient<'a> {
    /// A file that is open.
    pub(crate) fn new(file: File, progress: &'a Progress) -> Self {
        Self { file, progress }
    }

    /// Opens a device or pipe for writing; a pipe, once somebody reads it.
    pub fn open_to_write(path: &Path, progress: &'a Progress) -> Result<Self> {
        let pipe = path.metadata().is_ok_and(|there| there.file_type().is_fifo());
        let mut how = File::options();
        how.write(true).custom_flags(if pipe { libc::O_NONBLOCK } else { 0 });
        loop {
            match how.open(path) {
                Err(error) if pipe && error.raw_os_error() == Some(libc::ENXIO) => {
                    progress.check()?;
                    thread::sleep(TICK);
                }
                file => return Ok(Self::new(file.map_err(Error::io("open", path))?, progress)),
            }
        }
    }

    /// Does something to the file when it is ready for it.
    fn when(
        &mut self,
        ready: PollFlags,
        mut act: impl FnMut(&mut File) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let tick = Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
        loop {
            if self.progress.is_cancelled() {
                return Err(io::Error::other("cancelled"));
            }
            let mut polled = [PollFd::new(&self.file, ready)];
            match rustix::event::poll(&mut polled, Some(&tick)) {
                Ok(0) | Err(Errno::INTR) => continue,
                // Where waiting is impossible, reading and writing say why.
                _ => {}
            }
            match act(&mut self.file) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.when(PollFlags::IN, |file| file.read(buffer))
    }
}

impl Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.when(PollFlags::OUT, |file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
