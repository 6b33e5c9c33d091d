# SPDX-License-Identifier: Apache-2.0 OR MIT
"""How fast is a mounted image, next to other file systems in user space, erofs and tmpfs?

    python benches/mount.py [--quick] [--json FILE] [--only CASE]...

Run it as root, with the Python that daxfs is installed in. CPU counts the servers' as
well; peak memory is what the servers have of their own. *erofs* is the kernel's, on a loop device.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from time import perf_counter, sleep

from rich.console import Console

import cases
import peers
import results
import setting
import trees
from cases import Case
from measure import BenchError, Sample, fetch, stolen, undisturbed
from setting import GIB
from trees import MIB

# More than any of the commands makes the kernel and the servers take.
MEMORY = 2 * GIB
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class FileSystem:
    """One way to mount a tree: how it is mounted, how its server is recognised, and what is done
    there if that is not the same everywhere."""

    name: str
    mount: Callable[[Path], list[str | Path]]
    server: str = ""
    work: list[str | Path] | None = None


class Bench:
    """The place and the options of one run."""

    def __init__(self, options: argparse.Namespace, work: Path, console: Console) -> None:
        self.work = work
        self.console = console
        self.quick: bool = options.quick
        self.rounds = setting.rounds(options)
        self.mkdaxfs = setting.daxfs_command("mkdaxfs", options.mkdaxfs)
        self.daxfs = self.mkdaxfs.with_name("daxfs")
        setting.install(["mksquashfs", "squashfuse_ll", "fuse-overlayfs", "fio", "git"])
        self.erofs = peers.erofs_tools()
        self.passthrough = peers.passthrough()
        versions = setting.versions(
            {
                "daxfs": [self.daxfs, "--version"],
                "erofs": [self.erofs / "mkfs.erofs", "--version"],
                "fuse-overlayfs": ["fuse-overlayfs", "--version"],
            }
        )
        self.result = results.start("mount", self.rounds, versions)
        self.rss = 0
        self.point = work / "mnt"
        self.point.mkdir()

    @cached_property
    def many(self) -> Path:
        """A tree of many small files."""
        return trees.small_files(self.work / "many", 2_000 if self.quick else 200_000).path

    @cached_property
    def large(self) -> Path:
        """A tree of one large file."""
        return trees.large_files(self.work / "large", 1, (32 if self.quick else 512) * MIB).path

    def call(self, *command: str | Path) -> None:
        """Run a command that is not timed."""
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        done = subprocess.run(command, stdout=null, stderr=pipe, check=False)
        if done.returncode != 0:
            said = done.stderr[-2000:].decode(errors="replace")
            raise BenchError(f"{command[0]} failed:\n{said}")

    def readers(self, tree: Path) -> list[FileSystem]:
        """Make images of a tree, and say how each is mounted."""
        image, squash, flat = (
            self.work / f"tree.{kind}" for kind in ("daxfs", "squashfs", "erofs")
        )
        for path in (image, squash, flat):
            path.unlink(missing_ok=True)
        self.call(self.mkdaxfs, "-d", tree, "-o", image)
        self.call(self.erofs / "mkfs.erofs", flat, tree)
        self.call("mksquashfs", tree, squash, "-noI", "-noD", "-noF", "-noX", "-quiet")
        return [
            FileSystem("tmpfs, bound", lambda to: ["mount", "--bind", tree, to]),
            FileSystem("erofs", lambda to: ["mount", "-t", "erofs", "-o", "loop,ro", flat, to]),
            FileSystem("erofsfuse", lambda to: [self.erofs / "erofsfuse", flat, to], "erofsfuse"),
            FileSystem("squashfuse_ll", lambda to: ["squashfuse_ll", squash, to], "squashfuse_ll"),
            FileSystem("daxfs", lambda to: [self.daxfs, "mount", image, to], "daxfs"),
        ]

    def writers(self, tree: Path) -> list[FileSystem]:
        """Make what can be written over a tree, and say how each is mounted."""
        image, upper, scratch = (self.work / name for name in ("w.daxfs", "upper", "scratch"))
        for path in (upper, scratch):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
        image.unlink(missing_ok=True)
        self.call(self.mkdaxfs, "-d", tree, "-o", image, "-w", "--delta-size", "1G")
        layers = f"lowerdir={tree},upperdir={upper},workdir={scratch}"
        ours = "branch=work,parent=main"
        return [
            FileSystem(
                "fuse-overlayfs",
                lambda to: ["fuse-overlayfs", "-o", layers, to],
                "fuse-overlayfs",
            ),
            FileSystem("daxfs", lambda to: [self.daxfs, "mount", "-o", ours, image, to], "daxfs"),
        ]

    @contextmanager
    def mounted(self, system: FileSystem) -> Iterator[Callable[[], float]]:
        """Mount; gives a function for the CPU seconds that the server has used."""
        self.call(*system.mount(self.point))
        self.rss = 0
        server = _server(system.server, self.point) if system.server else None
        try:
            yield lambda: _cpu(server) if server else 0.0
        finally:
            self.rss = _private_kib(server) if server else 0
            self.call("umount", self.point)
            # Or it would be taken for the next one, which serves the same place.
            while server and Path(f"/proc/{server}").exists():
                sleep(0.001)

    def measure(
        self,
        case: str,
        prepare: Callable[[], list[FileSystem]],
        work: list[str | Path],
        *baselines: str,
        warm: bool = False,
    ) -> list[results.Row]:
        """Time a command on every file system, each freshly mounted in every round."""
        names = [system.name for system in prepare()]
        samples: dict[str, list[Sample]] = {name: [] for name in names}
        for number in range(self.rounds):
            first = number % len(names)
            for name in (*names[first:], *names[:first]):
                run = partial(self.run, prepare, name, work, warm)
                what = f"{case}, round {number + 1}: {name}"
                samples[name].append(undisturbed(run, what, self.console.log))
        return results.command_rows(case, samples, baselines)

    def run(
        self,
        prepare: Callable[[], list[FileSystem]],
        name: str,
        work: list[str | Path],
        warm: bool,
    ) -> Sample:
        """Time a command once, on one file system."""
        system = next(system for system in prepare() if system.name == name)
        command = system.work or work
        with self.mounted(system) as used:
            if warm:
                self.call(*command)
            fetch(MEMORY)
            before, client, taken, start = used(), _children(), stolen(), perf_counter()
            self.call(*command)
            wall, taken = perf_counter() - start, stolen() - taken
            cpu = _children() - client + used() - before
        return Sample(wall, cpu, self.rss, 0, taken)


def _server(name: str, point: Path) -> str:
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            named = any(os.path.basename(word) == name.encode() for word in words[:2])
            if named and os.fsencode(point) in words:
                return process.name
    raise BenchError(f"nobody serves {point}")


def _cpu(process: str) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def _children() -> float:
    """Return the CPU seconds of all commands that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _private_kib(process: str) -> int:
    """Return the memory that is the server's own; what it maps of the image is everybody's."""
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))


