# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from . import _findings
from ._common import FILE, Output, escape, json_option, naming, open_image, print_json
from ._files import byte_count, count_of

if TYPE_CHECKING:
    from .._daxfs import Report


@click.command()
@click.argument("source", metavar="IMAGE", type=FILE)
@click.option("--dump", is_flag=True, help="Show every metadata structure, field by field.")
@click.option(
    "--limit",
    type=click.IntRange(1, 2**64 - 1),
    default=1000,
    show_default=True,
    help="With --dump: most entries of one table, directory or log.",
)
@json_option
def command(source: str, dump: bool, limit: int, as_json: bool) -> None:
    """Show what an image consists of: identity, features, regions, counts, and whether it is sound.

    Images with errors can be inspected, too, as far as these let them; with --dump also one whose
    superblock is wrong, or whose end is missing. With --dump and --json, every line is an object.
    """
    if dump:
        from .._daxfs import dump as write

        with naming(source):
            write(source, json=as_json, limit=limit)
        return
    from .._daxfs import validate

    with naming(source):
        report = validate(source)
    about = _examine(source, report)
    if as_json:
        print_json(about | {"findings": _findings.described(report)})
        return
    _show(about)
    if report.findings:
        output = Output()
        output.line("")
        _findings.show(output, source, report)


def _examine(source: str, report: Report) -> dict[str, Any]:
    """Return what can be told of an image; what errors hide is None."""
    hidden = ("size", "label", "uuid", "features", "regions", "branches")
    return {
        "image": source,
        **(_opened(source, report) or dict.fromkeys(hidden)),
        **_findings.counts(report),
    }


def _opened(source: str, report: Report) -> dict[str, Any] | None:
    """Return what an image tells once it is open, which its errors may keep it from."""
    from ..errors import CorruptImageError

    try:
        with open_image(source, trusted=True) as image:
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
                "branches": [
                    {"name": branch.name, "parent": branch.parent, "log_size": branch.log_size}
                    for branch in image.branches
                ],
            }
    except CorruptImageError:
        # Where the proof could not even begin, there is nothing else to tell.
        if not (report.errors and report.inodes):
            raise
        return None


def _show(about: dict[str, Any]) -> None:
    sound = "yes" if not about["errors"] else f"no, {count_of(about['errors'], 'error')}"
    if about["warnings"]:
        sound += f" ({count_of(about['warnings'], 'warning')})"
    facts = {
        "image": about["image"],
        **_identity(about),
        "inodes": f"{about['inodes']}: {count_of(about['files'], 'file')}, "
        f"{count_of(about['directories'], 'directory', 'directories')}, "
        f"{count_of(about['symlinks'], 'symbolic link')}"
        # What branches changed is not counted.
        + (", in the base image" if about["branches"] else ""),
        "names": about["names"],
        "file data": f"{about['data_bytes']} ({byte_count(about['data_bytes'])})",
        "sound": sound,
    }
    output = Output()
    for key, value in facts.items():
        output.line(f"{key + ':':<10} {value}")
    if about["regions"] is None:
        return
    output.line("")
    output.line(f"{'region':<14} {'offset':>18} {'end':>18} {'size':>18}")
    for region in about["regions"]:
        offset, size = region["offset"], region["size"]
        output.line(f"{region['name']:<14} {offset:>#18x} {offset + size:>#18x} {size:>18}")
    if about["branches"]:
        output.line("")
        output.line(f"{'branch':<31} {'parent':<31} {'log size':>12}")
    for branch in about["branches"]:
        name, parent = escape(branch["name"]), escape(branch["parent"] or "-")
        output.line(f"{name:<31} {parent:<31} {branch['log_size']:>12}")


def _identity(about: dict[str, Any]) -> dict[str, str]:
    if about["size"] is None:
        names = "size, label, uuid, features, regions, branches"
        return {"unknown": f"{names}; --dump shows what is there"}
    return {
        "size": f"{about['size']} ({byte_count(about['size'])})",
        # Somebody's text, not a name to be taken up by the next program; of branches, too.
        "label": escape(about["label"] or "-"),
        "uuid": about["uuid"] or "-",
        "features": " ".join(about["features"]) or "none (plain version 3)",
    }
