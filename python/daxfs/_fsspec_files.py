# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Open files of the fsspec filesystem."""

from __future__ import annotations

import io
from contextlib import ExitStack
from typing import TYPE_CHECKING

from .file import ImageFile

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from .branch import Branch

__all__ = ["BUFFER_SIZE", "Reader", "Written"]

# Readers of lines and columns ask for little at a time.
BUFFER_SIZE = 128 << 10


class Reader(io.BufferedReader):
    """A buffered file with the attributes that fsspec's own callers look at."""

    blocksize = BUFFER_SIZE

    def __init__(self, raw: ImageFile) -> None:
        super().__init__(raw, BUFFER_SIZE)
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
    """A file of a branch open for writing, at whose end others can write to the branch."""

    def __init__(self, changing: AbstractContextManager[Branch], path: str, mode: str) -> None:
        # Also what could not be opened is closed when it is deleted.
        self._use = ExitStack()
        with ExitStack() as use:
            branch = use.enter_context(changing)
            super().__init__(branch._open_raw(path, mode), path, mode)
            self._use = use.pop_all()

    def close(self) -> None:
        """Close the file, and let others write to the branch."""
        try:
            super().close()
        finally:
            self._use.close()
