# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects mounts from trouble around them: options that fail half way, devices that are busy,
memory that fails, and many who ask at once.

Any complaint of the kernel (see `guest.KERNEL_FAULT`) fails the test during which it came.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices import (
    INSIDE,
    MIB,
    PMEM,
    PMEM_ADDRESS,
    RELAXED,
    RESERVED,
    RESERVED_ADDRESS,
    loaded,
)
from guest import Guest
from module import guest_with_module
from support.programs import build_program
from support.small import VECTORS
from vmconfig import BIN, DEBUG, module_kernels

KERNELS = module_kernels()
# Where the partition begins that the tests make, behind the image on the whole device.
PARTITION = 64 * MIB
WHERE = "/run/mnt"
# What other tools' images do not promise: sorted directories, and checksums of either kind.
PROMISES = 1 << 0 | 1 << 3 | 1 << 4

everywhere = pytest.mark.parametrize("guest", KERNELS, indirect=True)
# The older kernel has no DMA buffers, and does not tell who file systems are.
on_newer = pytest.mark.parametrize(
    "guest", [series for series in KERNELS if series != "6.1"], indirect=True
)

# The debug kernel has no device mapper.
with_mapper = pytest.mark.parametrize(
    "guest", [series for series in KERNELS if series != DEBUG], indirect=True
)


# Nor can it be asked who calls what.
with_probes = with_mapper


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the program that looks at files in guests."""
    return build_program("probe", tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an image with some files of several pages."""
    top = tmp_path_factory.mktemp("trouble")
    tree = top / "tree"
    tree.mkdir()
    for name, size in (("large", 6 * MIB + 77), ("own", 40000), ("other", 40000)):
        (tree / name).write_bytes(os.urandom(size))
    os.setxattr(tree / "own", "user.note", b"a note")
    subprocess.run([BIN / "mkdaxfs", "-q", "-d", tree, "-o", top / "image"], check=True)
    return top / "image"


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an image as another tool makes it, with a large directory that is not sorted."""
    top = tmp_path_factory.mktemp("crowded")
    (top / "tree/many").mkdir(parents=True)
    (top / "tree/file").write_bytes(b"something")
    for number in range(20000):
        (top / f"tree/many/{number * 7919 % 100003:06}").touch()
    image = top / "image"
    subprocess.run([BIN / "mkdaxfs", "-q", "-d", top / "tree", "-o", image], check=True)
    content = bytearray(image.read_bytes())
    (flags,) = struct.unpack_from("<I", content, 8)
    struct.pack_into("<I", content, 8, flags & ~PROMISES)
    struct.pack_into("<I", content, 1020, 0)
    image.write_bytes(content)
    return image


@pytest.fixture(scope="module")
def guest(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, image: Path
) -> Iterator[Guest]:
    """Return a guest with the module loaded, the image in pmem, and a partition behind it."""
    devices = [RESERVED, loaded(image, PMEM_ADDRESS), PMEM, RELAXED]
    with guest_with_module(request.param, tmp_path_factory.mktemp("guest"), devices) as running:
        running.check(f"mkdir -p {WHERE}; addpart /dev/pmem0 1 {PARTITION // 512} 131072")
        running.wait_for("/dev/pmem0p1")
        yield running
        running.check("rmmod daxfs")


@pytest.fixture
def mounted(guest: Guest) -> Iterator[Guest]:
    """Return the guest with the image in pmem mounted."""
    guest.check(f"mount -t daxfs /dev/pmem0 {WHERE}")
    yield guest
    guest.check(f"umount {WHERE}")


@pytest.mark.parametrize("option", ["dmabuf=0", "phys=many"])
@everywhere
def test_a_context_whose_option_failed_has_no_memory(guest: Guest, option: str) -> None:
    """Whoever goes on regardless is told so."""
    key, _, value = option.partition("=")
    code = (
        "import ctypes, os\n"
        "call = ctypes.CDLL(None, use_errno=True).syscall\n"
        "context = call(430, b'daxfs', 1)\n"
        f"print(call(431, context, 1, b'{key}', b'{value}', 0), os.read(context, 999))\n"
        "print(call(431, context, 6, None, None, 0), os.read(context, 999))\n"
    )
    parsed, created = guest.check([BIN / "python", "-c", code]).splitlines()
    assert parsed.startswith("-1")
    assert created.startswith("-1")
    assert "no memory given" in created


@everywhere
def test_what_was_written_through_the_node_is_mounted(guest: Guest) -> None:
    """It lies in the node's page cache as long as somebody has that open."""
    copy = "dd of=/dev/pmem0 bs=1M conv=notrunc status=none"
    guest.check(
        f"mkdir -p /run/tree && echo new >/run/tree/new && "
        f"{BIN}/mkdaxfs -q -d /run/tree -o /run/new && "
        f"dd if=/dev/pmem0 of=/run/old bs=1M count=8 status=none"
    )
    found = guest.run(
        f"exec 3<>/dev/pmem0; {copy} if=/run/new && mount -t daxfs /dev/pmem0 {WHERE} && "
        f"cat {WHERE}/new; umount {WHERE}; {copy} if=/run/old; rm /run/new /run/old"
    )
    assert found.stdout == "new\n", found.stderr


