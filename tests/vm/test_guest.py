# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects the harness: a guest runs commands over the host's files, holds the memory it was
promised, and never hides that it hangs or that its kernel fails.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devices import (
    CXL,
    CXL_SIZE,
    MIB,
    PMEM,
    PMEM_SIZE,
    RELAXED,
    RESERVED,
    RESERVED_ADDRESS,
    RESERVED_SIZE,
    nvdimm,
)
from guest import Guest, GuestError, GuestTimeoutError, KernelFaultError, run
from vmconfig import KERNELS

NVDIMM_ADDRESS = 4 << 30
NVDIMM_SIZE = 256 * MIB

# Store a word at both ends of a mapping.
STORE = """
import mmap, os, sys
path, size, offset = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
memory = mmap.mmap(os.open(path, os.O_RDWR), size, offset=offset)
memory[:5] = memory[-5:] = b"daxfs"
"""
# Print what lies at both ends of a mapping.
LOAD = """
import mmap, os, sys
path, size, offset = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
memory = mmap.mmap(os.open(path, os.O_RDONLY), size, prot=mmap.PROT_READ, offset=offset)
print(memory[:5], memory[-5:])
"""
# Print the size of a DMA buffer that holds what was stored in it.
HEAP = """
import fcntl, mmap, os, struct
request = bytearray(struct.pack("QIIQ", 4 << 20, 0, os.O_RDWR | os.O_CLOEXEC, 0))
fcntl.ioctl(os.open("/dev/dma_heap/system", os.O_RDWR), 0xC0184800, request)
buffer = struct.unpack("QIIQ", request)[1]
memory = mmap.mmap(buffer, 4 << 20)
memory[:5] = b"daxfs"
assert mmap.mmap(buffer, 4096)[:5] == b"daxfs"
print(os.lseek(buffer, 0, os.SEEK_END))
"""


@pytest.fixture(scope="module")
def nvdimm_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file behind the guest's NVDIMM."""
    return tmp_path_factory.mktemp("nvdimm") / "memory"


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory, nvdimm_file: Path) -> Iterator[Guest]:
    """Return a guest with every kind of memory."""
    devices = [RESERVED, CXL, PMEM, RELAXED, nvdimm(nvdimm_file, NVDIMM_SIZE)]
    with Guest("6.12", tmp_path_factory.mktemp("guest"), devices=devices) as running:
        yield running


def test_a_command_leaves_its_status_and_output(guest: Guest) -> None:
    result = guest.run("echo out; echo $WORD >&2; exit 7", env={"WORD": "it's"})
    assert (result.status, result.stdout, result.stderr) == (7, "out\n", "it's\n")
    with pytest.raises(GuestError, match="exited 7"):
        guest.check("exit 7")


def test_only_the_working_directory_is_shared(guest: Guest, tmp_path: Path) -> None:
    guest.check(["touch", tmp_path / "lost", guest.workdir / "kept"])
    assert (guest.workdir / "kept").exists()
    assert not (tmp_path / "lost").exists()


def test_reserved_memory_is_seen_by_another_process(guest: Guest) -> None:
    range_ = ["/dev/mem", str(RESERVED_SIZE), str(RESERVED_ADDRESS)]
    guest.check([sys.executable, "-c", STORE, *range_])
    assert guest.check([sys.executable, "-c", LOAD, *range_]) == "b'daxfs' b'daxfs'\n"


@pytest.mark.parametrize(
    ("node", "size"), [(CXL.node, CXL_SIZE), (PMEM.node, PMEM_SIZE)], ids=["cxl", "pmem"]
)
def test_a_device_holds_its_whole_size(guest: Guest, node: str, size: int) -> None:
    range_ = [guest.wait_for(node), str(size), "0"]
    guest.check([sys.executable, "-c", STORE, *range_])
    assert guest.check([sys.executable, "-c", LOAD, *range_]) == "b'daxfs' b'daxfs'\n"


def test_an_nvdimm_is_its_file(guest: Guest, nvdimm_file: Path) -> None:
    guest.check([sys.executable, "-c", STORE, "/dev/mem", str(NVDIMM_SIZE), str(NVDIMM_ADDRESS)])
    with nvdimm_file.open("rb") as file:
        assert file.read(5) == b"daxfs"
        file.seek(NVDIMM_SIZE - 5)
        assert file.read() == b"daxfs"


def test_the_heap_gives_dma_buffers(guest: Guest) -> None:
    assert guest.check([sys.executable, "-c", HEAP]) == f"{4 * MIB}\n"


@pytest.mark.parametrize("series", KERNELS)
def test_each_kernel_runs_a_command(series: str, tmp_path: Path) -> None:
    assert run(series, ["uname", "-r"], tmp_path).stdout.startswith(series)


def test_a_hang_ends_the_guest(tmp_path: Path) -> None:
    with Guest("6.12", tmp_path) as guest:
        with pytest.raises(GuestTimeoutError):
            guest.run("sleep 1000", timeout=0.1)
        with pytest.raises(GuestError, match="has ended"):
            guest.run("true")


def test_a_failing_kernel_is_told(tmp_path: Path) -> None:
    with (
        Guest("6.12", tmp_path) as guest,
        pytest.raises(KernelFaultError, match=r"panic|NULL pointer"),
    ):
        guest.run("echo c >/proc/sysrq-trigger")


def test_a_boot_that_the_emulator_spoils_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, tries = Guest._start, []

    def spoiled(self: Guest, *rest: Any) -> None:
        start(self, *rest)
        tries.append(self._qemu.pid)
        if len(tries) == 1:
            os.kill(self._qemu.pid, signal.SIGABRT)
            self._expect("nothing", 60)

    monkeypatch.setattr(Guest, "_start", spoiled)
    with Guest("6.12", tmp_path) as guest:
        assert guest.check("echo up") == "up\n"
    assert len(tries) == 2
