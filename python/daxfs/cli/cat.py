# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs cat`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ..errors import UnsupportedError
from ._common import Attempts, image_options, open_image

if TYPE_CHECKING:
    from ..image import Image

# Bytes handed over at once.
_PIECE = 16 << 20


@click.command()
@image_options
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
def command(source: str, paths: tuple[str, ...], branch: str | None, trusted: bool) -> int:
    """Write files to standard output."""
    with open_image(source, branch, trusted) as image:
        attempts = Attempts()
        for path in paths:
            with attempts.one():
                _write(image, path)
    return attempts.status


def _write(image: Image, path: str) -> None:
    out = sys.stdout.buffer
    try:
        # Straight from the image: the kernel does the only copy.
        view = image.view(path)
    except UnsupportedError:
        # In pieces, or of a branch, whose blocks nobody keeps for those who only read.
        pass
    else:
        for start in range(0, len(view), _PIECE):
            out.write(view[start : start + _PIECE])
        return
    with image.open(path) as file:
        while piece := file.read(_PIECE):
            out.write(piece)
