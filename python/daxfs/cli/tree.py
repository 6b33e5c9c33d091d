# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs tree`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..tree import Reached, path_of
from ._common import Output, image_options, json_option, open_image, print_json
from ._files import count_of, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..image import Image
    from ..tree import Step


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


class _Entry(NamedTuple):
    """What is drawn of an entry; it keeps no path, of which a deep tree would have many."""

    name: str
    inode: int
    is_dir: bool
    is_symlink: bool
    is_last: bool


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
        top: Step = (None, path)
        levels = [(top, self._entries(top, self._image.stat(path).st_ino))]
        leads: list[str] = []
        while levels:
            step, entries = levels[-1]
            entry = next(entries, None)
            if entry is None:
                levels.pop()
                del leads[-1:]
                continue
            name = entry.name
            if entry.is_symlink:
                name += f" -> {self._image.readlink(path_of((step, entry.name)))}"
            branch = "└── " if entry.is_last else "├── "
            self.output.line(f"{''.join(leads)}{branch}{name}")
            if not entry.is_dir:
                self.files += 1
                continue
            self.directories += 1
            if self._level is None or len(levels) < self._level:
                below: Step = (step, entry.name)
                levels.append((below, self._entries(below, entry.inode)))
                leads.append("    " if entry.is_last else "│   ")

    def _entries(self, step: Step, inode: int) -> Iterator[_Entry]:
        """Return a directory's entries."""
        path = path_of(step)
        self._reached.add(path, inode)
        found = self._image.scandir(path)
        return iter(
            [
                _Entry(
                    entry.name,
                    entry.inode(),
                    entry.is_dir(follow_symlinks=False),
                    entry.is_symlink(),
                    number == len(found),
                )
                for number, entry in enumerate(found, 1)
            ]
        )


def _nested(image: Image, top: str, level: int | None) -> dict[str, Any]:
    root: dict[str, Any] = {"name": top, "type": "directory", "contents": []}
    reached = Reached()
    first: Step = (None, top)
    pending = [(first, image.stat(top).st_ino, root, 1)]
    while pending:
        step, inode, node, depth = pending.pop()
        path = path_of(step)
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
                    pending.append(((step, entry.name), entry.inode(), below, depth + 1))
    return root
