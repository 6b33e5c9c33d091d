# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs inspect`."""

from __future__ import annotations

from typing import Any

import click

from ._common import json_option, print_json
from ._files import byte_count, count_of


@click.command()
@click.argument("source", metavar="IMAGE")
@json_option
def command(source: str, as_json: bool) -> None:
    """Show what an image consists of: identity, features, regions, counts, and whether it is sound.

    Images with errors can be inspected, too.
    """
    about = _examine(source)
    if as_json:
        print_json(about)
    else:
        _show(about)


def _examine(source: str) -> dict[str, Any]:
    from .._daxfs import validate
    from ..image import open

    report = validate(source)
    with open(source, trusted=True) as image:
        return {
            "image": image.name,
            "size": image.size,
            "label": image.label,
            "uuid": image.uuid,
            "features": image.features,
            "regions": [
                {"name": span.name, "offset": span.offset, "size": span.size}
                for span in image.spans
            ],
            "inodes": image.inode_count,
            "directories": report.directories,
            "files": report.files,
            "symlinks": report.symlinks,
            "names": report.dirents,
            "data_bytes": report.data_bytes,
            "errors": report.errors,
            "warnings": report.warnings,
        }


def _show(about: dict[str, Any]) -> None:
    sound = "yes" if not about["errors"] else f"no, {count_of(about['errors'], 'error')}"
    if about["warnings"]:
        sound += f" ({count_of(about['warnings'], 'warning')})"
    facts = {
        "image": about["image"],
        "size": f"{about['size']} ({byte_count(about['size'])})",
        "label": about["label"] or "-",
        "uuid": about["uuid"] or "-",
        "features": " ".join(about["features"]) or "none (plain version 3)",
        "inodes": f"{about['inodes']}: {count_of(about['files'], 'file')}, "
        f"{count_of(about['directories'], 'directory', 'directories')}, "
        f"{count_of(about['symlinks'], 'symbolic link')}",
        "names": about["names"],
        "file data": f"{about['data_bytes']} ({byte_count(about['data_bytes'])})",
        "sound": sound,
    }
    for key, value in facts.items():
        print(f"{key + ':':<10} {value}")
    print(f"\n{'region':<14} {'offset':>18} {'end':>18} {'size':>18}")
    for region in about["regions"]:
        offset, size = region["offset"], region["size"]
        print(f"{region['name']:<14} {offset:>#18x} {offset + size:>#18x} {size:>18}")
