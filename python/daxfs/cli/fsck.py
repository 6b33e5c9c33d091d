# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs fsck`, also `fsck.daxfs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ._common import fail, json_option, message_of, naming, print_json, version_option
from ._files import byte_count, count_of

if TYPE_CHECKING:
    from .._daxfs import Report

# Exit status, as in fsck(8).
_SOUND, _ERRORS_LEFT, _OPERATIONAL_ERROR = 0, 4, 8


@click.command()
@click.argument("source", metavar="IMAGE")
@click.option("--data", is_flag=True, help="Check the contents of files, too, if checksummed.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing of a sound image.")
@click.option("-n", "_read_only", is_flag=True, help="Repair nothing: as ever.")
@click.option("-f", "_anyway", is_flag=True, help="Check in any case: as ever.")
@click.option("-a", "-p", "_preen", is_flag=True, help="Repair what is safe to: nothing needs it.")
@json_option
@version_option
def command(
    source: str,
    data: bool,
    quiet: bool,
    _read_only: bool,
    _anyway: bool,
    _preen: bool,
    as_json: bool,
) -> int:
    """Prove that an image is sound.

    Every finding is a line with the field, its offset, what is expected and what is there. The
    exit status is 0 for a sound image, 4 if it has errors, and 8 if it could not be examined.
    Warnings are about what other implementations leave so; they do not count. The options -a, -f,
    -n and -p are accepted because boot scripts pass them to every fsck.
    """
    from .._daxfs import validate

    try:
        with naming(source):
            report = validate(source, data=data)
    except OSError as error:
        fail(click.get_current_context().command_path, message_of(error))
        return _OPERATIONAL_ERROR
    if as_json:
        print_json(_described(source, report))
    else:
        _show(source, report, quiet)
    return _ERRORS_LEFT if report.errors else _SOUND


def _show(source: str, report: Report, quiet: bool) -> None:
    for finding in report.findings:
        if finding.severity == "error" or not quiet:
            print(f"{source}: {finding}")
    hidden = report.errors + report.warnings - len(report.findings)
    if hidden:
        print(f"{source}: {count_of(hidden, 'finding')} more")
    if report.errors:
        print(f"{source}: {count_of(report.errors, 'error')}")
    elif not quiet:
        print(
            f"{source}: sound: {count_of(report.files, 'file')}, "
            f"{count_of(report.directories, 'directory', 'directories')}, "
            f"{byte_count(report.data_bytes)}"
        )


def _described(source: str, report: Report) -> dict[str, object]:
    return {
        "image": source,
        "sound": report.errors == 0,
        "errors": report.errors,
        "warnings": report.warnings,
        "inodes": report.inodes,
        "directories": report.directories,
        "files": report.files,
        "symlinks": report.symlinks,
        "names": report.dirents,
        "data_bytes": report.data_bytes,
        "findings": [
            {
                "severity": finding.severity,
                "what": finding.what,
                "offset": finding.offset,
                "expected": finding.expected,
                "found": finding.found,
            }
            for finding in report.findings
        ],
    }
