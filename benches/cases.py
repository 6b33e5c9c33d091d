# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The cases of a benchmark: chosen, run one after the other, shown and recorded."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

import results
import setting
from measure import BenchError
from setting import GIB


@dataclass(frozen=True)
class Case:
    """What is asked, the memory it needs unless it is quick, and what makes the rows."""

    question: str
    need: int
    run: Callable[[Any], list[results.Row]]


def parser(description: str, cases: Mapping[str, Case]) -> argparse.ArgumentParser:
    """Return a parser with the options that benchmarks with cases share."""
    options = setting.parser(description)
    options.add_argument("--only", action="append", choices=cases, help="run this case; repeatable")
    return options


def main(
    options: argparse.Namespace,
    cases: Mapping[str, Case],
    begin: Callable[[argparse.Namespace, Path, Console], Any],
) -> int:
    """Run the chosen cases, show their tables, write the record.

    `begin` makes what cases are run with; its `result` is the record.
    """
    tables, console = setting.console(), Console(stderr=True)
    try:
        with setting.workspace(options.directory) as work:
            bench = begin(options, work, console)
            for name in options.only or cases:
                case = cases[name]
                console.log(f"{name}: {case.question}")
                setting.require_memory(work, GIB if options.quick else case.need)
                rows = case.run(bench)
                bench.result.rows += rows
                for shown in dict.fromkeys(row.case for row in rows):
                    bench.result.show(tables, shown)
                if options.json:
                    bench.result.write(options.json)
    except BenchError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 1
    return 0
