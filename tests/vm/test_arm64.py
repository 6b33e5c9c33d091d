# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects the kernel module on arm64, whose page tables and memory types are not those of x86-64.

The guests boot Debian's kernels for it on an emulated machine, with busybox for a user space.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from architecture import ARM64
from devices import HIDDEN, HIDDEN_ADDRESS, MIB, RELAXED, loaded
from guest import Guest
from initramfs import Kernel
from module import build_module
from support.programs import build_program
from vmconfig import ARM64_KERNELS, BIN

PROGRAMS = ("probe", "storm", "tree")
WHERE = "/run/image"
# Beyond the image that is mounted.
SPARE = HIDDEN_ADDRESS + 256 * MIB


@dataclass(frozen=True)
class Mounted:
    """A guest that has the image mounted, with the programs in its working directory."""

    guest: Guest
    programs: Path
    source: Path

    def run(self, program: str, *arguments: object, timeout: float = 300) -> str:
        """Run one of the programs; return what it printed."""
        return self.guest.check([self.programs / program, *map(str, arguments)], timeout=timeout)


@pytest.fixture(scope="module", params=ARM64_KERNELS)
def mounted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mounted]:
    """Return a guest of each kernel."""
    series: str = request.param
    top = tmp_path_factory.mktemp(series)
    workdir = top / "guest"
    workdir.mkdir()
    for name in PROGRAMS:
        build_program(name, workdir, ARM64.compiler)
    source = _source(top / "source", Kernel.find(series).busybox)
    image = workdir / "image"
    subprocess.run([BIN / "mkdaxfs", "-q", "-d", source, "-o", image], check=True)
    devices = [HIDDEN, RELAXED, loaded(image, HIDDEN_ADDRESS)]
    with Guest(series, workdir, devices=devices, daxfs=build_module(series)) as guest:
        guest.check(
            f"mkdir {WHERE} /run/storm && "
            f"mount -t daxfs -o phys={HIDDEN_ADDRESS:#x},validate none {WHERE}"
        )
        yield Mounted(guest, workdir, source)
        guest.check(f"umount {WHERE}")
        guest.check("rmmod daxfs")


def _source(top: Path, busybox: Path) -> Path:
    """Make a tree with a program for the guest, and one of each kind of thing besides."""
    (top / "bin").mkdir(parents=True)
    shutil.copy(busybox, top / "bin/sh")
    (top / "large").write_bytes(os.urandom(16 * MIB + 5))
    (top / "again").hardlink_to(top / "large")
    (top / "link").symlink_to("large")
    os.mkfifo(top / "fifo")
    for attribute in ("user.note", "trusted.note"):
        os.setxattr(top / "large", attribute, attribute.encode() * 40)
    (top / "many").mkdir()
    for number in range(3000):
        (top / f"many/{number:04}").write_bytes(os.urandom(number))
    return top


def test_the_tree_is_the_source(mounted: Mounted, tmp_path: Path) -> None:
    program = build_program("tree", tmp_path)
    expected = subprocess.run([program, mounted.source], capture_output=True, text=True, check=True)
    assert mounted.run("tree", WHERE).splitlines() == expected.stdout.splitlines()


@pytest.mark.parametrize(
    "check",
    [
        *("shared", "private", "torn", "beyond", "seeking", "moving", "advice", "direct"),
        *("at-once", "bad-buffer", "debugged", "walked"),
    ],
)
def test_a_file_behaves(mounted: Mounted, check: str) -> None:
    mounted.run("probe", check, f"{WHERE}/large")


def test_one_fault_maps_two_mebibytes(mounted: Mounted) -> None:
    mounted.run("probe", "faults", f"{WHERE}/large", 16 // 2 + 3)


def test_pages_are_copied_while_others_are_mapped(mounted: Mounted) -> None:
    mounted.run("probe", "race", f"{WHERE}/large", 3000)


def test_a_handle_finds_the_file_again(mounted: Mounted) -> None:
    mounted.run("probe", "handle", f"{WHERE}/large", WHERE)


def test_programs_run_from_it(mounted: Mounted) -> None:
    assert mounted.guest.check(["chroot", WHERE, "/bin/sh", "-c", "echo $((6 * 7))"]) == "42\n"


@pytest.mark.parametrize("how", ["", "scribble"], ids=["tampered", "changing"])
@pytest.mark.parametrize("proof", ["", "validate"], ids=["trusted", "proved"])
def test_hostile_images(mounted: Mounted, how: str, proof: str) -> None:
    """Each is mounted, walked, read and mapped; whatever it answers will do."""
    words = [word for word in (how, proof) if word]
    image = mounted.guest.workdir / "image"
    found = mounted.run("storm", image, f"{SPARE:#x}", "/run/storm", 150, 7, *words, timeout=900)
    assert 0 < int(found.split()[0]) < 150
