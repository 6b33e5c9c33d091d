// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Building an image: scan, place, copy, describe, publish.
//!
//! The superblock is written last, and a file takes its name only when it is whole: whatever
//! stops a build, no half-made image is left behind.

mod contents;
mod gather;
mod intake;
mod large;
mod metadata;
mod order;
mod sink;

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::statfs;
use uuid::Uuid;
use zerocopy::IntoBytes;

use crate::error::{Error, InputProblem, Result};
use crate::format::{BLOCK_SIZE, Superblock, feature, mode};
use crate::layout::{self, Placement, Shape};
use crate::newfile;
use crate::progress::Progress;
use crate::region::{Source, is_hugetlbfs};
use crate::source::{self, ArchiveInput, NodeId, Scan, Selection, Tree};
use crate::superblock::Span;
use crate::view::View;

use contents::Copier;
use intake::{Intake, Taken};
use metadata::XattrRegion;
use sink::Sink;

/// Namespace of the identities that images get from what is in them.
const NAMESPACE: Uuid = Uuid::from_u128(0x7d0b_53f1_64c8_4c8e_9a3f_6461_7866_7331);

/// Where the tree comes from.
#[derive(Debug, Clone)]
pub enum Input {
    /// A directory.
    Directory(PathBuf),
    /// A tar archive, compressed or not; standard input when it has no path.
    Archive(Option<PathBuf>),
    /// Another image, as a branch shows it.
    Image(Arc<View>),
}

/// Where the image goes.
#[derive(Debug, Clone)]
pub enum Output {
    /// A file; it appears under this path when it is whole.
    File(PathBuf),
    /// A device or a range of physical memory.
    Memory(Source),
    /// A new buffer from the DMA heap of this name.
    Heap(String),
}

impl Output {
    /// Whether it takes bytes by write(2), as all files do but those of huge pages.
    fn is_written(&self) -> bool {
        let Self::File(path) = self else { return false };
        let fs = statfs(path).or_else(|_| statfs(newfile::directory_of(path)));
        !fs.is_ok_and(|fs| is_hugetlbfs(&fs))
    }
}

/// What to build.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// Where the tree comes from.
    pub input: Input,
    /// Where the image goes.
    pub output: Output,
    /// Branches and sizes.
    pub shape: Shape,
    /// What to take, and as whose.
    pub selection: Selection,
    /// The image's name; at most 63 bytes, none of them NUL.
    pub label: Vec<u8>,
    /// The image's identity; made from what is in it when left out, so that equal trees give
    /// equal images.
    pub uuid: Option<Uuid>,
    /// Whether the contents of regular files get checksums.
    pub data_checksums: bool,
    /// Whether to go on without the files that cannot be taken.
    pub skip_errors: bool,
    /// Whether to replace an image that is there.
    pub force: bool,
}

impl BuildOptions {
    /// A plain image of a tree.
    pub fn new(input: Input, output: Output) -> Self {
        Self {
            input,
            output,
            shape: Shape::default(),
            selection: Selection::default(),
            label: Vec::new(),
            uuid: None,
            data_checksums: false,
            skip_errors: false,
            force: false,
        }
    }
}

/// What was built, or would be.
#[derive(Debug)]
pub struct Summary {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Devices, FIFOs and sockets.
    pub specials: u64,
    /// Names beyond the first of their inode.
    pub hard_links: u64,
    /// Bytes in regular files.
    pub data_bytes: u64,
    /// Bytes of inode table, dirents and attribute sets.
    pub metadata_bytes: u64,
    /// Bytes of the whole image.
    pub total_size: u64,
    /// Its regions.
    pub spans: Vec<Span>,
    /// Its identity; none for a plan without one, as it depends on the contents.
    pub uuid: Option<Uuid>,
    /// What was left out, and why.
    pub skipped: Vec<InputProblem>,
    /// The buffer, when the image went to a DMA heap: it lives as long as someone holds it.
    pub buffer: Option<OwnedFd>,
}

/// Says what [`build`] would make, and writes nothing.
pub fn plan(options: &BuildOptions, progress: &Progress) -> Result<Summary> {
    check(options)?;
    let mut scan = scan(options, &selection(options, false), progress)?;
    let closed = contents::closed(&scan, progress)?;
    let gone: Vec<NodeId> = closed.iter().map(|(id, _)| *id).collect();
    scan.problems.extend(closed.into_iter().map(|(_, problem)| problem));
    let skipped = accept(std::mem::take(&mut scan.problems), options)?;
    if !gone.is_empty() {
        scan.tree = scan.tree.without(|id| gone.binary_search(&id).is_ok());
    }
    let placement = Placement::new(&scan.tree, layout::base_offset(&options.shape))?;
    let xattrs = XattrRegion::new(&scan.tree, placement.data_end);
    let superblock = superblock(options, &scan.tree, &placement, &xattrs)?;
    let mut summary = summarize(&scan.tree, &placement, &xattrs, &superblock);
    summary.uuid = options.uuid;
    summary.skipped = skipped;
    Ok(summary)
}

