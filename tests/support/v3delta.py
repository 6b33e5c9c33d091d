# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What a branch of an image shows, found by replaying its delta logs, plain v3's or daxfs's own.

It is written from the description of the format alone and shares no code with daxfs. Looking an
answer up newest entry first, in a branch's own log, then its parent's, then the base, gives the
same as applying all entries oldest first, from the base to the branch. This is the latter, into a
tree in memory: slow, plain, and easy to trust.

Usage: `python3 -m support.v3delta IMAGE BRANCH` prints all that the branch shows, a JSON object a
line.
"""

from __future__ import annotations

import hashlib
import json
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from mmap import mmap
from pathlib import Path
from typing import NamedTuple

from .v3reader import (
    BLOCK,
    BRANCH_SIZE,
    NAME_MAX,
    ROOT_INO,
    TARGET_MAX,
    TYPES,
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

# What daxfs adds to plain v3.
INODE_EXT, XATTRS, BRANCHES = 1 << 1, 1 << 2, 1 << 16
HEAD_AT, HEAP_AT = 1024, 200
SET_ATIME, SET_MTIME, SET_CTIME = 16, 32, 64
CONTINUE = 16
EXCHANGE = KEEP_SIZE = REMOVE = 1
XATTR_NAME_MAX, XATTR_VALUE_MAX, XATTR_SET_MAX = 255, 65536, 1 << 20

# A log can ask for more memory than the image has bytes; this bounds what replay uses.
GROWTH_MAX = 1 << 28

_BRANCH = struct.Struct("<5Q2IQ32s16xQ16x")
_HEADER = struct.Struct("<2I2Q")
_WRITE = struct.Struct("<Q2I")
_CREATE = struct.Struct("<2QI2H")
_DELETE = struct.Struct("<Q2HI")
_TRUNCATE = struct.Struct("<Q")
_RENAME = struct.Struct("<3Q2HI")
_SETATTR = struct.Struct("<4IQ")
_SYMLINK = struct.Struct("<2Q2HI")
_TIMES = struct.Struct("<3q")
_CONTINUE = struct.Struct("<2Q")
_MKNOD = struct.Struct("<Q4I2H4x")
_LINK = struct.Struct("<QH6x")
_EXTENT = struct.Struct("<3QI4x")
_PUNCH = struct.Struct("<2Q")
_XATTR = struct.Struct("<2HI")
_INODE_EXT = struct.Struct("<IqQ")
_XATTR_SET = struct.Struct("<4I")


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
    base_head: int


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
    rdev: int = 0
    atime: int = 0
    mtime: int = 0
    ctime: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    # What follows the data of a file without being in it yet: bytes kept for a larger size.
    ahead: bytearray = field(default_factory=bytearray)


def branches(image: V3Image) -> list[Branch]:
    """Return the branches that are in use, in the order of the table.

    Raises
    ------
    V3Error
        If two have the same number or name, or a log lies outside the delta region.
    """
    sb = image.superblock
    head = _head(image)
    found: list[Branch] = []
    for slot in range(sb.branch_table_entries):
        record = image.bytes_at(sb.branch_table_offset + slot * BRANCH_SIZE, BRANCH_SIZE)
        branch = Branch(*_BRANCH.unpack(record))
        if branch.state == FREE or (head and branch.state != ACTIVE):
            continue
        name, nul, _ = branch.name.partition(b"\0")
        if not nul:
            raise V3Error(f"branch record {slot}: name {name!r} is not terminated")
        branch = branch._replace(name=name)
        end = sb.delta_region_offset + sb.delta_region_size
        inside = sb.delta_region_offset <= branch.log_offset <= end - branch.log_capacity
        fits = branch.log_size <= (sb.delta_region_size if head else branch.log_capacity)
        if not (inside and fits) and not (head and branch.log_size == 0):
            raise V3Error(
                f"branch record {slot}: log of {branch.log_size} of {branch.log_capacity} bytes "
                f"at {branch.log_offset:#x} lies outside the delta region"
            )
        same_name = not head and any(b.name == branch.name for b in found)
        if same_name or any(b.branch_id == branch.branch_id for b in found):
            raise V3Error(f"branch record {slot}: {branch.branch_id}, {branch.name!r} is not new")
        found.append(branch)
    return found


def _head(image: V3Image) -> int:
    """Return the number of the branch that is main in an image of daxfs's own, else 0."""
    if not image.superblock.flags & BRANCHES:
        return 0
    head = int.from_bytes(image.bytes_at(HEAD_AT, 8), "little")
    if head == 0:
        raise V3Error("head is 0, and no branch's number")
    return head


