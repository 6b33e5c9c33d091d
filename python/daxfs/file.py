# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Files of an image as streams."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from . import _daxfs
    from ._daxfs import Stat

__all__ = ["ImageFile"]


class ImageFile(io.RawIOBase):
    """A file of an image as a raw binary stream.

    Wrap it in an `io.BufferedReader` to read it line by line.
    """

    mode = "rb"

    def __init__(self, file: _daxfs.File, name: str) -> None:
        super().__init__()
        self._file = file
        self._position = 0
        self.name = name

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self._file.size

    def stat(self) -> Stat:
        """Return the file's attributes."""
        return self._file.stat()

    def readable(self) -> bool:
        """Return True."""
        self._check_open()
        return True

    def seekable(self) -> bool:
        """Return True."""
        self._check_open()
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, from the start, the current one or the end; return it."""
        self._check_open()
        origins = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}
        if whence not in origins:
            raise ValueError(f"invalid whence ({whence})")
        position = origins[whence] + offset
        if position < 0:
            raise ValueError(f"negative position ({position})")
        self._position = position
        return position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer with what comes next; return how many bytes there were."""
        self._check_open()
        count = self._file.readinto(buffer, self._position)
        self._position += count
        return count

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes, or all that are left."""
        self._check_open()
        left = max(0, self.size - self._position)
        data = self._file.read(self._position, left if size is None or size < 0 else size)
        self._position += len(data)
        return data

    def readall(self) -> bytes:
        """Return all bytes that are left."""
        return self.read()

    def write(self, data: ReadableBuffer, /) -> int:
        """Fail: images are read-only."""
        raise io.UnsupportedOperation("not writable")

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")