/// Builds an image.
pub fn build(options: &BuildOptions, progress: &Progress) -> Result<Summary> {
    check(options)?;
    // Memory must be sized before the first byte is copied; a file can grow while its files are
    // taken.
    let defer = options.output.is_written() && matches!(options.input, Input::Directory(_));
    let selection = selection(options, defer);
    let mut scan = scan(options, &selection, progress)?;
    if !scan.problems.is_empty() && !options.skip_errors {
        // Nobody shall have to try again to hear of the others.
        let closed = contents::closed(&scan, progress)?;
        scan.problems.extend(closed.into_iter().map(|(_, problem)| problem));
    }
    let mut skipped = accept(std::mem::take(&mut scan.problems), options)?;
    let base_offset = layout::base_offset(&options.shape);
    let size = if defer {
        0
    } else {
        let placement = Placement::new(&scan.tree, base_offset)?;
        outline(options, &scan.tree, &placement)?.total_size.get()
    };
    let sink = Sink::open(&options.output, size, options.force)?;
    debug_assert!(sink.is_file() || !defer);

    // Each round leaves out at least one file, so the rounds end.
    let (placement, sums) = loop {
        let taken = if defer {
            Intake {
                selection: &selection,
                base_offset,
                limit: options.shape.size.unwrap_or(u64::MAX),
                sink: &sink,
                progress,
                checksums: options.data_checksums,
            }
            .run(&mut scan)?
        } else {
            Taken::default()
        };
        if !taken.gone.is_empty() {
            skipped.extend(leave_out(&mut scan.tree, taken.gone, options)?);
            continue;
        }
        let placement = Placement::new(&scan.tree, base_offset)?;
        // Nobody shall hear of a size that is too small after all has been copied.
        let used = used(&outline(options, &scan.tree, &placement)?);
        let end = base_offset + placement.data_end;
        let files = scan.tree.nodes().len() as u64;
        let bytes = placement.data_end - placement.data_offset;
        if defer {
            sink.set_size(end)?;
            progress.expect(files, bytes);
        } else {
            sink.begin(end, used)?;
            progress.begin(files, bytes);
        }
        let copier = Copier {
            scan: &scan,
            placement: &placement,
            sink: &sink,
            progress,
            stored: &taken.stored,
            checksums: options.data_checksums,
        };
        let copied = copier.run()?;
        if copied.failed.is_empty() {
            // What has no contents, and what lies between them, took no copying.
            let (all, done) = (progress.total(), progress.done());
            progress.advance(all.0.saturating_sub(done.0), all.1.saturating_sub(done.1));
            break (placement, [taken.sums, copied.sums].concat());
        }
        let gone = copied.failed.into_iter().map(|(id, problem)| (id, Some(problem))).collect();
        skipped.extend(leave_out(&mut scan.tree, gone, options)?);
    };
    let mut summary = describe(options, &scan.tree, &placement, sums, sink)?;
    summary.skipped = skipped;
    Ok(summary)
}

/// Leaves nodes out: an error where that is a problem, unless the caller wants the rest.
fn leave_out(
    tree: &mut Tree,
    mut gone: Vec<(NodeId, Option<InputProblem>)>,
    options: &BuildOptions,
) -> Result<Vec<InputProblem>> {
    gone.sort_by_key(|(id, _)| *id);
    let (gone, problems): (Vec<NodeId>, Vec<_>) = gone.into_iter().unzip();
    let problems = accept(problems.into_iter().flatten().collect(), options)?;
    *tree = tree.without(|id| gone.binary_search(&id).is_ok());
    Ok(problems)
}

/// Goes on with problems if the caller wants the rest.
fn accept(problems: Vec<InputProblem>, options: &BuildOptions) -> Result<Vec<InputProblem>> {
    if problems.is_empty() || options.skip_errors {
        Ok(problems)
    } else {
        Err(Error::Input { problems })
    }
}

/// Writes the metadata and publishes the image.
fn describe(
    options: &BuildOptions,
    tree: &Tree,
    placement: &Placement,
    contents: Vec<(NodeId, u32)>,
    sink: Sink,
) -> Result<Summary> {
    let mut sums = vec![0; tree.nodes().len()];
    let directories = metadata::write_directories(tree, placement, &sink)?;
    for (id, sum) in contents.into_iter().chain(directories) {
        sums[id as usize] = sum;
    }
    let xattrs = XattrRegion::new(tree, placement.data_end);
    let mut superblock = superblock(options, tree, placement, &xattrs)?;
    let base_offset = placement.base_offset;
    sink.set_size(superblock.total_size.get())?;
    sink.write(base_offset + placement.data_end, &xattrs.bytes)?;
    // Memory may hold something where the last block goes on.
    let end = placement.data_end + xattrs.bytes.len() as u64;
    let rest = superblock.base_size.get() - end;
    sink.write(base_offset + end, &[0; BLOCK_SIZE as usize][..rest as usize])?;
    let checksums = metadata::write_inodes(tree, placement, &sums, &xattrs, &sink)?;
    let header = metadata::base_superblock(
        placement,
        tree.nodes().len() as u32,
        superblock.base_size.get(),
        xattrs.bytes.len() as u64,
    );
    sink.write(base_offset, header.as_bytes())?;
    if options.shape.branches {
        metadata::write_branches(&superblock, &sink)?;
    }
    let uuid = options.uuid.unwrap_or_else(|| {
        let identity = [superblock.as_bytes(), header.as_bytes(), &checksums].concat();
        Uuid::new_v5(&NAMESPACE, &identity)
    });
    superblock.uuid = uuid.into_bytes();
    superblock.checksum = superblock.expected_checksum().into();
    let mut summary = summarize(tree, placement, &xattrs, &superblock);
    summary.uuid = Some(uuid);
    summary.buffer =
        sink.finish(superblock.as_bytes(), used(&superblock), superblock.total_size.get())?;
    Ok(summary)
}

