# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the kernel keeps of files."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np

LIBC = ctypes.CDLL(None, use_errno=True)


def address(mapped: mmap.mmap) -> int:
    """Where a mapping lies."""
    return int(np.frombuffer(mapped, np.uint8).__array_interface__["data"][0])


def is_cached(path: Path) -> bool:
    """Whether the kernel has the first page of a file."""
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    present = ctypes.c_ubyte()
    done = LIBC.mincore(ctypes.c_void_p(address(mapped)), 4096, ctypes.byref(present))
    assert done == 0, os.strerror(ctypes.get_errno())
    return bool(present.value & 1)
