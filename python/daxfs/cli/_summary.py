# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What `mkdaxfs` says of an image that it built, or would build."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

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
    verbose: bool,
) -> None:
    """Print a line, or all there is to say."""
    what = count_of(result.files, "file")
    what += f", {count_of(result.directories, 'directory', 'directories')}"
    if result.symlinks:
        what += f", {count_of(result.symlinks, 'symbolic link')}"
    if result.specials:
        what += f", {count_of(result.specials, 'special file')}"
    place = "" if output is None else f"{output}: "
    verb = "would be " if dry_run else ""
    print(f"{place}{verb}{byte_count(result.size)}: {what}", file=stream)
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
        print(f"  {name:<32} {size:>18}  {byte_count(size)}", file=stream)
    for span in result.spans:
        print(
            f"  {span.name:<14} from {span.offset:#14x} to {span.offset + span.size:#14x}",
            file=stream,
        )
    if result.hard_links:
        print(f"  hard links: {result.hard_links}", file=stream)
    if result.uuid:
        print(f"  uuid: {result.uuid}", file=stream)
    if report is not None and not report.errors:
        print("  proved sound", file=stream)
