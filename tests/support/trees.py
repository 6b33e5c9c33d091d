# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Make directory trees as odd as a file system permits, the same ones from the same seed.

It takes root: there are device nodes, foreign owners, and attributes of the kernel's name spaces.
`snapshot` and `compare`, used on what is made here, are offered here too.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from .snapshot import FIELDS, Record, compare, snapshot

__all__ = ["FIELDS", "Options", "Record", "compare", "random_tree", "snapshot"]

_MIB = 1 << 20
_EDGES = (4096, 8192, 65536)
_HUGE_EDGE = 2 * _MIB
_SECOND = 10**9

# Directories and inodes kept open to add to or to link to; others are complete.
_OPEN_MAX = 24

# An empty capability set in the kernel's second layout, with the effective bit.
_CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)

_ODD_NAMES = (
    b"-rf",
    b"--",
    b"...",
    b"..x",
    b".hidden",
    b" leading and trailing ",
    b"new\nline",
    b"tab\tand\rreturn",
    b"\x01\x7f\x1b[31m",
    b"*?[]{}$`'\"\\;&|<>#!~",
    b"caf\xc3\xa9",
    b"cafe\xcc\x81",
    b"latin-1 caf\xe9",
    b"\xff\xfe\xfd",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x97\x84",
    b"%s%n%2F",
    b"CON",
    b"a",
    b"A",
)
_OWNERS = (0, 0, 1, 1000, 65534, 65536, 1 << 31, (1 << 32) - 2)
_DEVICES = ((0, 0), (1, 3), (1, 5), (259, 65537), (4095, 1048575))
_TIMES = (
    0,
    1,
    -1,
    -3 * _SECOND // 2,
    -(1 << 31) * _SECOND,
    ((1 << 31) - 1) * _SECOND + 999_999_999,
    (1 << 31) * _SECOND,
    (1 << 32) * _SECOND + 1,
    (3 << 32) * _SECOND + 123_456_789,
)


@dataclass(frozen=True, slots=True)
class Options:
    """What a tree may hold.

    Attributes
    ----------
    name_max
        The most bytes in a name.
    deep
        Whether to add a path that is longer than PATH_MAX.
    nodes
        Whether to make FIFOs, sockets and devices.
    links
        Whether to make hard links.
    xattrs
        Whether to set extended attributes, as far as the file system has them.
    sparse_max
        The most bytes a sparse file claims to have.
    """

    name_max: int = 128
    deep: bool = True
    nodes: bool = True
    links: bool = True
    xattrs: bool = True
    sparse_max: int = 5 << 30


def random_tree(root: Path, rng: Random, *, entries: int, options: Options | None = None) -> None:
    """Make a tree of `entries` names in the directory `root`, made if missing.

    Each kind of thing is made once before any is repeated, so few entries show all of them. The
    path beyond PATH_MAX is made besides.

    Raises
    ------
    PermissionError
        If the caller is not root.
    """
    if os.geteuid() != 0:
        raise PermissionError(errno.EPERM, "making odd trees takes root", str(root))
    root.mkdir(parents=True, exist_ok=True)
    maker = _Maker(root, rng, options or Options())
    try:
        maker.fill(entries)
    finally:
        maker.close()


