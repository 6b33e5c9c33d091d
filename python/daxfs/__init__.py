# SPDX-License-Identifier: Apache-2.0 OR MIT
"""daxfs: a filesystem for shared memory.

An image holds a directory tree in one range of memory: a file, a memfd, a DAX device, reserved
RAM, a DMA buffer. Build one from a directory or a tar archive, prove it sound, and read it in
place:

>>> import daxfs
>>> daxfs.build("tree", "tree.daxfs")  # doctest: +SKIP
>>> with daxfs.open("tree.daxfs") as image:  # doctest: +SKIP
...     weights = image.view("model/weights.bin")  # a memoryview, nothing is copied

Change it in branches, which are committed whole or not at all:

>>> daxfs.build("tree", "tree.daxfs", branches=True, force=True)  # doctest: +SKIP
>>> with daxfs.open("tree.daxfs", writable=True) as image:  # doctest: +SKIP
...     with image.branch("feature") as branch:
...         branch.write_text("model/notes", "retrained")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import errors
    from ._daxfs import (
        BranchStatus,
        BuildResult,
        Difference,
        DirEntry,
        Extent,
        ExtractResult,
        Finding,
        Maintained,
        Opener,
        PathChange,
        Progress,
        Report,
        Span,
        Stat,
        __version__,
        parse_size,
        validate,
    )
    from .branch import Branch
    from .builder import build, compact
    from .errors import DaxfsError
    from .file import ImageFile
    from .image import Branches, Image, open
    from .mounting import mount, unmount
    from .path import DaxfsPath
    from .tree import Tree

__all__ = [
    "Branch",
    "BranchStatus",
    "Branches",
    "BuildResult",
    "DaxfsError",
    "DaxfsPath",
    "Difference",
    "DirEntry",
    "Extent",
    "ExtractResult",
    "Finding",
    "Image",
    "ImageFile",
    "Maintained",
    "Opener",
    "PathChange",
    "Progress",
    "Report",
    "Span",
    "Stat",
    "Tree",
    "__version__",
    "build",
    "compact",
    "errors",
    "mount",
    "open",
    "parse_size",
    "unmount",
    "validate",
]

# Commands start quickly because importing the package imports nothing else.
_HOMES = {
    "Branch": "branch",
    "Branches": "image",
    "DaxfsError": "errors",
    "DaxfsPath": "path",
    "Image": "image",
    "ImageFile": "file",
    "Tree": "tree",
    "build": "builder",
    "compact": "builder",
    "mount": "mounting",
    "open": "image",
    "unmount": "mounting",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    home = name if name == "errors" else _HOMES.get(name, "_daxfs")
    module = importlib.import_module(f".{home}", __name__)
    value = globals()[name] = module if name == "errors" else getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
