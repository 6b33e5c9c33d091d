# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Open files of the fsspec filesystem."""

from __future__ import annotations

import io
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from .file import ImageFile, parse_mode

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from .branch import Branch

__all__ = ["Reader", "Updater", "Writer", "Written"]

# Readers of lines and columns ask for little at a time.
_BUFFER_SIZE = 128 << 10


class Reader(io.BufferedReader):
    """A buffered file with the attributes that fsspec's own callers look at."""

    blocksize = _BUFFER_SIZE

    def __init__(self, raw: ImageFile) -> None:
        super().__init__(raw, _BUFFER_SIZE)
        self.path = raw.name
        self.size = raw.size

    @property
    def closed(self) -> bool:
        """Whether it is closed. A cache of blocks sets it, too, after it closed the file."""
        return super().closed

    @closed.setter
    def closed(self, value: bool) -> None:
        pass

    def _fetch_range(self, start: int, end: int) -> bytes:
        # A cache of blocks fills itself by this.
        self.seek(start)
        return self.read(end - start)


class Written(ImageFile):
    """A file of a branch open for writing, at whose end others can write to the branch.

    Parameters
    ----------
    changing : context manager
        Holds the branch while the file is open, and until a transaction ends.
    path : str
        The file.
    mode : str
        As for `open`.
    autocommit : bool
        Otherwise it is written under a name beside `path`, and is there after `commit` alone.
    """

    def __init__(
        self, changing: AbstractContextManager[Branch], path: str, mode: str, *, autocommit: bool
    ) -> None:
        # Also what could not be opened is closed when it is deleted.
        self._use = ExitStack()
        self._temporary: str | None = None
        with ExitStack() as use:
            self._branch = use.enter_context(changing)
            if not autocommit:
                if parse_mode(mode).kind not in "wx":
                    raise NotImplementedError(f"transactions write new files only, not {mode!r}")
                directory, slash, _ = path.rpartition("/")
                self._temporary = f"{directory}{slash}.daxfs-{uuid4().hex}"
            super().__init__(self._branch._open_raw(self._temporary or path, mode), path, mode)
            self._use = use.pop_all()

    def close(self) -> None:
        """Close the file, and let others write to the branch."""
        try:
            super().close()
        finally:
            if self._temporary is None:
                self._use.close()

    def commit(self) -> None:
        """Give the file its name, for a transaction; over another file unless it must be new."""
        if self._temporary is not None:
            new = self._modes.kind == "x"
            (self._branch.rename if new else self._branch.replace)(self._temporary, self.name)
            self._use.close()

    def discard(self) -> None:
        """Remove the file, for a transaction; again is no mistake."""
        temporary, self._temporary = self._temporary, None
        if temporary is not None:
            with self._use:
                self._branch.unlink(temporary)


class _Transacted(io.BufferedIOBase):
    """The part of a buffered writer that transactions call."""

    _written: Written

    @property
    def path(self) -> str:
        """Path in the image."""
        return self._written.name

    def commit(self) -> None:
        """Write out what is left, and give the file its name; what cannot have it is discarded."""
        try:
            self.close()
            self._written.commit()
        except Exception:
            # Most releases of fsspec do not, and the branch would be held for ever.
            self.discard()
            raise

    def discard(self) -> None:
        """Drop what was written."""
        # What does not fit any more is not wanted.
        with suppress(OSError):
            self.close()
        self._written.discard()


class Writer(_Transacted, io.BufferedWriter):
    """A buffered file that is only written."""

    def __init__(self, raw: Written) -> None:
        super().__init__(raw, _BUFFER_SIZE)
        self._written = raw


class Updater(_Transacted, io.BufferedRandom):
    """A buffered file that is read and written."""

    def __init__(self, raw: Written) -> None:
        super().__init__(raw, _BUFFER_SIZE)
        self._written = raw
