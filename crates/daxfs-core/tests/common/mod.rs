// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Images with hand-made logs, and what every test asks of an image.
#![allow(dead_code, reason = "each test uses its own part")]

use std::sync::Arc;

use daxfs_core::error::Result;
use daxfs_core::finding::Findings;
use daxfs_core::format::{
    BLOCK_SIZE, BranchRecord, CreateBody, DeleteBody, EntryHeader, RenameBody, SetattrBody,
    Superblock, SymlinkBody, TruncateBody, WriteBody, entry, mode, state,
};
use daxfs_core::image::{Image, Unvalidated};
use daxfs_core::region::Region;
use daxfs_core::validate::{Depth, validate};
use daxfs_core::view::{Links, View};
use zerocopy::{FromBytes, IntoBytes};

/// Inode numbers in the base of the vectors.
pub(crate) mod base {
    pub(crate) const EMPTYDIR: u64 = 2;
    pub(crate) const VICTIM: u64 = 5;
    pub(crate) const BASE_TXT: u64 = 8;
    pub(crate) const DIR: u64 = 10;
    pub(crate) const HIGHEST: u64 = 16;
}

/// The bytes of an image that another implementation made, or of a manifest.
pub(crate) fn vector(name: &str) -> Vec<u8> {
    let path = format!("{}/../../tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).expect("the vectors are part of the sources")
}

pub(crate) fn region(bytes: &[u8]) -> Arc<Region> {
    Arc::new(Region::from_bytes(bytes).expect("memory"))
}

pub(crate) fn open(bytes: &[u8]) -> Result<Arc<Image>> {
    Ok(Arc::new(Unvalidated::open(region(bytes))?.trust()))
}

/// Everything that the proof finds.
pub(crate) fn findings(bytes: &[u8]) -> Result<Findings> {
    Ok(validate(&region(bytes), Depth::Metadata)?.findings)
}

pub(crate) fn view(bytes: &[u8], branch: &str) -> Result<View> {
    View::open(open(bytes)?, branch)
}

/// The base of an image, whatever is on top of it.
pub(crate) fn base_view(bytes: &[u8]) -> Result<View> {
    Ok(View::base(open(bytes)?))
}

pub(crate) fn contents(view: &View, path: &str) -> Vec<u8> {
    let inode = view.resolve(path.as_bytes(), Links::Follow).expect("it exists");
    let mut bytes = vec![0xee; inode.size as usize];
    assert_eq!(view.read(&inode, 0, &mut bytes).expect("it can be read"), bytes.len());
    bytes
}

pub(crate) fn nlink(view: &View, path: &str) -> u32 {
    view.resolve(path.as_bytes(), Links::Keep).expect("it exists").nlink
}

pub(crate) fn names(view: &View, path: &str) -> Vec<String> {
    let directory = view.resolve(path.as_bytes(), Links::Follow).expect("it exists");
    let entries = view.read_dir(&directory).expect("a directory");
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect()
}

/// A log under construction; every entry is one ns younger than the one before.
#[derive(Debug, Default, Clone)]
pub(crate) struct Log {
    pub(crate) bytes: Vec<u8>,
    /// Where each entry begins.
    pub(crate) starts: Vec<usize>,
}

pub(crate) const TIME: u64 = 1_000_000_000;

impl Log {
    pub(crate) fn entry(mut self, kind: u32, ino: u64, parts: &[&[u8]]) -> Self {
        let mut header = EntryHeader::zeroed();
        let body: usize = parts.iter().map(|part| part.len()).sum();
        header.kind.set(kind);
        header.total_size.set((size_of::<EntryHeader>() + body) as u32);
        header.ino.set(ino);
        header.timestamp.set(TIME + self.starts.len() as u64);
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(header.as_bytes());
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self
    }

    pub(crate) fn write(self, ino: u64, offset: u64, bytes: &[u8]) -> Self {
        let body = WriteBody {
            offset: offset.into(),
            len: (bytes.len() as u32).into(),
            ..WriteBody::zeroed()
        };
        self.entry(entry::WRITE, ino, &[body.as_bytes(), bytes])
    }

    pub(crate) fn make(self, parent: u64, ino: u64, mode: u32, name: &str) -> Self {
        let kind = if mode & mode::TYPE == mode::DIRECTORY { entry::MKDIR } else { entry::CREATE };
        let body = CreateBody {
            parent_ino: parent.into(),
            new_ino: ino.into(),
            mode: mode.into(),
            name_len: (name.len() as u16).into(),
            ..CreateBody::zeroed()
        };
        self.entry(kind, ino, &[body.as_bytes(), name.as_bytes()])
    }

    pub(crate) fn create(self, parent: u64, ino: u64, name: &str) -> Self {
        self.make(parent, ino, mode::REGULAR | 0o644, name)
    }

    pub(crate) fn mkdir(self, parent: u64, ino: u64, name: &str) -> Self {
        self.make(parent, ino, mode::DIRECTORY | 0o755, name)
    }

    pub(crate) fn symlink(self, parent: u64, ino: u64, name: &str, target: &str) -> Self {
        let body = SymlinkBody {
            parent_ino: parent.into(),
            new_ino: ino.into(),
            name_len: (name.len() as u16).into(),
            target_len: (target.len() as u16).into(),
            ..SymlinkBody::zeroed()
        };
        let parts = [body.as_bytes(), name.as_bytes(), target.as_bytes(), &[0]];
        self.entry(entry::SYMLINK, ino, &parts)
    }

    pub(crate) fn delete(self, parent: u64, ino: u64, name: &str) -> Self {
        let body = DeleteBody {
            parent_ino: parent.into(),
            name_len: (name.len() as u16).into(),
            ..DeleteBody::zeroed()
        };
        self.entry(entry::DELETE, ino, &[body.as_bytes(), name.as_bytes()])
    }

    pub(crate) fn truncate(self, ino: u64, size: u64) -> Self {
        let body = TruncateBody { new_size: size.into() };
        self.entry(entry::TRUNCATE, ino, &[body.as_bytes()])
    }

    pub(crate) fn rename(self, ino: u64, old: (u64, &str), new: (u64, &str)) -> Self {
        let body = RenameBody {
            old_parent: old.0.into(),
            new_parent: new.0.into(),
            ino: ino.into(),
            old_name_len: (old.1.len() as u16).into(),
            new_name_len: (new.1.len() as u16).into(),
            ..RenameBody::zeroed()
        };
        self.entry(entry::RENAME, ino, &[body.as_bytes(), old.1.as_bytes(), new.1.as_bytes()])
    }

    pub(crate) fn set_attr(self, ino: u64, body: SetattrBody) -> Self {
        self.entry(entry::SETATTR, ino, &[body.as_bytes()])
    }
}

/// A plain v3 image over the vectors' base: each branch's name, parent and log; the first has
/// id 1, and so on.
pub(crate) fn image(branches: &[(&str, u64, &Log)]) -> Vec<u8> {
    let mut image = vector("branching.daxfs");
    let mut superblock = Superblock::read_from_bytes(&image[..4096]).expect("4096 bytes");
    let region = superblock.delta_region_offset.get() as usize;
    let table = superblock.branch_table_offset.get() as usize;
    image.truncate(region);
    for (slot, (name, parent, log)) in branches.iter().enumerate() {
        // Off every boundary: entries need not be aligned.
        image.resize(image.len() + 1, 0);
        let mut record = BranchRecord::zeroed();
        record.branch_id.set(slot as u64 + 1);
        record.parent_id.set(*parent);
        record.delta_log_offset.set(image.len() as u64);
        record.delta_log_size.set(log.bytes.len() as u64);
        record.delta_log_capacity.set(log.bytes.len() as u64);
        record.state.set(state::ACTIVE);
        record.name[..name.len()].copy_from_slice(name.as_bytes());
        image.extend_from_slice(&log.bytes);
        image[table + slot * 128..][..128].copy_from_slice(record.as_bytes());
    }
    image.resize(image.len().next_multiple_of(BLOCK_SIZE as usize), 0);
    superblock.delta_region_size.set((image.len() - region) as u64);
    superblock.delta_alloc_offset.set(image.len() as u64);
    superblock.total_size.set(image.len() as u64);
    superblock.active_branches.set(branches.len() as u32);
    superblock.next_branch_id.set(branches.len() as u64 + 1);
    superblock.next_inode_id.set(1 << 40);
    image[..4096].copy_from_slice(superblock.as_bytes());
    image
}

/// Main's view after one log.
pub(crate) fn replayed(log: &Log) -> Result<View> {
    view(&image(&[("main", 0, log)]), "main")
}

/// Walks a tree and reads what it holds: beginnings and ends of files whose sizes may be absurd.
pub(crate) fn read_everything(view: &View) -> Result<usize> {
    let mut buffer = vec![0; 1 << 16];
    let mut count = 0;
    for found in view.walk(view.inode(1)?) {
        let (_, inode) = found?;
        count += 1;
        view.xattrs(&inode)?;
        if inode.is_symlink() {
            view.readlink(&inode)?;
        } else if inode.is_file() {
            view.read(&inode, 0, &mut buffer)?;
            view.read(&inode, inode.size.saturating_sub(1000), &mut buffer)?;
            for extent in view.extents(&inode)? {
                view.read(&inode, extent.file_offset, &mut buffer)?;
            }
        }
    }
    Ok(count)
}
