# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What a branch of a plain v3 image shows, found by replaying its delta logs.

Looking an answer up newest entry first, in a branch's own log, then its parent's, then the base,
gives the same as applying all entries oldest first, from the base to the branch. This is the
latter, into a tree in memory: slow, plain, and easy to trust.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from mmap import mmap
from typing import NamedTuple

from .v3reader import (
    BRANCH_SIZE,
    NAME_MAX,
    ROOT_INO,
    TARGET_MAX,
    Entry,
    ManifestRecord,
    V3Error,
    V3Image,
    join,
    legal_name,
    manifest,
)

FREE, ACTIVE, COMMITTED = 0, 1, 2
SET_MODE, SET_UID, SET_GID, SET_SIZE = 1, 2, 4, 8

# A log can ask for more memory than the image has bytes; this bounds what replay uses.
GROWTH_MAX = 1 << 28

_BRANCH = struct.Struct("<5Q2IQ32s40x")
_HEADER = struct.Struct("<2I2Q")
_WRITE = struct.Struct("<Q2I")
_CREATE = struct.Struct("<2QI2H")
_DELETE = struct.Struct("<Q2HI")
_TRUNCATE = struct.Struct("<Q")
_RENAME = struct.Struct("<3Q2HI")
_SETATTR = struct.Struct("<4IQ")
_SYMLINK = struct.Struct("<2Q2HI")


class Branch(NamedTuple):
    """One record of the branch table; `name` ends before its NUL."""

    branch_id: int
    parent_id: int
    log_offset: int
    log_size: int
    log_capacity: int
    state: int
    refcount: int
    next_local_ino: int
    name: bytes


@dataclass(slots=True)
class _Node:
    """An inode while logs are replayed; the field of its type is in use, the others are empty."""

    mode: int
    uid: int = 0
    gid: int = 0
    nlink: int = 1
    data: bytearray | memoryview = field(default_factory=bytearray)
    target: bytes = b""
    names: dict[bytes, int] = field(default_factory=dict)


def branches(image: V3Image) -> list[Branch]:
    """Return the branches that are in use, in the order of the table.

    Raises
    ------
    V3Error
        If two have the same number or name, or a log lies outside the delta region.
    """
    sb = image.superblock
    found: list[Branch] = []
    for slot in range(sb.branch_table_entries):
        record = image.bytes_at(sb.branch_table_offset + slot * BRANCH_SIZE, BRANCH_SIZE)
        branch = Branch(*_BRANCH.unpack(record))
        if branch.state == FREE:
            continue
        name, nul, _ = branch.name.partition(b"\0")
        if not nul:
            raise V3Error(f"branch record {slot}: name {name!r} is not terminated")
        branch = branch._replace(name=name)
        end = sb.delta_region_offset + sb.delta_region_size
        if not (
            sb.delta_region_offset <= branch.log_offset <= end - branch.log_capacity
            and branch.log_size <= branch.log_capacity
        ):
            raise V3Error(
                f"branch record {slot}: log of {branch.log_size} of {branch.log_capacity} bytes "
                f"at {branch.log_offset:#x} lies outside the delta region"
            )
        if any(b.branch_id == branch.branch_id or b.name == branch.name for b in found):
            raise V3Error(f"branch record {slot}: {branch.branch_id}, {branch.name!r} is not new")
        found.append(branch)
    return found


def branch_manifest(
    image_bytes: bytes | memoryview | mmap, branch_name: str
) -> list[ManifestRecord]:
    """Return the manifest of what the branch `branch_name` shows.

    Raises
    ------
    V3Error
        If there is no such branch, or the image or a log it needs is damaged.
    """
    image = V3Image(image_bytes)
    tree = _Tree(image)
    for branch in reversed(_lineage(image, branch_name.encode())):
        tree.replay(image.bytes_at(branch.log_offset, branch.log_size), branch.name)
    return manifest(tree.walk(), image.base.total_size + GROWTH_MAX)


