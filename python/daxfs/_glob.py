# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Shell patterns over the paths of an image."""

from __future__ import annotations

import fnmatch
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _typeshed import StrOrBytesPath

    from .tree import Tree


def as_text(path: StrOrBytesPath) -> str:
    """Return a path as text, as names in images are, whatever the locale."""
    path = os.fspath(path)
    return path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else path


def join(directory: str, name: str) -> str:
    """Return the path of a name in a directory."""
    return directory + name if directory.endswith("/") else f"{directory}/{name}"


def matches(image: Tree, path: str, pattern: str) -> Iterator[str]:
    """Return the paths below `path` that match a pattern, each once."""
    if not pattern:
        raise ValueError(f"unacceptable pattern: {pattern!r}")
    if not image.is_dir(path):
        return iter(())
    parts = [part for part in pattern.split("/") if part]
    if parts and pattern.endswith("/"):
        # Only directories match; see _glob.
        parts.append("")
    found = _glob(image, path, parts)
    # Only one stretch of directories after another can lead to a path in two ways.
    return iter(dict.fromkeys(found)) if parts.count("**") > 1 else found


def _glob(image: Tree, path: str, parts: list[str]) -> Iterator[str]:
    """Paths that match a pattern's components below `path`, a directory if there are any."""
    part, rest = (parts[0], parts[1:]) if parts else ("", [])
    if not part:
        yield path
    elif part == "**":
        yield from _glob(image, path, rest)
        for directory, names, others in image.walk(path):
            for name in names:
                below = join(directory, name)
                if not image.lstat(below).is_symlink():
                    yield from _glob(image, below, rest)
                elif not rest:
                    yield below
            if not rest:
                yield from (join(directory, name) for name in others)
    elif re.search(r"[*?[]", part) is None:
        below = join(path, part)
        if _is_there(image, below) if not rest else image.is_dir(below):
            yield from _glob(image, below, rest)
    else:
        matches = _matcher(part)
        for entry in image.scandir(path):
            if matches(entry.name) and (not rest or entry.is_dir()):
                yield from _glob(image, entry.path, rest)


def _is_there(image: Tree, path: str) -> bool:
    try:
        image.lstat(path)
    except (FileNotFoundError, UnicodeEncodeError):
        return False
    return True


def _matcher(pattern: str) -> Callable[[str], object]:
    return re.compile(fnmatch.translate(pattern)).match
