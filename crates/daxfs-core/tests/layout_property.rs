// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects the geometry: whatever sizes are asked for, the regions of an image lie apart, inside
//! and on blocks, or the request is refused; no sum wraps.

use daxfs_core::finding::Findings;
use daxfs_core::format::{
    BLOCK_SIZE, HUGE_SIZE, INODE_SIZE, OPENER_TABLE_SIZE, OWNER_WORD, Superblock, feature, mode,
};
use daxfs_core::layout::{Placement, Shape, base_offset, is_huge, stored_size, superblock};
use daxfs_core::source::{Attributes, Child, Tree};
use proptest::prelude::*;

/// Sizes of all magnitudes, and those next to where sums wrap.
fn size() -> impl Strategy<Value = u64> {
    let edge = prop_oneof![Just(u64::MAX), Just(i64::MAX as u64), (0..64_u32).prop_map(|n| 1 << n)];
    prop_oneof![
        0..1_u64 << 24,
        any::<u64>(),
        (edge, -9000..9000_i64).prop_map(|(edge, by)| edge.saturating_add_signed(by)),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    (any::<bool>(), prop::option::of(size()), prop::option::of(size())).prop_map(
        |(branches, delta_size, size)| Shape {
            branches,
            delta_size: delta_size.filter(|_| branches),
            size,
        },
    )
}

/// What a superblock with branches says of its delta region fits together.
fn check_delta(superblock: &Superblock, shape: &Shape) {
    let size = superblock.delta_region_size.get();
    if let Some(asked) = shape.delta_size {
        assert_eq!(size, asked.next_multiple_of(BLOCK_SIZE));
    }
    let spans = superblock.delta_spans();
    let blocks = superblock.heap_blocks.get();
    assert!(blocks >= 64 && superblock.reserve_blocks.get() < blocks);
    let map = superblock.opener_table_offset.get() - superblock.owner_map_offset.get();
    assert!(map >= blocks * OWNER_WORD, "a map of {map} bytes for {blocks} blocks");
    assert!(map <= (blocks * OWNER_WORD).next_multiple_of(BLOCK_SIZE) + BLOCK_SIZE);
    assert_eq!(spans.len(), 3);
    let used = map + OPENER_TABLE_SIZE + blocks * BLOCK_SIZE;
    assert_eq!(used, size, "blocks of the delta region that serve nothing");
}

fn tree_of(sizes: &[u64]) -> Tree {
    let node = |mode, size| Attributes { mode, size, ..Attributes::default() };
    let mut tree = Tree::new(node(mode::DIRECTORY | 0o755, 0));
    let children = sizes.iter().enumerate().map(|(number, size)| {
        let name = format!("{number:08}").into_bytes();
        (name, Child::New(node(mode::REGULAR | 0o644, *size)))
    });
    tree.fill(0, children);
    tree
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn superblocks_hold_together(
        shape in shape(),
        blocks in size().prop_map(|size| size / BLOCK_SIZE),
        inodes in 1..=1_u32 << 30,
    ) {
        let base_size = blocks.max(2) * BLOCK_SIZE;
        let Ok(superblock) = superblock(&shape, base_size, inodes, feature::SORTED_DIRS) else {
            return Ok(());
        };
        let total = superblock.total_size.get();
        let mut findings = Findings::default();
        superblock.check(total, &mut findings);
        prop_assert_eq!(findings.list(), &[]);
        prop_assert_eq!(superblock.base_offset.get(), base_offset(&shape));
        prop_assert_eq!(superblock.base_size.get(), base_size);
        if let Some(asked) = shape.size {
            prop_assert_eq!(total, asked - asked % BLOCK_SIZE);
        }
        if shape.branches {
            check_delta(&superblock, &shape);
        }
    }

    #[test]
    fn moderate_sizes_are_granted(
        delta in prop::option::of(288_u64 << 10..1 << 40),
        base_size in (2..1_u64 << 28).prop_map(|blocks| blocks * BLOCK_SIZE),
        spare in prop::option::of(512_u64 << 10..1 << 40),
    ) {
        let shape = Shape { branches: true, delta_size: delta, size: None };
        let needed = superblock(&shape, base_size, 1, 0).expect("granted").total_size.get();
        let size = spare.map(|spare| needed + spare);
        let sized = superblock(&Shape { size, ..shape }, base_size, 1, 0).expect("granted");
        prop_assert!(sized.total_size.get() >= needed);
    }

    #[test]
    fn data_lie_apart(
        sizes in prop::collection::vec(size(), 0..40),
        base in prop_oneof![Just(4096_u64), Just(36864)],
    ) {
        let tree = tree_of(&sizes);
        let total = sizes.iter().try_fold(0_u64, |sum, size| sum.checked_add(*size));
        let placement = match Placement::new(&tree, base) {
            Ok(placement) => placement,
            Err(_) => {
                prop_assert!(total.is_none_or(|total| total > 1 << 61), "{total:?} were refused");
                return Ok(());
            }
        };
        let table_end = placement.inode_offset + tree.nodes().len() as u64 * INODE_SIZE;
        prop_assert!(placement.inode_offset >= BLOCK_SIZE);
        prop_assert!(placement.data_offset >= table_end);
        let mut extents = Vec::new();
        for (node, data) in tree.nodes().iter().zip(&placement.data) {
            let size = stored_size(node);
            prop_assert_eq!(*data == 0, size == 0);
            if size > 0 {
                prop_assert!(data.is_multiple_of(BLOCK_SIZE));
                prop_assert!(!is_huge(node) || (base + data).is_multiple_of(HUGE_SIZE));
                extents.push((*data, size));
            }
        }
        extents.sort_unstable();
        let mut end = placement.data_offset;
        for (data, size) in extents {
            prop_assert!(data >= end, "data at {data:#x} begin before {end:#x}");
            end = data + size;
        }
        prop_assert!(placement.data_end >= end);
        prop_assert!(placement.data_end.is_multiple_of(BLOCK_SIZE));
    }
}