def _lineage(image: V3Image, name: bytes) -> list[Branch]:
    """Return the branch `name`, its parent, and so on."""
    table = branches(image)
    by_id = {branch.branch_id: branch for branch in table}
    line = [branch for branch in table if branch.name == name and branch.state == ACTIVE]
    if not line:
        raise V3Error(f"no active branch {name!r}; there are {[b.name for b in table]}")
    while parent_id := line[-1].parent_id:
        parent = by_id.pop(parent_id, None)
        if parent is None or parent.state not in (ACTIVE, COMMITTED):
            raise V3Error(f"branch {line[-1].name!r}: parent {parent_id} is missing or in a circle")
        line.append(parent)
    return line


class _Tree:
    """The base tree of an image, and what log entries make of it."""

    def __init__(self, image: V3Image) -> None:
        self._growth = GROWTH_MAX
        root = image.inode(ROOT_INO)
        self._nodes = {ROOT_INO: _Node(root.mode, root.uid, root.gid, root.nlink)}
        for parent, name, inode in image.tree():
            self._nodes[parent].names[name] = inode.ino
            if inode.ino not in self._nodes:
                node = _Node(inode.mode, inode.uid, inode.gid, inode.nlink)
                entry = image.entry(name, inode)
                node.data = entry.data or node.data
                node.target = entry.target or node.target
                self._nodes[inode.ino] = node

    def replay(self, log: bytes, branch: bytes) -> None:
        """Apply all entries of `log`, the log of `branch`."""
        apply: dict[int, Callable[[int, bytes], None]] = {
            1: self._write,
            2: self._create,
            3: self._delete,
            4: self._truncate,
            5: self._create,
            6: self._rename,
            7: self._setattr,
            8: self._symlink,
        }
        at = 0
        while at < len(log):
            where = f"log of {branch!r}, entry at {at}"
            try:
                kind, size, ino, _ = _HEADER.unpack_from(log, at)
                if not _HEADER.size <= size <= len(log) - at:
                    raise V3Error(f"size {size}, left are {len(log) - at}")
                if kind not in apply:
                    raise V3Error(f"unknown type {kind}")
                apply[kind](ino, log[at + _HEADER.size : at + size])
            except struct.error as error:
                raise V3Error(f"{where}: cut short ({error})") from error
            except V3Error as error:
                raise V3Error(f"{where}: {error}") from error
            at += size

    def walk(self) -> Iterator[Entry]:
        """Yield every name of the tree."""
        reached: set[int] = set()
        pending = [(b"/", ROOT_INO)]
        while pending:
            path, ino = pending.pop()
            node = self._nodes[ino]
            if stat.S_ISDIR(node.mode):
                if ino in reached:
                    raise V3Error(f"inode {ino}: directory is reached again, as {path!r}")
                reached.add(ino)
                pending.extend((join(path, name), child) for name, child in node.names.items())
            yield Entry(
                path=path,
                ino=ino,
                mode=node.mode,
                uid=node.uid,
                gid=node.gid,
                size=len(node.data) or len(node.target),
                nlink=node.nlink,
                data=memoryview(node.data) if stat.S_ISREG(node.mode) else None,
                target=node.target if stat.S_ISLNK(node.mode) else None,
            )

    def _write(self, ino: int, body: bytes) -> None:
        offset, length, _ = _WRITE.unpack_from(body)
        data = _part(body, _WRITE.size, length)
        if length:
            content = self._resize(ino, max(offset + length, len(self._file(ino).data)))
            content[offset : offset + length] = data

    def _truncate(self, ino: int, body: bytes) -> None:
        (size,) = _TRUNCATE.unpack_from(body)
        self._resize(ino, size)

    def _create(self, ino: int, body: bytes) -> None:
        parent, new, mode, length, _ = _CREATE.unpack_from(body)
        self._add(parent, _part(body, _CREATE.size, length), new, _Node(mode))

    def _symlink(self, ino: int, body: bytes) -> None:
        parent, new, name_length, target_length, _ = _SYMLINK.unpack_from(body)
        name = _part(body, _SYMLINK.size, name_length)
        target = _part(body, _SYMLINK.size + name_length, target_length + 1)
        if target.find(b"\0") != target_length or not 0 < target_length <= TARGET_MAX:
            raise V3Error(f"target {target!r} of length {target_length} is not terminated there")
        self._add(parent, name, new, _Node(stat.S_IFLNK | 0o777, target=target[:-1]))

    def _delete(self, ino: int, body: bytes) -> None:
        parent, length, _, _ = _DELETE.unpack_from(body)
        self._take(parent, _part(body, _DELETE.size, length), ino)

    def _rename(self, _: int, body: bytes) -> None:
        old_parent, new_parent, ino, old_length, new_length, _ = _RENAME.unpack_from(body)
        old = _part(body, _RENAME.size, old_length)
        new = _part(body, _RENAME.size + old_length, new_length)
        self._take(old_parent, old, ino)
        self._name(new_parent, new, ino)

    def _setattr(self, ino: int, body: bytes) -> None:
        mode, uid, gid, valid, size = _SETATTR.unpack_from(body)
        node = self._node(ino)
        if valid & SET_MODE:
            if stat.S_IFMT(mode) != stat.S_IFMT(node.mode):
                raise V3Error(f"mode {mode:#o} changes the type of inode {ino}, {node.mode:#o}")
            node.mode = mode
        if valid & SET_UID:
            node.uid = uid
        if valid & SET_GID:
            node.gid = gid
        if valid & SET_SIZE:
            self._resize(ino, size)

    def _add(self, parent: int, name: bytes, ino: int, node: _Node) -> None:
        if ino in self._nodes:
            raise V3Error(f"new inode {ino} is there already")
        if name in self._directory(parent):
            raise V3Error(f"new name {name!r} is in inode {parent} already")
        self._name(parent, name, ino)
        self._nodes[ino] = node

    def _name(self, parent: int, name: bytes, ino: int) -> None:
        if not legal_name(name):
            raise V3Error(f"name {name!r} is not legal, of {len(name)} bytes of {NAME_MAX}")
        self._directory(parent)[name] = ino

    def _take(self, parent: int, name: bytes, ino: int) -> None:
        found = self._directory(parent).get(name)
        if found != ino:
            raise V3Error(f"name {name!r} in inode {parent} is inode {found}, not {ino}")
        del self._directory(parent)[name]

    def _node(self, ino: int) -> _Node:
        if ino not in self._nodes:
            raise V3Error(f"no inode {ino}")
        return self._nodes[ino]

    def _directory(self, ino: int) -> dict[bytes, int]:
        node = self._node(ino)
        if not stat.S_ISDIR(node.mode):
            raise V3Error(f"inode {ino}: mode {node.mode:#o} is no directory's")
        return node.names

    def _file(self, ino: int) -> _Node:
        node = self._node(ino)
        if not stat.S_ISREG(node.mode):
            raise V3Error(f"inode {ino}: mode {node.mode:#o} is no regular file's")
        return node

    def _resize(self, ino: int, size: int) -> bytearray:
        """Make a file `size` bytes long, new ones zero, and return its content to be changed."""
        node = self._file(ino)
        if isinstance(node.data, memoryview):
            self._grow(ino, len(node.data))
            node.data = bytearray(node.data)
        growth = size - len(node.data)
        if growth > 0:
            self._grow(ino, growth)
            node.data.extend(bytes(growth))
        else:
            del node.data[size:]
        return node.data

    def _grow(self, ino: int, size: int) -> None:
        self._growth -= size
        if self._growth < 0:
            raise V3Error(f"{size} bytes more for inode {ino}: above {GROWTH_MAX} in all")


def _part(body: bytes, start: int, length: int) -> bytes:
    if length > len(body) - start:
        raise V3Error(f"{length} bytes at {start} of the body pass its end at {len(body)}")
    return body[start : start + length]
