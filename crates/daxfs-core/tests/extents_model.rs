// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: writes and truncates in a log, over data in the base, leave the bytes that the same
//! writes and truncates leave in a vector; above all, no old byte comes back.

mod common;

use common::{Log, base, contents, image, view};
use daxfs_core::view::Links;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

/// Truncates are seldom or often: many writes in a row are laid over a file all at once.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop_oneof![Just(3), Just(60)].prop_flat_map(|writes| {
        let write = (0..64u64, prop::collection::vec(any::<u8>(), 0..24))
            .prop_map(|(offset, bytes)| Step::Write(offset, bytes));
        let truncate = (0..80u64).prop_map(Step::Truncate);
        prop::collection::vec(prop_oneof![writes => write, 1 => truncate], 0..60)
    })
}

fn apply(model: &mut Vec<u8>, step: &Step) {
    match step {
        Step::Write(_, bytes) if bytes.is_empty() => {}
        Step::Write(offset, bytes) => {
            let (start, end) = (*offset as usize, *offset as usize + bytes.len());
            model.resize(model.len().max(end), 0);
            model[start..end].copy_from_slice(bytes);
        }
        Step::Truncate(size) => model.resize(*size as usize, 0),
    }
}

fn log(steps: &[Step]) -> Log {
    steps.iter().fold(Log::default(), |log, step| match step {
        Step::Write(offset, bytes) => log.write(base::BASE_TXT, *offset, bytes),
        Step::Truncate(size) => log.truncate(base::BASE_TXT, *size),
    })
}

proptest! {
    #[test]
    fn a_file_is_what_its_log_says(steps in steps(), cut in 0..60usize, from in 0..90u64) {
        // In two layers: where one log ends must not matter.
        let cut = cut.min(steps.len());
        let (main, child) = (log(&steps[..cut]), log(&steps[cut..]));
        let bytes = image(&[("main", 0, &main), ("child", 1, &child)]);
        let branch = view(&bytes, "child").unwrap();
        let mut model = contents(&view(&common::vector("branching.daxfs"), "main").unwrap(), "base.txt");
        steps.iter().for_each(|step| apply(&mut model, step));

        prop_assert_eq!(contents(&branch, "base.txt"), &model[..]);
        let file = branch.resolve(b"base.txt", Links::Keep).unwrap();
        let mut buffer = [0xee; 16];
        let len = branch.read(&file, from, &mut buffer).unwrap();
        let rest = &model[model.len().min(from as usize)..];
        prop_assert_eq!(&buffer[..len], &rest[..rest.len().min(16)]);

        // The extents say the same: in order, apart, inside the file, holes are zeroes.
        let mut from_extents = vec![0; model.len()];
        let mut end = 0;
        for extent in branch.extents(&file).unwrap() {
            prop_assert!(extent.len > 0 && extent.file_offset >= end);
            end = extent.file_offset + extent.len;
            let source = &bytes[extent.image_offset as usize..][..extent.len as usize];
            from_extents[extent.file_offset as usize..end as usize].copy_from_slice(source);
        }
        prop_assert_eq!(from_extents, model);
    }
}
