# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Take down everything a directory tree shows, and say how two of them differ.

Every step goes through an open directory, never through a whole path, so trees deeper than
PATH_MAX are no different from others; only one directory is open at a time. Nothing but regular
files is ever opened for reading.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

_BLOCK = 1 << 16
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


@dataclass(frozen=True, slots=True)
class Record:
    """What one name of a tree shows.

    Sizes and link counts of directories are left 0, as file systems count them differently.
    `links` is the least path that names the same inode. `content` stands for a regular file's
    bytes, whether stored or in holes.
    """

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    nlink: int
    rdev: int
    mtime_ns: int
    target: bytes | None
    content: str | None
    xattrs: tuple[tuple[str, bytes], ...]
    links: bytes


FIELDS = tuple(f.name for f in fields(Record))


def snapshot(root: Path | str | bytes) -> dict[bytes, Record]:
    """Return a record for every path of the tree at `root`, which is itself `/`."""
    records: dict[bytes, Record] = {}
    contents: dict[tuple[int, int], str] = {}
    leaders: dict[tuple[int, int], bytes] = {}
    inodes: dict[bytes, tuple[int, int]] = {}
    for path, directory, name, status in _walk(root):
        inode = inodes[path] = (status.st_dev, status.st_ino)
        leaders[inode] = min(path, leaders.get(inode, path))
        if stat.S_ISREG(status.st_mode) and inode not in contents:
            contents[inode] = _content(directory, name)
        records[path] = _record(directory, name, status, contents.get(inode))
    return {path: replace(r, links=leaders[inodes[path]]) for path, r in records.items()}


def compare(
    first: Mapping[bytes, Record], second: Mapping[bytes, Record], *, ignore: Collection[str] = ()
) -> list[str]:
    """Return one line for every difference between two snapshots.

    Parameters
    ----------
    first, second
        What `snapshot` returned.
    ignore
        Names of fields of `Record` that may differ.

    Raises
    ------
    ValueError
        If `ignore` names no field.
    """
    if unknown := set(ignore).difference(FIELDS):
        raise ValueError(f"no fields of a record: {sorted(unknown)}; there are {FIELDS}")
    differences: list[str] = []
    for path in sorted(first.keys() | second.keys()):
        if path not in second:
            differences.append(f"{path!r}: only in the first")
        elif path not in first:
            differences.append(f"{path!r}: only in the second")
        else:
            one, two = first[path], second[path]
            # Things of two kinds differ in most fields; saying so would hide the reason.
            watched = FIELDS if one.kind == two.kind else ("kind",)
            for name in watched:
                a, b = getattr(one, name), getattr(two, name)
                if a != b and name not in ignore:
                    differences.append(f"{path!r}: {name} {_show(name, a)}, then {_show(name, b)}")
    return differences


def _show(name: str, value: object) -> str:
    if name == "mode" and isinstance(value, int):
        return oct(value)
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text)} characters)"


def _walk(root: Path | str | bytes) -> Iterator[tuple[bytes, int, bytes, os.stat_result]]:
    """Yield (path, open directory, name in it, status) for everything at and below `root`."""
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield b"/", here, b".", os.stat(here)
        prefix = b""
        levels: list[tuple[bytes, list[bytes]]] = []
        while True:
            below: list[bytes] = []
            for name in sorted(map(os.fsencode, os.listdir(here))):
                status = os.stat(name, dir_fd=here, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    below.append(name)
                yield prefix + b"/" + name, here, name, status
            levels.append((prefix, below))
            while not levels[-1][1]:
                levels.pop()
                if not levels:
                    return
                here = _enter(here, b"..")
            parent, waiting = levels[-1]
            name = waiting.pop()
            prefix = parent + b"/" + name
            here = _enter(here, name)
    finally:
        os.close(here)


def _enter(here: int, name: bytes) -> int:
    """Open the directory `name` in `here` and close `here`."""
    there = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
    os.close(here)
    return there


def _record(directory: int, name: bytes, status: os.stat_result, content: str | None) -> Record:
    is_directory = stat.S_ISDIR(status.st_mode)
    is_device = stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)
    is_symlink = stat.S_ISLNK(status.st_mode)
    return Record(
        kind=_KINDS[stat.S_IFMT(status.st_mode)],
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        size=0 if is_directory else status.st_size,
        nlink=0 if is_directory else status.st_nlink,
        rdev=status.st_rdev if is_device else 0,
        mtime_ns=status.st_mtime_ns,
        target=os.readlink(name, dir_fd=directory) if is_symlink else None,
        content=content,
        xattrs=_xattrs(directory, name),
        links=b"",
    )


def _xattrs(directory: int, name: bytes) -> tuple[tuple[str, bytes], ...]:
    path = b"/proc/self/fd/%d/%s" % (directory, name)
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return ()
        raise
    return tuple((n, os.getxattr(path, n, follow_symlinks=False)) for n in sorted(names))


def _content(directory: int, name: bytes) -> str:
    """Digest what a file reads as.

    Blocks of zeroes do not count, so holes need not be read, and a hole equals stored zeroes.
    """
    digest = hashlib.sha256()
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory)
    try:
        for start, end in _stored(file):
            for offset in range(start, end, _BLOCK):
                data = _read(file, offset).rstrip(b"\0")
                if data:
                    digest.update(b"%d %d:" % (offset, len(data)))
                    digest.update(data)
    finally:
        os.close(file)
    return digest.hexdigest()


def _stored(file: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of what is not in holes; starts are multiples of the block."""
    end = 0
    while True:
        try:
            start = os.lseek(file, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        start = max(end, start - start % _BLOCK)
        end = os.lseek(file, start, os.SEEK_HOLE)
        end = max(end, start + 1)
        end += -end % _BLOCK
        yield start, end


def _read(file: int, offset: int) -> bytes:
    """Read a block, short only at the end of the file."""
    data = os.pread(file, _BLOCK, offset)
    while 0 < len(data) < _BLOCK:
        more = os.pread(file, _BLOCK - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def as_stored(tree: Path) -> dict[bytes, Record]:
    """Return a snapshot as an image keeps it: times are ns in 64 bits, or the last of them."""
    most = (1 << 63) - 1
    return {
        path: replace(record, mtime_ns=min(record.mtime_ns, most))
        for path, record in snapshot(tree).items()
    }
