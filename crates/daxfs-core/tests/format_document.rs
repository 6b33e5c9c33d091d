// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: `docs/format.md` and `format.rs` describe the same bytes.

use std::collections::HashMap;

use daxfs_core::format::{self, Field, STRUCTURES, feature};

const DOCUMENT: &str = include_str!("../../../docs/format.md");

/// The tables of the document by the heading above them: rows of cells.
fn tables() -> HashMap<&'static str, Vec<Vec<&'static str>>> {
    let mut tables: HashMap<&str, Vec<Vec<&str>>> = HashMap::new();
    let mut heading = "";
    for line in DOCUMENT.lines() {
        if let Some(title) = line.strip_prefix("### ") {
            heading = title;
        } else if let Some(row) = line.strip_prefix("| ") {
            let cells = row.trim_end_matches('|').split('|').map(str::trim).collect();
            tables.entry(heading).or_default().push(cells);
        }
    }
    tables
}

fn bytes_of(kind: &str) -> usize {
    match kind {
        "u16" => 2,
        "u32" => 4,
        "u64" | "i64" => 8,
        other => other.strip_suffix(" bytes").expect("a type").parse().expect("a number of bytes"),
    }
}

#[test]
fn every_field_is_where_the_document_says() {
    let tables = tables();
    for (name, fields) in STRUCTURES {
        let rows = &tables.get(name).unwrap_or_else(|| panic!("no section {name}"))[1..];
        let told: Vec<(usize, usize, &str)> = rows
            .iter()
            .map(|row| (row[0].parse().expect("an offset"), bytes_of(row[1]), row[2]))
            .collect();
        let built: Vec<(usize, usize, &str)> =
            fields.iter().map(|Field { name, offset, size, .. }| (*offset, *size, *name)).collect();
        assert_eq!(told, built, "section {name}");
    }
}

#[test]
fn structures_have_no_gaps() {
    for (name, fields) in STRUCTURES {
        let mut end = 0;
        for field in *fields {
            assert_eq!(field.offset, end, "{name}.{}", field.name);
            end += field.size;
        }
    }
}

#[test]
fn feature_bits_are_those_of_the_document() {
    let told: Vec<(u32, &str)> = tables()["Feature bits"][1..]
        .iter()
        .map(|row| (1 << row[0].parse::<u32>().expect("a bit"), row[1]))
        .collect();
    assert_eq!(told, feature::NAMES);
}

#[test]
fn magic_numbers_are_those_of_the_document() {
    let tables = tables();
    for (section, magic) in [("superblock", format::MAGIC), ("base superblock", format::BASE_MAGIC)]
    {
        assert_eq!(tables[section][1][3], format!("`{magic:#x}`"));
    }
}