def answer(bench: Bench) -> list[results.Row]:
    """Mount, until the mount answers."""
    systems = [system for system in bench.readers(bench.many) if system.name != "tmpfs, bound"]
    case = "mount an image, until it answers"
    wall: dict[str, list[float]] = {}
    for number in range(bench.rounds * 3):
        first = number % len(systems)
        for system in (*systems[first:], *systems[:first]):
            start = perf_counter()
            bench.call(*system.mount(bench.point))
            next(os.scandir(bench.point))
            wall.setdefault(system.name, []).append(perf_counter() - start)
            bench.call("umount", bench.point)
    return results.operation_rows(case, wall, "erofsfuse")


def walk(bench: Bench) -> list[results.Row]:
    """Walk a tree with stat, freshly mounted and warm."""
    command: list[str | Path] = ["find", bench.point, "-printf", "%s%m"]
    systems = bench.readers(bench.many)
    rows = bench.measure(
        "walk with stat, fresh mount", lambda: systems, command, "erofsfuse", "erofs"
    )
    return rows + bench.measure(
        "walk with stat, warm", lambda: systems, command, "erofs", "tmpfs, bound", warm=True
    )


def read(bench: Bench) -> list[results.Row]:
    """Read every file, freshly mounted."""
    tree = trees.small_files(bench.work / "files", 2_000 if bench.quick else 50_000).path
    systems = bench.readers(tree)
    command = _read_all(bench.point)
    rows = bench.measure(
        "read everything, fresh mount", lambda: systems, command, "erofsfuse", "erofs"
    )
    return rows + bench.measure(
        "read everything, warm", lambda: systems, command, "erofs", "tmpfs, bound", warm=True
    )


def _read_all(point: Path) -> list[str | Path]:
    # Not tar, which does not read what it writes to nowhere.
    return ["sh", "-c", f"find {point} -type f -print0 | xargs -0 cat"]


