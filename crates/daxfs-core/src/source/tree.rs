// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The tree that an image is built from, in the order in which it will lie there.
//!
//! A source fills it directory by directory, breadth first: the root, then the root's
//! directories, and so on. Numbers follow that order, so equal trees give equal images.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;

use crate::base::Xattr;
use crate::format::mode;

/// Index of a node; its inode number is one more.
pub type NodeId = u32;

/// What a node holds besides its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Nothing: special files.
    None,
    /// A regular file; the position that its source keeps of it.
    File(u64),
    /// A symlink's target, by position in the arena.
    Symlink(u32),
    /// A directory's names: position of the first, and how many.
    Directory(u32, u32),
}

/// Attributes of a file as a source found it.
#[derive(Debug, Clone, Default)]
pub struct Attributes {
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number, in the kernel's 32-bit encoding.
    pub rdev: u32,
    /// Bytes, of a regular file.
    pub size: u64,
    /// Modification time, ns since 1970.
    pub mtime: i64,
    /// Extended attributes, in byte order of names.
    pub xattrs: Vec<Xattr>,
    /// Target, of a symlink.
    pub target: Vec<u8>,
    /// Where the source keeps the bytes of a regular file: an offset, or an inode number.
    pub position: u64,
}

impl Attributes {
    /// What stands for a regular file until it is opened.
    pub fn deferred() -> Self {
        Self { mode: mode::REGULAR, ..Self::default() }
    }
}

/// A name found in a directory, and what it names.
#[derive(Debug)]
pub enum Child {
    /// A file met for the first time.
    New(Attributes),
    /// One more name for a file that is in the tree.
    Link(NodeId),
}

/// One inode of the tree.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number, in the kernel's 32-bit encoding.
    pub rdev: u32,
    /// Number of names; of a directory 2 + subdirectories.
    pub nlink: u32,
    /// Position in [`Tree::xattr_sets`] plus one, 0 = none.
    pub xattrs: u32,
    /// Directory of the first name.
    pub parent: NodeId,
    /// Position of the first name in `Tree::links`.
    pub link: u32,
    /// Bytes of data, as the inode will say.
    pub size: u64,
    /// Modification time, ns since 1970.
    pub mtime: i64,
    /// The rest.
    pub content: Content,
}

impl Node {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.mode & mode::TYPE == mode::DIRECTORY
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.mode & mode::TYPE == mode::REGULAR
    }
}

/// A name and the node it names.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    name: u32,
    len: u8,
    /// The node named.
    pub node: NodeId,
}

/// A whole tree: inodes, names and attribute sets.
#[derive(Debug, Default)]
pub struct Tree {
    nodes: Vec<Node>,
    links: Vec<Link>,
    arena: Vec<u8>,
    xattr_sets: Vec<Vec<Xattr>>,
    xattr_index: HashMap<Vec<Xattr>, u32>,
}

impl Tree {
    /// A tree that holds an empty root directory.
    pub fn new(root: Attributes) -> Self {
        let mut tree = Self::default();
        let id = tree.add(root, 0, 0);
        debug_assert_eq!(id, 0);
        tree
    }

    /// Gives a directory its names, which must be in ascending order, and its new children their
    /// numbers. Directories are filled once each, in the order of their numbers.
    ///
    /// Returns the position of the first of the new links.
    pub fn fill(
        &mut self,
        directory: NodeId,
        children: impl IntoIterator<Item = (impl AsRef<[u8]>, Child)>,
    ) -> u32 {
        let first = to_u32(self.links.len());
        for (name, child) in children {
            let name = name.as_ref();
            let link = to_u32(self.links.len());
            let name_at = self.store(name);
            let node = match child {
                Child::New(attributes) => self.add(attributes, directory, link),
                Child::Link(node) => {
                    self.nodes[node as usize].nlink += 1;
                    node
                }
            };
            if self.nodes[node as usize].is_dir() {
                self.nodes[directory as usize].nlink += 1;
            }
            self.links.push(Link { name: name_at, len: name.len() as u8, node });
        }
        let count = to_u32(self.links.len()) - first;
        let directory = &mut self.nodes[directory as usize];
        directory.content = Content::Directory(first, count);
        directory.size = u64::from(count) * crate::format::DIRENT_SIZE;
        first
    }

    fn add(&mut self, attributes: Attributes, parent: NodeId, link: u32) -> NodeId {
        let Attributes { mode, uid, gid, rdev, mtime, .. } = attributes;
        let (size, nlink, content) = match mode & mode::TYPE {
            mode::DIRECTORY => (0, 2, Content::Directory(0, 0)),
            mode::REGULAR => (attributes.size, 1, Content::File(attributes.position)),
            mode::SYMLINK => {
                let at = self.store(&attributes.target);
                (attributes.target.len() as u64, 1, Content::Symlink(at))
            }
            _ => (0, 1, Content::None),
        };
        let xattrs = self.intern(attributes.xattrs);
        self.nodes.push(Node {
            mode,
            uid,
            gid,
            rdev,
            nlink,
            xattrs,
            parent,
            link,
            size,
            mtime,
            content,
        });
        to_u32(self.nodes.len() - 1)
    }

