// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Scanning a tar archive: what extracting it would make, without extracting it.

use std::collections::BTreeMap;
use std::path::Path;

use super::entry::{Entry, Reader, Sparse};
use super::spool::{Archive, ArchiveInput};
use super::{Attributes, Child, NodeId, Origin, Scan, Selection, Tree};
use crate::error::{Error, InputProblem, Result, reason};
use crate::format::mode;
use crate::paths::join;
use crate::progress::Progress;

/// Scans an archive; `spool_dir` takes a plain copy of one that is compressed or not seekable.
pub fn scan(
    input: ArchiveInput,
    spool_dir: &Path,
    selection: &Selection,
    progress: &Progress,
) -> Result<Scan> {
    let mut archive = Archive::open(input, spool_dir, progress)?;
    let mut names = Names::new();
    let mut problems = Vec::new();
    let mut reader = Reader::new();
    while let Some((path, entry)) = reader.next(&archive)? {
        progress.check()?;
        progress.advance(1, 0);
        if let Err(reason) = entry.and_then(|entry| names.insert(&path, entry))
            && !is_excluded(selection, &path)
        {
            let path = if path.is_empty() { b".".to_vec() } else { path };
            problems.push(InputProblem { path, reason });
        }
    }
    let tree = names.into_tree(&mut archive, selection, progress, &mut problems)?;
    Ok(Scan { tree, origin: Origin::Archive(archive.into_file()), problems })
}

/// Whether a path, as the archive writes it, or a directory on it is left out.
fn is_excluded(selection: &Selection, path: &[u8]) -> bool {
    let Ok(names) = names_of(path) else { return false };
    (1..=names.len()).any(|len| {
        // What the path itself would have been is not known.
        let directory = len < names.len();
        selection.exclude.matches(&names[..len].join(&b'/'), directory)
    })
}

/// The names on a path, relative to the root whatever it begins with.
fn names_of(path: &[u8]) -> std::result::Result<Vec<&[u8]>, String> {
    let names: Vec<_> =
        path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
    if names.contains(&&b".."[..]) {
        return Err("path with a \"..\" in it".into());
    }
    if path.contains(&0) {
        return Err("path with a NUL in it".into());
    }
    Ok(names)
}

/// A file of the archive; several names may lead to it.
#[derive(Default)]
struct Node {
    attributes: Attributes,
    sparse: Option<Box<Sparse>>,
    names: BTreeMap<Vec<u8>, u32>,
}

impl Node {
    fn is_dir(&self) -> bool {
        self.attributes.mode & mode::TYPE == mode::DIRECTORY
    }
}

/// The tree as the entries make it, one after the other.
struct Names {
    nodes: Vec<Node>,
}

impl Names {
    fn new() -> Self {
        let mut names = Self { nodes: Vec::new() };
        names.add_directory();
        names
    }

    /// A directory that no entry describes.
    fn add_directory(&mut self) -> u32 {
        let attributes = Attributes { mode: mode::DIRECTORY | 0o755, ..Attributes::default() };
        self.add(Node { attributes, ..Node::default() })
    }

    fn add(&mut self, node: Node) -> u32 {
        self.nodes.push(node);
        u32::try_from(self.nodes.len() - 1).expect("4 billion headers are 2 TiB")
    }

    fn find(&self, path: &[&[u8]]) -> Option<u32> {
        path.iter().try_fold(0, |at, name| self.nodes[at as usize].names.get(*name).copied())
    }

    /// The directory at `path`, made where it is missing.
    fn directory(&mut self, path: &[&[u8]]) -> std::result::Result<u32, String> {
        let mut at = 0;
        for (depth, name) in path.iter().enumerate() {
            at = match self.nodes[at as usize].names.get(*name) {
                Some(next) => *next,
                None => {
                    let next = self.add_directory();
                    self.nodes[at as usize].names.insert(name.to_vec(), next);
                    next
                }
            };
            if !self.nodes[at as usize].is_dir() {
                let path = crate::error::show(&path[..=depth].join(&b'/'));
                return Err(format!("{path} on the way to it is not a directory"));
            }
        }
        Ok(at)
    }

