# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs tree`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..tree import Reached, path_of
from ._common import Output, image_options, json_option, open_image, print_json
from ._files import count_of, kind_of

if TYPE_CHECKING:
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


# What is drawn of an entry: its name, the inode of a directory, and whether it is a link. It keeps
# no path, of which a deep tree would have many.
_Entry = tuple[str, "int | None", bool]


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
            if not entries:
                levels.pop()
                del leads[-1:]
                continue
            name, directory, is_link = entries.pop()
            branch, deeper = ("├── ", "│   ") if entries else ("└── ", "    ")
            target = f" -> {self._image.readlink(path_of((step, name)))}" if is_link else ""
            self.output.line(f"{''.join(leads)}{branch}{name}{target}")
            if directory is None:
                self.files += 1
                continue
            self.directories += 1
            if self._level is None or len(levels) < self._level:
                below: Step = (step, name)
                levels.append((below, self._entries(below, directory)))
                leads.append(deeper)

    def _entries(self, step: Step, inode: int) -> list[_Entry]:
        """Return a directory's entries, the last first."""
        path = path_of(step)
        self._reached.add(path, inode)
        return [
            (
                entry.name,
                entry.inode() if entry.is_dir(follow_symlinks=False) else None,
                entry.is_symlink(),
            )
            for entry in reversed(self._image.scandir(path))
        ]


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
