// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A persistent ordered map: a copy costs nothing, and shares with the original what neither has
//! changed since.
//!
//! A B+tree with shared nodes. Whoever changes a map makes the nodes on the way his own first.
//! Keys that come in order fill the leaves; a node goes when it is empty, and not before.

use std::sync::Arc;

/// Most keys of a leaf: few, since each copy of a leaf copies its values.
const LEAF: usize = 16;
/// Most children of an inner node.
const INNER: usize = 64;

/// An ordered map that is copied in constant time.
#[derive(Debug)]
pub struct Map<K, V> {
    root: Option<Arc<Node<K, V>>>,
}

#[derive(Debug, Clone)]
enum Node<K, V> {
    Leaf { keys: Vec<K>, values: Vec<V> },
    // The first child has no bound; each other one holds keys from `bounds` of it on.
    Inner { bounds: Vec<K>, children: Vec<Arc<Node<K, V>>> },
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self { root: None }
    }
}

impl<K, V> Clone for Map<K, V> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone() }
    }
}

impl<K: Ord + Clone, V: Clone> Map<K, V> {
    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.root.as_deref().is_none_or(Node::is_empty)
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        let mut node = self.root.as_deref()?;
        loop {
            match node {
                Node::Inner { bounds, children } => node = &children[rank(bounds, key)],
                Node::Leaf { keys, values } => {
                    let found = rank(keys, key).checked_sub(1)?;
                    return (keys[found] == *key).then(|| &values[found]);
                }
            }
        }
    }

    /// The value of a key, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let mut node = self.root.as_mut()?;
        loop {
            match Arc::make_mut(node) {
                Node::Inner { bounds, children } => node = &mut children[rank(bounds, key)],
                Node::Leaf { keys, values } => {
                    let found = rank(keys, key).checked_sub(1)?;
                    return (keys[found] == *key).then(|| &mut values[found]);
                }
            }
        }
    }

    /// Sets the value of a key; returns the one before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (keys, values, at) = self.leaf_for(&key);
        match at {
            Ok(found) => Some(std::mem::replace(&mut values[found], value)),
            Err(at) => {
                keys.insert(at, key);
                values.insert(at, value);
                None
            }
        }
    }

    /// Sets the value of a key that is not there; gives the key back if it is.
    pub fn insert_new(&mut self, key: K, value: V) -> Option<K> {
        let (keys, values, at) = self.leaf_for(&key);
        let Err(at) = at else { return Some(key) };
        keys.insert(at, key);
        values.insert(at, value);
        None
    }

    /// The value of a key, which is made first if there is none.
    pub fn get_or_insert_with<E>(
        &mut self,
        key: K,
        make: impl FnOnce() -> Result<V, E>,
    ) -> Result<&mut V, E> {
        let (keys, values, at) = self.leaf_for(&key);
        match at {
            Ok(found) => Ok(&mut values[found]),
            Err(at) => {
                let value = make()?;
                keys.insert(at, key);
                values.insert(at, value);
                Ok(&mut values[at])
            }
        }
    }

    /// The leaf where a key is (`Ok`) or belongs (`Err`), with room for one more. Full nodes are
    /// split on the way down, so that nothing has to be done on a way back.
    #[allow(clippy::type_complexity, reason = "the parts of a leaf")]
    fn leaf_for(&mut self, key: &K) -> (&mut Vec<K>, &mut Vec<V>, Result<usize, usize>) {
        let root = self.root.get_or_insert_with(|| {
            Arc::new(Node::Leaf { keys: Vec::with_capacity(1), values: Vec::with_capacity(1) })
        });
        if root.must_split(key) {
            let (bound, right) = Arc::make_mut(root).split(key);
            let mut children = Vec::with_capacity(INNER);
            children.extend([Arc::clone(root), right]);
            let mut bounds = Vec::with_capacity(INNER);
            bounds.push(bound);
            *root = Arc::new(Node::Inner { bounds, children });
        }
        let mut node = root;
        loop {
            match Arc::make_mut(node) {
                Node::Leaf { keys, values } => {
                    let after = rank_of_new(keys, key);
                    let found = after.checked_sub(1).filter(|found| keys[*found] == *key);
                    return (keys, values, found.ok_or(after));
                }
                Node::Inner { bounds, children } => {
                    let mut at = rank_of_new(bounds, key);
                    if children[at].must_split(key) {
                        let (bound, right) = Arc::make_mut(&mut children[at]).split(key);
                        let beyond = *key >= bound;
                        bounds.insert(at, bound);
                        children.insert(at + 1, right);
                        at += usize::from(beyond);
                    }
                    node = &mut children[at];
                }
            }
        }
    }

    /// Removes a key; returns its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let root = self.root.as_mut()?;
        let removed = Arc::make_mut(root).remove(key);
        while let Some(Node::Inner { children, .. }) = self.root.as_deref()
            && children.len() == 1
        {
            self.root = children.first().cloned();
        }
        if self.root.as_deref().is_some_and(Node::is_empty) {
            self.root = None;
        }
        removed
    }

    /// The last key below `key`.
    pub fn below(&self, key: &K) -> Option<(&K, &V)> {
        self.root.as_deref()?.below(key)
    }

    /// The first key from `key` on.
    pub fn first_from(&self, key: &K) -> Option<(&K, &V)> {
        self.root.as_deref()?.first_from(key)
    }

    /// The last key.
    pub fn last(&self) -> Option<(&K, &V)> {
        self.root.as_deref()?.last()
    }

    /// Every key, in order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        let mut path = Vec::new();
        path.extend(self.root.as_deref().map(|root| (root, 0)));
        Iter { path }
    }

    /// The keys from `key` on, in order.
    pub fn from(&self, key: &K) -> Iter<'_, K, V> {
        let mut path = Vec::new();
        let mut next = self.root.as_deref();
        while let Some(node) = next.take() {
            match node {
                Node::Leaf { keys, .. } => {
                    path.push((node, count(keys, |other| other < key)));
                }
                Node::Inner { bounds, children } => {
                    let at = rank(bounds, key);
                    path.push((node, at + 1));
                    next = Some(&children[at]);
                }
            }
        }
        Iter { path }
    }
}