def shared(bench: Bench) -> list[results.Row]:
    """Read, warm, what others may write: asking each time, and going on with what is known."""
    tree = trees.small_files(bench.work / "files", 2_000 if bench.quick else 50_000).path
    image = bench.work / "shared.daxfs"
    bench.call(bench.mkdaxfs, "-d", tree, "-o", image, "--writable", "--force")

    def reader(options: str) -> FileSystem:
        command: list[str | Path] = [bench.daxfs, "mount", "-o", options, image]
        return FileSystem(f"daxfs -w, {options}", lambda to: [*command, to], "daxfs")

    alone = [system for system in bench.readers(tree) if system.name in ("tmpfs, bound", "daxfs")]
    systems = [*alone, reader("ro"), reader("ro,actimeo=60")]
    works: list[tuple[str, list[str | Path]]] = [
        ("walk what others may write", ["find", bench.point, "-printf", "%s%m"]),
        ("read all that others may write", _read_all(bench.point)),
    ]
    rows = []
    for case, work in works:
        rows += bench.measure(case, lambda: systems, work, "daxfs", "tmpfs, bound", warm=True)
    return rows


def sequential(bench: Bench) -> list[results.Row]:
    """Read a large file by 1 MiB, cold and warm."""
    (file,) = bench.large.iterdir()
    # It has every file open that the kernel knows of, so it is for few of them.
    options = f"source={bench.large},cache=always"
    through: list[str | Path] = [bench.passthrough, "-o", options]
    systems = [
        *bench.readers(bench.large),
        FileSystem("passthrough_ll", lambda to: [*through, to], "passthrough_ll"),
    ]
    command: list[str | Path] = ["dd", f"if={bench.point / file.name}", "of=/dev/null", "bs=1M"]
    case = f"1 MiB reads of {file.stat().st_size // MIB} MiB"
    rows = bench.measure(f"{case}, cold", lambda: systems, command, "erofsfuse", "erofs")
    return rows + bench.measure(
        f"{case}, warm", lambda: systems, command, "erofs", "tmpfs, bound", warm=True
    )


def scattered(bench: Bench) -> list[results.Row]:
    """Read 4 KiB at random, past the page cache, with one thread and two."""
    (file,) = bench.large.iterdir()
    size = file.stat().st_size

    def work(threads: int) -> list[str | Path]:
        return [
            "fio", "--name=read", f"--filename={bench.point / file.name}", "--rw=randread",
            "--bs=4k", "--direct=1", "--thread", f"--numjobs={threads}", f"--size={size}",
            f"--io_size={size // threads}", "--output=/dev/null",
        ]  # fmt: skip

    systems = [
        replace(system, name=f"{system.name}, {count}", work=work(threads))
        for system in bench.readers(bench.large)
        if system.name in ("daxfs", "erofsfuse")
        for threads, count in ((1, "1 thread"), (2, "2 threads"))
    ]
    case = f"{size // 4096:,} random direct reads of 4 KiB"
    return bench.measure(case, lambda: systems, [], "daxfs, 1 thread", "erofsfuse, 1 thread")


def write(bench: Bench) -> list[results.Row]:
    """Create small files, unpack a tree, and have git look for changes in one."""
    count = 500 if bench.quick else 10_000
    base = trees.small_files(bench.work / "base", 500).path
    source = trees.small_files(bench.work / "source", count).path
    archive = bench.work / "source.tar"
    bench.call("tar", "-cf", archive, "-C", source, ".")
    git: list[str | Path] = ["git", "-c", "safe.directory=*", "-c", "user.name=b"]
    git += ["-c", "user.email=b", "-c", "init.defaultBranch=main"]
    # By size and time: inode numbers and change times are others in an image, and git would read
    # every file once.
    git += ["-c", "core.checkStat=minimal", "-c", "core.trustctime=false", "-C"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        bench.call(*git, source, *words)
    create = f"import os\nfor n in range({count}): open(f'{bench.point}/{{n}}', 'w').write('x')"
    jobs: list[tuple[str, Path, list[str | Path]]] = [
        (f"create {count:,} files", base, [sys.executable, "-c", create]),
        (f"unpack {count:,} files", base, ["tar", "-xf", archive, "-C", bench.point]),
        (f"git status, {count:,} files", source, [*git, bench.point, "status", "--porcelain"]),
    ]
    rows = []
    for case, tree, work in jobs:
        rows += bench.measure(case, partial(bench.writers, tree), work, "fuse-overlayfs")
    return rows


CASES = {
    "answer": Case("mounting, until the mount answers", 8 * GIB, answer),
    "walk": Case("walking a tree", 8 * GIB, walk),
    "read": Case("reading every file", 8 * GIB, read),
    "shared": Case("reading what others may write", 8 * GIB, shared),
    "sequential": Case("reading a large file", 8 * GIB, sequential),
    "scattered": Case("reading at random", 8 * GIB, scattered),
    "write": Case("writing many files", 8 * GIB, write),
}

if __name__ == "__main__":
    options = cases.parser("How fast is a mounted image?", CASES)
    sys.exit(cases.main(options.parse_args(), CASES, Bench))
