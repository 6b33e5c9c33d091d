# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Whole commands, timed side by side.

In every round each competitor runs once, and the order rotates from round to round, so that a
machine that is slower for a while is slower for all of them. What a virtual machine's host does is
kept out of it: memory that it took back is fetched before the clock starts, and a run during which
it took the processors away is run again.
"""

from __future__ import annotations

import mmap
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

# Of a run's time, how much the host may take; the kernel counts it in ticks of a processor.
STOLEN_MAX = 0.03
TRIES = 3


class BenchError(Exception):
    """Something the measurement needs is missing or failed; the text says what to do."""


@dataclass(frozen=True)
class Sample:
    """What one run of one command used.

    Attributes
    ----------
    wall, cpu
        Seconds from start to end, and of processor time, user and system.
    rss
        Peak resident memory in KiB, of the largest of its processes.
    output
        Size of what it wrote, in bytes; 0 if it writes nothing.
    stolen
        Seconds that processors waited for a virtual machine's host meanwhile.
    """

    wall: float
    cpu: float
    rss: int
    output: int
    stolen: float


@dataclass(frozen=True)
class Competitor:
    """A command to be timed, and the file it makes, which is removed around each run."""

    name: str
    command: Sequence[str | Path]
    output: Path | None = None


class Stopwatch:
    """Times commands with a small launcher compiled from `timed.c`."""

    def __init__(self, directory: Path) -> None:
        self.launcher = compile_c("timed", directory)
        self.report = directory / "timed.report"
        self.log = directory / "timed.log"

    def run(self, competitor: Competitor, memory: int = 0) -> Sample:
        """Time one run, for which a virtual machine's host has given so many bytes of memory.

        Raises
        ------
        BenchError
            If the command can't be started or fails; with the end of what it said.
        """
        command = [os.fspath(word) for word in competitor.command]
        if competitor.output:
            competitor.output.unlink(missing_ok=True)
        if memory:
            fetch(memory)
        before = stolen()
        with self.log.open("wb") as log:
            launched = subprocess.run(
                [self.launcher, self.report, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
        taken = stolen() - before
        wall, user, system, rss, status = 0, 0, 0, 0, -1
        if launched.returncode == 0:
            wall, user, system, rss, status = map(int, self.report.read_text().split())
        if status != 0:
            said = self.log.read_text(errors="replace")[-2000:]
            raise BenchError(f"{' '.join(command)} failed:\n{said}")
        output = 0
        if competitor.output:
            output = competitor.output.stat().st_size
            competitor.output.unlink()
        return Sample(wall / 1e9, (user + system) / 1e6, rss, output, taken)


def race(
    competitors: Sequence[Competitor],
    rounds: int,
    stopwatch: Stopwatch,
    report: Callable[[str], None],
    memory: int = 0,
) -> dict[str, list[Sample]]:
    """Run every competitor once a round; return the samples of each, round by round."""
    samples: dict[str, list[Sample]] = {each.name: [] for each in competitors}
    for number in range(rounds):
        first = number % len(competitors)
        for competitor in (*competitors[first:], *competitors[:first]):
            run = partial(stopwatch.run, competitor, memory)
            what = f"round {number + 1}: {competitor.name}"
            samples[competitor.name].append(undisturbed(run, what, report))
    return samples


def undisturbed(run: Callable[[], Sample], what: str, report: Callable[[str], None]) -> Sample:
    """Return a run that the host of a virtual machine left alone, or that it disturbed least."""
    samples = []
    for _ in range(TRIES):
        sample = run()
        stolen = f", of which the host took {sample.stolen:.2f}" if sample.stolen else ""
        report(f"{what} {sample.wall:.3f} s{stolen}")
        if sample.stolen <= STOLEN_MAX * sample.wall:
            return sample
        samples.append(sample)
    return min(samples, key=lambda sample: sample.stolen / sample.wall)


def stolen() -> float:
    """Return the seconds of all processors that the host of a virtual machine has taken so far."""
    total = Path("/proc/stat").read_text().splitlines()[0].split()
    return int(total[8]) / os.sysconf("SC_CLK_TCK")


def fetch(size: int) -> None:
    """Touch memory and free it: a host may have taken back what was free for a while."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
    mmap.mmap(-1, size, flags).close()


def compile_c(name: str, directory: Path) -> Path:
    """Compile a C program of this directory and return the path of the binary."""
    source = Path(__file__).with_name(f"{name}.c")
    binary = directory / name
    try:
        subprocess.run(["cc", "-O2", "-Wall", "-o", binary, source], check=True)
    except FileNotFoundError as error:
        raise BenchError("no C compiler here; install one: apt-get install gcc") from error
    except subprocess.CalledProcessError as error:
        raise BenchError(f"{source} does not compile") from error
    return binary
