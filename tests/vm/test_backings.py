# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects the commands on real shared memory: what they write to physical ranges, DAX devices,
persistent memory and DMA buffers is what they read there, and memory that cannot be had is
refused in words.

The commands are those beside the running Python, or in the directory ``DAXFS_BIN``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from devices import CXL, HUGE, INSIDE, PMEM, PMEM_ADDRESS, RELAXED, RESERVED, RESERVED_ADDRESS
from guest import Command, Guest, Result
from vmconfig import BIN, KERNELS

MKDAXFS, DAXFS, FSCK = BIN / "mkdaxfs", BIN / "daxfs", BIN / "fsck.daxfs"
BRANCH = BIN / "daxfs-branch"
RESERVED_SOURCE = f"phys:{RESERVED_ADDRESS:#x}"
# Ordinary memory, and what the driver for persistent memory owns.
KERNEL_MEMORY = "phys:0x10000000+64M"
OWNED_MEMORY = f"phys:{PMEM_ADDRESS:#x}+64M"

all_kernels = pytest.mark.parametrize("guest", KERNELS, indirect=True)
with_heap = pytest.mark.parametrize("guest", ["6.12"], indirect=True)
without_heap = pytest.mark.parametrize("guest", ["6.1"], indirect=True)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with one of each kind of thing an image must carry."""
    top = tmp_path_factory.mktemp("tree")
    (top / "empty").touch()
    (top / "small").write_text("a few bytes\n")
    (top / "large").write_bytes(bytes(range(256)) * 12345)
    (top / "program").write_text("#!/bin/sh\n")
    (top / "program").chmod(0o755)
    (top / "deep/er").mkdir(parents=True)
    (top / "deep/er/na\u00efve name").write_text("text")
    (top / "link").symlink_to("deep/er")
    (top / "many").mkdir()
    for number in range(300):
        (top / f"many/{number:03}").write_text(str(number))
    return top


@pytest.fixture(scope="module")
def guest(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guest]:
    """Return a guest of that kernel with reserved and persistent memory, and huge pages."""
    with Guest(
        request.param, tmp_path_factory.mktemp("guest"), devices=[RESERVED, PMEM, HUGE]
    ) as running:
        yield running


@pytest.fixture(scope="module")
def cxl_guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """Return a guest with a CXL memory expander, and persistent memory open to /dev/mem."""
    with Guest("6.12", tmp_path_factory.mktemp("cxl"), devices=[CXL, PMEM, RELAXED]) as running:
        yield running


def assert_holds(guest: Guest, source: str, tree: Path) -> None:
    """Assert that `source` holds a sound image of `tree`."""
    guest.check([FSCK, source])
    assert guest.check([DAXFS, "diff", source, tree]) == ""
    listing = guest.check([DAXFS, "ls", "-lR", source])
    assert all(path.name in listing for path in tree.rglob("*"))


def read_in_python(guest: Guest, source: str) -> list[str]:
    """Return the names at the top of `source` as the Python interface gives them."""
    code = "import daxfs, sys; print(*sorted(daxfs.open(sys.argv[1]).listdir('/')), sep='\\n')"
    return guest.check([BIN / "python", "-c", code, source]).splitlines()


def assert_refused(result: Result, *words: str) -> None:
    """Assert that a command failed with a message that has `words`, and not by accident."""
    assert result.status not in (0, *range(126, 256)), result
    assert "Traceback" not in result.stderr
    assert "panicked" not in result.stderr
    for word in words:
        assert word in result.stderr


@all_kernels
def test_physical_memory(guest: Guest, tree: Path) -> None:
    guest.check([MKDAXFS, "-d", tree, "-p", f"{RESERVED_ADDRESS:#x}", "-s", "64M"])
    assert_holds(guest, RESERVED_SOURCE, tree)
    assert_holds(guest, f"{RESERVED_SOURCE}+64M", tree)


@all_kernels
def test_physical_memory_takes_the_size_of_the_tree(guest: Guest, tree: Path) -> None:
    guest.check([MKDAXFS, "-d", tree / "many", "-p", f"{RESERVED_ADDRESS:#x}", "--force"])
    assert_holds(guest, RESERVED_SOURCE, tree / "many")


@all_kernels
def test_persistent_memory(guest: Guest, tree: Path) -> None:
    device = guest.wait_for(PMEM.node)
    guest.check([MKDAXFS, "-d", tree, "-o", device])
    assert_holds(guest, device, tree)


@all_kernels
@pytest.mark.parametrize("source", [KERNEL_MEMORY, OWNED_MEMORY], ids=["kernel", "driver"])
def test_memory_of_the_kernel_is_refused(guest: Guest, source: str) -> None:
    assert_refused(guest.run([DAXFS, "ls", source]), source.partition("+")[0], "memmap=")
    address = source.removeprefix("phys:").partition("+")[0]
    command: Command = [MKDAXFS, "-d", INSIDE, "-p", address, "-s", "64M"]
    assert_refused(guest.run(command), "memmap=")


@all_kernels
def test_a_range_larger_than_what_is_reserved_is_refused(guest: Guest) -> None:
    assert_refused(guest.run([DAXFS, "ls", f"{RESERVED_SOURCE}+1G"]), "memmap=")


@all_kernels
def test_huge_pages(guest: Guest, tree: Path) -> None:
    image = "/run/huge/image"
    guest.check([MKDAXFS, "-d", tree, "-o", image])
    assert_holds(guest, image, tree)
    assert_refused(guest.run([MKDAXFS, "-d", tree, "-o", image]), "--force")

    # What cannot be read in place is spooled, which is written and so is elsewhere.
    making = f"{MKDAXFS} --force -w -D 4M -s 15M --tar - -o {image}"
    guest.check(f"tar -C {tree} --format=posix -c . | gzip | {making}")
    assert_holds(guest, image, tree)
    guest.check([BRANCH, "create", "-i", image, "try"])
    guest.check(f"echo new | {BRANCH} put -i {image} -b try - /new")
    guest.check([BRANCH, "commit", "-i", image, "try"])
    guest.check([DAXFS, "compact", image])
    guest.check([FSCK, image])
    assert guest.check([DAXFS, "cat", image, "/new"]) == "new\n"
    guest.check(f"rm {image}")


@all_kernels
def test_too_few_huge_pages_are_told(guest: Guest, tree: Path) -> None:
    result = guest.run([MKDAXFS, "-w", "-s", "1G", "-d", tree, "-o", "/run/huge/large"])
    assert_refused(result, "/run/huge/large", "nr_hugepages")
    assert guest.check("ls -A /run/huge; grep HugePages_Free /proc/meminfo").split()[1:] == ["40"]


@with_heap
def test_dma_buffer(guest: Guest, tree: Path) -> None:
    """The command that mkdaxfs runs has the buffer, and so have its children."""
    script = (
        f'{FSCK} "dmabuf:$DAXFS_FD" && {DAXFS} diff "dmabuf:$DAXFS_FD" "$1"'
        f' && {DAXFS} ls -lR "dmabuf:$DAXFS_FD"'
    )
    listing = guest.check(
        [MKDAXFS, "-d", tree, "-H", "system", "--", "sh", "-c", script, "sh", tree]
    )
    assert all(path.name in listing for path in tree.rglob("*"))


@with_heap
def test_the_status_of_the_command_with_the_buffer_is_told(guest: Guest, tree: Path) -> None:
    result = guest.run([MKDAXFS, "-d", tree, "-H", "system", "--", "sh", "-c", "exit 7"])
    assert result.status == 7


@with_heap
def test_a_dma_buffer_larger_than_memory_is_refused(guest: Guest, tree: Path) -> None:
    """The kernel would rather kill the process than refuse."""
    command: Command = [MKDAXFS, "-d", tree, "-H", "system", "-s", "1T", "--", "true"]
    assert_refused(guest.run(command), "memory")


@without_heap
def test_a_kernel_without_heaps_is_told(guest: Guest, tree: Path) -> None:
    command: Command = [MKDAXFS, "-d", tree, "-H", "system", "--", "true"]
    assert_refused(guest.run(command), "/dev/dma_heap/system", "CONFIG_DMABUF_HEAPS")


@all_kernels
def test_python_opens_physical_memory(guest: Guest, tree: Path) -> None:
    address = f"{RESERVED_ADDRESS:#x}"
    guest.check([MKDAXFS, "-d", tree, "-p", address, "-s", "64M", "--force"])
    names = read_in_python(guest, RESERVED_SOURCE)
    assert names == sorted(path.name for path in tree.iterdir())


def test_dax_device(cxl_guest: Guest, tree: Path) -> None:
    device = cxl_guest.wait_for(CXL.node)
    cxl_guest.check([MKDAXFS, "-d", tree, "-o", device])
    assert_holds(cxl_guest, device, tree)
    names = read_in_python(cxl_guest, device)
    assert names == sorted(path.name for path in tree.iterdir())


def test_persistent_memory_is_the_memory_itself(cxl_guest: Guest, tree: Path) -> None:
    """The block device has a cache of its own; nothing of an image may stay there alone."""
    cxl_guest.check([MKDAXFS, "-d", tree, "-o", cxl_guest.wait_for(PMEM.node)])
    assert_holds(cxl_guest, f"phys:{PMEM_ADDRESS:#x}", tree)


def test_a_dax_device_that_the_kernel_uses_is_refused(tmp_path: Path) -> None:
    """A device without a driver and one in system-ram mode are told apart."""
    with Guest("6.12", tmp_path, devices=[CXL]) as guest:
        device = guest.wait_for(CXL.node)
        name = Path(device).name
        guest.check(f"echo {name} >/sys/bus/dax/drivers/device_dax/unbind")
        result = guest.run([DAXFS, "ls", device])
        assert_refused(result, device, "devdax")
        assert "system-ram" not in result.stderr
        guest.check(["sh", INSIDE / "system-ram", name])
        assert_refused(guest.run([DAXFS, "ls", device]), device, "devdax", "system-ram")
        assert_refused(guest.run([MKDAXFS, "-d", INSIDE, "-o", device]), "system-ram")
