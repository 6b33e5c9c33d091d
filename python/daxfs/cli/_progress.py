# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The progress bar: on a terminal, for work that takes over a second."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
        files = f"{progress.files:,}"
        if progress.total_files:
            files += f"/{progress.total_files:,}"
        self._shown.update(
            self._shown.task_ids[0],
            completed=progress.bytes,
            total=progress.total_bytes or None,
            files=files,
        )

    def _show(self) -> RichProgress:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        shown = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TextColumn("{task.fields[files]} files"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        shown.add_task(self._title, total=None, files="0")
        shown.start()
        return shown
