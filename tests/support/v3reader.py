# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A second, independent reader of DAXFS v3 base images.

It is written from the description of plain v3 alone and shares no code with daxfs, so that
agreement between the two means something. It knows no feature bit: compatible ones are ignored,
incompatible ones refused. It trusts nothing it has not checked, recurses nowhere, and its work is
bounded by the size of the image, whatever the image says.
"""

from __future__ import annotations

import hashlib
import stat
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from mmap import mmap
from typing import NamedTuple

BLOCK = 4096
SUPERBLOCK_MAGIC = 0x64617833
BASE_MAGIC = 0x64646179
VERSION = 3
INCOMPATIBLE_BITS = range(16, 32)
BRANCH_ENTRIES = 256
BRANCH_SIZE = 128
NAME_MAX = 128
TARGET_MAX = 4095
ROOT_INO = 1

_SUPERBLOCK = struct.Struct("<4I4Q2I5Q")
_BASE = struct.Struct("<4I2Q2IQ")
_INODE = struct.Struct("<4I2QI28x")
_DIRENT = struct.Struct(f"<IIH6x{NAME_MAX}s")

TYPES = frozenset(
    (
        stat.S_IFREG,
        stat.S_IFDIR,
        stat.S_IFLNK,
        stat.S_IFIFO,
        stat.S_IFSOCK,
        stat.S_IFCHR,
        stat.S_IFBLK,
    )
)

ManifestRecord = dict[str, str | int]


class V3Error(Exception):
    """The image breaks a rule of plain v3; the text says which, where and with what value."""


class Superblock(NamedTuple):
    """The fields at the start of the image, in their order there."""

    magic: int
    version: int
    flags: int
    block_size: int
    total_size: int
    base_offset: int
    base_size: int
    branch_table_offset: int
    branch_table_entries: int
    active_branches: int
    next_branch_id: int
    next_inode_id: int
    delta_region_offset: int
    delta_region_size: int
    delta_alloc_offset: int


class BaseSuperblock(NamedTuple):
    """The fields at the start of the base image, in their order there."""

    magic: int
    version: int
    flags: int
    block_size: int
    total_size: int
    inode_offset: int
    inode_count: int
    root_inode: int
    data_offset: int


class Inode(NamedTuple):
    """One entry of the inode table."""

    ino: int
    mode: int
    uid: int
    gid: int
    size: int
    data_offset: int
    nlink: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in the tree.

    `data` views the bytes of a regular file inside the image and is None for all else; `target` is
    None for all but symlinks.
    """

    path: bytes
    ino: int
    mode: int
    uid: int
    gid: int
    size: int
    nlink: int
    data: memoryview | None
    target: bytes | None


def legal_name(name: bytes) -> bool:
    """Whether a directory may hold `name`."""
    if not 0 < len(name) <= NAME_MAX or name in (b".", b".."):
        return False
    return b"/" not in name and b"\0" not in name


def join(directory: bytes, name: bytes) -> bytes:
    """Return the path of `name` in `directory`, where the root is `/`."""
    return (b"" if directory == b"/" else directory) + b"/" + name


def manifest(entries: Iterable[Entry], budget: int) -> list[ManifestRecord]:
    """Describe entries as the manifests beside the vector images do, in the order of their paths.

    Bytes of names that are not UTF-8 become lone surrogates, as `os.fsdecode` makes them.

    Parameters
    ----------
    entries
        What to describe.
    budget
        How many bytes of data to hash at most; those of one inode count once.

    Raises
    ------
    V3Error
        If the budget does not suffice.
    """
    records: list[ManifestRecord] = []
    digests: dict[int, str] = {}
    for entry in sorted(entries, key=lambda e: e.path):
        record: ManifestRecord = {
            "path": entry.path.decode("utf-8", "surrogateescape"),
            "mode": oct(entry.mode),
            "uid": entry.uid,
            "gid": entry.gid,
        }
        if entry.target is not None:
            record["target"] = entry.target.decode("utf-8", "surrogateescape")
        elif entry.data is not None:
            if entry.ino not in digests:
                budget -= entry.size
                if budget < 0:
                    raise V3Error(f"files hold more bytes than there are, found at {entry.path!r}")
                digests[entry.ino] = hashlib.sha256(entry.data).hexdigest()
            record["size"] = entry.size
            record["sha256"] = digests[entry.ino]
        records.append(record)
    return records


