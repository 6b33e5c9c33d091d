// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects the way from a tree to an image: any tree gives a sound image that shows that tree,
//! and the same one gives the same bytes, in whatever order it was made.

#[path = "common/listing.rs"]
mod listing;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use daxfs_core::build::{BuildOptions, Input, Output, build};
use daxfs_core::format::{ROOT_INO, mode};
use daxfs_core::image::Unvalidated;
use daxfs_core::layout::Shape;
use daxfs_core::progress::Progress;
use daxfs_core::region::{Region, Source};
use daxfs_core::validate::{Depth, validate};
use daxfs_core::view::View;
use proptest::prelude::*;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, chmodat, fchmod, futimens, linkat,
    mkdirat, mknodat, openat, symlinkat, utimensat,
};

/// Bytes of a file, by offset; the rest are holes.
#[derive(Debug, Clone)]
struct Spec {
    mode: u32,
    size: u64,
    pieces: Vec<(u64, Vec<u8>)>,
    mtime: (i64, i64),
}

#[derive(Debug, Clone)]
enum Item {
    Directory(usize),
    /// One of the files; several names may name the same.
    File(usize),
    Symlink(Vec<u8>),
    Fifo(u32),
}

#[derive(Debug, Clone)]
struct Directory {
    mode: u32,
    mtime: (i64, i64),
    names: BTreeMap<Vec<u8>, Item>,
}

/// A tree in memory; directory 0 is the root.
#[derive(Debug, Clone)]
struct Model {
    directories: Vec<Directory>,
    files: Vec<Spec>,
}

/// What an image or a model shows of one name.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    mode: u32,
    mtime: i64,
    content: Vec<u8>,
    /// The least path of the same inode.
    first: Vec<u8>,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("no slash, no NUL", |byte| !matches!(byte, 0 | b'/'));
    let name = prop_oneof![
        4 => "[a-c]{1,2}".prop_map(String::into_bytes),
        2 => prop::collection::vec(byte.clone(), 1..8),
        1 => prop::collection::vec(byte, 120..=128),
    ];
    name.prop_filter("neither . nor ..", |name| name != b"." && name != b"..")
}

fn mtime() -> impl Strategy<Value = (i64, i64)> {
    (0..4_000_000_000_i64, 0..1_000_000_000_i64)
}

fn spec() -> impl Strategy<Value = Spec> {
    let size = prop_oneof![
        3 => Just(0_u64), 6 => 1..9000_u64, 1 => Just(4096), 1 => (32_u64 << 10) - 2..40 << 10, 1 => (2_u64 << 20) - 2..(2 << 20) + 5000,
    ];
    let piece = (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 1..600));
    (size, prop::collection::vec(piece, 0..4), 0..0o10_000_u32, mtime()).prop_map(
        |(size, pieces, mode, mtime)| {
            let pieces = pieces.into_iter().filter(|_| size > 0).map(|(at, mut bytes)| {
                let at = at.index(size as usize) as u64;
                bytes.truncate((size - at) as usize);
                (at, bytes)
            });
            Spec { mode, size, pieces: pieces.collect(), mtime }
        },
    )
}

#[derive(Debug, Clone)]
enum Kind {
    Directory(u32, (i64, i64)),
    File(Spec),
    Link(prop::sample::Index),
    Symlink(Vec<u8>),
    Fifo(u32),
}

fn kind() -> impl Strategy<Value = Kind> {
    let target = prop::collection::vec(1..=u8::MAX, 1..300);
    prop_oneof![
        4 => (0o700..0o10_000_u32, mtime()).prop_map(|(mode, mtime)| Kind::Directory(mode, mtime)),
        4 => spec().prop_map(Kind::File),
        2 => any::<prop::sample::Index>().prop_map(Kind::Link),
        2 => target.prop_map(Kind::Symlink),
        1 => (0..0o1000_u32).prop_map(Kind::Fifo),
    ]
}

/// Trees; every other entry goes into the newest directory, so that they grow deep.
fn model() -> impl Strategy<Value = Model> {
    let parent = prop::option::of(any::<prop::sample::Index>());
    let step = (parent, name(), kind());
    (prop::collection::vec(step, 0..60), mtime()).prop_map(|(steps, mtime)| {
        let root = Directory { mode: 0o755, mtime, names: BTreeMap::new() };
        let mut model = Model { directories: vec![root], files: Vec::new() };
        for (parent, name, kind) in steps {
            let count = model.directories.len();
            let parent = parent.map_or(count - 1, |parent| parent.index(count));
            if model.directories[parent].names.contains_key(&name) {
                continue;
            }
            let item = match kind {
                Kind::Directory(mode, mtime) => {
                    model.directories.push(Directory { mode, mtime, names: BTreeMap::new() });
                    Item::Directory(count)
                }
                Kind::File(spec) => {
                    model.files.push(spec);
                    Item::File(model.files.len() - 1)
                }
                Kind::Link(_) if model.files.is_empty() => continue,
                Kind::Link(which) => Item::File(which.index(model.files.len())),
                Kind::Symlink(target) => Item::Symlink(target),
                Kind::Fifo(mode) => Item::Fifo(mode),
            };
            model.directories[parent].names.insert(name, item);
        }
        model
    })
}