fn check(options: &BuildOptions) -> Result<()> {
    let longest = Superblock::zeroed().label.len() - 1;
    if options.label.len() > longest {
        let len = options.label.len();
        return Err(Error::invalid(format!(
            "label of {len} bytes, at most {longest} are possible"
        )));
    }
    if options.label.contains(&0) {
        return Err(Error::invalid("label with a NUL"));
    }
    if options.shape.delta_size.is_some() && !options.shape.branches {
        return Err(Error::invalid("a delta region needs branches"));
    }
    Ok(())
}

fn selection(options: &BuildOptions, defer_files: bool) -> Selection {
    // What the image takes the place of is no part of it.
    let apart = match &options.output {
        Output::File(path) => path.metadata().ok().map(|file| (file.dev(), file.ino())),
        _ => None,
    };
    Selection { defer_files, apart, ..options.selection.clone() }
}

fn scan(options: &BuildOptions, selection: &Selection, progress: &Progress) -> Result<Scan> {
    match &options.input {
        Input::Directory(path) => source::scan_directory(path, selection, progress),
        Input::Archive(path) => {
            let input = path.clone().map_or(ArchiveInput::Stdin, ArchiveInput::Path);
            source::scan_archive(input, &spool_directory(&options.output), selection, progress)
        }
        Input::Image(view) => source::scan_image(view, selection, progress),
    }
}

/// Where an archive that cannot be read in place is spooled: beside the image, which needs as
/// much room.
fn spool_directory(output: &Output) -> PathBuf {
    match output {
        Output::File(path) if output.is_written() => newfile::directory_of(path).to_owned(),
        _ => std::env::temp_dir(),
    }
}

/// The superblock as it will be, or what is wrong with the size asked for.
fn outline(options: &BuildOptions, tree: &Tree, placement: &Placement) -> Result<Superblock> {
    superblock(options, tree, placement, &XattrRegion::new(tree, placement.data_end))
}

/// Where what a build writes ends: at the heap, if there is one.
fn used(superblock: &Superblock) -> u64 {
    if superblock.has(feature::BRANCHES) {
        superblock.heap_offset.get()
    } else {
        superblock.base_offset.get() + superblock.base_size.get()
    }
}

/// The superblock, but for identity and checksum that depend on what is written.
fn superblock(
    options: &BuildOptions,
    tree: &Tree,
    placement: &Placement,
    xattrs: &XattrRegion,
) -> Result<Superblock> {
    let mut flags =
        feature::SORTED_DIRS | feature::INODE_EXT | feature::CHECKSUMS | feature::IDENTITY;
    if !xattrs.bytes.is_empty() {
        flags |= feature::XATTRS;
    }
    if options.data_checksums {
        flags |= feature::DATA_CHECKSUMS;
    }
    let size = (placement.data_end + xattrs.bytes.len() as u64).next_multiple_of(BLOCK_SIZE);
    let inodes = tree.nodes().len() as u32;
    let mut superblock = layout::superblock(&options.shape, size, inodes, flags)?;
    superblock.label[..options.label.len()].copy_from_slice(&options.label);
    Ok(superblock)
}

fn summarize(
    tree: &Tree,
    placement: &Placement,
    xattrs: &XattrRegion,
    superblock: &Superblock,
) -> Summary {
    let mut summary = Summary {
        files: 0,
        directories: 0,
        symlinks: 0,
        specials: 0,
        hard_links: 0,
        data_bytes: 0,
        metadata_bytes: placement.data_offset - placement.inode_offset + xattrs.bytes.len() as u64,
        total_size: superblock.total_size.get(),
        spans: superblock.spans(),
        uuid: None,
        skipped: Vec::new(),
        buffer: None,
    };
    for node in tree.nodes() {
        match node.mode & mode::TYPE {
            mode::REGULAR => {
                summary.files += 1;
                summary.data_bytes += node.size;
            }
            mode::DIRECTORY => {
                summary.directories += 1;
                summary.metadata_bytes += node.size;
            }
            mode::SYMLINK => summary.symlinks += 1,
            _ => summary.specials += 1,
        }
        if !node.is_dir() {
            summary.hard_links += u64::from(node.nlink) - 1;
        }
    }
    summary
}
