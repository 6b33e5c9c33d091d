// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: the persistent map does what an ordered map does, and a copy stays as it is whatever
//! is done to the map that it was made from.

use std::collections::BTreeMap;

use daxfs_core::map::Map;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Insert(u16, u32),
    InsertNew(u16, u32),
    /// Keys in order from here on.
    Run(u16, u16),
    Change(u16),
    GetOrInsert(u16, bool),
    Remove(u16),
    RemoveRun(u16, u16),
    Copy,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || 0..2000u16;
    let step = prop_oneof![
        4 => (key(), any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
        2 => (key(), any::<u32>()).prop_map(|(key, value)| Step::InsertNew(key, value)),
        2 => (key(), 0..600u16).prop_map(|(key, count)| Step::Run(key, count)),
        2 => key().prop_map(Step::Change),
        2 => (key(), any::<bool>()).prop_map(|(key, fails)| Step::GetOrInsert(key, fails)),
        4 => key().prop_map(Step::Remove),
        1 => (key(), 0..1500u16).prop_map(|(key, count)| Step::RemoveRun(key, count)),
        1 => Just(Step::Copy),
    ];
    prop::collection::vec(step, 1..80)
}

type Model = BTreeMap<u16, u32>;

fn apply(map: &mut Map<u16, u32>, model: &mut Model, step: &Step) {
    match *step {
        Step::Insert(key, value) => assert_eq!(map.insert(key, value), model.insert(key, value)),
        Step::InsertNew(key, value) => {
            let taken = model.contains_key(&key).then_some(key);
            assert_eq!(map.insert_new(key, value), taken);
            model.entry(key).or_insert(value);
        }
        Step::Run(key, count) => (key..key + count).for_each(|key| {
            assert_eq!(map.insert(key, 7), model.insert(key, 7));
        }),
        Step::Change(key) => {
            let (ours, theirs) = (map.get_mut(&key), model.get_mut(&key));
            assert_eq!(ours, theirs);
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                (*ours, *theirs) = (ours.wrapping_add(1), theirs.wrapping_add(1));
            }
        }
        Step::GetOrInsert(key, fails) => {
            let made = map.get_or_insert_with(key, || if fails { Err(()) } else { Ok(9) });
            match model.get(&key) {
                Some(there) => assert_eq!(made, Ok(&mut there.clone())),
                None if fails => assert_eq!(made, Err(())),
                None => {
                    assert_eq!(made, Ok(&mut 9));
                    model.insert(key, 9);
                }
            }
        }
        Step::Remove(key) => assert_eq!(map.remove(&key), model.remove(&key)),
        Step::RemoveRun(key, count) => (key..key + count).for_each(|key| {
            assert_eq!(map.remove(&key), model.remove(&key));
        }),
        Step::Copy => {}
    }
}

fn agree(map: &Map<u16, u32>, model: &Model) {
    assert!(map.iter().eq(model.iter()));
    assert_eq!(map.is_empty(), model.is_empty());
    assert_eq!(map.last(), model.last_key_value());
    for key in (0..2700).step_by(53) {
        assert_eq!(map.get(&key), model.get(&key));
        assert_eq!(map.below(&key), model.range(..key).next_back());
        assert_eq!(map.first_from(&key), model.range(key..).next());
        assert!(map.from(&key).eq(model.range(key..)));
    }
}

proptest! {
    #[test]
    fn it_is_an_ordered_map(steps in steps()) {
        let (mut map, mut model) = (Map::default(), Model::default());
        let mut copies = Vec::new();
        for step in &steps {
            if matches!(step, Step::Copy) {
                copies.push((map.clone(), model.clone()));
            }
            apply(&mut map, &mut model, step);
        }
        agree(&map, &model);
        for (mut map, mut model) in copies {
            agree(&map, &model);
            // A copy can be changed too, and leaves the others alone.
            apply(&mut map, &mut model, &Step::Run(500, 300));
            apply(&mut map, &mut model, &Step::RemoveRun(0, 900));
            agree(&map, &model);
        }
        agree(&map, &model);
    }
}

#[test]
fn many_levels() {
    let mut map = Map::default();
    map.insert(99u64, 99u64);
    map.insert(10, 10);
    for key in 100..300_000u64 {
        map.insert(key, key);
        if key % 9973 == 0 || key < 3000 {
            for key in [10, 99, 100, key / 2, key] {
                assert_eq!(
                    map.get(&key).copied(),
                    (key >= 99 || key == 10).then_some(key),
                    "{key}"
                );
            }
        }
    }
    for key in (0..300_000u64).map(|at| at * 7919 % 300_000) {
        let there = key == 10 || key >= 99;
        assert_eq!(map.get(&key).is_some(), there, "{key}");
        assert_eq!(map.remove(&key).is_some(), there, "{key}");
    }
    assert!(map.is_empty());
}
