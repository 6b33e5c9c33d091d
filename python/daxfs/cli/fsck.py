# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs fsck`, also `fsck.daxfs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from . import _findings
from ._common import (
    FILE,
    Output,
    fail_with,
    is_for_reading_alone,
    json_option,
    naming,
    print_json,
    version_option,
)
from ._files import byte_count, count_of, maintained
from ._progress import Bar

if TYPE_CHECKING:
    from .._daxfs import Maintained, Report

# Exit status, as in fsck(8).
_SOUND, _CORRECTED, _ERRORS_LEFT, _OPERATIONAL_ERROR = 0, 1, 4, 8


@click.command()
@click.argument("source", metavar="IMAGE", type=FILE)
@click.option("--data", is_flag=True, help="Check the contents of files, too, if checksummed.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing of a sound image.")
@click.option("--repair", is_flag=True, help="Put right what dead processes left behind.")
@click.option(
    "-a", "-p", "-y", "preen", is_flag=True, help="As --repair, if it can have an effect."
)
@click.option("-n", "read_only", is_flag=True, help="Repair nothing.")
@click.option("-f", "_anyway", is_flag=True, help="Check in any case: as ever.")
@json_option
@version_option
def command(
    source: str,
    data: bool,
    quiet: bool,
    repair: bool,
    preen: bool,
    read_only: bool,
    _anyway: bool,
    as_json: bool,
) -> int:
    """Prove that an image is sound.

    Every finding is a line with the field, its offset, what is expected and what is there.
    Warnings are about what other implementations leave so; they do not count.

    With --repair, what processes that died left behind is put right: branches that they held are
    released, what they had not published is dropped, blocks that nobody owns are freed, and work
    that they had begun is finished. Damage is never guessed at: an image that contradicts the
    format is left as it is.

    The exit status is that of every fsck: 0 for a sound image, 1 if something was put right, 4 if
    it has errors, 8 if it could not be examined or told of, 16 for wrong usage, 32 after Ctrl-C.
    The options -a, -f, -n, -p and -y are those that every fsck has.
    """
    if read_only and repair:
        raise click.UsageError("-n repairs nothing, --repair does")
    from .._daxfs import validate

    try:
        with naming(source), Bar("Checking", quiet=quiet) as bar:
            report = validate(source, data=data, progress=bar)
            done = None
            if not report.errors and (repair or (preen and not read_only)):
                done = _repair(source, must=repair)
                if done is not None:
                    report = validate(source, data=data, progress=bar)
    except OSError as error:
        fail_with(click.get_current_context().command_path, error)
        return _OPERATIONAL_ERROR
    repairs, counts = ([], {}) if done is None else (_repairs(done), maintained(done))
    if as_json:
        print_json(_described(source, report) | {"repaired": counts, "repairs": repairs})
    else:
        output = Output()
        for line in repairs:
            output.line(f"{source}: {line}")
        if repair and done is not None and done.busy:
            output.line(f"{source}: another process maintains the image; only holds were released")
        _show(output, source, report, quiet)
    if report.errors:
        return _ERRORS_LEFT
    return _CORRECTED if repairs else _SOUND


def _repair(source: str, *, must: bool) -> Maintained | None:
    """Put right what can be; None if the image has no branches of ours."""
    from ..image import open

    with open(source, trusted=True) as image:
        if "branches" not in image.features:
            return None
    try:
        with open(source, writable=True, trusted=True) as image:
            return image.maintain()
    except OSError as error:
        if must or not is_for_reading_alone(error):
            raise
        return None


def _repairs(done: Maintained) -> list[str]:
    """Return what was put right, a line for each kind."""
    lines = []
    if done.dead_openers:
        lines.append(
            f"cleared away {count_of(done.dead_openers, 'dead process', 'dead processes')}"
        )
    if done.broken_holds:
        lines.append(f"released {count_of(done.broken_holds, 'branch', 'branches')} that they held")
    if done.records:
        lines.append(
            f"freed {count_of(done.records, 'record')} of ended branches, {byte_count(done.bytes)}"
        )
    if done.leaked_bytes:
        lines.append(f"freed {byte_count(done.leaked_bytes)} that nobody owned")
    if done.folded_layers:
        lines.append(f"folded {count_of(done.folded_layers, 'layer')} of main")
    return lines


def _show(output: Output, source: str, report: Report, quiet: bool) -> None:
    _findings.show(output, source, report, quiet)
    if report.errors:
        output.line(f"{source}: {count_of(report.errors, 'error')}")
    elif not quiet:
        output.line(
            f"{source}: sound: {count_of(report.files, 'file')}, "
            f"{count_of(report.directories, 'directory', 'directories')}, "
            f"{byte_count(report.data_bytes)} in the base image"
        )


def _described(source: str, report: Report) -> dict[str, object]:
    return {
        "image": source,
        "sound": report.errors == 0,
        **_findings.counts(report),
        "findings": _findings.described(report),
    }
