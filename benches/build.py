# SPDX-License-Identifier: Apache-2.0 OR MIT
"""How fast is an image made and proved, next to tar, squashfs and erofs?

    python benches/build.py [--quick] [--json FILE] [--only CASE]...

Trees and images lie in tmpfs, nothing is compressed, and whole commands are timed.
"""

from __future__ import annotations

import argparse
import mmap
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

import cases
import results
import setting
import trees
from cases import Case
from measure import BenchError, Competitor, Stopwatch, compile_c, race
from setting import GIB
from trees import MIB, Tree

DEBIAN_ROOT = results.REPOSITORY / "tests/support/debian_root.py"
BUILDERS = ("floor", "tar", "mksquashfs", "mkfs.erofs", "mkdaxfs")
GROWTH_BUILDERS = ("floor", "tar", "mkdaxfs")
BASELINES = ("floor", "tar")
PROVERS = ("fsck.erofs", "fsck.daxfs")
EROFS = ("mkfs.erofs", "fsck.erofs")


class Bench:
    """The tools and the place; runs cases and collects their rows."""

    def __init__(self, options: argparse.Namespace, work: Path, console: Console) -> None:
        self.work = work
        self.console = console
        self.quick: bool = options.quick
        self.root: Path | None = options.root
        self.stopwatch = Stopwatch(work)
        self.tree = work / "tree"
        self.image = work / "image"
        erofs = {name: getattr(options, name.replace(".", "_")) for name in EROFS}
        setting.install(["tar", "mksquashfs", *(name for name in erofs if not erofs[name])])
        self.commands: dict[str, list[str | Path]] = {
            "floor": [compile_c("floor", work), self.tree, self.image],
            "tar": ["tar", "cf", self.image, "-C", self.tree, "."],
            "mksquashfs": [
                *("mksquashfs", self.tree, self.image, "-noI", "-noD", "-noF", "-noX"),
                *("-no-progress", "-quiet"),
            ],
            "mkfs.erofs": [erofs["mkfs.erofs"] or "mkfs.erofs", "--quiet", self.image, self.tree],
            "fsck.erofs": [erofs["fsck.erofs"] or "fsck.erofs", work / "fsck.erofs.image"],
        }
        asked: dict[str, list[str | Path]] = {
            "tar": ["tar", "--version"],
            "mksquashfs": ["mksquashfs", "-version"],
            "mkfs.erofs": [self.commands["mkfs.erofs"][0], "-V"],
        }
        if not options.peers_only:
            mkdaxfs = setting.daxfs_command("mkdaxfs", options.mkdaxfs)
            fsck = setting.daxfs_command("fsck.daxfs", options.mkdaxfs)
            self.commands["mkdaxfs"] = [mkdaxfs, "-d", self.tree, "-o", self.image]
            self.commands["fsck.daxfs"] = [fsck, work / "fsck.daxfs.image"]
            asked["mkdaxfs"] = [mkdaxfs, "--version"]
        self.rounds = setting.rounds(options)
        self.result = results.start("build", self.rounds, setting.versions(asked))

    def builds(
        self, case: str, make: Callable[[Path], Tree], builders: tuple[str, ...] = BUILDERS
    ) -> list[results.Row]:
        """Make a tree, let every builder make an image of it, return the rows."""
        self.console.log(f"{case}: making the tree")
        tree = make(self.tree)
        try:
            competitors = [
                Competitor(name, self.commands[name], self.image)
                for name in builders
                if name in self.commands
            ]
            memory = _memory_for(tree)
            samples = race(competitors, self.rounds, self.stopwatch, self.console.log, memory)
        finally:
            _remove(self.tree)
        return results.command_rows(case, samples, BASELINES, tree.files, tree.size)

    def proofs(self, case: str, make: Callable[[Path], Tree]) -> list[results.Row]:
        """Make an image of each kind, let its own checker prove it, return the rows."""
        self.console.log(f"{case}: making the tree and its images")
        tree = make(self.tree)
        competitors = []
        for prover in (name for name in PROVERS if name in self.commands):
            image = self.work / f"{prover}.image"
            builder = {"fsck.erofs": "mkfs.erofs", "fsck.daxfs": "mkdaxfs"}[prover]
            build = [image if word == self.image else word for word in self.commands[builder]]
            # The stopwatch removes what a competitor makes: not named here, it stays.
            self.stopwatch.run(Competitor(builder, build))
            competitors.append(Competitor(prover, self.commands[prover]))
        _remove(self.tree)
        samples = race(competitors, self.rounds, self.stopwatch, self.console.log)
        return results.command_rows(case, samples, PROVERS[:1], tree.files, tree.size)


