# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What tests know of the small tree of `tests/python/conftest.py`, and of the commands."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Protocol

import daxfs

MIB = 1 << 20
VECTORS = Path(__file__).parents[1] / "vectors"
ODD_NAME = b"odd \xff\n\x1b[31m"
WHEN = 1_700_000_000_123_456_789


def sound(path: Path) -> bool:
    """Tell whether an image is proved, the checksums of its contents included."""
    return daxfs.validate(path, data=True).errors == 0


class Run(Protocol):
    """Runs an installed command."""

    def __call__(
        self,
        *command: str | bytes | Path,
        status: int = 0,
        input: bytes | None = None,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]: ...
