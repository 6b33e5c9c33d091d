// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects against images made to harm: each is right in all but the one thing that is named,
//! as its maker can compute every checksum, and must be refused without a panic or endless work.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use daxfs_core::build::{BuildOptions, Input, Output, build};
use daxfs_core::error::Error;
use daxfs_core::finding::Findings;
use daxfs_core::format::{BLOCK_SIZE, DIRENT_SIZE, feature};
use daxfs_core::image::Unvalidated;
use daxfs_core::layout::Shape;
use daxfs_core::progress::Progress;
use daxfs_core::region::{Access, Region, Source};
use daxfs_core::validate::{Depth, validate};
use daxfs_core::view::View;
use zerocopy::IntoBytes;

use support::change::is_sound;
use support::exhaust::{exhaust_sound, exhaust_trusting};
use support::forge::Forge;
use support::sample::{image_of, sample, scratch, vector, without_checksums};

type Harm = (&'static str, fn(&mut Forge));

/// Trees that are none.
const SHAPES: &[Harm] = &[
    ("a cycle", |forge| {
        // home holds deep, deep holds deeper, deeper holds home; the root holds none of them.
        forge.relink("home/deep/deeper/end", "home");
        forge.relink("home", "home/deep/deeper/end");
        forge.add_links("home/deep/deeper", 1);
        forge.add_links("", -1);
    }),
    ("a directory in itself", |forge| {
        forge.relink("home/deep/deeper/end", "home/deep/deeper");
        forge.relink("home/deep/deeper", "home/deep/deeper/end");
        forge.add_links("home/deep/deeper", 1);
        forge.add_links("home/deep", -1);
    }),
    ("a directory with two names", |forge| {
        forge.relink("empty", "home/deep");
        forge.add_links("home/deep", 1);
    }),
    ("a name of the root", |forge| {
        forge.relink("empty", "");
        forge.add_links("", 1);
    }),
    ("an inode without a name", |forge| forge.relink("hollow", "program")),
    ("a link too few", |forge| forge.add_links("note.link", -1)),
    ("a link too many", |forge| forge.add_links("home", 1)),
    ("a file for a root", |forge| forge.inode("").mode = 0o100_644.into()),
    ("another type in the dirent", |forge| forge.dirent("hollow").mode = 0o120_777.into()),
    ("a name of nothing", |forge| forge.dirent("hollow").ino = 0.into()),
    ("a name of an inode beyond the table", |forge| forge.dirent("hollow").ino = u32::MAX.into()),
    ("an inode that gives another number", |forge| forge.inode("hollow").ino = 1.into()),
    ("an empty name", |forge| forge.dirent("hollow").name_len = 0.into()),
    ("a name of 129 bytes", |forge| forge.dirent("hollow").name_len = 129.into()),
    ("a name with a slash", |forge| forge.dirent("hollow").name[2] = b'/'),
    ("a name with a NUL", |forge| forge.dirent("hollow").name[2] = 0),
    ("a name of one dot", |forge| {
        let dirent = forge.dirent("dangling");
        dirent.name[..8].copy_from_slice(b".\0\0\0\0\0\0\0");
        dirent.name_len = 1.into();
    }),
    ("a name twice", |forge| {
        let other = *forge.dirent("disk");
        let dirent = forge.dirent("dangling");
        (dirent.name, dirent.name_len) = (other.name, other.name_len);
    }),
];

/// Bytes that belong to two, or to nobody.
const PLACES: &[Harm] = &[
    ("directories that share their dirents", |forge| {
        let home = *forge.inode("home");
        let empty = forge.inode("empty");
        (empty.data_offset, empty.size) = (home.data_offset, home.size);
    }),
    ("files that share a block", |forge| {
        let note = forge.inode("home/note").data_offset;
        forge.inode("program").data_offset = note;
    }),
    ("a file that reaches into the next", |forge| forge.inode("home/note").size = 4097.into()),
    ("a file in the inode table", |forge| forge.inode("program").data_offset = 4096.into()),
    ("a file in the base superblock", |forge| forge.inode("program").data_offset = 0.into()),
    ("a file between blocks", |forge| {
        let inode = forge.inode("home/deep/deeper/end");
        inode.data_offset += 8;
        inode.size -= 8;
    }),
    ("a file beyond the base image", |forge| {
        let size = forge.base().total_size;
        forge.inode("program").data_offset = size;
    }),
    ("data that begin in the inode table", |forge| forge.base().data_offset = BLOCK_SIZE.into()),
    ("data that begin behind a directory", |forge| {
        forge.base().data_offset = (forge.root_data() + BLOCK_SIZE).into();
    }),
    ("an inode table in the data", |forge| {
        forge.base().inode_offset = forge.root_data().into();
    }),
    ("attributes in the data", |forge| forge.base().xattr_offset = forge.root_data().into()),
    ("attributes in the middle of a set", |forge| forge.inode("program").xattr_offset += 8),
    ("a symlink without an end", |forge| {
        forge.inode("dangling").size += 1;
    }),
    ("a symlink with two ends", |forge| {
        forge.inode("dangling").size -= 1;
    }),
];

/// Numbers too large for what is there.
const COUNTS: &[Harm] = &[
    ("2^32 - 1 inodes", |forge| forge.base().inode_count = u32::MAX.into()),
    ("2^30 inodes", |forge| forge.base().inode_count = (1 << 30).into()),
    ("no inodes", |forge| forge.base().inode_count = 0.into()),
    ("an inode table at the end of all numbers", |forge| {
        forge.base().inode_offset = (u64::MAX - 4095).into();
    }),
    ("a base image of 2^64 - 4096 bytes", |forge| {
        forge.superblock().base_size = (u64::MAX - 4095).into();
        forge.base().total_size = (u64::MAX - 4095).into();
    }),
    ("a base image at the end of all numbers", |forge| {
        forge.superblock().base_offset = (u64::MAX - 4095).into();
    }),
    ("a size of 2^64 - 1 bytes", |forge| forge.superblock().total_size = u64::MAX.into()),
    ("a file of 2^64 - 1 bytes", |forge| forge.inode("program").size = u64::MAX.into()),
    ("a file at the end of all numbers", |forge| {
        forge.inode("program").data_offset = (u64::MAX - 4095).into();
    }),
    ("a directory of nearly 2^64 bytes", |forge| {
        forge.inode("home").size = (u64::MAX / DIRENT_SIZE * DIRENT_SIZE).into();
    }),
    ("a directory and a half", |forge| forge.inode("home").size += 72),
    ("a symlink of 4096 bytes", |forge| forge.inode("way").size = BLOCK_SIZE.into()),
    ("a symlink of 2^64 - 1 bytes", |forge| forge.inode("way").size = u64::MAX.into()),
    ("a symlink of nothing", |forge| forge.inode("way").size = 0.into()),
    ("a pipe with contents", |forge| {
        let note = *forge.inode("home/note");
        let pipe = forge.inode("pipe");
        (pipe.size, pipe.data_offset) = (1.into(), note.data_offset);
    }),
    ("2^32 - 1 attributes", |forge| {
        let start = forge.xattrs().start;
        forge.bytes[start + 8..start + 12].fill(0xff);
    }),
    ("an attribute set of 2^32 - 8 bytes", |forge| {
        let start = forge.xattrs().start;
        forge.bytes[start..start + 4].copy_from_slice(&(u32::MAX - 7).to_le_bytes());
    }),
    ("an attribute set of nothing", |forge| {
        let start = forge.xattrs().start;
        forge.bytes[start..start + 4].fill(0);
    }),
    ("attributes at the end of all numbers", |forge| {
        forge.base().xattr_offset = (u64::MAX - 7).into();
    }),
    ("a set at the end of all numbers", |forge| {
        forge.inode("program").xattr_offset = u64::MAX.into();
    }),
];

#[test]
fn crafted_images_are_refused() {
    let image = Forge::new(&without_checksums(&sample(Shape::default())));
    for (what, harm) in SHAPES.iter().chain(PLACES).chain(COUNTS) {
        let mut forge = image.clone();
        harm(&mut forge);
        assert_ne!(forge.bytes, image.bytes, "{what}: nothing changed");
        let region = forge.region();
        assert!(!is_sound(&region), "{what} is taken as sound");
        assert!(exhaust_sound(&region).is_err(), "{what} can be opened");
        // Errors are fine here, panics and endless walks are not.
        let _ = exhaust_trusting(&region);
    }
}

/// What is made of an image in good faith has checksums of its own: what was wrong must not go in.
#[test]
fn what_is_made_of_crafted_images_is_sound() {
    let image = Forge::new(&without_checksums(&sample(Shape::default())));
    let scratch = scratch();
    let mut made = 0;
    for (what, harm) in SHAPES.iter().chain(PLACES).chain(COUNTS) {
        let mut forge = image.clone();
        harm(&mut forge);
        let Ok(opened) = Unvalidated::open(forge.region()) else { continue };
        let view = Arc::new(View::base(Arc::new(opened.trust())));
        let path = scratch.path().join("made");
        let output = Output::File(path.clone());
        let mut options = BuildOptions::new(Input::Image(view), output);
        options.force = true;
        if build(&options, &Progress::default()).is_ok() {
            made += 1;
            let made = Region::open(&Source::Path(path), Access::Read).expect("map");
            assert!(is_sound(&Arc::new(made)), "{what} became an image that is not sound");
        }
    }
    assert!(made > 0, "nothing was made");
}

/// Features that this version does not know are refused or ignored as the format has it.
#[test]
fn unknown_features() {
    let image = Forge::new(&vector("static.daxfs"));
    for bit in 7..32 {
        let mut forge = image.clone();
        forge.superblock().flags |= 1 << bit;
        let opened = Unvalidated::open(forge.region());
        match opened {
            Ok(_) => assert!(bit < 16, "incompatible bit {bit} was ignored"),
            Err(Error::Unsupported { what }) if bit > 16 => {
                assert!(what.ends_with(&format!(" {bit}")), "{what} does not name bit {bit}");
            }
            Err(error) => assert_eq!(bit, 16, "a static image with branches alone fails: {error}"),
        }
    }
}

/// Many directories that name one array: each name would be met once for every directory.
#[test]
fn sharing_dirents_does_not_multiply_the_work() {
    let scratch = scratch();
    let tree = scratch.path().join("tree");
    fs::create_dir_all(tree.join("many")).expect("mkdir");
    for number in 0..1000 {
        File::create(tree.join(format!("many/{number}"))).expect("create");
        fs::create_dir(tree.join(format!("d{number}"))).expect("mkdir");
    }
    let mut forge = Forge::new(&without_checksums(&image_of(&tree, Shape::default())));
    let many = *forge.inode("many");
    for number in 0..1000 {
        let inode = forge.inode(&format!("d{number}"));
        (inode.data_offset, inode.size) = (many.data_offset, many.size);
    }
    let region = forge.region();
    let report = validate(&region, Depth::Data).expect("an image");
    assert!(report.findings.errors() > 0);
    assert_eq!(report.counts.dirents, 0, "dirents were read although they cannot fit");
    assert!(exhaust_trusting(&region).is_err(), "a walk met a million names in few bytes");
}

/// A table that is a hole in a file costs its maker nothing; it must not cost the reader much.
#[test]
fn a_hole_for_a_table_is_not_read_to_its_end() {
    const INODES: u32 = 1 << 28;
    let mut forge = Forge::new(&vector("static.daxfs"));
    let size = u64::from(INODES) * 64 + 16 * BLOCK_SIZE;
    forge.superblock().total_size = (size + BLOCK_SIZE).into();
    forge.superblock().base_size = size.into();
    forge.superblock().next_inode_id = (u64::from(INODES) + 1).into();
    forge.base().total_size = size.into();
    forge.base().inode_count = INODES.into();
    forge.base().data_offset = size.into();
    let headers =
        [forge.superblock().as_bytes().to_vec(), forge.base().as_bytes().to_vec()].concat();
    let scratch = scratch();
    let path = scratch.path().join("image");
    let file = File::create(&path).expect("create");
    file.set_len(size + BLOCK_SIZE).expect("a hole");
    file.write_all_at(&headers, 0).expect("write");
    let region = Arc::new(Region::open(&Source::Path(path), Access::Read).expect("map"));
    let report = validate(&region, Depth::Metadata).expect("an image");
    assert!(report.findings.list().len() <= Findings::KEPT);
    assert!(report.findings.errors() >= Findings::KEPT as u64);
    assert!(report.counts.inodes < 1 << 20, "{} inodes of nothing", report.counts.inodes);
}

/// However much a reader may put up with in plain v3, the one error behind it counts.
#[test]
fn warnings_do_not_hide_an_error() {
    let scratch = scratch();
    let tree = scratch.path().join("tree");
    fs::create_dir(&tree).expect("mkdir");
    for number in 0..Findings::KEPT {
        File::create(tree.join(format!("{number:05}"))).expect("create");
    }
    let mut forge = Forge::new(&without_checksums(&image_of(&tree, Shape::default())));
    // Without feature bits, the times that inodes carry are warned of and no more.
    let superblock = forge.superblock();
    assert!(superblock.has(feature::INODE_EXT));
    superblock.flags = 0.into();
    superblock.uuid.fill(0);
    superblock.label.fill(0);
    let report = validate(&forge.region(), Depth::Metadata).expect("an image");
    assert_eq!(report.findings.errors(), 0);
    assert!(report.findings.warnings() >= Findings::KEPT as u64);
    assert!(exhaust_sound(&forge.region()).is_ok(), "warnings alone do not refuse");

    let first = *forge.dirent("00000");
    forge.dirent("00001").name = first.name;
    assert!(exhaust_sound(&forge.region()).is_err(), "a name that is there twice went unseen");
}
