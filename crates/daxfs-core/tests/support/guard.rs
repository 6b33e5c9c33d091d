// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Regions with nothing mapped right before and after them: an access outside is a fault.
#![allow(unsafe_code, reason = "only the address space can be arranged so")]

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;
use std::sync::Arc;

use daxfs_core::region::{Access, Region, Source};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Bytes without access on either side.
const MARGIN: usize = 1 << 20;
/// How often a mapping may land in some other gap.
const TRIES: usize = 64;

/// Two mappings of one memory file: one to read through, between guards, one to store through.
pub(crate) struct Guarded {
    /// The reader's region.
    pub(crate) region: Arc<Region>,
    /// The peer's region.
    pub(crate) peer: Arc<Region>,
}

/// A memory file that holds `image`, mapped twice.
pub(crate) fn guarded(image: &[u8]) -> Guarded {
    let page = rustix::param::page_size();
    assert!(image.len().is_multiple_of(page), "a last page in part would hide an overrun");
    let fd = rustix::fs::memfd_create("image", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
    let mut file = File::from(fd);
    file.write_all(image).expect("write");
    let source = Source::Fd(file.as_raw_fd());
    let peer = Arc::new(Region::open(&source, Access::Write).expect("map"));

    // A hole of just the right size between pages without access. A mapping that lands in another
    // gap fills that one, and the next is tried.
    let span = image.len() + 2 * MARGIN;
    // SAFETY: a new mapping at an address the kernel chooses, and a hole in its middle.
    let hole = unsafe {
        let start = mmap_anonymous(null_mut(), span, ProtFlags::empty(), MapFlags::PRIVATE);
        let hole = start.expect("address space").byte_add(MARGIN);
        munmap(hole, image.len()).expect("a hole");
        hole
    };
    let mut strays = Vec::new();
    for _ in 0..TRIES {
        let region = Arc::new(Region::open(&source, Access::Read).expect("map"));
        let at = region.view(0, 1).expect("a first byte").as_ptr();
        if at.addr() == hole.addr() {
            return Guarded { region, peer };
        }
        strays.push(region);
    }
    panic!("no mapping landed between the guards");
}
