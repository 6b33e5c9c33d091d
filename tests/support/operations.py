# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Random operations of a file system, each with its outcome, on any directory.

The same seed gives the same operations wherever they are carried out, so outcomes and trees of two
file systems can be compared.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from random import Random

_LIBC = ctypes.CDLL(None, use_errno=True)
_NOREPLACE, _EXCHANGE = 1, 2
_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 1, 2, 16
_NAMES = [b"a", b"b", b"c", b"d", "ä".encode(), b"\xff", b"x" * 60]

Outcome = tuple[str, object]


class Operations:
    """A file system and what is done to it.

    Parameters
    ----------
    root
        The directory.
    seed
        What decides.
    """

    def __init__(self, root: Path, seed: int) -> None:
        self._root = os.fsencode(root)
        self._rng = Random(seed)
        self._open: list[int] = []
        self._steps: list[Callable[[], object]] = [
            self._create, self._create, self._mkdir, self._mkdir, self._unlink, self._rmdir,
            self._rename, self._rename, self._exchange, self._noreplace, self._link, self._symlink,
            self._mknod, self._write, self._write, self._write, self._append, self._truncate,
            self._read, self._stat, self._list, self._chmod, self._chown, self._utime,
            self._set_xattr, self._remove_xattr, self._list_xattrs, self._allocate, self._punch,
            self._zero, self._copy, self._open_file, self._close_file, self._write_open,
            self._truncate_open, self._stat_open, self._sync,
        ]  # fmt: skip

    def step(self) -> Outcome:
        """Do one operation, and say which and what came of it."""
        operation = self._rng.choice(self._steps)
        try:
            return operation.__name__, operation()
        except OSError as error:
            return operation.__name__, errno.errorcode[error.errno or 0]

    def close(self) -> None:
        """Close what is open."""
        for file in self._open:
            os.close(file)
        self._open.clear()

    def _path(self) -> bytes:
        depth = self._rng.choice([1, 1, 1, 2, 2, 3])
        names = (self._rng.choice(_NAMES) for _ in range(depth))
        return b"/".join([self._root, *names])

    def _mode(self) -> int:
        return self._rng.choice([0o644, 0o755, 0o600, 0o4755, 0o2755, 0o1777, 0o2644])

    def _bytes(self) -> bytes:
        size = self._rng.choice([0, 1, 10, 4095, 4096, 4097, 10000, 70000])
        return self._rng.randbytes(size)

    def _offset(self) -> int:
        return self._rng.choice([0, 1, 4095, 4096, 8192, 12345, 100_000])

    def _create(self) -> None:
        path, mode = self._path(), self._mode()
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))

    def _mkdir(self) -> None:
        os.mkdir(self._path(), self._mode())

    def _unlink(self) -> None:
        os.unlink(self._path())

    def _rmdir(self) -> None:
        os.rmdir(self._path())

    def _rename(self) -> None:
        os.rename(self._path(), self._path())

    def _rename_flags(self, flags: int) -> None:
        old, new = self._path(), self._path()
        if _LIBC.renameat2(-100, old, -100, new, flags) != 0:
            raise OSError(ctypes.get_errno(), "renameat2")

    def _exchange(self) -> None:
        self._rename_flags(_EXCHANGE)

    def _noreplace(self) -> None:
        self._rename_flags(_NOREPLACE)

    def _link(self) -> None:
        os.link(self._path(), self._path(), follow_symlinks=False)

    def _symlink(self) -> None:
        target = self._rng.choice([b"a", b"../b", b"nowhere", b"t" * 300, b""])
        os.symlink(target, self._path())

    def _mknod(self) -> None:
        kind = self._rng.choice([stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFREG])
        os.mknod(self._path(), kind | 0o644, os.makedev(1, 3) if kind == stat.S_IFCHR else 0)

    def _file(self, flags: int) -> int:
        path = self._path()
        # A FIFO would wait, a device would swallow.
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return os.open(path, flags | os.O_NOFOLLOW)

    def _with_file(self, flags: int, work: Callable[[int], object]) -> object:
        file = self._file(flags)
        try:
            return work(file)
        finally:
            os.close(file)

    def _write(self) -> object:
        data, offset = self._bytes(), self._offset()
        return self._with_file(os.O_WRONLY, lambda file: os.pwrite(file, data, offset))

    def _append(self) -> object:
        data = self._bytes()
        return self._with_file(os.O_WRONLY | os.O_APPEND, lambda file: os.write(file, data))

    def _truncate(self) -> object:
        size = self._offset()
        return self._with_file(os.O_WRONLY, lambda file: os.ftruncate(file, size))

    def _read(self) -> object:
        offset = self._offset()
        return self._with_file(os.O_RDONLY, lambda file: os.pread(file, 20000, offset))

    def _stat(self) -> object:
        return self._described(os.lstat(self._path()))

    def _described(self, info: os.stat_result) -> object:
        # How directories count their size is everybody's own business.
        size = 0 if stat.S_ISDIR(info.st_mode) else info.st_size
        return info.st_mode, info.st_nlink, info.st_uid, info.st_gid, size, info.st_rdev

    def _list(self) -> object:
        return sorted(os.listdir(os.path.dirname(self._path())))

    def _chmod(self) -> None:
        path, mode = self._path(), self._mode()
        if os.path.islink(path):
            raise OSError(errno.EINVAL, "a link")
        os.chmod(path, mode)

    def _chown(self) -> None:
        owner = self._rng.choice([0, 1, 1000, -1])
        os.lchown(self._path(), owner, self._rng.choice([0, 1, 1000, -1]))

    def _utime(self) -> object:
        path, when = self._path(), self._rng.randrange(-(10**18), 4 * 10**18)
        os.utime(path, ns=(when, when + 1), follow_symlinks=False)
        info = os.lstat(path)
        return info.st_atime_ns, info.st_mtime_ns

    def _set_xattr(self) -> None:
        name, value = (
            f"trusted.{self._rng.choice('abc')}",
            self._rng.randbytes(self._rng.randrange(99)),
        )
        flags = self._rng.choice([0, os.XATTR_CREATE, os.XATTR_REPLACE])
        self._with_file(os.O_RDONLY, lambda file: os.setxattr(file, name, value, flags))

    def _remove_xattr(self) -> None:
        name = f"trusted.{self._rng.choice('abc')}"
        self._with_file(os.O_RDONLY, lambda file: os.removexattr(file, name))

    def _list_xattrs(self) -> object:
        def read(file: int) -> object:
            return sorted((name, os.getxattr(file, name)) for name in os.listxattr(file))

        return self._with_file(os.O_RDONLY, read)

    def _fallocate(self, mode: int) -> object:
        offset, size = self._offset(), self._rng.choice([0, 1, 4096, 10000])

        def work(file: int) -> None:
            result = _LIBC.fallocate(file, mode, ctypes.c_longlong(offset), ctypes.c_longlong(size))
            if result != 0:
                raise OSError(ctypes.get_errno(), "fallocate")

        return self._with_file(os.O_RDWR, work)

    def _allocate(self) -> object:
        return self._fallocate(self._rng.choice([0, _KEEP_SIZE]))

    def _punch(self) -> object:
        return self._fallocate(_PUNCH_HOLE | _KEEP_SIZE)

    def _zero(self) -> object:
        # The reference cannot do it, so it gets what it means.
        return self._fallocate(_PUNCH_HOLE | _KEEP_SIZE)

    def _copy(self) -> object:
        size, here, there = self._rng.choice([1, 5000, 50000]), self._offset(), self._offset()
        source = self._file(os.O_RDONLY)
        try:
            target = self._file(os.O_RDWR)
            try:
                if os.path.sameopenfile(source, target):
                    return "same"
                return os.copy_file_range(source, target, size, here, there)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _open_file(self) -> None:
        if len(self._open) < 5:
            self._open.append(self._file(os.O_RDWR))

    def _opened(self) -> int:
        if not self._open:
            raise OSError(errno.EBADF, "none")
        return self._rng.choice(self._open)

    def _close_file(self) -> None:
        file = self._opened()
        self._open.remove(file)
        os.close(file)

    def _write_open(self) -> object:
        data, offset = self._bytes(), self._offset()
        file = self._opened()
        written = os.pwrite(file, data, offset)
        return written, os.pread(file, 200_000, 0)

    def _truncate_open(self) -> None:
        os.ftruncate(self._opened(), self._offset())

    def _stat_open(self) -> object:
        return self._described(os.fstat(self._opened()))

    def _sync(self) -> None:
        os.fsync(self._opened())
