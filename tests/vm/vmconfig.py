# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Which kernels the virtual-machine tests boot, and where they lie."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Where the commands lie that are tested.
BIN = Path(os.environ.get("DAXFS_BIN", Path(sys.prefix) / "bin"))

# Kernel series → the Debian packages whose files are unpacked for it; metapackages stand for the
# packages that they depend on.
KERNELS = {
    "6.1": ["linux-image-amd64", "linux-headers-amd64"],
    "6.12": ["linux-image-6.12-amd64", "linux-headers-6.12-amd64"],
}
# Guests of another architecture cannot run the host's programs, so they bring their own.
ARM64_KERNELS = {
    "6.1-arm64": ["linux-image-arm64", "linux-headers-arm64", "busybox-static"],
    "6.12-arm64": ["linux-image-6.12-arm64", "linux-headers-6.12-arm64", "busybox-static"],
}

# The kernel that debug_kernel.py builds, and that which newest_kernel.py fetches.
DEBUG = "debug"
NEWEST = "newest"


def module_kernels() -> list[str]:
    """Return the kernels that the module is tested in: those above unless the environment says."""
    return os.environ.get("DAXFS_TEST_KERNELS", " ".join(KERNELS)).split()


def kernel_cache() -> Path:
    """Return the directory that holds one unpacked kernel per series."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("DAXFS_KERNELS") or Path(cache, "daxfs", "kernels"))
