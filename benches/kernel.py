#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""How much work is it for a kernel to serve files with the module, next to tmpfs and erofs?

One guest counts instructions instead of time, so that the figures repeat: one nanosecond of its
clock is one instruction. Each case runs on each file system in the same boot, over the same tree.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.table import Table

from setting import console

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/vm"))

from architecture import X86_64
from devices import PMEM, PMEM_ADDRESS, RESERVED, RESERVED_ADDRESS, Device, loaded
from guest import Guest
from module import load_module

MIB = 1 << 20
# With its own source of random numbers: without one, a kernel's first ones cost it a hash each.
COUNTING = Device(qemu=("-icount", "shift=0,sleep=off"), cpu=f"{X86_64.cpu},+rdrand")


def make_tree(top: Path) -> None:
    """Make the tree that the program knows."""
    (top / "file").write_bytes(os.urandom(64 * MIB))
    for directory in range(50):
        (top / f"small/{directory:02}").mkdir(parents=True)
        for number in range(100):
            (top / f"small/{directory:02}/{number:02}").write_bytes(os.urandom(2000))
    for name, count in (("names", 2000), ("many", 100_000)):
        (top / name).mkdir()
        for number in range(count):
            (top / f"{name}/{number:06}").touch()


def measure(guest: Guest, program: Path, where: str) -> dict[str, float]:
    """Run every case on the tree at `where`."""
    printed = guest.check([program, where], timeout=1800)
    return {case: float(cost) for case, cost in (line.split("\t") for line in printed.splitlines())}


def run(series: str, scratch: Path) -> dict[str, dict[str, float]]:
    """Return what each case costs on each file system."""
    tree, program = scratch / "tree", scratch / "kernel"
    tree.mkdir()
    make_tree(tree)
    source = Path(__file__).with_suffix(".c")
    subprocess.run(["gcc", "-O2", "-static", "-o", program, source], check=True)
    mkdaxfs = shutil.which("mkdaxfs")
    if mkdaxfs is None:
        raise SystemExit("kernel.py: no mkdaxfs in PATH")
    subprocess.run([mkdaxfs, "-q", "-d", tree, "-o", scratch / "daxfs"], check=True)
    subprocess.run(["mkfs.erofs", "--quiet", scratch / "erofs", tree], check=True)
    shutil.rmtree(tree)
    devices = [
        *(COUNTING, RESERVED, PMEM),
        *(loaded(scratch / "daxfs", RESERVED_ADDRESS), loaded(scratch / "erofs", PMEM_ADDRESS)),
    ]
    workdir = scratch / "guest"
    workdir.mkdir()
    with Guest(
        series,
        workdir,
        memory="3G",
        cpus=1,
        devices=devices,
        modules=["erofs"],
        boot_timeout=900,
    ) as guest:
        load_module(guest, series)
        guest.check(f"cp {program} /dev/shm/kernel; mkdir -p /run/d /run/t /run/e /run/x")
        program = Path("/dev/shm/kernel")
        guest.check(f"mount -t daxfs -o phys={RESERVED_ADDRESS:#x} none /run/d")
        guest.check("mount -t tmpfs tmpfs /run/t && cp -a /run/d/. /run/t/", timeout=1800)
        costs = {"tmpfs": measure(guest, program, "/run/t")}
        costs["daxfs"] = measure(guest, program, "/run/d")
        guest.check("mount -t erofs -o ro /dev/pmem0 /run/e")
        costs["erofs"] = measure(guest, program, "/run/e")
        guest.check("umount /run/e && mount -t erofs -o ro,dax=always /dev/pmem0 /run/e")
        costs["erofs, dax"] = measure(guest, program, "/run/e")
        # Memory with struct pages, which alone has huge mappings.
        guest.check(f"umount /run/e && dd if={scratch / 'daxfs'} of=/dev/pmem0 bs=1M conv=fsync")
        guest.check("mount -t daxfs /dev/pmem0 /run/e")
        costs["daxfs, pmem"] = measure(guest, program, "/run/e")
    return costs


def main() -> None:
    """Measure, and print a table of ratios to tmpfs."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kernel", default="6.12", help="series to boot (%(default)s)")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        costs = run(chosen.kernel, Path(scratch))
    if chosen.json:
        chosen.json.write_text(json.dumps(costs, indent=2) + "\n")
    table = Table("case", "tmpfs, instructions", *(name for name in costs if name != "tmpfs"))
    for case, base in costs["tmpfs"].items():
        ratios = (f"{costs[name][case] / base:.3g}" for name in costs if name != "tmpfs")
        table.add_row(case, f"{base:,.0f}", *ratios)
    console().print(table)


if __name__ == "__main__":
    main()