def live_branches(image: V3Image) -> list[Branch]:
    """Return the branches that can be looked at; what `head` names is main."""
    table = [branch for branch in branches(image) if branch.state == ACTIVE]
    head = _head(image)
    if not head:
        return table
    live = [b for b in table if b.branch_id == head or b.base_head == head]
    return [b._replace(name=b"main") if b.branch_id == head else b for b in live]


def branch_manifest(
    image_bytes: bytes | memoryview | mmap, branch_name: str
) -> list[ManifestRecord]:
    """Return the manifest of what the branch `branch_name` shows.

    Raises
    ------
    V3Error
        If there is no such branch, or the image or a log it needs is damaged.
    """
    image, tree = _replayed(image_bytes, branch_name)
    return manifest(tree.walk(), image.base.total_size + GROWTH_MAX)


def branch_details(
    image_bytes: bytes | memoryview | mmap, branch_name: str
) -> list[dict[str, object]]:
    """Return all that the branch `branch_name` shows, one record for every name, by path.

    Raises
    ------
    V3Error
        As `branch_manifest`.
    """
    _, tree = _replayed(image_bytes, branch_name)
    return sorted(tree.details(), key=lambda record: str(record["path"]))


def _replayed(image_bytes: bytes | memoryview | mmap, name: str) -> tuple[V3Image, _Tree]:
    image = V3Image(image_bytes, known=BRANCHES)
    tree = _Tree(image)
    for branch in reversed(_lineage(image, name.encode())):
        for where, entry in _entries(image, branch):
            tree.replay(entry, where)
    return image, tree


def _lineage(image: V3Image, name: bytes) -> list[Branch]:
    """Return the branch `name`, its parent, and so on."""
    live = live_branches(image)
    by_id = {branch.branch_id: branch for branch in branches(image)}
    line = [branch for branch in live if branch.name == name]
    if not line:
        raise V3Error(f"no active branch {name!r}; there are {[b.name for b in live]}")
    del by_id[line[-1].branch_id]
    while parent_id := line[-1].parent_id:
        parent = by_id.pop(parent_id, None)
        if parent is None or parent.state not in (ACTIVE, COMMITTED):
            raise V3Error(f"branch {line[-1].name!r}: parent {parent_id} is missing or in a circle")
        line.append(parent)
    return line


def _entries(image: V3Image, branch: Branch) -> Iterator[tuple[str, bytes]]:
    """Yield the entries of a branch's log, each with words that say where it is."""
    ours = _head(image) != 0
    at, capacity, left = branch.log_offset, branch.log_capacity, branch.log_size
    # However segments follow one another, together they lie in the image.
    if left > image.superblock.total_size:
        raise V3Error(f"log of {branch.name!r}: {left} bytes, more than the image has")
    segment = image.bytes_at(at, min(capacity, left)) if left else b""
    offset = 0
    while left:
        where = f"log of {branch.name!r}, entry at {at + offset:#x}"
        room = min(len(segment) - offset, left)
        if room < _HEADER.size:
            raise V3Error(f"{where}: cut short, {room} bytes are left")
        kind, size, _, _ = _HEADER.unpack_from(segment, offset)
        if not _HEADER.size <= size <= room:
            raise V3Error(f"{where}: size {size}, left are {room}")
        entry = segment[offset : offset + size]
        left -= size
        offset += size
        if ours and kind == CONTINUE:
            if size < _HEADER.size + _CONTINUE.size:
                raise V3Error(f"{where}: cut short")
            at, capacity = _CONTINUE.unpack_from(entry, _HEADER.size)
            if at % BLOCK or capacity % BLOCK or capacity == 0:
                raise V3Error(f"{where}: {capacity} bytes at {at:#x} are no segment")
            _check_heap(image, at, capacity, where)
            segment, offset = image.bytes_at(at, capacity), 0
        else:
            yield where, entry


def _check_heap(image: V3Image, at: int, size: int, where: str) -> None:
    """Require that bytes lie in the heap of an image of daxfs's own."""
    start, blocks = struct.unpack("<2Q", image.bytes_at(HEAP_AT, 16))
    if not start <= at <= start + blocks * BLOCK - size:
        raise V3Error(f"{where}: {size} bytes at {at:#x} lie outside the heap")


