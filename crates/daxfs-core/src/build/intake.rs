// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Taking the regular files of a directory tree, which its scan left: what is known of each, and the
//! contents of small ones, in one look.
//!
//! Going to every file twice, to place it and to copy it, costs more than reading a small file:
//! until the second time the kernel's entry and inode have left the processor's caches. Where a
//! file's contents go depends on all files before it; hence tasks read runs of files side by side,
//! then place and write them in order.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

use super::contents::{Failure, Here, gather_target, open};
use super::gather::{BUFFER, Gathered};
use super::order::{Turn, in_order};
use super::sink::Sink;
use crate::error::{InputProblem, Result};
use crate::format::{BLOCK_SIZE, HUGE_SIZE};
use crate::layout::{Cursor, stored_size};
use crate::progress::Progress;
use crate::source::{Attributes, Identity, NodeId, Scan, Selection, Tree, look_into};

/// Nodes that a task takes at once.
const RUN: usize = 64;
/// Nodes after which the tree learns what was found.
const WINDOW: usize = 256 * RUN;
/// Larger files are copied when all places are known: opening them again matters little beside
/// reading them, and buffers stay small.
const SMALL: u64 = 32 << 10;

/// What an intake needs to know.
pub(super) struct Intake<'a> {
    pub(super) selection: &'a Selection,
    pub(super) base_offset: u64,
    /// Where the image has to end. That it is too small is told when all that is to be in it is
    /// known; until then nothing is written beyond.
    pub(super) limit: u64,
    pub(super) sink: &'a Sink,
    pub(super) progress: &'a Progress,
    /// Contents of regular files get checksums.
    pub(super) checksums: bool,
}

/// What was taken.
#[derive(Default)]
pub(super) struct Taken {
    /// Nodes that must be left out, and what is wrong with them if something is.
    pub(super) gone: Vec<(NodeId, Option<InputProblem>)>,
    /// Of each node, whether its contents are in the image.
    pub(super) stored: Vec<bool>,
    /// CRC-32C of contents: symlinks always, regular files when asked for.
    pub(super) sums: Vec<(NodeId, u32)>,
}

/// What is known so far, of the files in order.
struct Books {
    cursor: Cursor,
    /// The first name of each file with several.
    first: HashMap<Identity, NodeId>,
    /// Further names, and the first of the same file.
    further: HashMap<NodeId, NodeId>,
    attributes: Vec<(NodeId, Attributes)>,
    taken: Taken,
}

/// What one look at a node found.
struct Look {
    id: NodeId,
    /// Bytes that its data take.
    size: u64,
    /// Of a regular file.
    attributes: Option<Attributes>,
    /// Of a file with several names.
    identity: Option<Identity>,
    /// Whether the contents were read.
    gathered: bool,
    sum: Option<u32>,
}

