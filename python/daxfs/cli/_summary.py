# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What `mkdaxfs` says of an image that it built, or would build."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

from .._replace import is_memory
from ._common import Output
from ._files import byte_count, count_of

if TYPE_CHECKING:
    from .._daxfs import BuildResult, Report


def show(
    output: str | None,
    result: BuildResult,
    report: Report | None,
    stream: TextIO,
    *,
    dry_run: bool,
    force: bool,
    verbose: bool,
) -> None:
    """Print a line, or all there is to say."""
    out = Output(stream)
    what = count_of(result.files, "file")
    what += f", {count_of(result.directories, 'directory', 'directories')}"
    if result.symlinks:
        what += f", {count_of(result.symlinks, 'symbolic link')}"
    if result.specials:
        what += f", {count_of(result.specials, 'special file')}"
    place = "" if output is None else f"{output}: "
    verb = "would be " if dry_run else ""
    out.line(f"{place}{verb}{byte_count(result.size)}: {what}")
    if dry_run and output is not None and os.path.lexists(output) and not is_memory(output):
        out.line(f"  exists; {'would be replaced' if force else '--force would replace it'}")
    if not (dry_run or verbose):
        return
    blocks = result.size - result.data_bytes - result.metadata_bytes
    reserved = sum(span.size for span in result.spans if span.name != "base image")
    facts = [
        ("contents of files", result.data_bytes),
        ("inodes, directories, attributes", result.metadata_bytes),
        ("headers, room for branches", reserved),
        ("alignment and unused room", max(0, blocks - reserved)),
        ("whole image", result.size),
    ]
    for name, size in facts:
        out.line(f"  {name:<32} {size:>18}  {byte_count(size)}")
    for span in result.spans:
        out.line(f"  {span.name:<14} from {span.offset:#14x} to {span.offset + span.size:#14x}")
    if result.hard_links:
        out.line(f"  hard links: {result.hard_links}")
    if result.uuid:
        out.line(f"  uuid: {result.uuid}")
    if report is not None and not report.errors:
        out.line("  proved sound")