@pytest.mark.parametrize("device", ["/dev/pmem0", "/dev/pmem0p1"])
@everywhere
def test_a_busy_device_leaves_other_mounts_alone(guest: Guest, device: str) -> None:
    """Numbers of mounts without a device are not given out twice."""
    code = (
        "import os, subprocess, sys\n"
        f"os.open('{device}', os.O_RDONLY | os.O_EXCL)\n"
        f"sys.exit(subprocess.run(['mount', '-t', 'daxfs', '{device}', '{WHERE}']).returncode)"
    )
    number = f"mount -t tmpfs new {WHERE} && mountpoint -d {WHERE} && umount {WHERE}"
    before = guest.check(number)
    assert guest.run([BIN / "python", "-c", code]).status
    assert guest.check(number) == before


@everywhere
def test_failing_memory_leaves_private_copies(mounted: Guest, program: Path) -> None:
    mounted.check([program, "kept", f"{WHERE}/own", f"{WHERE}/other"])


@everywhere
def test_broken_pages_are_known_to_further_mounts(mounted: Guest, program: Path) -> None:
    mounted.check([program, "poisoned", f"{WHERE}/large"])
    mounted.check(f"umount {WHERE} && mount -t daxfs /dev/pmem0 {WHERE}")
    mounted.check([program, "broken", f"{WHERE}/large"])


@everywhere
def test_the_page_that_fails_is_told_in_a_partition(
    guest: Guest, program: Path, image: Path
) -> None:
    guest.check(f"dd if={image} of=/dev/pmem0p1 bs=1M conv=notrunc,fsync")
    guest.check(f"mount -t daxfs /dev/pmem0p1 {WHERE}")
    try:
        guest.check([program, "poisoned", f"{WHERE}/large"])
    finally:
        guest.check(f"umount {WHERE}")


@everywhere
def test_partitions_of_a_device_are_mounted_side_by_side(
    guest: Guest, program: Path, image: Path
) -> None:
    """Each is told of its own memory that fails, also when the one mounted first is gone."""
    first, second = "/dev/pmem0p2", "/dev/pmem0p3"
    for number, device in ((2, first), (3, second)):
        guest.check(f"addpart /dev/pmem0 {number} {number * PARTITION // 512} 131072")
        guest.wait_for(device)
        guest.check(f"dd if={image} of={device} bs=1M conv=notrunc,fsync")
    guest.check(f"mkdir -p /run/second; mount -t daxfs {first} {WHERE}")
    try:
        guest.check(f"mount -t daxfs {second} /run/second")
        guest.check([program, "poisoned", "/run/second/large"])
        guest.check([program, "poisoned", f"{WHERE}/large"])
        guest.check(f"umount {WHERE}")
        guest.check([program, "kept", "/run/second/own", "/run/second/other"])
    finally:
        guest.run(f"umount {WHERE} /run/second; delpart /dev/pmem0 2; delpart /dev/pmem0 3")


