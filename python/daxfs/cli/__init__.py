# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The commands: `mkdaxfs` and `daxfs`, whose subcommands are a module each.

They start quickly because a module is imported when its command runs, and rich when a progress
bar is shown. Ctrl-C is quiet even before, since their scripts import nothing but this module.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from typing import NoReturn


def daxfs_main() -> NoReturn:
    """Run `daxfs`."""
    _run("daxfs")


def daxfs_branch_main() -> NoReturn:
    """Run `daxfs-branch`."""
    _run("daxfs_branch")


def fsck_main() -> NoReturn:
    """Run `fsck.daxfs`."""
    _run("daxfs", "fsck_main", cancelled_status=32)


def mkdaxfs_main() -> NoReturn:
    """Run `mkdaxfs`."""
    _run("mkdaxfs")


def mount_main() -> NoReturn:
    """Run `mount.daxfs`."""
    _run("daxfs", "mount_main", cancelled_status=8)


def _run(module: str, function: str = "main", *, cancelled_status: int = 130) -> NoReturn:
    # What is imported stays: to look for garbage among it, again and again, is a tenth of starting.
    gc.disable()
    try:
        main = getattr(importlib.import_module(f".{module}", __name__), function)
    except KeyboardInterrupt:
        os._exit(cancelled_status)
    gc.freeze()
    gc.enable()
    sys.exit(main())