impl Intake<'_> {
    /// Takes a tree's files: completes the tree, stores what is small. With something gone all of
    /// it has to be done again without.
    pub(super) fn run(&self, scan: &mut Scan) -> Result<Taken> {
        let nodes = scan.tree.nodes().len();
        self.sink.begin(0, 0)?;
        self.progress.begin(nodes as u64, 0);
        let mut books = Books {
            cursor: Cursor::behind_directories(&scan.tree, self.base_offset)?,
            first: HashMap::new(),
            further: HashMap::new(),
            attributes: Vec::new(),
            taken: Taken { stored: vec![false; nodes], ..Taken::default() },
        };
        for start in (0..nodes).step_by(WINDOW) {
            let window = start..nodes.min(start + WINDOW);
            let source = &*scan;
            in_order(window.len().div_ceil(RUN), &mut books, |number, turn| {
                let start = window.start + number * RUN;
                let run = start as NodeId..window.end.min(start + RUN) as NodeId;
                BUFFER.with_borrow_mut(|buffer| self.take(source, run, Gathered::new(buffer), turn))
            })?;
            for (id, attributes) in books.attributes.drain(..) {
                scan.tree.set_attributes(id, attributes);
            }
        }
        if !books.further.is_empty() && books.taken.gone.is_empty() {
            books.join(&mut scan.tree);
        }
        Ok(books.taken)
    }

    /// Takes a run of nodes.
    fn take(
        &self,
        scan: &Scan,
        run: Range<NodeId>,
        mut gathered: Gathered<'_>,
        turn: &Turn<'_, '_, Books>,
    ) -> Result<()> {
        let mut here = Here::default();
        let mut looks = Vec::with_capacity(run.len());
        let mut gone = Vec::new();
        for id in run.clone() {
            self.progress.check()?;
            let node = scan.tree.node(id);
            if node.is_file() {
                match self.look(scan, id, &mut gathered, &mut here) {
                    Ok(Some(look)) => looks.push(look),
                    Ok(None) => gone.push((id, None)),
                    Err(Failure::File(reason)) => {
                        gone.push((id, Some(InputProblem { path: scan.tree.path(id), reason })));
                    }
                    Err(Failure::Build(error)) => return Err(error),
                }
            } else if stored_size(node) > 0 && !node.is_dir() {
                let sum = gather_target(&scan.tree, node, &mut gathered);
                looks.push(Look {
                    id,
                    size: stored_size(node),
                    attributes: None,
                    identity: None,
                    gathered: true,
                    sum: Some(sum),
                });
            }
        }
        let done = run.len() - looks.iter().filter(|look| !look.gathered).count();
        let Some(mut books) = turn.wait() else { return Ok(()) };
        books.taken.gone.extend(gone);
        let mut bytes = gathered.bytes();
        for piece in books.enter(looks)? {
            let (now, rest) = bytes.split_at(piece.len as usize);
            let start = self.base_offset + piece.start;
            if start + piece.len <= self.limit {
                self.sink.write(start, now)?;
            }
            bytes = rest;
        }
        self.progress.advance(done as u64, gathered.bytes().len() as u64);
        Ok(())
    }

    /// Looks at a regular file, and reads it if it is small and has no other name, under which it
    /// may have been read. Nothing if it shall be left out.
    fn look(
        &self,
        scan: &Scan,
        id: NodeId,
        gathered: &mut Gathered<'_>,
        here: &mut Here,
    ) -> std::result::Result<Option<Look>, Failure> {
        let opened = open(scan, id, here)?;
        let (file, _) = opened.place().expect("a directory's files have descriptors");
        let looked = look_into(file, self.selection).map_err(Failure::File)?;
        let Some((attributes, identity)) = looked else { return Ok(None) };
        let size = attributes.size;
        let small = (1..=SMALL).contains(&size) && identity.is_none();
        let sum = match small {
            true => gathered.add(size, |room| opened.read_whole(room, self.checksums))?,
            false => None,
        };
        Ok(Some(Look { id, size, attributes: Some(attributes), identity, gathered: small, sum }))
    }
}

/// A piece of what was gathered, and where it goes.
struct Piece {
    start: u64,
    len: u64,
}

impl Books {
    /// Enters what was found, gives the contents their places: in pieces, as what was not read has
    /// its place between them.
    fn enter(&mut self, looks: Vec<Look>) -> Result<Vec<Piece>> {
        let mut pieces: Vec<Piece> = Vec::new();
        for look in looks {
            if let Some(identity) = look.identity {
                match self.first.entry(identity) {
                    Entry::Occupied(first) => {
                        self.further.insert(look.id, *first.get());
                        continue;
                    }
                    Entry::Vacant(new) => new.insert(look.id),
                };
            }
            self.attributes.extend(look.attributes.map(|attributes| (look.id, attributes)));
            self.taken.sums.extend(look.sum.map(|sum| (look.id, sum)));
            if look.size >= HUGE_SIZE {
                // These come last.
                continue;
            }
            let start = self.cursor.place(look.size)?;
            if look.gathered {
                self.taken.stored[look.id as usize] = true;
                let len = look.size.next_multiple_of(BLOCK_SIZE);
                match pieces.last_mut() {
                    Some(last) if last.start + last.len == start => last.len += len,
                    _ => pieces.push(Piece { start, len }),
                }
            }
        }
        Ok(pieces)
    }

    /// Makes one node of those that turned out to be one file.
    fn join(&mut self, tree: &mut Tree) {
        let same = |node| self.further.get(&node).copied().unwrap_or(node);
        let (joined, renumbered) = tree.renumbered(|_| false, same);
        let mut stored = vec![false; joined.nodes().len()];
        for (old, new) in &renumbered {
            stored[*new as usize] = self.taken.stored[*old as usize];
        }
        for (id, _) in &mut self.taken.sums {
            *id = renumbered[id];
        }
        self.taken.stored = stored;
        *tree = joined;
    }
}
