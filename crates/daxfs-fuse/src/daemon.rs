// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A server in the background: forked off, while the caller waits until it answers.
#![allow(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard};

use daxfs_core::error::{Error, Result};
use daxfs_core::progress::TICK;
use rustix::io::Errno;
use rustix::net::RecvFlags;

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

/// What a server says once it answers. It is there for good when it was told to go on; until then
/// it goes away when the line is hung up.
const READY: &[u8] = b"ready";

/// What it is told then.
const GO_ON: &[u8] = b"!";

/// The server's end of the line to whoever waits for it.
#[derive(Debug, Clone, Default)]
pub struct Waiting(Arc<Mutex<Option<UnixStream>>>);

impl Waiting {
    /// For a server that nobody waits for.
    pub fn nobody() -> Self {
        Self::default()
    }

    /// Whether whoever waited is gone, or wants the server no more.
    pub fn has_hung_up(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let heard = |line: &UnixStream| rustix::net::recv(line, &mut [0; 1], flags);
        // Nothing is said on that end before the server is ready.
        self.line().as_ref().is_some_and(|line| heard(line) != Err(Errno::AGAIN))
    }

    /// Says that the server answers, and returns whether it is still wanted.
    pub fn ready(&self) -> bool {
        let mut end = self.line();
        let Some(line) = end.as_mut() else { return true };
        let wanted =
            line.write_all(READY).is_ok() && line.read_exact(&mut [0; GO_ON.len()]).is_ok();
        if wanted {
            *end = None;
        }
        wanted
    }

    /// Says what keeps the server from answering, if nothing else was said.
    fn fail(&self, failure: &Failure) {
        if let Some(mut line) = self.line().take() {
            // Whoever waited may be gone.
            let _ = line.write_all(failure.encode().as_bytes());
        }
    }

    fn line(&self) -> MutexGuard<'_, Option<UnixStream>> {
        self.0.lock().expect("no panic holds it")
    }
}

/// Runs `serve` in a process of its own, and returns once it said that it is ready.
///
/// The process has no terminal, no standard streams and no descriptors of the caller's other than
/// `keep`. It is forked, so of the caller's threads only this one exists there. Meanwhile
/// `interrupted` is asked whether to give up: then the server undoes what it has done.
pub fn background(
    keep: Option<RawFd>,
    interrupted: impl FnMut() -> bool,
    serve: impl FnOnce(Waiting) -> Result<()>,
) -> std::result::Result<(), Failure> {
    let (line, theirs) =
        UnixStream::pair().map_err(|error| Failure::from(&Error::io("open", "a socket")(error)))?;
    // SAFETY: the child runs `child`, which never returns to the caller's code.
    match unsafe { libc::fork() } {
        -1 => Err(cannot_fork()),
        0 => {
            drop(line);
            child(keep, theirs, serve)
        }
        pid => {
            drop(theirs);
            // The first child is gone at once; its own child is the server.
            // SAFETY: waits for a child of ours; no status is asked for.
            while unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) } == -1
                && io::Error::last_os_error().kind() == ErrorKind::Interrupted
            {}
            wait(line, interrupted).unwrap_or_else(|_| Err(Failure::died()))
        }
    }
}

/// Waits until the server says something, or is gone.
fn wait(
    mut line: UnixStream,
    mut interrupted: impl FnMut() -> bool,
) -> io::Result<std::result::Result<(), Failure>> {
    line.set_read_timeout(Some(TICK))?;
    let (mut said, mut wanted) = (Vec::new(), true);
    let mut part = [0; 512];
    loop {
        match line.read(&mut part) {
            Ok(0) => break,
            Ok(count) => said.extend_from_slice(&part[..count]),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        if interrupted() {
            // Who is impatient does not wait for the server's end either.
            if !wanted {
                break;
            }
            wanted = false;
            line.shutdown(Shutdown::Write)?;
        }
        if wanted && said == READY {
            line.write_all(GO_ON)?;
            return Ok(Ok(()));
        }
    }
    if !wanted {
        return Ok(Err(Failure::from(&Error::Interrupted)));
    }
    let failure = std::str::from_utf8(&said).ok().and_then(Failure::decode);
    Ok(Err(failure.unwrap_or_else(Failure::died)))
}

fn child(keep: Option<RawFd>, line: UnixStream, serve: impl FnOnce(Waiting) -> Result<()>) -> ! {
    let kept = line.as_raw_fd();
    let waiting = Waiting(Arc::new(Mutex::new(Some(line))));
    forget_handlers();
    let _ = rustix::process::setsid();
    // SAFETY: as above; the session's leader leaves, so no terminal can become the server's.
    match unsafe { libc::fork() } {
        0 => {}
        -1 => {
            waiting.fail(&cannot_fork());
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
            waiting.fail(&Failure::from(&error));
            1
        }
    }));
    leave(status.unwrap_or(101))
}

/// Signals that end a server.
const ENDING: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// Those of them that this process does not ignore: what nohup runs outlives its terminal.
pub(crate) fn ending_signals() -> impl Iterator<Item = libc::c_int> {
    ENDING.into_iter().filter(|signal| {
        let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: only asks what is set, of which all zeroes is one value.
        let action = unsafe {
            libc::sigaction(*signal, std::ptr::null(), action.as_mut_ptr());
            action.assume_init()
        };
        action.sa_sigaction != libc::SIG_IGN
    })
}

/// Has signals end this process again, whatever the program does with them that it was forked from.
fn forget_handlers() {
    for signal in ENDING {
        // SAFETY: nothing of this process has a handler to lose.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
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
            let (first, last) = (libc::c_long::from(first), libc::c_long::from(fd) - 1);
            // SAFETY: nothing in this process owns descriptors from before the fork any more,
            // except those that are kept. (Musl has no function for the call.)
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0 as libc::c_long) };
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
