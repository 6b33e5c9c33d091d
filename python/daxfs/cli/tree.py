# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs tree`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..tree import Reached
from ._common import Output, image_options, json_option, open_image, print_json
from ._files import count_of, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..image import Image


@click.command()
@image_options
@click.argument("path", default="/")
@click.option("-L", "--level", type=click.IntRange(min=1), help="Go so many levels deep.")
@json_option
def command(
    source: str, path: str, branch: str | None, trusted: bool, level: int | None, as_json: bool
) -> None:
    """Show a directory and what is below it as a tree."""
    with open_image(source, branch, trusted) as image:
        # Also says so when it is no directory.
        image.scandir(path)
        if as_json:
            print_json(_nested(image, path, level))
            return
        drawing = _Drawing(image, level)
        drawing.output.line(path)
        drawing.below(path)
        directories = count_of(drawing.directories, "directory", "directories")
        drawing.output.line("")
        drawing.output.line(f"{directories}, {count_of(drawing.files, 'file')}")


class _Drawing:
    def __init__(self, image: Image, level: int | None) -> None:
        self._image = image
        self._level = level
        self._reached = Reached()
        self.output = Output()
        self.directories = 0
        self.files = 0

    def below(self, path: str) -> None:
        """Draw what is in a directory, and below."""
        # Not by recursion: an image may be deeper than the interpreter's stack. Each level keeps
        # its entries that are still to be drawn.
        levels = [("", self._entries(path, self._image.stat(path).st_ino))]
        while levels:
            lead, entries = levels[-1]
            entry, last = next(entries, (None, False))
            if entry is None:
                levels.pop()
                continue
            name = entry.name
            if entry.is_symlink():
                name += f" -> {self._image.readlink(entry.path)}"
            self.output.line(f"{lead}{'└── ' if last else '├── '}{name}")
            if not entry.is_dir(follow_symlinks=False):
                self.files += 1
                continue
            self.directories += 1
            if self._level is None or len(levels) < self._level:
                deeper = lead + ("    " if last else "│   ")
                levels.append((deeper, self._entries(entry.path, entry.inode())))

    def _entries(self, path: str, inode: int) -> Iterator[tuple[Any, bool]]:
        """Return a directory's entries, each with whether it is the last."""
        self._reached.add(path, inode)
        entries = self._image.scandir(path)
        return iter([(entry, number == len(entries)) for number, entry in enumerate(entries, 1)])


def _nested(image: Image, top: str, level: int | None) -> dict[str, Any]:
    root: dict[str, Any] = {"name": top, "type": "directory", "contents": []}
    reached = Reached()
    pending = [(top, image.stat(top).st_ino, root, 1)]
    while pending:
        path, inode, node, depth = pending.pop()
        reached.add(path, inode)
        for entry in image.scandir(path):
            below: dict[str, Any] = {
                "name": entry.name,
                "type": kind_of(entry.stat(follow_symlinks=False).st_mode),
            }
            if entry.is_symlink():
                below["target"] = image.readlink(entry.path)
            node["contents"].append(below)
            if entry.is_dir(follow_symlinks=False):
                below["contents"] = []
                if level is None or depth < level:
                    pending.append((entry.path, entry.inode(), below, depth + 1))
    return root
