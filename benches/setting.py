# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What a measurement needs around it: a place in memory, the tools compared, the options."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from measure import BenchError

GIB = 1 << 30
TABLE_WIDTH = 130
PACKAGES = {
    "tar": "tar",
    "mksquashfs": "squashfs-tools",
    "mkfs.erofs": "erofs-utils",
    "fsck.erofs": "erofs-utils",
    "squashfuse_ll": "squashfuse",
    "fuse-overlayfs": "fuse-overlayfs",
    "fio": "fio",
    "git": "git",
}


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks share."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--quick", action="store_true", help="a small input, few rounds")
    options.add_argument("--rounds", type=int, help="rounds (default: 5; quick: 3)")
    options.add_argument("--json", type=Path, metavar="FILE", help="write FILE, and a .md beside")
    options.add_argument(
        "--directory", type=Path, default=Path("/dev/shm"), help="tmpfs to work in (%(default)s)"
    )
    options.add_argument(
        "--mkdaxfs", help="the mkdaxfs to measure (default: beside this Python, then PATH)"
    )
    return options


def console() -> Console:
    """Return where the tables go: wide enough for them also where the output is a pipe."""
    return Console(width=max(Console().width, TABLE_WIDTH))


def rounds(options: argparse.Namespace) -> int:
    """Return how many rounds to run."""
    count: int = options.rounds or (3 if options.quick else 5)
    return count


@contextmanager
def workspace(parent: Path) -> Iterator[Path]:
    """Make a directory to work in and remove it in the end, also when told to stop."""
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory(prefix="daxfs-bench-", dir=parent) as path:
            yield Path(path)
    finally:
        signal.signal(signal.SIGTERM, previous)


def require_memory(directory: Path, need: int) -> None:
    """Refuse to start what would not fit; in tmpfs both file and process memory count."""
    available = min(shutil.disk_usage(directory).free, available_memory())
    if available < need:
        raise BenchError(
            f"{directory} has room for {available / GIB:.1f} GiB and this case needs "
            f"{need / GIB:.1f}; free memory, use --quick, or choose cases with --only"
        )


def available_memory() -> int:
    """Return how many bytes programs can still take."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise BenchError("/proc/meminfo does not say what memory is available")


def daxfs_command(name: str, mkdaxfs: str | None) -> Path:
    """Return the path of one of our commands: beside the given mkdaxfs, else where installed.

    Raises
    ------
    BenchError
        If it is not there.
    """
    beside = Path(mkdaxfs) if mkdaxfs else Path(sys.executable)
    for found in (beside.with_name(name), shutil.which(name) if not mkdaxfs else None):
        if found and os.access(found, os.X_OK):
            return Path(found).absolute()
    raise BenchError(
        f"{name} is not installed: pip install . first, or point --mkdaxfs at a built one"
    )


def install(tools: Sequence[str]) -> None:
    """Install the Debian packages of the tools that are missing."""
    missing = sorted({PACKAGES[tool] for tool in tools if not shutil.which(tool)})
    if not missing:
        return
    if os.geteuid() != 0:
        raise BenchError(f"these packages are missing: apt-get install {' '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install_missing = ["apt-get", "-q", "install", "--yes", "--no-install-recommends", *missing]
    for command in (["apt-get", "-q", "update"], install_missing):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")


def versions(commands: Mapping[str, Sequence[str | Path]]) -> dict[str, str]:
    """Return the first line that each command prints of its version."""
    first_lines = {}
    for name, command in commands.items():
        # Old erofs tools exit with an error after they have said their version.
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = (done.stdout + done.stderr).strip().splitlines()
        first_lines[name] = said[0] if said else "unknown"
    return first_lines
