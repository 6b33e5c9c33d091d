// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: a dump names every byte of every structure, in both forms, and copes with images
//! of which little is left.

#[path = "common/trees.rs"]
mod common;
mod support;

use std::fs;
use std::os::unix::ffi::OsStrExt;

use common::{build_image, vector};
use daxfs_core::build::Input;
use daxfs_core::dump::{DumpFormat, DumpOptions, dump};
use daxfs_core::format::STRUCTURES;
use daxfs_core::region::Region;
use serde_json::Value;
use tempfile::TempDir;

fn dump_as(bytes: &[u8], format: DumpFormat, limit: u64) -> String {
    let region = Region::from_bytes(bytes).unwrap();
    let mut out = Vec::new();
    dump(&region, DumpOptions { format, limit }, &mut out, "out".as_ref()).unwrap();
    String::from_utf8(out).unwrap()
}

fn json(bytes: &[u8], limit: u64) -> Vec<Value> {
    let text = dump_as(bytes, DumpFormat::Json, limit);
    // Lone surrogates stand for what is not UTF-8; this parser does not take them.
    let parse = |line: &str| serde_json::from_str(&line.replace("\\udc", "\\u00")).unwrap();
    text.lines().map(parse).collect()
}

#[test]
fn names_in_json_are_what_other_commands_print() {
    let tree = TempDir::new().unwrap();
    let name = std::ffi::OsStr::from_bytes(b"a\n\\x\xff\"");
    fs::write(tree.path().join(name), "").unwrap();
    let out = TempDir::new().unwrap();
    let image = out.path().join("image");
    build_image(Input::Directory(tree.path().into()), image.clone());
    let text = dump_as(&fs::read(image).unwrap(), DumpFormat::Json, u64::MAX);
    assert!(text.contains(r#""value":"a\n\\x\udcff\"""#), "{text}");
}

fn named<'a>(lines: &'a [Value], structure: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["structure"] == structure).collect()
}

fn field<'a>(line: &'a Value, name: &str) -> &'a Value {
    let fields = line["fields"].as_array().unwrap();
    &fields.iter().find(|field| field["name"] == name).unwrap()["value"]
}

#[test]
fn text_has_offset_size_name_and_value_of_every_field() {
    let text = dump_as(&fs::read(vector("static.daxfs")).unwrap(), DumpFormat::Text, u64::MAX);
    assert!(text.starts_with(
        "superblock at 0x0\n  0x00000000    4 magic                  0x64617833 (1684109363)\n  \
         0x00000004    4 version                0x3 (3)\n"
    ));
    assert!(text.contains("\nbase superblock at 0x1000\n"));
    assert!(text.contains("  128 name                   \"a b\"\n"));
    assert!(text.contains("   11 target                 \"etc/numbers\"\n"));
    assert_eq!(text.matches("\nbase inode ").count(), 16);
    assert_eq!(text.matches("\ndirent ").count(), 15);
    assert_eq!(text.matches("\n! ").count(), 0);
}

#[test]
fn json_covers_every_byte_of_every_structure() {
    let mut seen = Vec::new();
    let tree = common::tree();
    let out = TempDir::new().unwrap();
    let image = out.path().join("image");
    drop(build_image(Input::Directory(tree.path().into()), image.clone()));
    let images = [vector("delta.daxfs"), image].map(|image| fs::read(image).unwrap());
    for image in images.into_iter().chain([support::ours::every_entry().bytes]) {
        for line in json(&image, u64::MAX) {
            assert!(line.get("note").is_none(), "{line}");
            let name = line["structure"].as_str().unwrap().to_owned();
            let Some((_, known)) = STRUCTURES.iter().find(|(title, _)| *title == name) else {
                continue;
            };
            let mut at = line["offset"].as_u64().unwrap();
            for (shown, known) in line["fields"].as_array().unwrap().iter().zip(*known) {
                assert_eq!(shown["name"], known.name);
                assert_eq!(shown["offset"], at);
                at += shown["size"].as_u64().unwrap();
            }
            seen.push(name);
        }
    }
    for (name, _) in STRUCTURES {
        assert!(seen.contains(&(*name).into()), "{name}");
    }
}

#[test]
fn names_values_and_logs_are_shown() {
    let lines = json(&fs::read(vector("delta.daxfs")).unwrap(), u64::MAX);
    let records = named(&lines, "branch record");
    assert_eq!(field(records[0], "name"), "main");
    assert_eq!(field(records[1], "name"), "b1");
    let renames = named(&lines, "RENAME");
    assert!(!renames.is_empty());
    assert_ne!(field(renames[0], "old_name"), "");
    assert_ne!(field(named(&lines, "SYMLINK")[0], "target"), "");

    let tree = common::tree();
    let out = TempDir::new().unwrap();
    let image = out.path().join("image");
    drop(build_image(Input::Directory(tree.path().into()), image.clone()));
    let lines = json(&fs::read(image).unwrap(), u64::MAX);
    let entries = named(&lines, "xattr entry");
    let values = |name: &str| {
        let entry = entries.iter().find(|entry| field(entry, "name") == name).unwrap();
        field(entry, "value").clone()
    };
    assert_eq!(values("user.plain"), "value");
    assert_eq!(values("user.of.directory"), "with\0zero\nand=newline");
    let times: Vec<_> =
        named(&lines, "base inode").iter().map(|i| field(i, "mtime").clone()).collect();
    assert!(times.contains(&(-1_500_000_000i64).into()));
}

#[test]
fn a_limit_bounds_every_table_and_says_so() {
    let bytes = fs::read(vector("delta.daxfs")).unwrap();
    let lines = json(&bytes, 3);
    assert_eq!(named(&lines, "base inode").len(), 3);
    let notes: Vec<_> = lines.iter().filter_map(|line| line["note"].as_str()).collect();
    assert!(notes.contains(&"13 more of base inode, not shown"), "{notes:?}");
    assert!(notes.iter().any(|note| note.ends_with("more bytes of log, not shown")), "{notes:?}");
}

#[test]
fn what_is_left_of_an_image_is_shown() {
    let bytes = fs::read(vector("delta.daxfs")).unwrap();
    for len in [0, 1, 100, 4096, 5000, 36_864, 40_000, 41_100, 60_000] {
        let text = dump_as(&bytes[..len.min(bytes.len())], DumpFormat::Text, 100);
        assert!(text.contains("\n! "), "{len}: {text}");
    }
    assert!(dump_as(&bytes[..100], DumpFormat::Text, 1).contains(" base_offset "));
    // Offsets, sizes and counts that lead anywhere.
    for at in (16..96).chain(0x9000 + 16..0x9000 + 64).chain(0x1000..0x1100) {
        for value in [0x7f, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at..at + 4].fill(value);
            for format in [DumpFormat::Text, DumpFormat::Json] {
                assert!(dump_as(&damaged, format, 5).len() < 1 << 20);
            }
        }
    }
}
