// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where messages of a server go: to standard error in the foreground, else to the system's log.

use std::io::Write;
use std::os::unix::net::UnixDatagram;

use log::{Level, LevelFilter, Log, Metadata, Record};

/// The socket of syslog, which journald serves as well.
const SOCKET: &str = "/dev/log";
/// Facility "daemon" of RFC 3164, shifted as a priority wants it.
const DAEMON: u8 = 3 << 3;
/// How fuser ends what it says of an answer that the kernel no longer waits for (`ENOENT`), such as
/// that to an interrupt of a request that was served meanwhile.
const LATE: &str = "FUSE reply: No such file or directory (os error 2)";

/// Where messages go.
#[derive(Debug)]
pub enum Logger {
    /// To standard error.
    Stderr,
    /// To the system's log.
    System(UnixDatagram),
}

impl Logger {
    /// The system's log, or standard error where there is none.
    pub fn system() -> Self {
        let socket = UnixDatagram::unbound().and_then(|socket| {
            socket.connect(SOCKET)?;
            // A log that nobody reads must not stop a file system.
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        socket.map_or(Self::Stderr, Self::System)
    }

    /// Sends all messages of this process there.
    pub fn install(self) {
        // Whoever embeds the server may have a logger already: then that one is used.
        if log::set_boxed_logger(Box::new(self)).is_ok() {
            log::set_max_level(LevelFilter::Info);
        }
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Info
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let message = record.args().to_string();
        if message.ends_with(LATE) {
            return;
        }
        match self {
            // A log that nobody reads any more must not end a thread either.
            Self::Stderr => {
                let _ = std::io::stderr().write_all(format!("daxfs: {message}\n").as_bytes());
            }
            Self::System(socket) => {
                let severity = match record.level() {
                    Level::Error => 3,
                    Level::Warn => 4,
                    _ => 6,
                };
                let (priority, pid) = (DAEMON | severity, std::process::id());
                let line = format!("<{priority}>daxfs[{pid}]: {message}");
                let _ = socket.send(line.as_bytes());
            }
        }
    }

    fn flush(&self) {}
}
