// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: in images of ours every block has one use and one owner, whatever logs claim; and
//! what a party that died may leave behind is no error.

mod support;

use std::cell::Cell;
use std::sync::{Arc, LazyLock};

use daxfs_core::branch::Table;
use daxfs_core::delta::{Change, LogSpace, Name, encode, encode_continue, scan};
use daxfs_core::finding::Severity;
use daxfs_core::format::{
    BLOCK_SIZE, MAIN_ID, MAIN_NAME, OPENER_CLAIMED, OPENER_FREED, branch_flag, mode, state,
};
use daxfs_core::image::Unvalidated;
use daxfs_core::region::{Access, Region};
use daxfs_core::session::Session;
use daxfs_core::validate::{Depth, validate};
use daxfs_core::view::View;
use support::ours::{Ours, Step, every_entry, make};

static EVERY: LazyLock<Ours> = LazyLock::new(every_entry);
static EMPTY: LazyLock<Ours> = LazyLock::new(|| Ours::new(64));

fn region(image: &Ours) -> Arc<Region> {
    Arc::new(Region::from_bytes(&image.bytes).unwrap())
}

fn messages(image: &Ours, severity: Severity) -> Vec<String> {
    let findings = validate(&region(image), Depth::Metadata).unwrap().findings;
    let wanted = findings.list().iter().filter(|finding| finding.severity == severity);
    wanted.map(ToString::to_string).collect()
}

#[track_caller]
fn clean(image: &Ours) {
    assert_eq!(messages(image, Severity::Error), [""; 0]);
    assert_eq!(messages(image, Severity::Warning), [""; 0]);
}

#[track_caller]
fn wrong(image: &Ours, expected: &str) {
    let errors = messages(image, Severity::Error);
    assert!(errors.iter().any(|error| error.contains(expected)), "{errors:?}, no {expected:?}");
    assert_eq!(errors.len(), 1, "{errors:?}");
}

