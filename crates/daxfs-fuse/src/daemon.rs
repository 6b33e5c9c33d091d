// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A server in the background: forked off, while the caller waits until it answers.
#![allow(unsafe_code)]

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};

use daxfs_core::error::{Error, Result};
use rustix::pipe::PipeFlags;

/// Why a server in the background did not come up: what its error said, across processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Name of the error's variant.
    pub name: String,
    /// Its errno.
    pub errno: i32,
    /// Its message.
    pub message: String,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self { name: error.name().into(), errno: error.errno(), message: error.to_string() }
    }
}

impl Failure {
    fn died() -> Self {
        let message = "the server died before it answered; the system's log may say why".into();
        Self { name: "Io".into(), errno: libc::EIO, message }
    }

    fn encode(&self) -> String {
        format!("{}\n{}\n{}", self.name, self.errno, self.message)
    }

    fn decode(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '\n');
        let (name, errno, message) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { name: name.into(), errno: errno.parse().ok()?, message: message.into() })
    }
}

/// What a server says once it answers.
const READY: &[u8] = b"ready";

/// The server's end of the line to whoever waits for it.
#[derive(Debug, Clone, Default)]
pub struct Waiting(Arc<Mutex<Option<OwnedFd>>>);

impl Waiting {
    /// For a server that nobody waits for.
    pub fn nobody() -> Self {
        Self::default()
    }

    /// Says that the server answers.
    pub fn ready(self) {
        self.say(READY);
    }

    /// Says something and hangs up; only the first word counts.
    fn say(&self, what: &[u8]) {
        if let Some(line) = self.0.lock().expect("no panic holds it").take() {
            // Whoever waited may be gone; the server goes on.
            let _ = std::fs::File::from(line).write_all(what);
        }
    }
}

/// Runs `serve` in a process of its own, and returns once it said that it is ready.
///
/// The process has no terminal, no standard streams and no descriptors of the caller's other than
/// `keep`. It is forked, so of the caller's threads only this one exists there.
pub fn background(
    keep: Option<RawFd>,
    serve: impl FnOnce(Waiting) -> Result<()>,
) -> std::result::Result<(), Failure> {
    let pipe = rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
    let (line, answer) =
        pipe.map_err(|errno| Failure::from(&Error::io("open", "a pipe")(errno)))?;
    // SAFETY: the child runs `child`, which never returns to the caller's code.
    match unsafe { libc::fork() } {
        -1 => Err(cannot_fork()),
        0 => {
            drop(line);
            child(keep, answer, serve)
        }
        pid => {
            drop(answer);
            // The first child is gone at once; its own child is the server.
            // SAFETY: waits for a child of ours; no status is asked for.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
            let mut said = Vec::new();
            let read = std::fs::File::from(line).read_to_end(&mut said);
            match read {
                Ok(_) if said == READY => Ok(()),
                _ => Err(std::str::from_utf8(&said)
                    .ok()
                    .and_then(Failure::decode)
                    .unwrap_or_else(Failure::died)),
            }
        }
    }
}

fn child(keep: Option<RawFd>, answer: OwnedFd, serve: impl FnOnce(Waiting) -> Result<()>) -> ! {
    let kept = answer.as_raw_fd();
    let waiting = Waiting(Arc::new(Mutex::new(Some(answer))));
    let _ = rustix::process::setsid();
    // SAFETY: as above; the session's leader leaves, so no terminal can become the server's.
    match unsafe { libc::fork() } {
        0 => {}
        -1 => {
            waiting.say(cannot_fork().encode().as_bytes());
            leave(1)
        }
        _ => leave(0),
    }
    let _ = std::env::set_current_dir("/");
    close_others(keep, kept);
    let status = std::panic::catch_unwind(AssertUnwindSafe(|| match serve(waiting.clone()) {
        Ok(()) => 0,
        Err(error) => {
            log::error!("{error}");
            waiting.say(Failure::from(&error).encode().as_bytes());
            1
        }
    }));
    leave(status.unwrap_or(101))
}

fn cannot_fork() -> Failure {
    let error = std::io::Error::last_os_error();
    Failure::from(&Error::io("fork", "a server")(error))
}

/// Ends the process without the exit handlers of the program that it was forked from.
fn leave(status: i32) -> ! {
    // SAFETY: nothing of this process is needed any more.
    unsafe { libc::_exit(status) }
}

/// Keeps the buffers for requests out of the heaps, where all of a buffer comes to be used.
///
/// The library has one of 16 MiB for each thread, of which requests touch 1 MiB at most. It gives
/// the first back early, and by default the C library's allocator then takes such sizes from
/// heaps, where it may have to zero them itself.
pub(crate) fn map_large_buffers() {
    #[cfg(target_env = "gnu")]
    for (limit, size) in [
        // More than an answer takes, and less than a buffer.
        (libc::M_MMAP_THRESHOLD, 4 << 20),
        // Twice that, as the allocator keeps it by itself.
        (libc::M_TRIM_THRESHOLD, 8 << 20),
    ] {
        // SAFETY: changes limits of the allocator, which it allows at any time.
        unsafe { libc::mallopt(limit, size) };
    }
}

/// Gives the standard streams to /dev/null and closes every other descriptor but two.
fn close_others(keep: Option<RawFd>, answer: RawFd) {
    if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
    let mut kept = [answer, keep.unwrap_or(answer)];
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept.into_iter().chain([RawFd::MAX]) {
        if fd > first {
            // SAFETY: nothing in this process owns descriptors from before the fork any more,
            // except those that are kept.
            unsafe { libc::close_range(first as u32, fd as u32 - 1, 0) };
        }
        first = first.max(fd.saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_crosses_the_line() {
        let failure = Failure::from(&Error::invalid("two\nlines"));
        assert_eq!(Failure::decode(&failure.encode()), Some(failure));
        assert_eq!(Failure::decode("ready"), None);
    }
}
