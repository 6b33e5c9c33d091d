# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The progress bar: on a terminal, for work that takes over a second."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from ._files import byte_count

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from rich.progress import Progress as RichProgress

    from .._daxfs import Progress

# Work that is done within this time needs no bar.
_PATIENCE = 1.0


class Bar:
    """A watcher of work that shows its progress on standard error.

    Parameters
    ----------
    title : str
        What is being done.
    quiet : bool, optional
        Never show anything.
    """

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        self._title = title
        self._silent = quiet or not sys.stderr.isatty()
        self._start = time.monotonic()
        self._shown: RichProgress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._shown is not None:
            self._shown.stop()

    def __call__(self, progress: Progress) -> None:
        """Show how far the work has come."""
        if self._silent or time.monotonic() - self._start < _PATIENCE:
            return
        if self._shown is None:
            self._shown = self._show()
        # What bytes there are is known only when every file has been looked at.
        known = progress.total_bytes > 0
        self._shown.update(
            self._shown.task_ids[0],
            completed=progress.bytes if known else progress.files,
            total=(progress.total_bytes if known else progress.total_files) or None,
            bytes=_of(progress.bytes, progress.total_bytes, byte_count),
            files=_of(progress.files, progress.total_files, "{:,}".format),
        )

    def _show(self) -> RichProgress:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        shown = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[bytes]}"),
            TextColumn("{task.fields[files]} files"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        shown.add_task(self._title, total=None, bytes=byte_count(0), files="0")
        shown.start()
        return shown


def _of(done: int, total: int, text: Callable[[int], str]) -> str:
    return f"{text(done)} of {text(total)}" if total else text(done)