#[track_caller]
fn warned(image: &Ours, expected: &str) {
    assert_eq!(messages(image, Severity::Error), [""; 0]);
    let warnings = messages(image, Severity::Warning);
    assert!(warnings.iter().any(|found| found.contains(expected)), "{warnings:?}, no {expected:?}");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

fn names(image: &Ours, branch: &str) -> Vec<String> {
    let image = Arc::new(Unvalidated::open(region(image)).unwrap().trust());
    let view = View::open(image, branch).unwrap();
    let entries = view.read_dir(&view.inode(1).unwrap()).unwrap();
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect()
}

fn first_ino(image: &Ours) -> u64 {
    image.superblock.next_inode_id.get()
}

/// Main with files, each of which has one block or part of it.
fn with_extents(image: &mut Ours, extents: &[(u64, u64, u64, u64)]) {
    let first = first_ino(image);
    let count = 1 + extents.iter().map(|extent| extent.0).max().unwrap_or(0);
    let mut steps: Vec<Step> = (0..count)
        .map(|at| make(1, first + at, mode::REGULAR | 0o644, &format!("f{at}")))
        .collect();
    steps.extend(extents.iter().map(|(file, offset, image_offset, len)| {
        let (offset, image_offset, len) = (*offset, *image_offset, *len);
        let change = Change::Extent { offset, len, image_offset, keep_size: false };
        (first + file, 9, change, Vec::new())
    }));
    image.branch(0, MAIN_NAME, 0, &steps);
}

#[test]
fn every_entry_is_clean() {
    clean(&EVERY);
    assert!(names(&EVERY, "main").contains(&"made".into()));
    assert!(names(&EVERY, "b").contains(&"moved".into()));
}

/// Main with a log of one segment that ends in a CONTINUE to `next`.
fn continued(next: impl Fn(&Ours, u64) -> (u64, u64)) -> Ours {
    let mut image = EMPTY.clone();
    let first = first_ino(&image);
    image.branch(0, MAIN_NAME, 0, &[make(1, first, mode::FIFO | 0o600, "pipe")]);
    let segment = image.superblock.heap_offset.get();
    let (next, capacity) = next(&image, segment);
    let mut entry = Vec::new();
    encode(&mut entry, first, 5, &make(1, first, mode::FIFO | 0o600, "pipe").2, &[]);
    let end = segment as usize + entry.len();
    let mut link = Vec::new();
    encode_continue(&mut link, 6, 0..capacity);
    link[24..32].copy_from_slice(&next.to_le_bytes());
    image.bytes[end..end + link.len()].copy_from_slice(&link);
    image.record(0, |record| record.delta_log_size += link.len() as u64);
    image
}

#[test]
fn segments_lie_in_the_heap_on_blocks() {
    let end = |image: &Ours| {
        image.superblock.heap_offset.get() + image.superblock.heap_blocks.get() * BLOCK_SIZE
    };
    wrong(&continued(|_, segment| (segment + 8, BLOCK_SIZE)), "segment of a log");
    wrong(&continued(|_, segment| (segment + BLOCK_SIZE, 0)), "segment of a log");
    wrong(&continued(|_, segment| (segment + BLOCK_SIZE, 100)), "segment of a log");
    wrong(&continued(|image, _| (end(image), BLOCK_SIZE)), "segment of a log");
    wrong(&continued(|image, _| (end(image) - BLOCK_SIZE, 2 * BLOCK_SIZE)), "segment of a log");
    wrong(&continued(|_, segment| (segment - BLOCK_SIZE, BLOCK_SIZE)), "segment of a log");
    wrong(&continued(|_, _| (u64::MAX - 4095, BLOCK_SIZE)), "segment of a log");
}

#[test]
fn segments_are_the_records_and_come_once() {
    // Nobody's.
    wrong(&continued(|_, segment| (segment + BLOCK_SIZE, BLOCK_SIZE)), "owner of a log's block");
    // The one that it stands in: a circle.
    let mut circle = continued(|_, segment| (segment, BLOCK_SIZE));
    wrong(&circle, "use of a heap block");
    // However long it claims to be, it ends, and the reader of its branch says so too.
    let heap = circle.superblock.heap_blocks.get() * BLOCK_SIZE;
    circle.record(0, |record| record.delta_log_size.set(heap / 8 * 8));
    assert!(!messages(&circle, Severity::Error).is_empty());
    let image = Unvalidated::open(region(&circle)).unwrap().trust();
    assert!(View::open(Arc::new(image), "main").is_err());
    circle.record(0, |record| record.delta_log_size.set(heap + 8));
    assert!(messages(&circle, Severity::Error)[0].contains("size of a log"));
}

#[test]
fn extents_are_aligned_and_in_the_heap() {
    let heap = EMPTY.superblock.heap_offset.get();
    let end = heap + EMPTY.superblock.heap_blocks.get() * BLOCK_SIZE;
    let refused = [
        (0, 0, heap + 1, 10),
        (0, 1, heap, 10),
        (0, 0, heap, 0),
        (0, 0, heap - BLOCK_SIZE, 10),
        (0, 0, end, 1),
        (0, 4000, end - 96, 97),
        (0, 0, heap, u64::MAX),
    ];
    for extent in refused {
        let mut image = EMPTY.clone();
        with_extents(&mut image, &[extent]);
        let errors = messages(&image, Severity::Error);
        let what = ["bytes of an EXTENT", "size of a file"];
        assert!(what.iter().any(|what| errors[0].contains(what)), "{errors:?}");
    }
}

#[test]
fn blocks_of_files_are_the_records_and_one_files() {
    let mut image = EMPTY.clone();
    let data = image.allocate(MAIN_ID, 3).start;
    let mut sound = image.clone();
    // A file may name its blocks again and again, in parts and in wholes.
    let extents = [
        (0, 0, data, 10),
        (0, 0, data, 4096),
        (0, 4000, data + 4000, 8000),
        (1, 0, data + 8192, 5),
    ];
    with_extents(&mut sound, &extents[..2]);
    clean(&sound);
    let mut shared = image.clone();
    with_extents(&mut shared, &extents);
    wrong(&shared, "use of a heap block");
    // Whichever of many is met first, the same is found every time: else it would be taken for a
    // change by somebody else.
    let many: Vec<_> = (0..20).map(|file| (file, 0, data, 4096)).collect();
    let mut shared = image.clone();
    with_extents(&mut shared, &many);
    let found = messages(&shared, Severity::Error);
    assert!(found[0].contains("use of a heap block"), "{found:?}");
    (0..4).for_each(|_| assert_eq!(messages(&shared, Severity::Error), found));
    // One file after the other may have a block.
    let first = first_ino(&image);
    let change = |ino, change| (ino, 9, change, Vec::new());
    let extent = |len| Change::Extent { offset: 0, len, image_offset: data, keep_size: false };
    let begin = [
        make(1, first, mode::REGULAR | 0o644, "f0"),
        make(1, first + 1, mode::REGULAR | 0o644, "f1"),
        change(first, extent(8192)),
    ];
    let delete = Change::Delete { parent: 1, name: b"f0"[..].into() };
    for (end, sound) in [
        (Change::Truncate { size: 0 }, true),
        (Change::Punch { offset: 0, len: 4096 }, true),
        (delete, true),
        (Change::Truncate { size: 4096 }, false),
        (Change::Punch { offset: 1, len: 4096 }, false),
    ] {
        let mut image = image.clone();
        let steps = [&begin[..], &[change(first, end), change(first + 1, extent(4096))]].concat();
        image.branch(0, MAIN_NAME, 0, &steps);
        match sound {
            true => clean(&image),
            false => wrong(&image, "use of a heap block"),
        }
    }
    for owner in [0, 2, 9] {
        let mut image = sound.clone();
        image.own(data..data + BLOCK_SIZE, owner);
        assert!(messages(&image, Severity::Error)[0].contains("owner of a file's block"));
    }
    // A layer above may not have what another file has below, nor the log that is there; what a
    // file has below it keeps.
    let ino = first + 2;
    let log = sound.superblock.heap_offset.get() + 3 * BLOCK_SIZE;
    let own =
        |image_offset| Change::Extent { offset: 0, len: 4096, image_offset, keep_size: false };
    for (file, image_offset) in [(first, data), (ino, data), (ino, log)] {
        let mut image = sound.clone();
        let begin = make(1, ino, mode::REGULAR | 0o644, "above");
        image.branch(1, "b", MAIN_ID, &[begin, change(file, own(image_offset))]);
        match file == first {
            true => clean(&image),
            false => wrong(&image, "owner of a file's block"),
        }
    }
    // The log's own block as data.
    let mut image = EMPTY.clone();
    let log = image.superblock.heap_offset.get();
    with_extents(&mut image, &[(0, 0, log, 10)]);
    wrong(&image, "use of a heap block");
}

/// Main's tip over a fold over nothing, and the layer that the fold replaced; data and log of the
/// layer are still the layer's.
fn folding() -> (Ours, u64) {
    folding_repeated(EMPTY.clone(), 1, 1)
}

/// The same with `blocks` blocks of data, which the fold names so many times.
fn folding_repeated(mut image: Ours, blocks: u64, times: usize) -> (Ours, u64) {
    let (data, len) = (image.allocate(MAIN_ID, blocks).start, blocks * BLOCK_SIZE);
    with_extents(&mut image, &[(0, 0, data, len)]);
    let first = first_ino(&image) - 1;
    let change = Change::Extent { offset: 0, len, image_offset: data, keep_size: false };
    let mut steps = vec![make(1, first, mode::REGULAR | 0o644, "f0")];
    steps.extend(std::iter::repeat_n((first, 9, change, Vec::new()), times));
    image.branch(1, "fold", 0, &steps);
    image.branch(2, "tip", 2, &[]);
    image.record(0, |record| record.flags.set(branch_flag::ABSORBED));
    image.record(1, |record| {
        record.flags.set(branch_flag::FOLDED);
        record.base_head.set(0);
        record.checksum = record.expected_checksum().into();
    });
    image.record(2, |record| {
        record.base_head.set(1);
        record.checksum = record.expected_checksum().into();
    });
    image.words(|superblock| superblock.head.set(3));
    (image, data)
}

#[test]
fn a_fold_names_blocks_of_what_it_replaces_until_it_is_done() {
    let (image, data) = folding();
    clean(&image);
    let mut handed_over = image.clone();
    handed_over.own(data..data + BLOCK_SIZE, 2);
    clean(&handed_over);
    let done = branch_flag::FOLDED | branch_flag::FOLD_DONE;
    handed_over.record(1, |record| record.flags.set(done));
    clean(&handed_over);
    let mut early = image.clone();
    early.record(1, |record| record.flags.set(done));
    wrong(&early, "owner of a file's block");
    let mut unflagged = image.clone();
    unflagged.record(0, |record| record.flags.set(0));
    wrong(&unflagged, "owner of a file's block");
    let mut log = image.clone();
    let (at, word) = (image.record_at(1) as usize + 16, |at| image.bytes[at..at + 8].try_into());
    let log_at = u64::from_le_bytes(word(at).unwrap());
    log.own(log_at..log_at + BLOCK_SIZE, 1);
    wrong(&log, "owner of a log's block");
    let mut both = image;
    both.record(2, |record| record.flags.set(branch_flag::FOLDED));
    wrong(&both, "one fold under way");
}

thread_local! {
    static ACCESSES: Cell<u64> = const { Cell::new(0) };
}

#[test]
fn a_fold_is_finished_in_bounded_time() {
    const BLOCKS: u64 = 1000;
    let (image, data) = folding_repeated(Ours::new(1200), BLOCKS, 5000);
    clean(&image);
    let count = || ACCESSES.set(ACCESSES.get() + 1);
    let region = Arc::new(Region::interleaved(&image.bytes, count).unwrap());
    let trusted = Arc::new(Unvalidated::open(Arc::clone(&region)).unwrap().trust());
    let session = Session::open(trusted).unwrap();
    session.maintain().unwrap();
    for block in 0..BLOCKS {
        assert_eq!(region.load(image.map_word(data + block * BLOCK_SIZE)).unwrap(), 2);
    }
    assert!(ACCESSES.get() < 500_000, "{} accesses", ACCESSES.get());
}

#[test]
fn what_the_dead_leave_in_records_is_no_error() {
    let mut image = EVERY.clone();
    // A slot that was used, freed, and is being filled in again, or was when its party died.
    image.record(5, |record| {
        record.branch_id.set(6 + 256);
        record.parent_id.set(77);
        record.delta_log_offset.set(3);
        record.delta_log_size.set(u64::MAX);
        record.owner.set(44);
        record.stamp.set(u64::MAX);
        record.flags.set(u32::MAX);
        record.name = [0xff; 32];
    });
    clean(&image);
    for (slot, state) in [(6, state::NEW), (7, state::RETIRED)] {
        image.branch(slot, "left", MAIN_ID, &[]);
        image.record(slot, |record| {
            record.state.set(state);
            record.owner.set(1 << 63 | 99);
            record.stamp.set(if state == state::NEW { 1 << 60 } else { u64::MAX });
        });
        clean(&image);
    }
    // A retired record's blocks may be free already.
    let (log, _) = image.write_log(8, &[make(1, 5000, mode::FIFO, "gone")], 1);
    image.record(7, |record| {
        record.delta_log_offset.set(log.at);
        record.delta_log_size.set(100);
    });
    image.own(log.at..log.at + BLOCK_SIZE, 0);
    clean(&image);
}

#[test]
fn dead_branches_may_be_in_any_state_of_decay() {
    let mut image = EVERY.clone();
    let ino = first_ino(&image);
    image.branch(8, "dead", 9999, &[make(77, ino, mode::FIFO | 0o600, "in nothing")]);
    image.record(8, |record| {
        record.base_head.set(600);
        record.checksum = record.expected_checksum().into();
    });
    clean(&image);
    // Alive it would have to have a parent.
    image.record(8, |record| {
        record.base_head.set(MAIN_ID);
        record.checksum = record.expected_checksum().into();
    });
    wrong(&image, "parent of a branch");
}

#[test]
fn branches_are_made_from_the_tip_as_it_was() {
    let size = EVERY.bytes[EVERY.record_at(0) as usize + 24..][..8].try_into().unwrap();
    let size = u64::from_le_bytes(size);
    let base_size = |image: &mut Ours, size| {
        image.record(1, |record| {
            record.base_size.set(size);
            record.checksum = record.expected_checksum().into();
        });
    };
    let mut image = EVERY.clone();
    base_size(&mut image, size);
    clean(&image);
    base_size(&mut image, size + 8);
    wrong(&image, "size of a log");
    let mut beside = EVERY.clone();
    beside.branch(2, "beside", 0, &[]);
    wrong(&beside, "a chain with main's tip");
    let mut family = EVERY.clone();
    family.branch(2, "child", 2, &[]);
    clean(&family);
    family.record(1, |record| {
        record.base_head.set(33);
        record.checksum = record.expected_checksum().into();
    });
    wrong(&family, "family of a branch");
    let mut flags = EVERY.clone();
    flags.record(1, |record| record.flags.set(16));
    wrong(&flags, "flags of a branch");
}

#[test]
fn what_lost_its_last_name_is_of_no_layer_above() {
    let mut image = EMPTY.clone();
    let ino = first_ino(&image);
    let none = Vec::new();
    let gone = [
        make(1, ino, mode::SYMLINK | 0o777, "gone"),
        (ino, 9, Change::Delete { parent: 1, name: name("gone") }, none.clone()),
    ];
    let again = (ino, 9, Change::Link { parent: 1, name: name("again") }, none.clone());
    let touched = Change::SetXattr { name: b"user.k"[..].into(), value: Some(b"v"[..].into()) };
    // In the layer itself it may come back.
    image.branch(0, MAIN_NAME, 0, &[&gone[..], std::slice::from_ref(&again)].concat());
    clean(&image);
    image.branch(0, MAIN_NAME, 0, &gone);
    image.branch(1, "b", MAIN_ID, &[]);
    assert_eq!(messages(&image, Severity::Error), [""; 0]);
    for step in [again, (ino, 9, touched, none)] {
        image.branch(1, "b", MAIN_ID, &[step]);
        let errors = messages(&image, Severity::Error);
        assert!(errors[0].contains("a name in the layers below"), "{errors:?}");
    }
}

#[test]
fn leaks_are_warned_of_once_a_run() {
    let mut image = EVERY.clone();
    let leak = image.allocate(900, 5);
    warned(&image, "900 in 5 words");
    // A record that is being filled in may have blocks, if somebody holds it.
    image.own(leak.clone(), 6);
    image.record(5, |record| record.branch_id.set(6));
    warned(&image, "6 in 5 words");
    image.record(5, |record| record.owner.set(3));
    clean(&image);
    image.own(leak, 6 + 256);
    warned(&image, "262 in 5 words");
}

#[test]
fn opener_words_say_what_the_rest_means() {
    let opener = |word: u64, pin: u64, proof: u32| {
        let mut image = EVERY.clone();
        image.opener(3, |entry| {
            entry.opener_id.set(word);
            entry.pin.set(pin);
            entry.proof.set(proof);
            entry.pid.set(77);
        });
        image
    };
    let id = 4 + 512;
    for word in [0, id | OPENER_FREED, id | OPENER_CLAIMED] {
        clean(&opener(word, 1000, u32::MAX));
    }
    clean(&opener(id, 1, 1));
    wrong(&opener(id, 1, 2), "proof of an opener");
    // Power loss may have taken the epoch back.
    warned(&opener(id, 1000, 0), "pin of an opener");
    let both = OPENER_CLAIMED | OPENER_FREED;
    for word in [id + 1, id | both, id | 1 << 63, OPENER_FREED, OPENER_CLAIMED, 1 << 63] {
        wrong(&opener(word, 0, 0), "opener id");
    }
}

/// The last step is refused by proof and replay; what is before it is not.
#[track_caller]
fn refused(step: Step, expected: &str) {
    let mut image = EMPTY.clone();
    let first = first_ino(&image);
    let mut steps = vec![
        make(1, first, mode::DIRECTORY | 0o755, "dir"),
        make(first, first + 1, mode::REGULAR | 0o644, "file"),
        make(first, first + 2, mode::DIRECTORY | 0o755, "sub"),
    ];
    let mut sound = image.clone();
    sound.branch(0, MAIN_NAME, 0, &steps);
    clean(&sound);
    steps.push(step);
    image.branch(0, MAIN_NAME, 0, &steps);
    wrong(&image, expected);
    let opened = Arc::new(Unvalidated::open(region(&image)).unwrap().trust());
    let error = View::open(opened, "main").unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

fn name(name: &str) -> Name {
    Name::from(name.as_bytes())
}

#[test]
fn entries_of_ours_are_judged_where_they_stand() {
    let first = first_ino(&EMPTY);
    let [dir, file, sub] = [first, first + 1, first + 2];
    let step = |ino, change| (ino, 50, change, Vec::new());
    let link = |ino, parent, to: &str| step(ino, Change::Link { parent, name: name(to) });
    refused(link(dir, 1, "again"), "inode of a LINK");
    refused(link(file, dir, "file"), "one not in use");
    refused(link(file, dir, "sub"), "one not in use");
    refused(link(file, 1, "home"), "one not in use");
    refused(link(999, 1, "new"), "one that exists");
    refused(link(file, file, "new"), "a directory");
    refused(make(file, 99, mode::FIFO | 0o600, "below"), "a directory");
    refused(make(1, file, mode::FIFO | 0o600, "new"), "one not in use");
    refused(make(1, 99, mode::DIRECTORY | 0o700, "home"), "one not in use");
    let swap = |ino, old: (u64, &str), new: (u64, &str)| {
        let change = Change::Rename {
            ino,
            old_parent: old.0,
            new_parent: new.0,
            old_name: name(old.1),
            new_name: name(new.1),
            exchange: true,
        };
        step(ino, change)
    };
    refused(swap(file, (dir, "file"), (1, "none")), "one that exists");
    refused(swap(dir, (1, "dir"), (dir, "file")), "outside the moved one");
    refused(swap(sub, (dir, "sub"), (1, "dir")), "outside the moved one");
    let xattr = |name: &[u8], value: Option<&[u8]>| {
        step(file, Change::SetXattr { name: name.into(), value: value.map(Into::into) })
    };
    refused(xattr(b"user.none", None), "one that there is");
    refused(xattr(b"", Some(b"x")), "1 to 255 bytes");
    refused(xattr(b"user.\0", Some(b"x")), "no NUL");
    refused(xattr(&[b'n'; 256], Some(b"x")), "lengths in an XATTR");
    refused(xattr(b"user.big", Some(&vec![7; 65537])), "lengths in an XATTR");
    let punch = |ino, offset, len| step(ino, Change::Punch { offset, len });
    refused(punch(dir, 0, 1), "a regular file");
    refused(punch(file, u64::MAX, 2), "an overflow");
    refused(punch(file, 1 << 63, 0), "size of a file");
    let mut typeless = make(1, 99, 0o644, "nothing");
    refused(typeless.clone(), "one of POSIX's types");
    let Change::Mknod { mode: kind, target, .. } = &mut typeless.2 else { unreachable!() };
    (*kind, *target) = (mode::REGULAR | 0o644, Some(b"target"[..].into()));
    refused(typeless.clone(), "0 unless of a symlink");
    let Change::Mknod { mode: kind, target, .. } = &mut typeless.2 else { unreachable!() };
    (*kind, *target) = (mode::SYMLINK | 0o644, Some(b""[..].into()));
    refused(typeless, "1 to 4095");
}

#[test]
fn attributes_of_an_inode_fit_a_set() {
    let mut image = Ours::new(600);
    let file = first_ino(&image);
    let mut steps = vec![make(1, file, mode::REGULAR | 0o644, "file")];
    for at in 0..16 {
        let (name, value) = (format!("user.{at:02}").into_bytes(), vec![at; 65000]);
        let change = Change::SetXattr { name: name.into(), value: Some(value.into()) };
        steps.push((file, 5, change, Vec::new()));
    }
    image.branch(0, MAIN_NAME, 0, &steps);
    clean(&image);
    let (_, _, last, _) = steps[1].clone();
    let Change::SetXattr { value, .. } = last else { unreachable!() };
    let change = Change::SetXattr { name: b"user.16"[..].into(), value };
    steps.push((file, 5, change, Vec::new()));
    let mut image = Ours::new(600);
    image.branch(0, MAIN_NAME, 0, &steps);
    wrong(&image, "bytes of an attribute set");
}

#[test]
fn unknown_bits_of_entries_are_refused() {
    // Where the flags of RENAME, EXTENT, XATTR, SETATTR, WRITE and DELETE are in their entries,
    // header included; then bytes that are zero of DELETE, MKNOD, LINK and EXTENT.
    let flags =
        [(6u32, 24 + 28), (19, 24 + 24), (21, 24 + 2), (7, 24 + 12), (1, 24 + 12), (3, 24 + 10)];
    let zeroes = [(3, 24 + 12), (17, 24 + 28), (18, 24 + 10), (19, 24 + 28)];
    let refused = flags
        .map(|place| (place, "flags of a log entry"))
        .into_iter()
        .chain(zeroes.map(|place| (place, "reserved bytes of a log entry")));
    for ((kind, at), expected) in refused {
        let mut image = EVERY.clone();
        let (region, space) = (region(&image), LogSpace::of(&image.superblock));
        let table = Table::read(&region, &image.superblock).unwrap();
        let main = &table.records()[0];
        let entry = scan(&region, &space, main.log, main.log_size)
            .map(|entry| entry.unwrap().at as usize)
            .find(|at| image.bytes[*at..*at + 4] == kind.to_le_bytes())
            .unwrap();
        image.bytes[entry + at + 1] |= 0x80;
        wrong(&image, expected);
    }
}

#[test]
fn what_is_mains_is_not_retired() {
    // The tip, and a layer below a tip.
    let mut deeper = EVERY.clone();
    deeper.words(|superblock| superblock.head.set(2));
    for (mut image, slot) in [(EVERY.clone(), 0), (deeper.clone(), 0), (deeper, 1)] {
        let expected = names(&image, "main");
        image.record(slot, |record| record.state.set(state::RETIRED));
        warned(&image, "state of a layer of main");
        assert_eq!(names(&image, "main"), expected);
        let region = region(&image);
        let image = Arc::new(Unvalidated::open(Arc::clone(&region)).unwrap().trust());
        let session = Session::open(image).unwrap();
        let main = session.open_branch("main", Access::Read).unwrap();
        assert_eq!(session.branches().unwrap()[0].name, "main");
        drop(main.view().unwrap());
        session.maintain_to(100).unwrap();
        drop(main.view().unwrap());
        drop((main, session));
        let findings = validate(&region, Depth::Metadata).unwrap().findings;
        let state = findings.list().iter().filter(|finding| finding.what.starts_with("state"));
        assert_eq!(state.count(), 0);
    }
}
