# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs doctor`."""

from __future__ import annotations

import click

from ._common import Output, json_option


@click.command()
@click.option("-v", "--verbose", is_flag=True, help="Show the facts behind each line.")
@json_option
def command(verbose: bool, as_json: bool) -> None:
    """Say what this machine offers to daxfs, and what to do about what is missing."""
    from ..doctor import examine, render

    report = examine()
    if as_json:
        print(report.to_json())
    else:
        output = Output()
        for line in render(report, verbose=verbose).splitlines():
            output.line(line)
