# SPDX-License-Identifier: Apache-2.0 OR MIT
"""daxfs: a filesystem for shared memory.

An image holds a directory tree in one range of memory: a file, a memfd, a DAX device, reserved
RAM, a DMA buffer. Build one from a directory or a tar archive, prove it sound, and read it in
place:

>>> import daxfs
>>> daxfs.build("tree", "tree.daxfs")  # doctest: +SKIP
>>> with daxfs.open("tree.daxfs") as image:  # doctest: +SKIP
...     weights = image.view("model/weights.bin")  # a memoryview, nothing is copied
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import errors
    from ._daxfs import (
        Branch,
        BuildResult,
        Difference,
        DirEntry,
        Extent,
        ExtractResult,
        Finding,
        Progress,
        Report,
        Span,
        Stat,
        __version__,
        parse_size,
        validate,
    )
    from .builder import build
    from .errors import DaxfsError
    from .file import ImageFile
    from .image import Image, open
    from .path import DaxfsPath

__all__ = [
    "Branch",
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
    "Progress",
    "Report",
    "Span",
    "Stat",
    "__version__",
    "build",
    "errors",
    "open",
    "parse_size",
    "validate",
]

# Commands start quickly because importing the package imports nothing else.
_HOMES = {
    "DaxfsError": "errors",
    "DaxfsPath": "path",
    "Image": "image",
    "ImageFile": "file",
    "build": "builder",
    "open": "image",
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
