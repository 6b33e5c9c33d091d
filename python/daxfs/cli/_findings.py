# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the proof of an image found, for people and for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._common import Output, escape
from ._files import count_of

if TYPE_CHECKING:
    from .._daxfs import Report


def described(report: Report) -> list[dict[str, Any]]:
    """Return what was found, as JSON has it."""
    return [
        {
            "severity": finding.severity,
            "what": finding.what,
            "offset": finding.offset,
            "expected": finding.expected,
            "found": finding.found,
        }
        for finding in report.findings
    ]


def counts(report: Report) -> dict[str, int]:
    """Return what the proof counted, as JSON has it."""
    return {
        "inodes": report.inodes,
        "directories": report.directories,
        "files": report.files,
        "symlinks": report.symlinks,
        "names": report.dirents,
        "data_bytes": report.data_bytes,
        "errors": report.errors,
        "warnings": report.warnings,
    }


def show(output: Output, source: str, report: Report, quiet: bool = False) -> None:
    """Print what was found, a line each; with `quiet` errors alone."""
    for finding in report.findings:
        if finding.severity == "error" or not quiet:
            output.line(f"{source}: {escape(str(finding))}")
    hidden = report.errors + report.warnings - len(report.findings)
    if hidden:
        output.line(f"{source}: {count_of(hidden, 'finding')} more")