@everywhere
def test_a_crowd_looks_into_an_unsorted_directory(
    guest: Guest, program: Path, crowded: Path
) -> None:
    where = f"of=/dev/mem bs=1M seek={RESERVED_ADDRESS // MIB} conv=notrunc"
    guest.check(f"dd if={crowded} {where}")
    for _ in range(3):
        guest.check(f"mount -t daxfs -o phys={RESERVED_ADDRESS:#x} none {WHERE}")
        try:
            guest.check([program, "crowd", f"{WHERE}/file", f"{WHERE}/many"])
        finally:
            guest.check(f"umount {WHERE}")


@on_newer
def test_a_mount_of_a_buffer_is_remounted(guest: Guest, image: Path) -> None:
    """mount(8) gives back what the table of mounts shows; a first mount needs a descriptor."""
    guest.check([BIN / "python", INSIDE / "dmabuf-mount", "system", image, WHERE])
    try:
        guest.check(f"mount -o remount,ro,nosuid {WHERE}")
        assert "nosuid" in guest.check(f"grep {WHERE} /proc/mounts")
        assert guest.run(f"mount -o remount,rw {WHERE}").status
    finally:
        guest.check(f"umount {WHERE}")
    assert guest.run(f"mount -t daxfs -o dmabuf none {WHERE}").status


