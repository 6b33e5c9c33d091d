// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Filling the holes of a file in tmpfs with whole pages, by many threads at once.
//!
//! The kernel lets one `write` at a time into a file, and a store through a mapping has it clear
//! each page first. `UFFDIO_COPY` of userfaultfd(2) has neither cost: it makes a page of the bytes
//! given and puts it into the file. Nobody waits for the faults that the call is made for.

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::null_mut;

use rustix::io::Errno;
use rustix::ioctl::{self, opcode};
use rustix::mm::{MapFlags, ProtFlags, UserfaultfdFlags};

/// `UFFD_USER_MODE_ONLY` of linux/userfaultfd.h: what everybody may ask for.
const USER_MODE_ONLY: UserfaultfdFlags = UserfaultfdFlags::from_bits_retain(1);

/// `struct uffdio_api`.
#[repr(C)]
struct ApiRequest {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_register`.
#[repr(C)]
struct RegisterRequest {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

/// `struct uffdio_copy`.
#[repr(C)]
struct CopyRequest {
    to: u64,
    from: u64,
    len: u64,
    mode: u64,
    copied: i64,
}

const API: ioctl::Opcode = opcode::read_write::<ApiRequest>(0xAA, 0x3F);
const API_VERSION: u64 = 0xAA;
const REGISTER: ioctl::Opcode = opcode::read_write::<RegisterRequest>(0xAA, 0x00);
const REGISTER_MISSING: u64 = 1;
const COPY: ioctl::Opcode = opcode::read_write::<CopyRequest>(0xAA, 0x03);
const COPY_DONT_WAKE: u64 = 1;

/// Fills holes of files in tmpfs.
#[derive(Debug)]
pub(crate) struct HoleFiller(OwnedFd);

impl HoleFiller {
    /// None where the kernel, or a sandbox around us, does not offer it.
    pub(crate) fn new() -> Option<Self> {
        // SAFETY: it acts only on what is registered with it, which `fill` does with mappings of
        // its own.
        let fd = unsafe { rustix::mm::userfaultfd(UserfaultfdFlags::CLOEXEC | USER_MODE_ONLY) };
        let fd = fd.ok()?;
        let mut api = ApiRequest { api: API_VERSION, features: 0, ioctls: 0 };
        // SAFETY: UFFDIO_API reads and writes exactly this structure.
        unsafe { ioctl::ioctl(&fd, ioctl::Updater::<API, ApiRequest>::new(&mut api)) }.ok()?;
        Some(Self(fd))
    }

    /// Puts whole pages into a hole of `file`, below its end. After an error some of them may be
    /// there.
    pub(crate) fn fill(&self, file: impl AsFd, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let page = rustix::param::page_size();
        if bytes.is_empty() || !bytes.len().is_multiple_of(page) {
            return Err(Errno::INVAL);
        }
        // SAFETY: a new mapping at an address the kernel chooses, unmapped below; nobody else
        // knows the address, and nothing here loads from it or stores to it.
        unsafe {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            let (len, shared) = (bytes.len(), MapFlags::SHARED);
            let start = rustix::mm::mmap(null_mut(), len, protection, shared, file, offset)?;
            let filled = self.fill_mapped(start.expose_provenance() as u64, bytes);
            rustix::mm::munmap(start, len)?;
            filled
        }
    }

    /// The same, for pages mapped at `start`.
    fn fill_mapped(&self, start: u64, bytes: &[u8]) -> Result<(), Errno> {
        let len = bytes.len() as u64;
        let mut register = RegisterRequest { start, len, mode: REGISTER_MISSING, ioctls: 0 };
        let mut copy = CopyRequest {
            to: start,
            from: bytes.as_ptr().expose_provenance() as u64,
            len,
            mode: COPY_DONT_WAKE,
            copied: 0,
        };
        // SAFETY: each reads and writes exactly its structure. The copy reads `bytes` and refuses
        // to write anywhere but to the registered pages, which nobody refers to.
        unsafe {
            ioctl::ioctl(&self.0, ioctl::Updater::<REGISTER, RegisterRequest>::new(&mut register))?;
            ioctl::ioctl(&self.0, ioctl::Updater::<COPY, CopyRequest>::new(&mut copy))
        }
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;

    fn file(pages: u64) -> File {
        let file = memfd_create("filled", MemfdFlags::CLOEXEC).expect("a file in memory");
        ftruncate(&file, at(pages)).expect("a size");
        file.into()
    }

    /// Where a page begins.
    fn at(number: u64) -> u64 {
        number * rustix::param::page_size() as u64
    }

    fn page(of: u8) -> Vec<u8> {
        vec![of; rustix::param::page_size()]
    }

    #[test]
    fn holes_are_filled_side_by_side() {
        let filler = HoleFiller::new().expect("userfaultfd");
        let file = file(64);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (filler, file) = (&filler, &file);
                scope.spawn(move || {
                    for number in (thread..63).step_by(4) {
                        filler.fill(file, at(number), &page(number as u8 + 1)).expect("filled");
                    }
                });
            }
        });
        for number in 0..64 {
            let mut found = page(0xEE);
            file.read_exact_at(&mut found, at(number)).expect("read");
            assert_eq!(
                found,
                page(if number < 63 { number as u8 + 1 } else { 0 }),
                "page {number}"
            );
        }
    }

    #[test]
    fn only_whole_pages_go_and_only_into_holes() {
        let filler = HoleFiller::new().expect("userfaultfd");
        let file = file(4);
        filler.fill(&file, at(1), &page(1)).expect("filled");
        assert_eq!(filler.fill(&file, at(1), &page(2)), Err(Errno::EXIST));
        // The first goes, the second is there.
        assert!(filler.fill(&file, 0, &[page(3), page(4)].concat()).is_err());
        assert_eq!(filler.fill(&file, 0, &page(5)[1..]), Err(Errno::INVAL));
        assert_eq!(filler.fill(&file, 1, &page(5)), Err(Errno::INVAL));
        assert_eq!(filler.fill(&file, 0, &[]), Err(Errno::INVAL));
        assert_eq!(filler.fill(&file, at(4), &page(5)), Err(Errno::FAULT));
        let mut found = vec![0; at(4) as usize];
        file.read_exact_at(&mut found, 0).expect("read");
        assert_eq!(found, [page(3), page(1), page(0), page(0)].concat());
    }
}
