// SPDX-License-Identifier: Apache-2.0 OR MIT
//! DMA buffers: allocation from a heap, and the calls that bracket access by the CPU.

use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{self, opcode};

use super::Access;
use crate::error::{Error, Result, show_path};

/// `struct dma_heap_allocation_data` of linux/dma-heap.h.
#[repr(C)]
#[derive(Default)]
struct Allocation {
    len: u64,
    fd: u32,
    fd_flags: u32,
    heap_flags: u64,
}

const ALLOC: ioctl::Opcode = opcode::read_write::<Allocation>(b'H', 0);
/// DMA_BUF_IOCTL_SYNC of linux/dma-buf.h.
const SYNC: ioctl::Opcode = opcode::write::<u64>(b'b', 0);
const SYNC_READ: u64 = 1;
const SYNC_WRITE: u64 = 2;
const SYNC_END: u64 = 4;

/// Allocates a buffer of `size` bytes (rounded up to whole pages) from the heap named `heap`.
pub fn allocate(heap: &str, size: u64) -> Result<OwnedFd> {
    let path = Path::new("/dev/dma_heap").join(heap);
    if heap.is_empty() || heap.contains('/') {
        return Err(Error::invalid(format!("{heap:?} is not the name of a DMA heap")));
    }
    let device = rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(
        |errno| match errno {
            Errno::NOENT => Error::Backing {
                what: format!("{}: no such DMA heap", show_path(&path)),
                advice: "it needs a kernel with CONFIG_DMABUF_HEAPS and \
                         CONFIG_DMABUF_HEAPS_SYSTEM; `daxfs doctor` lists the heaps"
                    .into(),
                errno: errno.raw_os_error(),
            },
            _ => Error::io("open", &path)(errno),
        },
    )?;
    // The heap would not refuse: the kernel ends whoever asks for more than there is.
    if let Some(available) = available_memory().filter(|available| *available < size) {
        return Err(Error::NoSpace {
            what: "a buffer in memory",
            needed: size,
            available,
            advice: "; leave something out, memory is short",
        });
    }
    let mut request = Allocation {
        len: size.next_multiple_of(rustix::param::page_size() as u64),
        fd_flags: (OFlags::RDWR | OFlags::CLOEXEC).bits(),
        ..Allocation::default()
    };
    // SAFETY: DMA_HEAP_IOCTL_ALLOC reads and writes exactly this structure.
    unsafe { ioctl::ioctl(&device, ioctl::Updater::<ALLOC, Allocation>::new(&mut request)) }
        .map_err(Error::io("allocate from the heap", &path))?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(request.fd.cast_signed()) })
}

/// Memory that can be had without pushing anybody out, in bytes.
fn available_memory() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Access by the CPU to a DMA buffer, from `begin` until it is dropped.
#[derive(Debug)]
pub(super) struct CpuAccess {
    buffer: OwnedFd,
    direction: u64,
}

impl CpuAccess {
    pub(super) fn begin(buffer: OwnedFd, access: Access) -> rustix::io::Result<Self> {
        let direction = match access {
            Access::Read => SYNC_READ,
            Access::Write => SYNC_READ | SYNC_WRITE,
        };
        sync(&buffer, direction)?;
        Ok(Self { buffer, direction })
    }
}

impl Drop for CpuAccess {
    fn drop(&mut self) {
        let _ = sync(&self.buffer, self.direction | SYNC_END);
    }
}

fn sync(buffer: impl AsFd, flags: u64) -> rustix::io::Result<()> {
    loop {
        // SAFETY: DMA_BUF_IOCTL_SYNC reads one u64 of flags.
        match unsafe { ioctl::ioctl(&buffer, ioctl::Setter::<SYNC, u64>::new(flags)) } {
            Err(Errno::INTR | Errno::AGAIN) => {}
            result => return result,
        }
    }
}
