# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs compact`."""

from __future__ import annotations

import click

from ._common import FILE, Output, json_option, naming, print_json, refuse_stream, size
from ._files import byte_count
from ._progress import Bar


@click.command()
@click.argument("source", metavar="IMAGE", type=FILE)
@click.option(
    "-o",
    "--output",
    metavar="NEW",
    type=FILE,
    callback=refuse_stream,
    help="Where to; if not given, in place.",
)
@click.option(
    "-b", "--branch", default="main", show_default=True, metavar="NAME", help="Whose tree to take."
)
@click.option("-w", "--writable", is_flag=True, help="Make room for branches.")
@click.option("--static", is_flag=True, help="Make no room for branches.")
@click.option(
    "-D", "--delta-size", type=size, metavar="SIZE", help="Room for branches; if not given, as was."
)
@click.option("--trusted", is_flag=True, help="Do not prove the image first.")
@click.option("--force", is_flag=True, help="Replace NEW; in place, lose other branches.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@json_option
def command(
    source: str,
    output: str | None,
    branch: str,
    writable: bool,
    static: bool,
    delta_size: int | None,
    trusted: bool,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Make main's tree the base of a new image, without its history.

    Everything else is kept. In place the image must be a file, and nobody may have it open for
    writing; it is replaced once the new one is whole. Other branches stay behind: in place they
    would be lost, so that needs --force.
    """
    if static and (writable or delta_size is not None):
        raise click.UsageError("--static leaves nothing for -w and -D")
    import os

    from ..builder import compact

    before = os.stat(source).st_size if os.path.isfile(source) else None
    with naming(source), Bar("Compacting", quiet=quiet) as bar:
        result = compact(
            source,
            output,
            branch=branch,
            branches=False if static else True if writable else None,
            delta_size=delta_size,
            trusted=trusted,
            force=force,
            progress=bar,
        )
    if as_json:
        print_json(
            {
                "image": source,
                "output": output or source,
                "branch": branch,
                "size_before": before,
                "size": result.size,
                "uuid": result.uuid,
                "files": result.files,
                "directories": result.directories,
                "symlinks": result.symlinks,
                "specials": result.specials,
                "data_bytes": result.data_bytes,
            }
        )
    elif not quiet:
        was = "" if before is None else f", from {byte_count(before)}"
        Output().line(f"{output or source}: {byte_count(result.size)}{was}")
