# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects kernels from images and peers: whatever lies in the memory, and whoever changes it
meanwhile, the kernel goes on, complains of nothing, and gives everything back.

Any complaint of the kernel (see `guest.KERNEL_FAULT`) fails the test during which it came.
"""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices import MIB, RELAXED, RESERVED, RESERVED_ADDRESS, nvdimm
from guest import Guest
from module import build_module, guest_with_module
from support.programs import build_program
from support.small import VECTORS
from vmconfig import BIN, module_kernels

KERNELS = module_kernels()
# Mounts in each of eight storms: thousands on the two kernels.
ROUNDS = 300
PEER_ADDRESS = 4 << 30
PEER_SIZE = 64 * MIB

everywhere = pytest.mark.parametrize("guest", KERNELS, indirect=True)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the programs that run in guests."""
    directory = tmp_path_factory.mktemp("programs")
    for name in ("storm", "tree"):
        build_program(name, directory)
    return directory


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small image with one of each kind of thing."""
    top = tmp_path_factory.mktemp("hostile")
    tree = top / "tree"
    (tree / "some/where/deep").mkdir(parents=True)
    for number in range(60):
        name = f"{'name' * (number % 9)}{number}"
        (tree / "some" / name).write_bytes(os.urandom(number * 97 % 9000))
    (tree / "large").write_bytes(os.urandom(70000))
    (tree / "large2").write_bytes(os.urandom(2 * MIB + 5))
    (tree / "link").symlink_to("some/where")
    (tree / "again").hardlink_to(tree / "large")
    os.mkfifo(tree / "fifo")
    for attribute in ("user.one", "user.two", "trusted.three"):
        os.setxattr(tree / "large", attribute, attribute.encode())
    subprocess.run([BIN / "mkdaxfs", "-q", "-d", tree, "-o", top / "image"], check=True)
    return top / "image"


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory, image: Path) -> Path:
    """Return the file behind memory that the host shares with a guest; it holds the image."""
    file = tmp_path_factory.mktemp("peer") / "memory"
    file.write_bytes(image.read_bytes())
    os.truncate(file, PEER_SIZE)
    return file


@pytest.fixture(scope="module")
def guest(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, peer: Path
) -> Iterator[Guest]:
    """Return a guest with the module loaded."""
    devices = [RESERVED, RELAXED, nvdimm(peer, PEER_SIZE)]
    with guest_with_module(request.param, tmp_path_factory.mktemp("guest"), devices) as running:
        running.check("mkdir -p /run/mnt /run/other")
        yield running
        running.check("rmmod daxfs")
        look_for_leaks(running)


def look_for_leaks(guest: Guest) -> None:
    """Have a kernel that can look for memory that nobody refers to do so."""
    guest.run("mount -t debugfs debugfs /sys/kernel/debug")
    script = "cd /sys/kernel/debug; [ -e kmemleak ] || exit 0; echo scan >kmemleak; sleep 6;"
    found = guest.check(script + " echo scan >kmemleak; cat kmemleak", timeout=600)
    assert "daxfs" not in found


@pytest.mark.parametrize("name", ["ours", "static", "branching"])
@pytest.mark.parametrize("proof", ["", "validate"], ids=["trusted", "proved"])
@everywhere
def test_tampered_images(guest: Guest, programs: Path, image: Path, proof: str, name: str) -> None:
    """Each is mounted, walked, read and mapped; with a proof fewer get that far."""
    chosen = image if name == "ours" else VECTORS / f"{name}.daxfs"
    rounds = ROUNDS if name == "ours" else ROUNDS // 2
    command: list[str | Path] = [
        programs / "storm",
        chosen,
        f"{RESERVED_ADDRESS:#x}",
        "/run/mnt",
        str(rounds),
        "7",
    ]
    found = guest.check([*command, proof], timeout=900)
    mounted = int(found.split()[0])
    assert 0 < mounted < rounds


@pytest.mark.parametrize("proof", ["", "validate"], ids=["trusted", "proved"])
@everywhere
def test_images_that_change_under_use(
    guest: Guest, programs: Path, image: Path, proof: str
) -> None:
    command: list[str | Path] = [
        programs / "storm",
        image,
        f"{RESERVED_ADDRESS:#x}",
        "/run/mnt",
        str(ROUNDS),
        "11",
    ]
    guest.check([*command, "scribble", proof], timeout=900)


@everywhere
def test_a_peer_that_scribbles(guest: Guest, peer: Path, programs: Path, image: Path) -> None:
    """Memory shared with the host, which writes to metadata and contents all the while."""
    stop = threading.Event()
    pristine = image.read_bytes()
    random_ = random.Random(5)

    def scribble() -> None:
        with peer.open("r+b") as file, mmap.mmap(file.fileno(), len(pristine)) as memory:
            wrong: deque[int] = deque()
            while not stop.is_set():
                wrong.append(random_.randrange(4096, min(len(pristine), 200_000)))
                memory[wrong[-1]] = random_.randrange(256)
                # Few at a time, or nothing would get past the mount.
                if len(wrong) > 4:
                    at = wrong.popleft()
                    memory[at] = pristine[at]
            memory[:] = pristine

    where = f"phys={PEER_ADDRESS:#x},size={PEER_SIZE}"
    # A kernel with its own driver for such memory would have it already.
    script = f"""
    for name in /sys/bus/nd/drivers/nd_pmem/namespace*; do
        [ ! -e $name ] || echo ${{name##*/}} >/sys/bus/nd/drivers/nd_pmem/unbind
    done
    mounted=0
    for i in $(seq 12); do
        mount -t daxfs -o {where} none /run/mnt 2>/dev/null || continue
        mounted=$((mounted + 1))
        {{ ls -lR /run/mnt; find /run/mnt -type f -exec cat {{}} +; {programs}/tree /run/mnt; }} \
            >/dev/null 2>&1
        umount /run/mnt
    done
    echo $mounted
    """
    writer = threading.Thread(target=scribble)
    writer.start()
    try:
        assert int(guest.check(script, timeout=900)) > 0
    finally:
        stop.set()
        writer.join()
    guest.check(f"mount -t daxfs -o {where},validate none /run/mnt && umount /run/mnt")


@everywhere
def test_loading_and_mounting_over_and_over_leaks_nothing(guest: Guest, image: Path) -> None:
    module = build_module(guest.kernel.series)
    script = f"""
    dd if={image} of=/dev/mem bs=4096 seek={RESERVED_ADDRESS // 4096} conv=notrunc 2>/dev/null
    use() {{
        for i in $(seq $1); do
            mount -t daxfs -o phys={RESERVED_ADDRESS:#x},validate none /run/mnt || exit 1
            mount -t daxfs -o phys={RESERVED_ADDRESS:#x} none /run/other || exit 1
            ls -lR /run/mnt >/dev/null; cat /run/mnt/large >/dev/null
            umount /run/mnt /run/other || exit 1
        done
    }}
    round() {{ for j in $(seq $1); do use 3; rmmod daxfs && insmod {module} || exit 1; done; }}
    left() {{
        sync; echo 3 >/proc/sys/vm/drop_caches; sleep 0.3; echo 3 >/proc/sys/vm/drop_caches
        sed -n 's/\\(MemFree\\|Slab\\|VmallocUsed\\|Percpu\\): *\\([0-9]*\\).*/\\2/p' \\
            /proc/meminfo | xargs
    }}
    round 2; left; round 12; left; grep -c daxfs /proc/iomem
    """
    found = guest.run(script, timeout=900)
    before, after, regions = found.stdout.splitlines()
    assert regions == "0"
    free, *used = (int(b) - int(a) for a, b in zip(before.split(), after.split(), strict=True))
    # Each round maps the image and makes inodes: lost once each, it would be more than this.
    assert all(kind < 512 for kind in used), "KiB more in slabs, vmalloc or per-CPU memory"
    # Free pages wait in lists of the processors, too, so this is a coarse look.
    assert free > -32 * 1024, "KiB less than before"