class _Tree:
    """The base tree of an image, and what log entries make of it."""

    def __init__(self, image: V3Image) -> None:
        self._growth = GROWTH_MAX
        self._image = image
        self._ours = _head(image) != 0
        self._time = 0
        self._where = ""
        root = image.inode(ROOT_INO)
        self._nodes = {ROOT_INO: _Node(root.mode, root.uid, root.gid, root.nlink)}
        self._extend(ROOT_INO)
        for parent, name, inode in image.tree():
            self._nodes[parent].names[name] = inode.ino
            if inode.ino not in self._nodes:
                node = _Node(inode.mode, inode.uid, inode.gid, inode.nlink)
                entry = image.entry(name, inode)
                node.data = entry.data or node.data
                node.target = entry.target or node.target
                self._nodes[inode.ino] = node
                self._extend(inode.ino)

    def _extend(self, ino: int) -> None:
        """Take in what daxfs keeps in the reserved bytes of a base inode."""
        image, node = self._image, self._nodes[ino]
        flags, start = image.superblock.flags, image.superblock.base_offset
        at = start + image.base.inode_offset + (ino - 1) * 64 + 36
        rdev, mtime, xattrs = _INODE_EXT.unpack(image.bytes_at(at, _INODE_EXT.size))
        if flags & INODE_EXT:
            node.rdev, node.atime, node.mtime, node.ctime = rdev, mtime, mtime, mtime
        if flags & XATTRS and xattrs:
            at = start + xattrs
            size, _, count, _ = _XATTR_SET.unpack(image.bytes_at(at, _XATTR_SET.size))
            rest = image.bytes_at(at, size)[_XATTR_SET.size :]
            for _ in range(count):
                name_length, _, value_length = _XATTR.unpack_from(rest)
                name = _part(rest, _XATTR.size, name_length)
                node.xattrs[name] = _part(rest, _XATTR.size + name_length, value_length)
                rest = rest[_XATTR.size + _padded(name_length + value_length) :]

    def replay(self, entry: bytes, where: str) -> None:
        """Apply one entry."""
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
        if self._ours:
            apply |= {
                17: self._mknod,
                18: self._link,
                19: self._put_extent,
                20: self._punch,
                21: self._xattr,
            }
        try:
            kind, _, ino, time = _HEADER.unpack_from(entry)
            self._time, self._where = min(time, (1 << 63) - 1), where
            if kind not in apply:
                raise V3Error(f"unknown type {kind}")
            apply[kind](ino, entry[_HEADER.size :])
        except struct.error as error:
            raise V3Error(f"{where}: cut short ({error})") from error
        except V3Error as error:
            raise V3Error(f"{where}: {error}") from error

    def details(self) -> Iterator[dict[str, object]]:
        """Yield everything that each name of the tree shows."""
        names = dict.fromkeys(self._nodes, 0)
        for node in self._nodes.values():
            for child in node.names.values():
                names[child] += 1
        for entry in self.walk():
            node = self._nodes[entry.ino]
            record: dict[str, object] = {
                "path": entry.path.hex(),
                "ino": entry.ino,
                "mode": node.mode,
                "owner": [node.uid, node.gid],
                "rdev": node.rdev,
                "times": [node.atime, node.mtime, node.ctime],
                "xattrs": {name.hex(): node.xattrs[name].hex() for name in sorted(node.xattrs)},
                "nlink": names[entry.ino],
                "size": entry.size,
            }
            if stat.S_ISDIR(node.mode):
                below = [self._nodes[child].mode for child in node.names.values()]
                record["nlink"] = 2 + sum(map(stat.S_ISDIR, below))
                record["size"] = 144 * len(below)
            if entry.target is not None:
                record["target"] = entry.target.hex()
            if entry.data is not None:
                record["sha256"] = hashlib.sha256(entry.data).hexdigest()
            yield record

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

    def _touch(self, ino: int, modified: bool) -> _Node:
        """Note that an inode changed, and perhaps its bytes or names."""
        node = self._node(ino)
        node.ctime = self._time
        if modified:
            node.mtime = self._time
        return node

    def _write(self, ino: int, body: bytes) -> None:
        offset, length, _ = _WRITE.unpack_from(body)
        self._put(ino, offset, _part(body, _WRITE.size, length))

    def _put_extent(self, ino: int, body: bytes) -> None:
        offset, length, at, flags = _EXTENT.unpack_from(body)
        _check_heap(self._image, at, length, self._where)
        if length == 0 or offset % BLOCK != at % BLOCK or flags & ~KEEP_SIZE:
            raise V3Error(f"extent of {length} bytes at {at:#x} for {offset}, flags {flags:#x}")
        self._put(ino, offset, self._image.bytes_at(at, length), bool(flags & KEEP_SIZE))

    def _put(self, ino: int, offset: int, data: bytes, keep_size: bool = False) -> None:
        node = self._file(ino)
        self._touch(ino, modified=True)
        if not data:
            return
        end = offset + len(data)
        if not keep_size:
            content = self._resize(ino, max(end, len(node.data)))
            content[offset:end] = data
            return
        size = len(node.data)
        if end > size + len(node.ahead):
            self._grow(ino, end - size - len(node.ahead))
            node.ahead.extend(bytes(end - size - len(node.ahead)))
        content = self._resize(ino, size)
        inside = max(0, min(size - offset, len(data)))
        content[offset : offset + inside] = data[:inside]
        start = offset + inside - size
        if inside < len(data):
            node.ahead[start : start + len(data) - inside] = data[inside:]

    def _punch(self, ino: int, body: bytes) -> None:
        offset, length = _PUNCH.unpack_from(body)
        if offset + length > (1 << 63) - 1:
            raise V3Error(f"hole of {length} bytes at {offset}")
        node = self._file(ino)
        self._touch(ino, modified=True)
        size = len(node.data)
        content = self._resize(ino, size)
        for part, begin in ((content, 0), (node.ahead, size)):
            low = min(max(offset - begin, 0), len(part))
            high = min(max(offset + length - begin, 0), len(part))
            part[low:high] = bytes(high - low)

    def _truncate(self, ino: int, body: bytes) -> None:
        (size,) = _TRUNCATE.unpack_from(body)
        self._cut(ino, size)

    def _cut(self, ino: int, size: int) -> None:
        """Set the size of a file; what was ahead of a smaller one is gone."""
        node = self._file(ino)
        self._touch(ino, modified=True)
        ahead = size - len(node.data)
        del node.ahead[max(ahead, 0) :]
        self._resize(ino, size)

    def _create(self, ino: int, body: bytes) -> None:
        parent, new, mode, length, _ = _CREATE.unpack_from(body)
        self._add(parent, _part(body, _CREATE.size, length), new, _Node(mode))

    def _symlink(self, ino: int, body: bytes) -> None:
        parent, new, name_length, target_length, _ = _SYMLINK.unpack_from(body)
        name = _part(body, _SYMLINK.size, name_length)
        target = _target(body, _SYMLINK.size + name_length, target_length)
        self._add(parent, name, new, _Node(stat.S_IFLNK | 0o777, target=target))

    def _mknod(self, ino: int, body: bytes) -> None:
        parent, mode, uid, gid, rdev, name_length, target_length = _MKNOD.unpack_from(body)
        name = _part(body, _MKNOD.size, name_length)
        node = _Node(mode, uid, gid, rdev=rdev)
        if stat.S_IFMT(mode) not in TYPES:
            raise V3Error(f"mode {mode:#o} is of no known type")
        if stat.S_ISLNK(mode):
            node.target = _target(body, _MKNOD.size + name_length, target_length)
        elif target_length:
            raise V3Error(f"mode {mode:#o} with a target")
        self._add(parent, name, ino, node)

    def _link(self, ino: int, body: bytes) -> None:
        parent, length = _LINK.unpack_from(body)
        if stat.S_ISDIR(self._touch(ino, modified=False).mode):
            raise V3Error(f"inode {ino} is a directory, which has one name")
        name = _part(body, _LINK.size, length)
        if name in self._directory(parent):
            raise V3Error(f"new name {name!r} is in inode {parent} already")
        self._name(parent, name, ino)

    def _delete(self, ino: int, body: bytes) -> None:
        parent, length, _, _ = _DELETE.unpack_from(body)
        self._touch(ino, modified=False)
        self._take(parent, _part(body, _DELETE.size, length), ino)

    def _rename(self, _: int, body: bytes) -> None:
        old_parent, new_parent, ino, old_length, new_length, flags = _RENAME.unpack_from(body)
        old = _part(body, _RENAME.size, old_length)
        new = _part(body, _RENAME.size + old_length, new_length)
        if self._ours and flags & ~EXCHANGE:
            raise V3Error(f"flags {flags:#x}")
        there = self._directory(new_parent).get(new)
        if there == ino and self._directory(old_parent).get(old) == ino:
            return
        self._take(old_parent, old, ino)
        self._touch(ino, modified=False)
        if there is not None:
            self._take(new_parent, new, there)
            self._touch(there, modified=False)
        if self._ours and flags & EXCHANGE:
            if there is None:
                raise V3Error(f"name {new!r} in inode {new_parent} is nobody's")
            self._name(old_parent, old, there)
        self._name(new_parent, new, ino)

    def _setattr(self, ino: int, body: bytes) -> None:
        mode, uid, gid, valid, size = _SETATTR.unpack_from(body)
        node = self._touch(ino, modified=False)
        if self._ours and valid & ~0x7F:
            raise V3Error(f"valid {valid:#x}")
        if valid & SET_MODE:
            if self._ours and stat.S_IFMT(mode) == 0:
                mode |= stat.S_IFMT(node.mode)
            if stat.S_IFMT(mode) != stat.S_IFMT(node.mode):
                raise V3Error(f"mode {mode:#o} changes the type of inode {ino}, {node.mode:#o}")
            node.mode = mode
        if valid & SET_UID:
            node.uid = uid
        if valid & SET_GID:
            node.gid = gid
        if valid & SET_SIZE:
            self._cut(ino, size)
        if self._ours and valid & (SET_ATIME | SET_MTIME | SET_CTIME):
            atime, mtime, ctime = _TIMES.unpack_from(body, _SETATTR.size)
            node.atime = atime if valid & SET_ATIME else node.atime
            node.mtime = mtime if valid & SET_MTIME else node.mtime
            node.ctime = ctime if valid & SET_CTIME else node.ctime

    def _xattr(self, ino: int, body: bytes) -> None:
        name_length, flags, value_length = _XATTR.unpack_from(body)
        name = _part(body, _XATTR.size, name_length)
        value = _part(body, _XATTR.size + name_length, value_length)
        if not 0 < name_length <= XATTR_NAME_MAX or value_length > XATTR_VALUE_MAX or 0 in name:
            raise V3Error(f"attribute {name!r} of {value_length} bytes")
        if flags & ~REMOVE or (flags & REMOVE and value):
            raise V3Error(f"attribute {name!r}: flags {flags:#x} with {value_length} bytes")
        xattrs = self._touch(ino, modified=False).xattrs
        if not flags & REMOVE:
            xattrs[name] = value
        elif xattrs.pop(name, None) is None:
            raise V3Error(f"attribute {name!r} is not there")
        stored = (8 + _padded(len(name) + len(value)) for name, value in xattrs.items())
        if _XATTR_SET.size + sum(stored) > XATTR_SET_MAX:
            raise V3Error(f"attributes of inode {ino}: more than {XATTR_SET_MAX} bytes")

    def _add(self, parent: int, name: bytes, ino: int, node: _Node) -> None:
        if ino in self._nodes:
            raise V3Error(f"new inode {ino} is there already")
        if name in self._directory(parent):
            raise V3Error(f"new name {name!r} is in inode {parent} already")
        self._name(parent, name, ino)
        node.atime = node.mtime = node.ctime = self._time
        self._nodes[ino] = node

    def _name(self, parent: int, name: bytes, ino: int) -> None:
        if not legal_name(name):
            raise V3Error(f"name {name!r} is not legal, of {len(name)} bytes of {NAME_MAX}")
        self._directory(parent)[name] = ino
        self._touch(parent, modified=True)

    def _take(self, parent: int, name: bytes, ino: int) -> None:
        found = self._directory(parent).get(name)
        if found != ino:
            raise V3Error(f"name {name!r} in inode {parent} is inode {found}, not {ino}")
        del self._directory(parent)[name]
        self._touch(parent, modified=True)

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
            kept = node.ahead[:growth]
            del node.ahead[:growth]
            self._grow(ino, growth)
            node.data.extend(kept + bytes(growth - len(kept)))
        else:
            del node.data[size:]
        return node.data

    def _grow(self, ino: int, size: int) -> None:
        self._growth -= size
        if self._growth < 0:
            raise V3Error(f"{size} bytes more for inode {ino}: above {GROWTH_MAX} in all")


def _padded(length: int) -> int:
    return -(-length // 8) * 8


def _target(body: bytes, start: int, length: int) -> bytes:
    target = _part(body, start, length + 1)
    if target.find(b"\0") != length or not 0 < length <= TARGET_MAX:
        raise V3Error(f"target {target!r} of length {length} is not terminated there")
    return target[:-1]


def _part(body: bytes, start: int, length: int) -> bytes:
    if length > len(body) - start:
        raise V3Error(f"{length} bytes at {start} of the body pass its end at {len(body)}")
    return body[start : start + length]


def main() -> None:
    """Print all that a branch shows."""
    image, branch = Path(sys.argv[1]).read_bytes(), sys.argv[2]
    for record in branch_details(image, branch):
        print(json.dumps(record))


if __name__ == "__main__":
    main()
