# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Build images, mount them, and find the servers of the mounts."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

IDMAPS = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 12)
"""Whether this kernel moves the owners of FUSE mounts."""


class Mounts:
    """Mounts of one test.

    Parameters
    ----------
    scratch
        Where images and mount points are made.
    programs
        The directory that the commands are in.
    """

    def __init__(self, scratch: Path, programs: Path) -> None:
        self._scratch = scratch
        self._programs = programs
        self._points: list[Path] = []
        self._images = 0

    def run(self, *command: str | Path, status: int = 0) -> str:
        """Run one of the commands; return what it said, errors included."""
        done = subprocess.run(
            [self._programs / str(command[0]), *command[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
        )
        assert done.returncode == status, (command, done.returncode, done.stdout)
        assert "Traceback" not in done.stdout
        return done.stdout

    def build(self, tree: Path, room: str | None = None) -> Path:
        """Make an image of a tree, with room for branches if that is said."""
        self._images += 1
        image = self._scratch / f"{self._images}.daxfs"
        branches = () if room is None else ("-w", "--delta-size", room)
        self.run("mkdaxfs", "-d", tree, "-o", image, *branches)
        return image

    def point(self) -> Path:
        """Make a directory to mount on."""
        point = self._scratch / f"mnt{len(self._points)}"
        point.mkdir()
        self._points.append(point)
        return point

    def mount(self, image: Path | str, options: str = "ro", point: Path | None = None) -> Path:
        """Mount an image."""
        point = point or self.point()
        self.run("daxfs", "mount", "-o", options, image, point)
        return point

    def unmount(self, point: Path) -> None:
        """Take a mount away, and wait until its server has let everything go."""
        server = server_of(point)
        self.run("daxfs", "umount", point)
        wait_for_end(server)

    def kill(self, point: Path) -> None:
        """Kill the server of a mount, as a crash would."""
        server = server_of(point)
        os.kill(server, signal.SIGKILL)
        wait_for_end(server)

    def sound(self, image: Path) -> None:
        """Prove an image."""
        self.run("fsck.daxfs", image)

    def with_helpers(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script where mount(8) finds its helpers.

        It runs in a namespace of its own, so that the system's /sbin stays as it is.
        """
        prepare = (
            "mount -t tmpfs none /mnt && mkdir /mnt/up /mnt/work && "
            "mount -t overlay -o lowerdir=/sbin,upperdir=/mnt/up,workdir=/mnt/work none /sbin && "
            f"ln -s {self._programs}/mount.*daxfs /sbin/"
        )
        return subprocess.run(
            ["unshare", "-m", "sh", "-c", f"{prepare} && {script}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            encoding="utf-8",
            errors="surrogateescape",
        )

    def clear(self) -> None:
        """Take every mount away."""
        for point in self._points:
            while str(point) in Path("/proc/mounts").read_text():
                subprocess.run(["umount", "-l", point], check=True)


def server_of(point: Path) -> int:
    """Return the process that serves a mount."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if b"mount" in words and os.fsencode(point) in words and _runs_from_root(process):
                return int(process.name)
    raise AssertionError(f"nobody serves {point}")


def _runs_from_root(process: Path) -> bool:
    """Servers in the background have left the directory that they were started in."""
    try:
        return os.readlink(process / "cwd") == "/" and (process / "exe").exists()
    except OSError:
        return False


def wait_for_end(process: int) -> None:
    """Wait until a process is gone."""
    for _ in range(3000):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.01)
    raise AssertionError(f"process {process} does not end")


def memory_of(process: int) -> int:
    """Return how much memory a process has for itself, in bytes."""
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    private = [line for line in rollup if line.startswith("Private_")]
    return sum(int(line.split()[1]) for line in private) * 1024


def registered(image: Path) -> list[int]:
    """Return who has an image open, by its own table; high bits say who has not."""
    data = image.read_bytes()
    table, count = struct.unpack_from("<QI", data, 184)
    words = (struct.unpack_from("<Q", data, table + 64 * slot)[0] for slot in range(count))
    return [word for word in words if word and not word >> 61]


def fails_with(number: int, work: Callable[[], object]) -> bool:
    """Whether it fails with this errno; it is to fail."""
    with pytest.raises(OSError) as caught:
        work()
    return caught.value.errno == number
