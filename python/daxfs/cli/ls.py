# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs ls`."""

from __future__ import annotations

import os
import stat
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from .._glob import join
from ._common import Attempts, Output, image_options, json_option, open_image, print_json
from ._files import describe, group_name, is_device, list_time, user_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._daxfs import Stat
    from ..image import Image

# What a listing shows: a name, the directory that it is in, if it is no path itself, and the file's
# attributes.
Row = tuple[str, "str | None", "Stat"]


@click.command()
@image_options
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option("-l", "long", is_flag=True, help="Show attributes.")
@click.option("-R", "--recursive", is_flag=True, help="List directories below, too.")
@click.option("-d", "--directory", is_flag=True, help="List directories themselves.")
@click.option("-n", "--numeric", is_flag=True, help="As -l, with owners as numbers.")
@json_option
def command(
    source: str,
    paths: tuple[str, ...],
    branch: str | None,
    trusted: bool,
    long: bool,
    recursive: bool,
    directory: bool,
    numeric: bool,
    as_json: bool,
) -> int:
    """List files, names with a leading dot included."""
    long = long or numeric
    with open_image(source, branch, trusted) as image:
        # As in coreutils: a link named as an argument is followed unless its own line is asked for.
        follow = not (long or directory or as_json)
        attempts = Attempts()
        asked: list[Row] = []
        for path in paths or ("/",):
            with attempts.one():
                asked.append((path, None, _stat(image, path, follow)))
        files = [row for row in asked if directory or not row[2].is_dir()]
        tops = [path for path, _, info in asked if info.is_dir() and not directory]
        listings = _listings(image, tops, recursive)
        if as_json:
            every = chain(files, chain.from_iterable(rows for _, rows in listings))
            print_json(_described(image, row) for row in every)
            return attempts.status
        listing = _Listing(image, long, numeric)
        if files:
            listing.show(files)
        headings = recursive or len(paths) > 1
        for number, (path, rows) in enumerate(listings):
            if headings:
                listing.heading(path, blank=bool(files) or number > 0)
            listing.show(rows)
    return attempts.status


def _stat(image: Image, path: str, follow: bool) -> Stat:
    """Look at a file; a link that leads nowhere is listed itself."""
    try:
        return image.stat(path, follow_symlinks=follow)
    except FileNotFoundError:
        if not follow:
            raise
        return image.lstat(path)


def _listings(image: Image, tops: list[str], recursive: bool) -> Iterator[tuple[str, list[Row]]]:
    for top in tops:
        for path, _, _ in image.walk(top) if recursive else [(top, [], [])]:
            entries = image.scandir(path)
            yield path, [(e.name, path, e.stat(follow_symlinks=False)) for e in entries]


def _path(name: str, directory: str | None) -> str:
    return name if directory is None else join(directory, name)


def _described(image: Image, row: Row) -> dict[str, Any]:
    name, directory, info = row
    about = describe(image, _path(name, directory), info)
    return {"name": name.rstrip("/").rpartition("/")[2] or "/", **about}


class _Listing:
    """Rows, aligned within a directory."""

    def __init__(self, image: Image, long: bool, numeric: bool) -> None:
        self._image = image
        self._long = long
        self._numeric = numeric
        self._output = Output()

    def heading(self, path: str, *, blank: bool) -> None:
        """Begin a directory."""
        if blank:
            self._output.line("")
        self._output.line(f"{path}:")

    def show(self, rows: list[Row]) -> None:
        """List files."""
        if not self._long:
            for name, _, _ in rows:
                self._output.line(name)
            return
        table = [self._columns(row) for row in rows]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for mode, links, user, group, size, when, name in table:
            self._output.line(
                f"{mode} {links:>{widths[1]}} {user:<{widths[2]}} {group:<{widths[3]}} "
                f"{size:>{widths[4]}} {when} {name}"
            )

    def _columns(self, row: Row) -> tuple[str, ...]:
        name, directory, info = row
        if info.is_symlink():
            name += f" -> {self._image.readlink(_path(name, directory))}"
        size = str(info.st_size)
        if is_device(info.st_mode):
            size = f"{os.major(info.st_rdev)}, {os.minor(info.st_rdev)}"
        numeric = self._numeric
        return (
            stat.filemode(info.st_mode),
            str(info.st_nlink),
            str(info.st_uid) if numeric else user_name(info.st_uid),
            str(info.st_gid) if numeric else group_name(info.st_gid),
            size,
            list_time(info.st_mtime_ns),
            name,
        )