fn times((sec, nsec): (i64, i64)) -> Timestamps {
    let time = Timespec { tv_sec: sec, tv_nsec: nsec };
    Timestamps { last_access: time, last_modification: time }
}

impl Model {
    /// Makes the tree at `path`, names in ascending or descending order.
    fn plant(&self, path: &Path, descending: bool) {
        std::fs::create_dir(path).expect("mkdir");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open =
            |at: &OwnedFd, name: &[u8]| openat(at, name, flags, Mode::empty()).expect("open");
        let root = openat(CWD, path, flags, Mode::empty()).expect("open");
        let mut made: Vec<Option<(OwnedFd, Vec<u8>)>> = self.files.iter().map(|_| None).collect();
        let mut opened = vec![(0, root)];
        let mut next = 0;
        while let Some((index, at)) = opened.get(next) {
            let at = at.try_clone().expect("a descriptor");
            let mut names: Vec<_> = self.directories[*index].names.iter().collect();
            if descending {
                names.reverse();
            }
            for (name, item) in names {
                let name = name.as_slice();
                match item {
                    Item::Directory(child) => {
                        mkdirat(&at, name, Mode::from(0o700)).expect("mkdir");
                        opened.push((*child, open(&at, name)));
                    }
                    Item::File(file) => match &made[*file] {
                        Some((first, old)) => {
                            linkat(first, old.as_slice(), &at, name, AtFlags::empty())
                                .expect("link");
                        }
                        None => {
                            self.files[*file].create(&at, name);
                            made[*file] =
                                Some((at.try_clone().expect("a descriptor"), name.into()));
                        }
                    },
                    Item::Symlink(target) => {
                        symlinkat(target.as_slice(), &at, name).expect("symlink");
                        let flags = AtFlags::SYMLINK_NOFOLLOW;
                        utimensat(&at, name, &times((1, 1)), flags).expect("set times");
                    }
                    Item::Fifo(mode) => {
                        let fifo = FileType::Fifo;
                        mknodat(&at, name, fifo, Mode::from(*mode), 0).expect("mkfifo");
                        chmodat(&at, name, Mode::from(*mode), AtFlags::empty()).expect("chmod");
                        utimensat(&at, name, &times((1, 1)), AtFlags::empty()).expect("set times");
                    }
                }
            }
            next += 1;
        }
        // Making names changes the time of a directory, so this comes last.
        for (index, directory) in opened {
            let spec = &self.directories[index];
            fchmod(&directory, Mode::from(spec.mode)).expect("chmod");
            futimens(&directory, &times(spec.mtime)).expect("set times");
        }
    }

    /// What an image of the tree should show, by path.
    fn shown(&self) -> BTreeMap<Vec<u8>, Shown> {
        let mut shown = BTreeMap::new();
        let mut firsts: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        let mut pending = vec![(Vec::new(), 0)];
        let time = |(sec, nsec): (i64, i64)| sec * 1_000_000_000 + nsec;
        while let Some((path, index)) = pending.pop() {
            let directory = &self.directories[index];
            for (name, item) in &directory.names {
                let mut below = path.clone();
                if !below.is_empty() {
                    below.push(b'/');
                }
                below.extend_from_slice(name);
                let (mode, mtime, content) = match item {
                    Item::Directory(child) => {
                        pending.push((below, *child));
                        continue;
                    }
                    Item::File(file) => {
                        let first = firsts.entry(*file).or_insert_with(|| below.clone());
                        if below < *first {
                            first.clone_from(&below);
                        }
                        let spec = &self.files[*file];
                        (mode::REGULAR | spec.mode, time(spec.mtime), spec.content())
                    }
                    Item::Symlink(target) => (mode::SYMLINK | 0o777, time((1, 1)), target.clone()),
                    Item::Fifo(mode) => (mode::FIFO | mode, time((1, 1)), Vec::new()),
                };
                shown.insert(below.clone(), Shown { mode, mtime, content, first: below });
            }
            let (mode, mtime) = (mode::DIRECTORY | directory.mode, time(directory.mtime));
            let first = path.clone();
            shown.insert(path, Shown { mode, mtime, content: Vec::new(), first });
        }
        for directory in self.paths_of_files() {
            let (path, file) = directory;
            let entry = shown.get_mut(&path).expect("inserted above");
            entry.first.clone_from(&firsts[&file]);
        }
        shown
    }