    /// Does what extracting an entry would do.
    fn insert(&mut self, path: &[u8], entry: Entry) -> std::result::Result<(), String> {
        let names = names_of(path)?;
        let new = match entry {
            Entry::Node(attributes, sparse) => Ok(Node { attributes, sparse, ..Node::default() }),
            Entry::HardLink(target) => Err(self.link_target(&target)?),
        };
        let Some((name, above)) = names.split_last() else {
            return match new {
                Ok(new) if new.is_dir() => {
                    self.nodes[0].attributes = new.attributes;
                    Ok(())
                }
                _ => Err("the root can only be a directory".into()),
            };
        };
        let directory = self.directory(above)?;
        if let Some(old) = self.nodes[directory as usize].names.get(*name).copied()
            && let old = &mut self.nodes[old as usize]
            && old.is_dir()
        {
            match new {
                Ok(new) if new.is_dir() => {
                    old.attributes = new.attributes;
                    return Ok(());
                }
                _ if !old.names.is_empty() => {
                    return Err("in the place of a directory that is not empty".into());
                }
                _ => {}
            }
        }
        let new = new.map_or_else(|known| known, |node| self.add(node));
        self.nodes[directory as usize].names.insert(name.to_vec(), new);
        Ok(())
    }

    fn link_target(&self, target: &[u8]) -> std::result::Result<u32, String> {
        let shown = || crate::error::show(target);
        match names_of(target).ok().and_then(|path| self.find(&path)) {
            None => Err(format!("hard link to {}, which is not there", shown())),
            Some(node) if self.nodes[node as usize].is_dir() => {
                Err(format!("hard link to {}, a directory", shown()))
            }
            Some(node) => Ok(node),
        }
    }

    /// The selected part, directory by directory, as an image wants it.
    fn into_tree(
        mut self,
        archive: &mut Archive,
        selection: &Selection,
        progress: &Progress,
        problems: &mut Vec<InputProblem>,
    ) -> Result<Tree> {
        let mut tree = Tree::new(self.take(0, selection));
        // Numbers in the tree; 0, the root, is no file that could be met twice.
        let mut numbers: Vec<NodeId> = vec![0; self.nodes.len()];
        let mut directories = std::collections::VecDeque::from([(0, 0)]);
        while let Some((here, there)) = directories.pop_front() {
            progress.check()?;
            // Made when it is needed: a path of many names would be joined for each of them.
            let path = |name: &[u8]| join(&tree.path(there), name);
            let mut children = Vec::new();
            let mut bytes = 0;
            let mut number = tree.nodes().len() as NodeId;
            for (name, node) in std::mem::take(&mut self.nodes[here as usize].names) {
                let exclude = &selection.exclude;
                let is_dir = self.nodes[node as usize].is_dir();
                if !exclude.is_empty() && exclude.matches(&path(&name), is_dir) {
                    continue;
                }
                if let Some(reason) = super::name_problem(&name) {
                    problems.push(InputProblem { path: path(&name), reason });
                    continue;
                }
                let child = match numbers[node as usize] {
                    0 => {
                        if let Err(reason) = self.expand(node, archive, progress)? {
                            problems.push(InputProblem { path: path(&name), reason });
                            continue;
                        }
                        if is_dir {
                            directories.push_back((node, number));
                        }
                        numbers[node as usize] = number;
                        number += 1;
                        Child::New(self.take(node, selection))
                    }
                    known => Child::Link(known),
                };
                bytes += name.len();
                if let Child::New(attributes) = &child {
                    bytes += attributes.target.len();
                }
                children.push((name, child));
            }
            if !tree.has_room(children.len(), bytes) {
                let reason = "too many names for one image".into();
                problems.push(InputProblem { path: tree.path(there), reason });
                break;
            }
            tree.fill(there, children);
        }
        Ok(tree)
    }

    /// Takes a node's attributes; its type stays, for whoever asks.
    fn take(&mut self, node: u32, selection: &Selection) -> Attributes {
        let node = &mut self.nodes[node as usize].attributes;
        let mode = node.mode;
        let mut attributes = std::mem::take(node);
        node.mode = mode;
        selection.adjust(&mut attributes);
        attributes
    }

    /// Gives a sparse file its holes; says what is wrong with it alone.
    fn expand(
        &mut self,
        node: u32,
        archive: &mut Archive,
        progress: &Progress,
    ) -> Result<std::result::Result<(), String>> {
        let node = &mut self.nodes[node as usize];
        let Some(sparse) = &node.sparse else { return Ok(Ok(())) };
        match archive.expand(sparse.position, &sparse.segments, sparse.size, progress) {
            Ok(position) => {
                node.attributes.position = position;
                node.sparse = None;
                Ok(Ok(()))
            }
            // A size that no file can have says nothing about the other entries. The map stays, for
            // the file's other names.
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::FileTooLarge => {
                Ok(Err(format!("sparse file of {} bytes: {}", sparse.size, reason(&source))))
            }
            Err(error) => Err(error),
        }
    }
}