/// How many keys, from the first on, are such that `before` holds.
#[inline]
fn count<K>(keys: &[K], before: impl Fn(&K) -> bool) -> usize {
    // With branches: the processor goes ahead on its guess instead of waiting for each key.
    let (mut low, mut high) = (0, keys.len());
    while low < high {
        let middle = low + (high - low) / 2;
        if before(&keys[middle]) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// How many keys come before `key` or are it; in an inner node, the child that it belongs to.
#[inline]
fn rank<K: Ord>(keys: &[K], key: &K) -> usize {
    count(keys, |other| other <= key)
}

/// The same for a key to be inserted, which mostly comes after all others.
#[inline]
fn rank_of_new<K: Ord>(keys: &[K], key: &K) -> usize {
    match keys.last() {
        Some(last) if last <= key => keys.len(),
        _ => rank(keys, key),
    }
}

impl<K: Ord + Clone, V: Clone> Node<K, V> {
    /// Whether setting a key could need more room than there is.
    fn must_split(&self, key: &K) -> bool {
        match self {
            Self::Leaf { keys, .. } => {
                keys.len() >= LEAF
                    && rank_of_new(keys, key).checked_sub(1).is_none_or(|at| keys[at] != *key)
            }
            Self::Inner { children, .. } => children.len() >= INNER,
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Leaf { keys, .. } => keys.is_empty(),
            Self::Inner { children, .. } => children.is_empty(),
        }
    }

    /// Takes the upper half off a full node, and says where it begins. Where `key` comes after
    /// everything, as keys in order do, nearly all stay.
    fn split(&mut self, key: &K) -> (K, Arc<Self>) {
        match self {
            Self::Leaf { keys, values } => {
                let in_order = keys.last().is_some_and(|last| last < key);
                let at = if in_order { keys.len() - 1 } else { keys.len() / 2 };
                let (keys, values) = (tail(keys, at, LEAF), tail(values, at, LEAF));
                (keys[0].clone(), Arc::new(Self::Leaf { keys, values }))
            }
            Self::Inner { bounds, children } => {
                let in_order = bounds.last().is_some_and(|last| last < key);
                let at = if in_order { children.len() - 1 } else { children.len() / 2 };
                let right = Self::Inner {
                    bounds: tail(bounds, at, INNER),
                    children: tail(children, at, INNER),
                };
                let bound = bounds.pop().expect("each child but the first has one");
                (bound, Arc::new(right))
            }
        }
    }

    fn remove(&mut self, key: &K) -> Option<V> {
        match self {
            Self::Leaf { keys, values } => {
                let found = rank(keys, key).checked_sub(1)?;
                if keys[found] != *key {
                    return None;
                }
                keys.remove(found);
                Some(values.remove(found))
            }
            Self::Inner { bounds, children } => {
                let at = rank(bounds, key);
                let child = Arc::make_mut(&mut children[at]);
                let removed = child.remove(key);
                if child.is_empty() {
                    children.remove(at);
                    if !bounds.is_empty() {
                        bounds.remove(at.saturating_sub(1));
                    }
                }
                removed
            }
        }
    }

    fn below(&self, key: &K) -> Option<(&K, &V)> {
        match self {
            Self::Leaf { keys, values } => {
                let found = count(keys, |other| other < key).checked_sub(1)?;
                Some((&keys[found], &values[found]))
            }
            Self::Inner { bounds, children } => {
                let at = count(bounds, |bound| bound < key);
                // Of children before the first candidate each holds smaller keys only.
                children[at].below(key).or_else(|| children[..at].last()?.last())
            }
        }
    }

    fn first_from(&self, key: &K) -> Option<(&K, &V)> {
        match self {
            Self::Leaf { keys, values } => {
                let found = count(keys, |other| other < key);
                keys.get(found).zip(values.get(found))
            }
            Self::Inner { bounds, children } => {
                let at = rank(bounds, key);
                // Children after the candidate hold greater keys only.
                children[at].first_from(key).or_else(|| children.get(at + 1)?.first())
            }
        }
    }

    fn first(&self) -> Option<(&K, &V)> {
        match self {
            Self::Leaf { keys, values } => keys.first().zip(values.first()),
            Self::Inner { children, .. } => children.first()?.first(),
        }
    }

    fn last(&self) -> Option<(&K, &V)> {
        match self {
            Self::Leaf { keys, values } => keys.last().zip(values.last()),
            Self::Inner { children, .. } => children.last()?.last(),
        }
    }
}

/// Splits a vector; the new one has room for a full node.
fn tail<T>(items: &mut Vec<T>, at: usize, width: usize) -> Vec<T> {
    let mut tail = Vec::with_capacity(width);
    tail.extend(items.drain(at..));
    tail
}

/// Iterator over a map.
#[derive(Debug)]
pub struct Iter<'a, K, V> {
    // From the root down: each node, and which of its parts comes next.
    path: Vec<(&'a Node<K, V>, usize)>,
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (node, at) = self.path.last_mut()?;
            let here = *at;
            *at += 1;
            match *node {
                Node::Leaf { keys, values } if here < keys.len() => {
                    return Some((&keys[here], &values[here]));
                }
                Node::Inner { children, .. } if here < children.len() => {
                    self.path.push((&children[here], 0));
                }
                _ => {
                    self.path.pop();
                }
            }
        }
    }
}