def small(bench: Bench) -> list[results.Row]:
    count = 10_000 if bench.quick else 200_000
    return bench.builds(f"{count:,} small files", partial(trees.small_files, count=count))


def large(bench: Bench) -> list[results.Row]:
    size = (32 if bench.quick else 512) * MIB
    case = f"4 files of {size // MIB} MiB"
    return bench.builds(case, partial(trees.large_files, count=4, size=size))


def wide(bench: Bench) -> list[results.Row]:
    count = 5_000 if bench.quick else 100_000
    case = f"one directory of {count:,} files"
    return bench.builds(case, partial(trees.wide_directory, count=count))


def debian(bench: Bench) -> list[results.Row]:
    root = bench.root or _debian_root()
    name = "Debian root file system" if not bench.root else f"copy of {root}"
    return bench.builds(name, partial(trees.copy_of, source=root))


def prove(bench: Bench) -> list[results.Row]:
    count = 10_000 if bench.quick else 200_000
    case = f"proving an image of {count:,} files"
    return bench.proofs(case, partial(trees.small_files, count=count))


def growth_in_files(bench: Bench) -> list[results.Row]:
    counts = (1_000, 10_000) if bench.quick else (1_000, 10_000, 100_000, 1_000_000)
    rows = []
    for count in counts:
        case = f"growth in files, {count:,}"
        make = partial(trees.small_files, count=count)
        made = bench.builds(case, make, GROWTH_BUILDERS)
        rows += [_growth(row, "growth in files", f"{count:,} files") for row in made]
    return _by_competitor(rows)


def growth_in_bytes(bench: Bench) -> list[results.Row]:
    sizes = (16, 64) if bench.quick else (64, 256, 1024, 4096)
    rows = []
    for size in sizes:
        case = f"growth in bytes, {size} MiB"
        make = partial(trees.large_files, count=1, size=size * MIB)
        made = bench.builds(case, make, GROWTH_BUILDERS)
        rows += [_growth(row, "growth in bytes", f"{size:,} MiB") for row in made]
    return _by_competitor(rows)


CASES = {
    "small": Case("many small files", 4 * GIB, small),
    "large": Case("few large files", 8 * GIB, large),
    "wide": Case("one large directory", 3 * GIB, wide),
    "debian": Case("a real tree", 3 * GIB, debian),
    "prove": Case("proving that an image is sound", 4 * GIB, prove),
    "files": Case("does the time for a file stay the same as files grow in number?",
                  14 * GIB, growth_in_files),
    "bytes": Case("does the time for a byte stay the same as files grow in size?",
                  9 * GIB, growth_in_bytes),
}  # fmt: skip


def _growth(row: results.Row, case: str, amount: str) -> results.Row:
    return replace(row, case=case, competitor=f"{row.competitor}, {amount}")


def _by_competitor(rows: list[results.Row]) -> list[results.Row]:
    """Order rows so that each competitor's growth reads downwards."""
    return sorted(rows, key=lambda row: GROWTH_BUILDERS.index(row.competitor.split(",")[0]))


def _memory_for(tree: Tree) -> int:
    """Return twice what the largest image takes, one that has each file on blocks of its own.

    Which of the free pages the kernel gives out first is not known; of twice as many nearly all
    that it gives are among those fetched.
    """
    most_written = tree.size + tree.files * mmap.PAGESIZE
    return min(2 * most_written, setting.available_memory() * 3 // 4)


def _remove(tree: Path) -> None:
    subprocess.run(["rm", "-rf", "--", tree], check=True)


def _debian_root() -> Path:
    """Return the minimal Debian that the tests use too; made on first use."""
    made = subprocess.run([sys.executable, DEBIAN_ROOT], stdout=subprocess.PIPE, check=False)
    if made.returncode != 0:
        raise BenchError("no Debian tree: see above; --root DIR measures another")
    return Path(made.stdout.decode().strip())


def _options() -> argparse.Namespace:
    parser = cases.parser("How fast is an image made and proved?", CASES)
    parser.add_argument("--root", type=Path, help="measure this tree in the case 'debian'")
    parser.add_argument("--mkfs-erofs", help="another mkfs.erofs than the installed one")
    parser.add_argument("--fsck-erofs", help="another fsck.erofs than the installed one")
    parser.add_argument("--peers-only", action="store_true", help="leave daxfs out")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(cases.main(_options(), CASES, Bench))
