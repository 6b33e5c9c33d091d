# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Files of an image as streams."""

from __future__ import annotations

import errno
import io
import operator
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from .errors import InvalidError, UnsupportedError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from . import _daxfs
    from ._daxfs import Stat

__all__ = ["ImageFile"]

# That of files of the system.
_POSITION_MAX = (1 << 63) - 1


class Mode(NamedTuple):
    """A mode of `open`, taken apart."""

    kind: str
    """``r``, ``w``, ``a`` or ``x``."""
    plus: bool
    text: bool

    @property
    def reads(self) -> bool:
        """Whether files can be read in it."""
        return self.plus or self.kind == "r"

    @property
    def writes(self) -> bool:
        """Whether files can be written in it."""
        return self.plus or self.kind != "r"


def parse_mode(mode: str) -> Mode:
    """Take a mode of `open` apart."""
    letters = set(mode)
    kinds = letters & set("rwax")
    if len(kinds) != 1 or len(letters) != len(mode) or letters - set("rwaxbt+"):
        raise ValueError(f"invalid mode: {mode!r}")
    if {"b", "t"} <= letters:
        raise ValueError("can't have text and binary mode at once")
    return Mode(kinds.pop(), "+" in letters, "b" not in letters)


def refuse_writing(path: str) -> UnsupportedError:
    """Return what to raise where a file of an image that is only read is to be changed."""
    why = f"{path}: images are read-only; open a branch to write"
    return UnsupportedError(errno.EOPNOTSUPP, why, path)


def check_size(size: int) -> int:
    """Return a file's new size, unless it is none."""
    if size < 0:
        raise InvalidError(errno.EINVAL, f"size {size}: below 0")
    return size


def check_options(
    mode: Mode, buffering: int, encoding: str | None, errors: str | None, newline: str | None
) -> None:
    """Refuse what does not go together, before the file is opened and so emptied."""
    if not mode.text and (encoding, errors, newline) != (None, None, None):
        raise ValueError("binary mode takes no encoding, errors or newline")
    if mode.text and buffering == 0:
        raise ValueError("can't have unbuffered text I/O")


def open_stream(
    raw: ImageFile,
    mode: Mode,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> IO[Any]:
    """Put buffers and decoding on a raw stream, as the built-in `open` does."""
    if buffering == 0:
        return cast("IO[Any]", raw)
    size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
    kind = io.BufferedRandom if mode.plus else io.BufferedReader
    if not mode.reads:
        kind = io.BufferedWriter  # type: ignore[assignment]
    buffered = kind(raw, size)
    if not mode.text:
        return buffered
    line_buffering = buffering == 1
    text = io.TextIOWrapper(
        cast("IO[bytes]", buffered), encoding or "utf-8", errors, newline, line_buffering
    )
    text.mode = raw.mode  # type: ignore[misc]
    return text


class ImageFile(io.RawIOBase):
    """A file of an image as a raw binary stream.

    Wrap it in an `io.BufferedReader` to read it line by line.
    """

    def __init__(self, file: _daxfs.File, name: str, mode: str = "rb") -> None:
        super().__init__()
        self._file: _daxfs.File | None = file
        self._modes = parse_mode(mode)
        self._position = file.size if self._modes.kind == "a" else 0
        self.name = name
        self.mode = mode

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self._open_file().size

    def stat(self) -> Stat:
        """Return the file's attributes."""
        return self._open_file().stat()

    def close(self) -> None:
        """Close the file, and let go of what it keeps of the image."""
        try:
            super().close()
        finally:
            self._file = None

    def readable(self) -> bool:
        """Return whether the file was opened for reading."""
        self._open_file()
        return self._modes.reads

    def writable(self) -> bool:
        """Return whether the file was opened for writing."""
        self._open_file()
        return self._modes.writes

    def seekable(self) -> bool:
        """Return True."""
        self._open_file()
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        self._open_file()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, from the start, the current one or the end; return it."""
        self._open_file()
        if whence == io.SEEK_SET:
            origin = 0
        elif whence == io.SEEK_CUR:
            origin = self._position
        elif whence == io.SEEK_END:
            origin = self.size
        else:
            raise ValueError(f"invalid whence ({whence})")
        position = origin + operator.index(offset)
        if position < 0:
            raise ValueError(f"negative position ({position})")
        if position > _POSITION_MAX:
            raise OverflowError(f"position is too large ({position})")
        self._position = position
        return position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer with what comes next; return how many bytes there were."""
        count = self._readable_file().readinto(buffer, self._position)
        self._position += count
        return count

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes, or all that are left."""
        file = self._readable_file()
        left = max(0, file.size - self._position)
        data = file.read(self._position, left if size is None or size < 0 else size)
        self._position += len(data)
        return data

    def readall(self) -> bytes:
        """Return all bytes that are left."""
        return self.read()

    def write(self, data: ReadableBuffer, /) -> int:
        """Write bytes at the position, or at the end of a file opened to append; all of them."""
        file = self._writable_file()
        if self._modes.kind == "a":
            before = memoryview(data).nbytes
            self._position = file.append(data)
            return before
        count = file.write(data, self._position)
        self._position += count
        return count

    def truncate(self, size: int | None = None, /) -> int:
        """Cut the file, or extend it by zeroes, to a size or the position; return the size."""
        file = self._writable_file()
        size = self._position if size is None else check_size(size)
        file.truncate(size)
        return size

    def sync(self) -> None:
        """Make everything written so far durable, as `os.fsync`."""
        self._writable_file().sync()

    def _open_file(self) -> _daxfs.File:
        # Looked at once: another thread may close it.
        file = self._file
        if file is None:
            raise ValueError("I/O operation on closed file")
        return file

    def _readable_file(self) -> _daxfs.File:
        file = self._open_file()
        if not self._modes.reads:
            raise io.UnsupportedOperation("not readable")
        return file

    def _writable_file(self) -> _daxfs.File:
        file = self._open_file()
        if not self._modes.writes:
            raise io.UnsupportedOperation("not writable")
        return file
