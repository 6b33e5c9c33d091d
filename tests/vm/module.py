# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The kernel module, built for the kernels that are booted."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from devices import Device
from guest import Guest
from initramfs import Kernel
from vmconfig import kernel_cache

KERNEL = Path(__file__).parents[2] / "kernel"
SOURCES = ("*.c", "*.h", "Kbuild", "Makefile")


class BuildError(Exception):
    """Something did not build, or not without a warning."""


def build_module(series: str) -> Path:
    """Return daxfs.ko for a kernel, built if this source was not built for it before.

    Warnings, of the compiler and of sparse, are errors.
    """
    kernel = Kernel.find(series)
    files = sorted(file for pattern in SOURCES for file in KERNEL.glob(pattern))
    digest = hashlib.sha256(kernel.release.encode())
    # A kernel with another configuration may bear the same release.
    digest.update((kernel_cache() / series / "packages").read_bytes())
    for file in files:
        digest.update(file.read_bytes())
    target = kernel_cache() / "modules" / f"{series}-{digest.hexdigest()[:16]}" / "daxfs.ko"
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _build(kernel, files, target)
    return target


def load_module(guest: Guest, series: str) -> None:
    """Load the module, and those of the kernel's own that it needs, in a guest."""
    module = build_module(series)
    command = ["modinfo", "-F", "depends", str(module)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    if needed := done.stdout.strip():
        guest.check(["modprobe", "-a", *needed.split(",")])
    guest.check(["insmod", module])


@contextmanager
def guest_with_module(series: str, workdir: Path, devices: Sequence[Device]) -> Iterator[Guest]:
    """Run a guest in which the module is loaded."""
    with Guest(series, workdir, devices=devices) as running:
        load_module(running, series)
        yield running


def _build(kernel: Kernel, files: list[Path], target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for file in files:
            shutil.copy(file, scratch)
        command = _make(scratch, kernel) if kernel.system is None else _make_within(scratch, kernel)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = [line for line in done.stderr.splitlines() if "BTF" not in line]
        if done.returncode or said:
            raise BuildError(f"the module for {kernel.release}:\n" + "\n".join(said))
        partial = target.with_suffix(".partial")
        shutil.copy(Path(scratch, "daxfs.ko"), partial)
        partial.rename(target)


def _make(directory: str, kernel: Kernel) -> list[str]:
    """Return the command that builds the module, and looks at it with sparse."""
    return [
        *("make", "-s", f"-j{os.cpu_count()}", "-C", directory),
        *("W=1", "C=2", "CF=-D__CHECK_ENDIAN__ -Wsparse-error"),
        f"KDIR={kernel.modules / kernel.release / 'build'}",
        f"CROSS_COMPILE={kernel.architecture.compiler}",
    ]


def _make_within(directory: str, kernel: Kernel) -> list[str]:
    """Return the command that builds the module in the kernel's own system.

    Its headers lack what sparse is started by. Nothing stays mounted there, whatever happens.
    """
    script = 'mount --bind "$1" "$2/mnt" && mount -t proc proc "$2/proc" && exec chroot "$2" $3'
    make = f"make -s -C /mnt W=1 KVER={kernel.release}"
    return ["unshare", "--mount", "sh", "-c", script, "sh", directory, str(kernel.system), make]