@everywhere
def test_a_remount_stays_with_its_memory(guest: Guest, image: Path) -> None:
    """Options from /etc/fstab come beside those of the table of mounts, and say the same."""
    size = -(-image.stat().st_size // 4096) * 4096
    where = f"of=/dev/mem bs=1M seek={RESERVED_ADDRESS // MIB} conv=notrunc"
    guest.check(f"dd if={image} {where}")
    place = f"phys={RESERVED_ADDRESS:#x}"
    guest.check(f"mount -t daxfs -o {place} none {WHERE}")
    try:
        for same in (place, f"size={size}", f"{place},size={size:#x}"):
            guest.check(f"mount -o remount,ro,{same} {WHERE}")
            guest.check(f"mount -o remount,ro,{same} none {WHERE}")
        for other in (f"phys={RESERVED_ADDRESS + MIB:#x}", "size=1M", "dax=/dev/dax0.0"):
            assert guest.run(f"mount -o remount,ro,{other} none {WHERE}").status == 32, other
    finally:
        guest.check(f"umount {WHERE}")


@everywhere
def test_a_reconfiguration_without_a_word_about_writing_is_taken(mounted: Guest) -> None:
    code = (
        "import ctypes, os\n"
        "call = ctypes.CDLL(None, use_errno=True).syscall\n"
        f"context = call(433, -100, b'{WHERE}', 0)\n"
        "print(call(431, context, 0, b'validate', None, 0))\n"
        "print(call(431, context, 7, None, None, 0))\n"
    )
    assert mounted.check([BIN / "python", "-c", code]).split() == ["0", "0"]
    options = mounted.check(f"grep {WHERE} /proc/mounts").split()[3].split(",")
    assert {"ro", "validate"} <= set(options)
    assert mounted.run(f"mount -o remount,rw {WHERE}").status


@with_probes
def test_a_listing_of_attributes_is_no_attempt_at_anything(mounted: Guest) -> None:
    """Whether trusted ones are shown is asked without a trace in the log of security modules."""
    asked = mounted.check(
        "cd /sys/kernel/tracing && { [ -e trace ] || mount -t tracefs none .; }; "
        "cd /sys/kernel/tracing && echo >trace && "
        "echo 'p:asked cap_capable capability=%dx:s32 options=%cx:u32' >kprobe_events && "
        "echo 1 >options/stacktrace && echo 1 >events/kprobes/asked/enable && "
        f"setpriv --reuid=1234 --regid=1234 --clear-groups {BIN}/python -c "
        f"'import os; os.listxattr(\"{WHERE}/own\")'; "
        "echo 0 >events/kprobes/asked/enable; echo 0 >options/stacktrace; cat trace; "
        "echo >kprobe_events"
    )
    _, *events = re.split("^.*asked: ", asked, flags=re.MULTILINE)
    ours = [event for event in events if "daxfs_listxattr" in event]
    assert ours
    # CAP_OPT_NOAUDIT
    assert all("capability=21 options=2\n" in event for event in ours)


@everywhere
def test_only_devices_are_opened(guest: Guest) -> None:
    guest.check("mkfifo /run/fifo")
    # It would be waited for, until 124.
    assert guest.run(f"timeout 20 mount -t daxfs /run/fifo {WHERE}").status == 32
    assert guest.run(f"timeout 20 mount -t daxfs -o dax=/run/fifo none {WHERE}").status == 32


@everywhere
def test_physical_memory_is_for_those_who_may_reach_it(guest: Guest, image: Path) -> None:
    """As through /dev/mem: a container that may mount need not be one of them."""
    where = f"of=/dev/mem bs=1M seek={RESERVED_ADDRESS // MIB} conv=notrunc"
    guest.check(f"dd if={image} {where}")
    mounting = f"mount -t daxfs -o phys={RESERVED_ADDRESS:#x} none {WHERE}"
    assert guest.run(f"setpriv --bounding-set=-sys_rawio {mounting}").status
    guest.check(f"setpriv --bounding-set=-sys_time {mounting} && umount {WHERE}")


@pytest.mark.parametrize("series", [series for series in KERNELS if series != DEBUG])
def test_a_kernel_that_is_locked_down_lets_nobody_at_physical_memory(
    series: str, tmp_path: Path, image: Path
) -> None:
    """As with /dev/mem. Memory that has a driver is another matter."""
    devices = [RESERVED, loaded(image, RESERVED_ADDRESS), loaded(image, PMEM_ADDRESS), PMEM]
    mounting = f"mount -t daxfs -o phys={RESERVED_ADDRESS:#x} none {WHERE}"
    lockdown = "/sys/kernel/security/lockdown"
    with guest_with_module(series, tmp_path, devices) as guest:
        guest.check(f"mkdir -p {WHERE}; {mounting} && umount {WHERE}")
        guest.check(f"[ -e {lockdown} ] || mount -t securityfs none /sys/kernel/security")
        guest.check(f"echo integrity >{lockdown}")
        refused = guest.run(f"{mounting}; dmesg | tail -n 1")
        assert guest.run(f"mountpoint -q {WHERE}").status
        assert "the kernel is locked down" in refused.stdout
        guest.check(f"mount -t daxfs /dev/pmem0 {WHERE} && cat {WHERE}/own")
        told = guest.run([BIN / "daxfs", "mount", f"phys:{RESERVED_ADDRESS:#x}", "/run"])
        assert told.status == 1
        assert "lockdown" in told.stderr


@everywhere
def test_a_further_mount_shows_nothing_that_has_changed(guest: Guest) -> None:
    """Mounts of the same memory are one file system, but main may be another since the first."""
    source, second = f"phys:{RESERVED_ADDRESS:#x}+8M", "/run/second"
    place = f"phys={RESERVED_ADDRESS:#x},size=8M"
    mounting = f"mount -t daxfs -o {place} none"
    options = ["-q", "-w", "--delta-size", "1M", "--force"]
    guest.check([BIN / "mkdaxfs", *options, "-d", INSIDE, "-o", source])
    guest.check(f"mkdir -p {second} && {mounting} {WHERE}")
    try:
        guest.check(f"{mounting} {second} && umount {second}")
        guest.check([BIN / "daxfs-branch", "create", "next", "-i", source])
        guest.check(f"{mounting} {second} && umount {second}")
        guest.check([BIN / "daxfs-branch", "commit", "next", "-i", source])
        refused = guest.run(f"{mounting} {second}; dmesg | tail -n 1")
        assert guest.run(f"mountpoint -q {second}").status
        assert "a branch has been committed" in refused.stdout
        guest.check(f"cmp {WHERE}/agent {INSIDE}/agent")
    finally:
        guest.check(f"umount {WHERE}")


@on_newer
def test_file_systems_have_the_identity_of_their_images(guest: Guest, image: Path) -> None:
    """Images of others have none."""
    code = (
        "import fcntl, os\n"
        f"there = os.open('{WHERE}', os.O_RDONLY)\n"
        "try: print(fcntl.ioctl(there, 0x80111500, bytes(17)).hex())\n"
        "except OSError as error: print(error.errno)\n"
    )
    uuid = image.read_bytes()[96:112]
    for file, expected in ((image, f"10{uuid.hex()}"), (VECTORS / "static.daxfs", "25")):
        where = f"of=/dev/mem bs=1M seek={RESERVED_ADDRESS // MIB} conv=notrunc"
        guest.check(f"dd if={file} {where}")
        guest.check(f"mount -t daxfs -o phys={RESERVED_ADDRESS:#x} none {WHERE}")
        try:
            assert guest.check([BIN / "python", "-c", code]).strip() == expected
        finally:
            guest.check(f"umount {WHERE}")


@everywhere
def test_a_device_is_mounted_for_what_is_not_broken(guest: Guest) -> None:
    """The block is in no file."""
    block = (PARTITION - 2 * MIB) // 512
    guest.check(f"echo {block} 8 >/sys/block/pmem0/badblocks")
    guest.check(f"mount -t daxfs /dev/pmem0 {WHERE}")
    guest.check(f"ls -lR {WHERE} && umount {WHERE}")


@with_mapper
def test_a_device_made_of_others_is_refused(guest: Guest) -> None:
    """Nobody would tell that the driver of the memory leaves it."""
    quietly = "--noudevrules --noudevsync"
    guest.check(
        "modprobe dm-mod && size=$(blockdev --getsz /dev/pmem0) && "
        f'dmsetup {quietly} create linear --table "0 $size linear /dev/pmem0 0" && '
        f"dmsetup {quietly} mknodes"
    )
    try:
        refused = guest.run(f"mount -t daxfs /dev/mapper/linear {WHERE}; dmesg | tail -n 1")
        assert guest.run(f"mountpoint -q {WHERE}").status
        assert "is that of another device" in refused.stdout
    finally:
        guest.check(f"umount {WHERE} 2>/dev/null; dmsetup {quietly} remove linear")


@everywhere
def test_memory_fails_while_it_is_mounted_and_let_go(guest: Guest) -> None:
    """The page is in no file, so nothing is lost by it; in the partition is no image."""
    page = PMEM_ADDRESS + PARTITION - MIB
    failing = f"echo {page:#x} >/sys/devices/system/memory/hard_offline_page"
    mounting = (
        f"mount -t daxfs /dev/pmem0 {WHERE} && ls -lR {WHERE} >/dev/null && "
        f"cmp -n 4096 {WHERE}/own {WHERE}/own && umount {WHERE} && "
        f"! mount -t daxfs /dev/pmem0p1 {WHERE} 2>/dev/null"
    )
    guest.check("dd if=/dev/zero of=/dev/pmem0p1 bs=4096 count=1")
    guest.check(
        f"while [ ! -e /run/enough ]; do {failing}; done 2>/dev/null & "
        f"for i in $(seq 40); do {mounting} || exit 1; done; "
        "touch /run/enough; wait; rm /run/enough",
        timeout=300,
    )
