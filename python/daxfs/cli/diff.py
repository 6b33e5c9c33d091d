# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs diff`."""

from __future__ import annotations

import click

from ._common import (
    DIRECTORY,
    Output,
    ignore_options,
    image_options,
    json_option,
    open_image,
    print_json,
)
from ._progress import Bar


@click.command()
@image_options
@click.argument("directory", type=DIRECTORY)
@click.option("--path", default="/", metavar="PATH", help="Compare this, not the whole tree.")
@ignore_options
@json_option
def command(
    source: str,
    directory: str,
    branch: str | None,
    trusted: bool,
    path: str,
    as_json: bool,
    **ignored: bool,
) -> int:
    """Compare an image with a directory: contents and attributes.

    The exit status is 0 if all is the same, and 1 if something differs or they cannot be compared,
    which standard error says. Times are not compared with images that keep none.
    """
    with open_image(source, branch, trusted) as image, Bar("Comparing") as bar:
        found = image.compare(directory, path, progress=bar, **ignored)
    if as_json:
        print_json({"path": one.path, "kind": one.kind, "detail": one.detail} for one in found)
    else:
        output = Output()
        for one in found:
            output.line(f"{one.path or '.'}: {one.detail}")
    return 1 if found else 0