    /// Every name of a file, and which file it is.
    fn paths_of_files(&self) -> Vec<(Vec<u8>, usize)> {
        let mut paths = Vec::new();
        let mut pending = vec![(Vec::new(), 0)];
        while let Some((path, index)) = pending.pop() {
            for (name, item) in &self.directories[index].names {
                let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
                let below = [&path, separator, name].concat();
                match item {
                    Item::Directory(child) => pending.push((below, *child)),
                    Item::File(file) => paths.push((below, *file)),
                    _ => {}
                }
            }
        }
        paths
    }
}

impl Spec {
    fn create(&self, at: impl AsFd, name: &[u8]) {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = File::from(openat(at, name, flags, Mode::from(0o600)).expect("create"));
        file.set_len(self.size).expect("extend");
        for (offset, bytes) in &self.pieces {
            file.write_all_at(bytes, *offset).expect("write");
        }
        fchmod(&file, Mode::from(self.mode)).expect("chmod");
        futimens(&file, &times(self.mtime)).expect("set times");
    }

    fn content(&self) -> Vec<u8> {
        let mut content = vec![0; self.size as usize];
        for (offset, bytes) in &self.pieces {
            content[*offset as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        content
    }
}

/// What an image shows, by path.
fn read(image: Vec<u8>) -> BTreeMap<Vec<u8>, Shown> {
    let region = Arc::new(Region::from_bytes(&image).expect("memory"));
    let report = validate(&region, Depth::Data).expect("an image");
    assert_eq!(report.findings.list(), []);
    let image = Unvalidated::open(region).and_then(Unvalidated::validate).expect("sound");
    let view = View::base(Arc::new(image));
    let mut shown = BTreeMap::new();
    let mut firsts = BTreeMap::new();
    for step in view.walk(view.inode(ROOT_INO).expect("a root")) {
        let (path, inode) = step.expect("a sound tree");
        let content = listing::held(&view, &inode);
        let first: &mut Vec<u8> = firsts.entry(inode.ino).or_insert_with(|| path.clone());
        if path < *first {
            first.clone_from(&path);
        }
        let (mode, mtime) = (inode.mode, inode.mtime);
        shown.insert(path, (inode.ino, Shown { mode, mtime, content, first: Vec::new() }));
    }
    let named = shown.into_iter().map(|(path, (ino, shown))| {
        let first = firsts[&ino].clone();
        (path, Shown { first, ..shown })
    });
    named.collect()
}

fn image_of(tree: &Path, shape: &Shape, data_checksums: bool) -> Vec<u8> {
    let path = tree.with_extension("daxfs");
    let mut options = BuildOptions::new(Input::Directory(tree.into()), Output::File(path.clone()));
    options.shape = shape.clone();
    options.data_checksums = data_checksums;
    options.force = true;
    build(&options, &Progress::default()).expect("build");
    std::fs::read(path).expect("the image that was built")
}

/// The same in memory, where every place has to be known before anything is copied.
fn in_memory(tree: &Path, shape: &Shape, data_checksums: bool, len: usize) -> Vec<u8> {
    let memory = rustix::fs::memfd_create("image", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
    rustix::fs::ftruncate(&memory, len as u64).expect("extend");
    let output = Output::Memory(Source::Fd(memory.as_raw_fd()));
    let mut options = BuildOptions::new(Input::Directory(tree.into()), output);
    options.shape = shape.clone();
    options.data_checksums = data_checksums;
    build(&options, &Progress::default()).expect("build");
    let mut image = vec![0; len];
    File::from(memory).read_exact_at(&mut image, 0).expect("read");
    image
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 500, ..ProptestConfig::default() })]

    #[test]
    fn an_image_shows_the_tree_it_was_built_from(
        model in model(),
        branches in any::<bool>(),
        checksums in any::<bool>(),
    ) {
        let delta_size = Some(288 << 10).filter(|_| branches);
        let shape = Shape { branches, delta_size, size: None };
        let scratch = tempfile::tempdir_in("/dev/shm").expect("a temporary directory");
        let tree = scratch.path().join("tree");
        model.plant(&tree, false);
        let image = image_of(&tree, &shape, checksums);
        prop_assert!(image == image_of(&tree, &shape, checksums), "built twice, two images");
        let memory = in_memory(&tree, &shape, checksums, image.len());
        prop_assert!(image == memory, "a file and memory, two images");
        let copy = scratch.path().join("copy");
        model.plant(&copy, true);
        prop_assert!(image == image_of(&copy, &shape, checksums), "the order of making shows");
        let (expected, found) = (model.shown(), read(image));
        prop_assert_eq!(expected, found);
    }
}
