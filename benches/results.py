# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What was measured, where, when and how: the record, and the tables made of it."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from measure import Sample

REPOSITORY = Path(__file__).resolve().parent.parent
MIB = 1 << 20


@dataclass(frozen=True)
class Row:
    """One competitor in one case.

    Attributes
    ----------
    case, competitor
        What was done and by whom.
    unit
        What one operation is: `run` for a whole command, else `operation`.
    wall, wall_min, wall_max
        Seconds for one operation: median, least and most.
    ratios
        Wall time over that of each baseline: the median of the ratios within the rounds.
    cpu
        Median seconds of processor time.
    cpu_ratios
        The same over that of each baseline.
    rss
        Greatest peak resident memory, in KiB.
    output
        Bytes written.
    files, size
        What the input holds.
    """

    case: str
    competitor: str
    unit: str
    wall: float
    wall_min: float
    wall_max: float
    ratios: dict[str, float]
    cpu: float | None = None
    cpu_ratios: dict[str, float] = field(default_factory=dict)
    rss: int | None = None
    output: int | None = None
    files: int | None = None
    size: int | None = None


@dataclass(frozen=True)
class Machine:
    """Where it was measured."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    load: float


@dataclass
class Result:
    """All rows of one run, with what is needed to judge and to repeat it."""

    benchmark: str
    rounds: int
    machine: Machine
    date: str
    commit: str
    command: str
    versions: dict[str, str]
    rows: list[Row] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write it as JSON, and as Markdown beside it."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")
        path.with_suffix(".md").write_text(self.markdown())

    def markdown(self) -> str:
        """Return the tables, one a case, and the circumstances, for a document to quote."""
        where = self.machine
        lines = [
            f"{where.cpu}, {where.cores} cores, {where.memory_gib:.0f} GiB, "
            f"Linux {where.kernel}, load {where.load:.2f} at the start.",
            f"{self.date}, commit {self.commit}, median of {self.rounds} rounds: `{self.command}`",
            *(f"{name}: {version}" for name, version in self.versions.items()),
        ]
        text = "  \n".join(lines) + "\n"
        for case in self.cases():
            header, body = self.table(case)
            text += f"\n### {case}\n\n| {' | '.join(header)} |\n"
            text += f"|---|{'---:|' * (len(header) - 1)}\n"
            text += "".join(f"| {' | '.join(cells)} |\n" for cells in body)
        return text

    def show(self, console: Console, case: str) -> None:
        """Print the table of one case."""
        header, body = self.table(case)
        table = Table(title=case, title_justify="left")
        for number, name in enumerate(header):
            table.add_column(name, justify="right" if number else "left", no_wrap=True)
        for cells in body:
            table.add_row(*cells)
        console.print(table)

    def cases(self) -> list[str]:
        """Return the names of the cases, in order."""
        return list(dict.fromkeys(row.case for row in self.rows))

    def table(self, case: str) -> tuple[list[str], list[list[str]]]:
        """Return the header and the cells of the table of one case."""
        rows = [row for row in self.rows if row.case == case]
        baselines = list(rows[0].ratios)
        commands = rows[0].unit == "run"
        header = ["competitor", "wall", "spread", *(f"of {name}" for name in baselines)]
        if commands:
            header += ["CPU", f"of {baselines[0]}", "peak memory"]
        written = any(row.output for row in rows)
        if written:
            header.append("output")
        # Where the input grows from row to row, the time for a unit of it is the answer.
        by_file = len({row.files for row in rows}) > 1
        by_byte = not by_file and len({row.size for row in rows}) > 1
        if by_file or by_byte:
            header.append("a file" if by_file else "a GB")
        body = []
        for row in rows:
            cells = [row.competitor, duration(row.wall)]
            cells.append(f"{(row.wall_max - row.wall_min) / row.wall:.0%}")
            cells += [f"{row.ratios[name]:.2f}" for name in baselines]
            if commands:
                cells.append(duration(row.cpu or 0.0))
                cells.append(f"{row.cpu_ratios[baselines[0]]:.2f}")
                cells.append(f"{(row.rss or 0) / 1024:.1f} MiB")
            if written:
                cells.append(f"{(row.output or 0) / MIB:.0f} MiB")
            if by_file:
                cells.append(duration(row.wall / (row.files or 1)))
            elif by_byte:
                cells.append(duration(row.wall / (row.size or 1) * 1e9))
            body.append(cells)
        return header, body


def start(benchmark: str, rounds: int, versions: dict[str, str]) -> Result:
    """Begin a result with the circumstances of this run."""
    return Result(
        benchmark=benchmark,
        rounds=rounds,
        machine=_machine(),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        commit=_commit(),
        command=shlex.join(["python", *sys.argv]),
        versions=versions,
    )


def command_rows(
    case: str,
    samples: dict[str, list[Sample]],
    baselines: Sequence[str],
    files: int | None = None,
    size: int | None = None,
) -> list[Row]:
    """Return the rows of a case made of whole commands."""
    wall = {name: [sample.wall for sample in runs] for name, runs in samples.items()}
    cpu = {name: [sample.cpu for sample in runs] for name, runs in samples.items()}
    rows = []
    for name, runs in samples.items():
        rows.append(
            Row(
                case=case,
                competitor=name,
                unit="run",
                wall=median(wall[name]),
                wall_min=min(wall[name]),
                wall_max=max(wall[name]),
                ratios={base: _ratio(wall[name], wall[base]) for base in baselines},
                cpu=median(cpu[name]),
                cpu_ratios={base: _ratio(cpu[name], cpu[base]) for base in baselines},
                rss=max(sample.rss for sample in runs),
                output=runs[0].output,
                files=files,
                size=size,
            )
        )
    return rows


def operation_rows(case: str, seconds: dict[str, list[float]], baseline: str) -> list[Row]:
    """Return the rows of a case made of operations in process."""
    return [
        Row(
            case=case,
            competitor=name,
            unit="operation",
            wall=median(each),
            wall_min=min(each),
            wall_max=max(each),
            ratios={baseline: _ratio(each, seconds[baseline])},
        )
        for name, each in seconds.items()
    ]


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it, with three significant digits."""
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 1:
            return f"{_three_digits(seconds * factor)} {unit}"
    return f"{_three_digits(seconds * 1e9)} ns"


def _three_digits(value: float) -> str:
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return median(our / their for our, their in zip(ours, theirs, strict=True))


def _machine() -> Machine:
    cpu = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return Machine(cpu, cores, round(memory, 1), platform.release(), os.getloadavg()[0])


def _commit() -> str:
    def git(*words: str) -> str:
        command = ["git", "-C", str(REPOSITORY), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    commit = git("rev-parse", "--short=12", "HEAD") or "unknown"
    changed = git("status", "--porcelain", "--untracked-files=no")
    return f"{commit} with changes" if changed else commit