def unsatisfied(data: bytes | memoryview | mmap) -> str | None:
    """Return why `data` is no sound v3 image, or None if it is one."""
    try:
        return V3Image(data).unsatisfied()
    except V3Error as error:
        return str(error)


class V3Image:
    """The base tree of a v3 image.

    Parameters
    ----------
    data
        The whole image. The superblocks are copied out and checked here, all else each time it
        is read. The data of entries are views of this buffer.
    known
        Incompatible feature bits that the caller takes care of.

    Raises
    ------
    V3Error
        If a superblock is not one that plain v3 describes.
    """

    def __init__(self, data: bytes | memoryview | mmap, known: int = 0) -> None:
        self._known = known
        self._image = memoryview(data).toreadonly()
        self.superblock = self._load_superblock()
        start = self.superblock.base_offset
        self._base = self._image[start : start + self.superblock.base_size]
        self.base = self._load_base()

    def walk(self) -> Iterator[Entry]:
        """Yield every name of the tree, each directory before what it holds.

        Raises
        ------
        V3Error
            At the first thing found wrong on the way.
        """
        paths = {ROOT_INO: b"/"}
        yield self.entry(b"/", self.inode(ROOT_INO))
        for parent, name, inode in self.tree():
            path = join(paths[parent], name)
            if stat.S_ISDIR(inode.mode):
                paths[inode.ino] = path
            yield self.entry(path, inode)

    def read(self, path: bytes) -> bytes:
        """Return the data of the regular file, or the target of the symlink, at `path`.

        Raises
        ------
        V3Error
            If nothing is there, or neither a file nor a symlink, or the way there is damaged.
        """
        inode = self.inode(ROOT_INO)
        for name in filter(None, path.split(b"/")):
            child = dict(self.dirents(inode)).get(name)
            if child is None:
                raise V3Error(f"{path!r}: inode {inode.ino} holds no name {name!r}")
            inode = child
        entry = self.entry(path, inode)
        if entry.target is not None:
            return entry.target
        if entry.data is None:
            raise V3Error(f"{path!r}: inode {inode.ino} has mode {inode.mode:#o}, so no data")
        return bytes(entry.data)

    def manifest(self) -> list[ManifestRecord]:
        """Return one record for every name, in the order of the paths' bytes.

        Raises
        ------
        V3Error
            If the tree is damaged, or its files hold more bytes than the base image.
        """
        return manifest(self.walk(), self.base.total_size)

    def unsatisfied(self) -> str | None:
        """Check the whole base image; return what is wrong with it, or None.

        More than `walk` this looks at inodes that no name leads to: they must be well-formed, and
        no directory may be among them.
        """
        try:
            reached = {ROOT_INO, *(inode.ino for _, _, inode in self.tree())}
            for ino in range(1, self.base.inode_count + 1):
                if stat.S_ISDIR(self.inode(ino).mode) and ino not in reached:
                    raise V3Error(f"inode {ino}: directory is never reached from the root")
        except V3Error as error:
            return str(error)
        return None

    def tree(self) -> Iterator[tuple[int, bytes, Inode]]:
        """Yield (inode number of the directory, name, inode) for every name but the root's.

        Raises
        ------
        V3Error
            At the first thing found wrong on the way.
        """
        # Arrays do not overlap in a sound image, so together they fit into it. Holding to that
        # keeps many directories from sharing one large array, which would cost quadratic time.
        room = self.base.total_size
        reached = {ROOT_INO}
        pending = [self.inode(ROOT_INO)]
        while pending:
            directory = pending.pop()
            room -= directory.size
            if room < 0:
                raise V3Error(
                    f"inode {directory.ino}: directories up to this one hold "
                    f"{self.base.total_size - room} bytes, the base image {self.base.total_size}"
                )
            for name, inode in self.dirents(directory):
                if stat.S_ISDIR(inode.mode):
                    if inode.ino in reached:
                        raise V3Error(
                            f"inode {inode.ino}: directory is reached again, "
                            f"as {name!r} in inode {directory.ino}"
                        )
                    reached.add(inode.ino)
                    pending.append(inode)
                yield directory.ino, name, inode

    def dirents(self, directory: Inode) -> list[tuple[bytes, Inode]]:
        """Return the names in `directory` with their inodes, in the order stored.

        Raises
        ------
        V3Error
            If it is no directory, or a name or inode is not fit to be used.
        """
        if not stat.S_ISDIR(directory.mode):
            raise V3Error(f"inode {directory.ino}: mode {directory.mode:#o} is no directory's")
        found: dict[bytes, Inode] = {}
        array = self._extent(directory, directory.size)
        for position, (ino, mode, length, field) in enumerate(_DIRENT.iter_unpack(array)):
            where = f"inode {directory.ino}, dirent {position}"
            if length > NAME_MAX:
                raise V3Error(f"{where}: name length {length} is above {NAME_MAX}")
            name = field[:length]
            if not legal_name(name):
                raise V3Error(f"{where}: name {name!r} is not legal")
            if name in found:
                raise V3Error(f"{where}: name {name!r} is there twice")
            inode = self.inode(ino)
            if stat.S_IFMT(mode) != stat.S_IFMT(inode.mode):
                raise V3Error(
                    f"{where}: mode {mode:#o} has another type than that of "
                    f"inode {ino}, {inode.mode:#o}"
                )
            found[name] = inode
        return list(found.items())

    def inode(self, ino: int) -> Inode:
        """Return inode `ino`, checked.

        Raises
        ------
        V3Error
            If there is none, or a field of it is not fit to be used.
        """
        if not 1 <= ino <= self.base.inode_count:
            raise V3Error(f"inode {ino}: the table holds 1 to {self.base.inode_count}")
        offset = self.base.inode_offset + (ino - 1) * _INODE.size
        inode = Inode(*_INODE.unpack_from(self._base, offset))
        if inode.ino != ino:
            raise V3Error(f"inode {ino}: its entry carries the number {inode.ino}")
        kind = stat.S_IFMT(inode.mode)
        if kind not in TYPES or inode.mode > 0o177777:
            raise V3Error(f"inode {ino}: mode {inode.mode:#o} is of no known type")
        if ino == ROOT_INO and kind != stat.S_IFDIR:
            raise V3Error(f"inode {ino}: mode {inode.mode:#o}, but the root is a directory")
        if kind == stat.S_IFREG:
            self._extent(inode, inode.size)
        elif kind == stat.S_IFDIR:
            if inode.size % _DIRENT.size:
                raise V3Error(f"inode {ino}: size {inode.size} is no multiple of {_DIRENT.size}")
            self._extent(inode, inode.size)
        elif kind == stat.S_IFLNK:
            self._target(inode)
        return inode

    def entry(self, path: bytes, inode: Inode) -> Entry:
        """Return `inode` as what is found at `path`."""
        return Entry(
            path=path,
            ino=inode.ino,
            mode=inode.mode,
            uid=inode.uid,
            gid=inode.gid,
            size=inode.size,
            nlink=inode.nlink,
            data=self._extent(inode, inode.size) if stat.S_ISREG(inode.mode) else None,
            target=self._target(inode) if stat.S_ISLNK(inode.mode) else None,
        )

    def bytes_at(self, offset: int, size: int) -> bytes:
        """Return a copy of `size` bytes at the image offset `offset`.

        Raises
        ------
        V3Error
            If they are not all inside the image.
        """
        if not 0 <= offset <= self.superblock.total_size - size:
            raise V3Error(f"{size} bytes at image offset {offset:#x} lie outside the image")
        return bytes(self._image[offset : offset + size])

    def _target(self, inode: Inode) -> bytes:
        if not 1 <= inode.size <= TARGET_MAX:
            raise V3Error(f"inode {inode.ino}: target length {inode.size}, not 1 to {TARGET_MAX}")
        stored = bytes(self._extent(inode, inode.size + 1))
        if stored.find(b"\0") != inode.size:
            raise V3Error(
                f"inode {inode.ino}: the first NUL of its target is at {stored.find(0)}, "
                f"not at its size, {inode.size}"
            )
        return stored[:-1]

    def _extent(self, inode: Inode, size: int) -> memoryview:
        """Return `size` bytes at the inode's data offset, or nothing for size 0."""
        start = inode.data_offset
        if size == 0:
            return self._base[:0]
        if start % BLOCK:
            raise V3Error(f"inode {inode.ino}: data offset {start:#x} is not on a block boundary")
        if not self.base.data_offset <= start <= self.base.total_size - size:
            raise V3Error(
                f"inode {inode.ino}: {size} bytes at {start:#x} lie outside the data of the base "
                f"image, {self.base.data_offset:#x} to {self.base.total_size:#x}"
            )
        return self._base[start : start + size]

    def _load_superblock(self) -> Superblock:
        if len(self._image) < BLOCK:
            raise V3Error(f"image of {len(self._image)} bytes has no room for a superblock")
        sb = Superblock(*_SUPERBLOCK.unpack_from(self._image))
        _check_head("superblock", sb.magic, SUPERBLOCK_MAGIC, sb.version, sb.block_size)
        for bit in INCOMPATIBLE_BITS:
            if (sb.flags & ~self._known) >> bit & 1:
                raise V3Error(f"superblock: unknown incompatible feature bit {bit}")
        if sb.total_size > len(self._image):
            raise V3Error(f"superblock: total size {sb.total_size}, found {len(self._image)} bytes")
        if sb.base_offset == 0:
            raise V3Error("superblock: base offset 0, so there is no base image to read")
        if sb.branch_table_entries not in (0, BRANCH_ENTRIES):
            raise V3Error(f"superblock: {sb.branch_table_entries} branch table entries")
        regions = [
            ("superblock", 0, BLOCK),
            ("base image", sb.base_offset, sb.base_size),
        ]
        if sb.branch_table_entries:
            table_size = sb.branch_table_entries * BRANCH_SIZE
            regions.append(("branch table", sb.branch_table_offset, table_size))
            regions.append(("delta region", sb.delta_region_offset, sb.delta_region_size))
        elif sb.branch_table_offset or sb.delta_region_offset or sb.delta_region_size:
            raise V3Error("superblock: static image with a branch table or a delta region")
        _check_regions(regions, sb.total_size)
        return sb

    def _load_base(self) -> BaseSuperblock:
        if len(self._base) < BLOCK:
            raise V3Error(f"base image of {len(self._base)} bytes has no room for its superblock")
        base = BaseSuperblock(*_BASE.unpack_from(self._base))
        _check_head("base superblock", base.magic, BASE_MAGIC, base.version, base.block_size)
        if base.total_size > len(self._base):
            raise V3Error(
                f"base superblock: total size {base.total_size}, reserved are {len(self._base)}"
            )
        if base.root_inode != ROOT_INO:
            raise V3Error(f"base superblock: root inode {base.root_inode}, not {ROOT_INO}")
        regions = [
            ("base superblock", 0, BLOCK),
            ("inode table", base.inode_offset, base.inode_count * _INODE.size),
            ("data", base.data_offset, base.total_size - base.data_offset),
        ]
        _check_regions(regions, base.total_size)
        return base


def _check_head(what: str, magic: int, magic_due: int, version: int, block_size: int) -> None:
    if magic != magic_due:
        raise V3Error(f"{what}: magic {magic:#010x}, not {magic_due:#010x}")
    if version != VERSION:
        raise V3Error(f"{what}: version {version}, not {VERSION}")
    if block_size != BLOCK:
        raise V3Error(f"{what}: block size {block_size}, not {BLOCK}")


def _check_regions(regions: list[tuple[str, int, int]], end: int) -> None:
    """Require that regions (name, offset, size) start on blocks, are disjoint and before `end`."""
    before, free = "", 0
    for what, offset, size in sorted(regions, key=lambda region: region[1]):
        if offset % BLOCK:
            raise V3Error(f"{what}: offset {offset:#x} is not on a block boundary")
        if offset < free:
            raise V3Error(f"{what}: at {offset:#x} it overlaps the {before}, up to {free:#x}")
        if not 0 <= size <= end - offset:
            raise V3Error(f"{what}: {size} bytes at {offset:#x} pass the end at {end:#x}")
        before, free = what, offset + size