    fn store(&mut self, bytes: &[u8]) -> u32 {
        let at = to_u32(self.arena.len());
        self.arena.extend_from_slice(bytes);
        at
    }

    /// Equal sets are stored once: labels such as SELinux's are the same on many files.
    fn intern(&mut self, set: Vec<Xattr>) -> u32 {
        if set.is_empty() {
            return 0;
        }
        match self.xattr_index.entry(set) {
            MapEntry::Occupied(known) => *known.get(),
            MapEntry::Vacant(new) => {
                self.xattr_sets.push(new.key().clone());
                *new.insert(to_u32(self.xattr_sets.len()))
            }
        }
    }

    /// Whether so many more names, of so many bytes in all, can be added.
    pub fn has_room(&self, names: usize, bytes: usize) -> bool {
        let most = crate::format::INODES_MAX as usize;
        self.links.len() + names < most && self.arena.len() + bytes < u32::MAX as usize
    }

    /// Sets the attributes of a regular file that a source deferred.
    pub fn set_attributes(&mut self, id: NodeId, attributes: Attributes) {
        let Attributes { mode, uid, gid, rdev, size, mtime, xattrs, .. } = attributes;
        let xattrs = self.intern(xattrs);
        let node = &mut self.nodes[id as usize];
        *node = Node { mode, uid, gid, rdev, size, mtime, xattrs, ..*node };
    }

    /// How many names there are, the root's included.
    pub fn names(&self) -> u64 {
        self.links.len() as u64 + 1
    }

    /// Every node, in order of inode numbers.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// The distinct attribute sets.
    pub fn xattr_sets(&self) -> &[Vec<Xattr>] {
        &self.xattr_sets
    }

    /// A directory's names, in ascending order.
    pub fn children(&self, directory: &Node) -> &[Link] {
        match directory.content {
            Content::Directory(first, count) => {
                &self.links[first as usize..first as usize + count as usize]
            }
            _ => &[],
        }
    }

    /// A link's name.
    pub fn name(&self, link: &Link) -> &[u8] {
        &self.arena[link.name as usize..][..usize::from(link.len)]
    }

    /// The first name of a node.
    pub fn first_name(&self, node: &Node) -> &[u8] {
        self.links.get(node.link as usize).map_or(b"", |link| self.name(link))
    }

    /// A symlink's target.
    pub fn target(&self, node: &Node) -> &[u8] {
        match node.content {
            Content::Symlink(at) => &self.arena[at as usize..][..node.size as usize],
            _ => b"",
        }
    }

    /// A node's path, by its first name, relative to the root; the root's is empty.
    pub fn path(&self, mut id: NodeId) -> Vec<u8> {
        let mut names = Vec::new();
        while id != 0 {
            let node = self.node(id);
            names.push(self.first_name(node));
            id = node.parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// The same tree without the nodes that `gone` names, and what lies below them.
    pub fn without(&self, gone: impl Fn(NodeId) -> bool) -> Self {
        self.renumbered(gone, |node| node).0
    }

    /// The same tree without the nodes that `gone` names and what lies below them, where those
    /// nodes that are `same` are one; and the new number of each node that is left.
    pub fn renumbered(
        &self,
        gone: impl Fn(NodeId) -> bool,
        same: impl Fn(NodeId) -> NodeId,
    ) -> (Self, HashMap<NodeId, NodeId>) {
        let mut kept = Self::new(self.attributes(0));
        let mut renamed = HashMap::from([(0, 0)]);
        // Pairs of a directory here and there; grows while it is walked.
        let mut directories = vec![(0, 0)];
        let mut next = 0;
        while let Some(&(old, new)) = directories.get(next) {
            next += 1;
            let links: Vec<&Link> =
                self.children(self.node(old)).iter().filter(|link| !gone(link.node)).collect();
            // Only files with more names can be met again; numbers are given in order.
            let mut number = to_u32(kept.nodes.len());
            let children = links.iter().map(|link| {
                let node = same(link.node);
                let child = match renamed.get(&node) {
                    Some(known) => Child::Link(*known),
                    None => {
                        renamed.insert(node, number);
                        if self.node(node).is_dir() {
                            directories.push((node, number));
                        }
                        number += 1;
                        Child::New(self.attributes(node))
                    }
                };
                (self.name(link), child)
            });
            kept.fill(new, children);
        }
        (kept, renamed)
    }

    fn attributes(&self, id: NodeId) -> Attributes {
        let node = self.node(id);
        Attributes {
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            rdev: node.rdev,
            size: node.size,
            mtime: node.mtime,
            xattrs: match node.xattrs {
                0 => Vec::new(),
                set => self.xattr_sets[set as usize - 1].clone(),
            },
            target: self.target(node).to_vec(),
            position: match node.content {
                Content::File(position) => position,
                _ => 0,
            },
        }
    }
}

/// Positions are 32 bits wide: sources refuse trees that are larger.
fn to_u32(value: usize) -> u32 {
    u32::try_from(value).expect("sources refuse trees of 2^32 names or bytes of names")
}