class _Maker:
    """Fills one tree. Whatever is made is dressed (owner, mode, attributes, time) once complete."""

    def __init__(self, root: Path, rng: Random, options: Options) -> None:
        self._rng = rng
        self._options = options
        self._directories = [os.open(root, os.O_RDONLY | os.O_DIRECTORY)]
        self._inodes: list[int] = []
        kinds: list[tuple[int, Callable[[bytes], None]]] = [
            (4, self._directory),
            (1, self._empty_file),
            (6, self._small_file),
            (2, self._edge_file),
            (1, self._sparse_file),
            (3, self._symlink),
            (1, self._dangling_symlink),
            (1, self._long_symlink),
        ]
        if options.nodes:
            kinds += [(1, self._fifo), (1, self._socket), (1, self._device)]
        self._weights, self._kinds = zip(*kinds, strict=True)

    def fill(self, entries: int) -> None:
        """Make the tree."""
        each_once = [*self._kinds, self._huge_edge_file]
        if self._options.links:
            each_once += [self._hard_link] * 2
        self._rng.shuffle(each_once)
        for number in range(entries):
            make = (
                each_once[number]
                if number < len(each_once)
                else self._hard_link
                if self._options.links and self._rng.random() < 0.1
                else self._rng.choices(self._kinds, self._weights)[0]
            )
            make(self._place(self._rng.choice(self._directories)))
        if self._options.deep:
            self._deep_path()
        while self._directories:
            self._complete(self._directories.pop())

    def close(self) -> None:
        """Close what is open."""
        for fd in self._directories + self._inodes:
            os.close(fd)

    def _place(self, directory: int) -> bytes:
        """Return a path, short at any depth, for a new name in an open directory."""
        while True:
            path = b"/proc/self/fd/%d/%s" % (directory, self._name())
            if not os.path.lexists(path):
                return path

    def _name(self) -> bytes:
        rng, most = self._rng, self._options.name_max
        style = rng.randrange(8)
        if style < 2:
            name = rng.choice(_ODD_NAMES)
        elif style == 2:
            name = rng.choice(_ODD_NAMES) + b"%d" % rng.randrange(1000)
        elif style == 3:
            name = self._bytes_of_name(rng.randint(1, most))
        elif style == 4:
            name = self._bytes_of_name(most)
        else:
            name = bytes(
                rng.choices(b"abcdefghijklmnopqrstuvwxyz0123456789_", k=rng.randint(2, 14))
            )
        name = name[:most]
        return name if name not in (b".", b"..") else b"dots"

    def _bytes_of_name(self, length: int) -> bytes:
        return bytes(self._rng.choices(bytes(set(range(1, 256)) - {ord("/")}), k=length))

    def _directory(self, path: bytes) -> None:
        os.mkdir(path)
        self._directories.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
        if len(self._directories) > _OPEN_MAX:
            self._complete(self._directories.pop(self._rng.randrange(_OPEN_MAX)))

    def _complete(self, directory: int) -> None:
        self._dress(b"/proc/self/fd/%d/." % directory, stat.S_IFDIR)
        os.close(directory)

    def _deep_path(self) -> None:
        """Nest directories with the longest names until their path passes PATH_MAX."""
        here = self._directories.pop(0)
        for _ in range(4096 // self._options.name_max + 4):
            name = self._bytes_of_name(self._options.name_max).replace(b".", b"_")
            path = b"/proc/self/fd/%d/%s" % (here, name)
            os.mkdir(path)
            there = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            self._complete(here)
            here = there
        self._small_file(self._place(here))
        self._symlink(self._place(here))
        self._complete(here)

    def _empty_file(self, path: bytes) -> None:
        self._file(path, [(0, b"")], 0)

    def _small_file(self, path: bytes) -> None:
        data = self._rng.randbytes(self._rng.randint(1, 3000))
        self._file(path, [(0, data)], len(data))

    def _edge_file(self, path: bytes) -> None:
        data = self._rng.randbytes(self._rng.choice(_EDGES) + self._rng.randint(-1, 1))
        self._file(path, [(0, data)], len(data))

    def _huge_edge_file(self, path: bytes) -> None:
        data = self._rng.randbytes(_HUGE_EDGE + self._rng.randint(-1, 1))
        self._file(path, [(0, data)], len(data))

    def _sparse_file(self, path: bytes) -> None:
        size = self._rng.randint(min(_MIB, self._options.sparse_max), self._options.sparse_max)
        pieces = []
        for _ in range(self._rng.randint(0, 4)):
            length = min(self._rng.randint(1, 9000), size)
            pieces.append((self._rng.randint(0, size - length), self._rng.randbytes(length)))
        self._file(path, pieces, size)

    def _file(self, path: bytes, pieces: list[tuple[int, bytes]], size: int) -> None:
        with open(path, "xb", buffering=0) as file:
            file.truncate(size)
            for offset, data in pieces:
                os.pwrite(file.fileno(), data, offset)
        self._done(path, stat.S_IFREG)

    def _symlink(self, path: bytes) -> None:
        here = os.path.dirname(path)
        os.symlink(self._rng.choice(sorted(map(os.fsencode, os.listdir(here))) or [b"."]), path)
        self._done(path, stat.S_IFLNK)

    def _dangling_symlink(self, path: bytes) -> None:
        os.symlink(self._rng.choice((b"/no/where", b"../" * 99, b"\xff\n")), path)
        self._done(path, stat.S_IFLNK)

    def _long_symlink(self, path: bytes) -> None:
        length = self._rng.choice((59, 60, 127, 128, 4094, 4095, self._rng.randint(1, 4095)))
        os.symlink(self._bytes_of_name(length), path)
        self._done(path, stat.S_IFLNK)

    def _fifo(self, path: bytes) -> None:
        os.mkfifo(path)
        self._done(path, stat.S_IFIFO)

    def _socket(self, path: bytes) -> None:
        os.mknod(path, stat.S_IFSOCK | 0o600)
        self._done(path, stat.S_IFSOCK)

    def _device(self, path: bytes) -> None:
        kind = self._rng.choice((stat.S_IFCHR, stat.S_IFBLK))
        os.mknod(path, kind | 0o600, os.makedev(*self._rng.choice(_DEVICES)))
        self._done(path, kind)

    def _hard_link(self, path: bytes) -> None:
        if not self._inodes:
            self._small_file(path)
            return
        source = b"/proc/self/fd/%d" % self._rng.choice(self._inodes)
        here = os.open(os.path.dirname(path), os.O_PATH)
        try:
            # With a directory given, the entry of /proc is followed, to the inode and no further.
            os.link(source, os.path.basename(path), dst_dir_fd=here)
        finally:
            os.close(here)

    def _done(self, path: bytes, kind: int) -> None:
        """Dress what is no directory, and keep it for links."""
        self._dress(path, kind)
        self._inodes.append(os.open(path, os.O_PATH | os.O_NOFOLLOW))
        if len(self._inodes) > _OPEN_MAX:
            os.close(self._inodes.pop(self._rng.randrange(_OPEN_MAX)))

    def _dress(self, path: bytes, kind: int) -> None:
        """Set owner, mode, attributes and time, each of which the one before it may disturb."""
        rng = self._rng
        os.chown(path, rng.choice(_OWNERS), rng.choice(_OWNERS), follow_symlinks=False)
        if kind != stat.S_IFLNK:
            usual = 0o755 if kind == stat.S_IFDIR else 0o644
            os.chmod(path, rng.choice((usual, usual, 0, 0o4755, 0o1777, rng.randrange(1 << 12))))
        if self._options.xattrs and rng.random() < 0.3:
            self._attributes(path, kind)
        nanoseconds = rng.choice((*_TIMES, rng.randrange(2 * 10**18), rng.randrange(2 * 10**18)))
        os.utime(path, ns=(nanoseconds, nanoseconds), follow_symlinks=False)

    def _attributes(self, path: bytes, kind: int) -> None:
        rng = self._rng
        spaces = ["trusted", "security"]
        if kind in (stat.S_IFREG, stat.S_IFDIR):
            spaces.append("user")
        if kind == stat.S_IFREG and rng.random() < 0.5:
            _set_attribute(path, "security.capability", _CAPABILITY)
        for _ in range(rng.randint(1, 4)):
            name = f"{rng.choice(spaces)}.{rng.choice(('a', 'mime_type', 'é', 'long' * 20))}"
            _set_attribute(path, name, rng.randbytes(rng.choice((0, 1, 30, 300))))


def _set_attribute(path: bytes, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value, follow_symlinks=False)
    except OSError as error:
        # Not every file system has every name space, nor any room for them.
        if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.ENOSPC):
            raise
