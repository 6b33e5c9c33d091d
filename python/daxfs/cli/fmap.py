# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs fmap`."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import click

from ._common import Output, image_options, json_option, open_image, print_json


@click.command()
@image_options
@click.argument("path")
@click.option("--dev", "device", is_flag=True, help="Show where in the device the bytes lie.")
@json_option
def command(
    source: str, path: str, branch: str | None, trusted: bool, device: bool, as_json: bool
) -> None:
    """Show where a file's bytes lie in the image.

    The alignment is the largest power of two that divides the offset: at 2M and more the kernel
    can map the file with huge pages. With --dev, the ranges are those of the memory behind the
    image: physical addresses where they are known, otherwise offsets in the device.
    """
    with open_image(source, branch, trusted) as image:
        extents = image.extents(path)
        where, base = _memory(image.name) if device else ("image", 0)
    rows = [(extent.file_offset, base + extent.image_offset, extent.length) for extent in extents]
    if as_json:
        keys = ("file_offset", "offset", "length")
        ranges = [
            {**dict(zip(keys, row, strict=True)), "alignment": _alignment(row[1])} for row in rows
        ]
        print_json({"path": path, "in": where, "extents": ranges})
        return
    output = Output()
    output.line(f"{'file offset':>18} {where + ' offset':>22} {'length':>16} {'alignment':>10}")
    for file_offset, offset, length in rows:
        unit = _unit(_alignment(offset))
        output.line(f"{file_offset:>#18x} {offset:>#22x} {length:>16} {unit:>10}")


def _alignment(offset: int) -> int:
    return offset & -offset


def _unit(alignment: int) -> str:
    for unit, size in (("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if alignment >= size:
            return f"{alignment // size}{unit}"
    return str(alignment)


def _memory(name: str) -> tuple[str, int]:
    """Return what offsets in an image's memory count in, and where the image begins there."""
    if name.startswith("phys:"):
        return "physical", int(name.removeprefix("phys:"), 0)
    try:
        info = os.stat(name)
    except OSError:
        return name, 0
    if stat.S_ISCHR(info.st_mode):
        number = f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
        # Zeroes, unless root asks.
        base = _number(Path("/sys/dev/char", number, "resource"))
        if base:
            return "physical", base
    return Path(name).name, 0


def _number(path: Path) -> int:
    try:
        return int(path.read_text(), 0)
    except (OSError, ValueError):
        return 0
