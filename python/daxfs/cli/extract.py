# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs extract`."""

from __future__ import annotations

import sys

import click

from ._common import (
    DIRECTORY,
    FILE,
    Output,
    fail,
    image_options,
    json_option,
    open_image,
    print_json,
)
from ._files import byte_count, count_of
from ._progress import Bar


@click.command()
@image_options
@click.argument("destination", required=False, type=DIRECTORY)
@click.option("--tar", metavar="FILE", type=FILE, help="Write a tar archive; - is standard output.")
@click.option("--path", default="/", metavar="PATH", help="Take this, not the whole tree.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@json_option
def command(
    source: str,
    destination: str | None,
    branch: str | None,
    trusted: bool,
    tar: str | None,
    path: str,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Extract a tree into the directory DESTINATION, or as a tar archive.

    Run by root it restores everything; by others, what they may make.
    """
    if (destination is None) == (tar is None):
        raise click.UsageError("give a destination or --tar")
    if tar == "-" and as_json:
        raise click.UsageError("--tar - and --json are both for standard output")
    with open_image(source, branch, trusted) as image, Bar("Extracting", quiet=quiet) as bar:
        if destination is not None:
            done = image.extract(destination, path, force=force, progress=bar)
        else:
            done = image.extract_tar(None if tar == "-" else tar, path, force=force, progress=bar)
    if done.unrestored:
        name = click.get_current_context().command_path
        files = count_of(done.unrestored, "file")
        if tar is None:
            why = "this user may not restore them, or the file system does not hold them"
            fail(name, f"{files} without owner, set-ID bits, attributes or device node: {why}")
        else:
            fail(name, f"left out {count_of(done.unrestored, 'socket')}: tar cannot hold them")
    if tar == "-":
        return
    if as_json:
        about = {"entries": done.entries, "bytes": done.bytes, "unrestored": done.unrestored}
        print_json(about)
    elif not quiet and sys.stdout.isatty():
        entries = count_of(done.entries, "entry", "entries")
        Output().line(f"{destination or tar}: {entries}, {byte_count(done.bytes)}")
