# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects the kernel module in booted kernels: every kind of memory it mounts shows the tree that
the image was built from, and files behave as files do, read and mapped.

Two guests serve: one of each kernel with physical and persistent memory, and one with CXL memory
and DMA buffers.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from devices import (
    CXL_SIZE,
    INSIDE,
    MIB,
    PMEM,
    PMEM_ADDRESS,
    RELAXED,
    RESERVED,
    RESERVED_ADDRESS,
    cxl,
    loaded,
)
from guest import Guest
from module import load_module
from support.debian_root import debian_root
from support.programs import build_program
from support.small import VECTORS
from vmconfig import BIN, DEBUG, NEWEST, module_kernels

# Beyond the image that RESERVED is loaded with.
SPARE = RESERVED_ADDRESS + 224 * MIB
LARGE = "srv/large"

KERNELS = module_kernels()
on_phys = [(series, "phys") for series in KERNELS]
on_pmem = [(series, "pmem") for series in KERNELS]
# The debug kernel has no CXL; the oldest kernel has neither that nor DMA buffers.
WITH_CXL = [series for series in ("6.12", NEWEST) if series in KERNELS]
on_cxl = [(series, "cxl") for series in WITH_CXL]
on_heaps = [
    (series, heap)
    for series in [*WITH_CXL, *({DEBUG} & set(KERNELS))]
    for heap in ("system", "udmabuf")
]
everywhere = pytest.mark.parametrize(
    "mounted",
    [*on_phys, *on_pmem, *on_cxl, *on_heaps],
    indirect=True,
    ids="-".join,
    scope="module",
)
in_memory = pytest.mark.parametrize("mounted", on_phys, indirect=True, ids="-".join, scope="module")
with_pages = pytest.mark.parametrize(
    "mounted",
    [*on_pmem, *on_cxl],
    indirect=True,
    ids="-".join,
    scope="module",
)
without_pages = pytest.mark.parametrize(
    "mounted", [*on_phys, *on_heaps], indirect=True, ids="-".join, scope="module"
)


@dataclass(frozen=True)
class Mounted:
    """A mounted image of the whole tree, in a running guest."""

    guest: Guest
    series: str
    where: str

    def probe(self, check: str, *arguments: object) -> str:
        """Run one check of the program of that name on a large file."""
        program = self.guest.workdir.parent / "programs/probe"
        file = f"{self.where}/{LARGE}"
        return self.guest.check([program, check, file, *map(str, arguments)])


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the programs that look at file systems in guests."""
    directory = tmp_path_factory.getbasetemp() / "programs"
    directory.mkdir(exist_ok=True)
    for name in ("idmap", "probe", "storm", "tree"):
        build_program(name, directory)
    return directory


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Debian root file system with one of each kind of thing besides."""
    top = tmp_path_factory.mktemp("source") / "root"
    subprocess.run(["cp", "-a", debian_root(), top], check=True)
    # Its ends are not zero, so that a reader sees them arrive.
    (top / LARGE).write_bytes(b"[" + os.urandom(16 * MIB + 3) + b"]")
    (top / "srv/name").hardlink_to(top / LARGE)
    os.mkfifo(top / "srv/fifo")
    os.mknod(top / "srv/disk", 0o60640, os.makedev(259, 70000))
    for attribute in ("user.note", "trusted.note", "security.note"):
        os.setxattr(top / LARGE, attribute, attribute.encode() * 40)
    # Access for user 1234: version 2, then tag, permissions and number of each entry.
    (top / "srv/shared").write_text("for one more\n")
    (top / "srv/shared").chmod(0o640)
    entries = [(1, 6, -1), (2, 4, 1234), (4, 4, -1), (16, 4, -1), (32, 0, -1)]
    acl = (2).to_bytes(4, "little") + b"".join(
        tag.to_bytes(2, "little")
        + allowed.to_bytes(2, "little")
        + who.to_bytes(4, "little", signed=True)
        for tag, allowed, who in entries
    )
    os.setxattr(top / "srv/shared", "system.posix_acl_access", acl)
    (top / "srv/many").mkdir()
    for number in range(3000):
        (top / f"srv/many/{number:04}").touch()
    return top


@pytest.fixture(scope="module")
def tree_of_source(source: Path, programs: Path) -> str:
    """Return what the source shows on the host."""
    done = subprocess.run([programs / "tree", source], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def image(source: Path) -> Path:
    """Return an image of the source."""
    image = source.parent / "image"
    subprocess.run([BIN / "mkdaxfs", "-q", "-d", source, "-o", image], check=True)
    assert image.stat().st_size <= 224 * MIB
    return image


class Machines:
    """The guests of this module, booted when first asked for."""

    def __init__(self, image: Path, factory: pytest.TempPathFactory) -> None:
        self._image = image
        self._factory = factory
        self._running: dict[tuple[str, bool], Guest] = {}

    def get(self, series: str, cxl_memory: bool) -> Guest:
        """Return the guest that has the memory, with the module loaded."""
        key = (series, cxl_memory)
        if key not in self._running:
            # Two guests at a time would crowd the machine.
            self.end()
            self._running[key] = self._boot(series, cxl_memory)
            load_module(self._running[key], series)
        return self._running[key]

    def _boot(self, series: str, cxl_memory: bool) -> Guest:
        workdir = self._factory.mktemp("guest")
        if cxl_memory:
            memory = workdir / "memory"
            shutil.copyfile(self._image, memory)
            os.truncate(memory, CXL_SIZE)
            devices = [cxl(memory)]
        else:
            devices = [
                *(RESERVED, loaded(self._image, RESERVED_ADDRESS)),
                *(loaded(self._image, PMEM_ADDRESS), PMEM, RELAXED),
            ]
        modules = ["brd", "fuse"]
        return Guest(series, workdir, memory="3G", devices=devices, modules=modules)

    def end(self) -> None:
        """End every guest."""
        for guest in self._running.values():
            guest.kill()
        self._running.clear()


@pytest.fixture(scope="module")
def machines(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Return the guests."""
    running = Machines(image, tmp_path_factory)
    yield running
    running.end()


@pytest.fixture(scope="module")
def mounted(
    request: pytest.FixtureRequest, machines: Machines, image: Path, programs: Path
) -> Mounted:
    """Return a mount of the image in the memory asked for."""
    series, backing = request.param
    guest = machines.get(series, cxl_memory=series in WITH_CXL and backing not in ("phys", "pmem"))
    where = f"/run/{backing}"
    if guest.run(["mountpoint", "-q", where]).status == 0:
        return Mounted(guest, series, where)
    guest.check(["mkdir", "-p", where])
    if backing == "phys":
        mount(guest, where, phys=f"{RESERVED_ADDRESS:#x}")
    elif backing == "pmem":
        guest.check(["mount", "-t", "daxfs", guest.wait_for(PMEM.node), where])
    elif backing == "cxl":
        guest.check(["mount", "-t", "daxfs", guest.wait_for("/dev/dax*"), where])
    else:
        for name in ("system", "udmabuf"):
            guest.run(["umount", f"/run/{name}"])
        guest.check([BIN / "python", INSIDE / "dmabuf-mount", backing, image, where])
    return Mounted(guest, series, where)


def mount(guest: Guest, where: str, *flags: str, **options: str) -> None:
    """Mount what the options say."""
    words = [*(f"{name}={value}" for name, value in options.items()), *flags]
    guest.check(["mount", "-t", "daxfs", "-o", ",".join(words), "none", where])


@everywhere
def test_the_tree_is_the_source(mounted: Mounted, programs: Path, tree_of_source: str) -> None:
    found = mounted.guest.check([programs / "tree", mounted.where], timeout=300)
    assert found.splitlines() == tree_of_source.splitlines()


@everywhere
@pytest.mark.parametrize(
    "check",
    [
        *("shared", "private", "torn", "beyond", "seeking", "moving", "advice", "direct"),
        *("at-once", "bad-buffer", "debugged", "leased", "synced", "walked", "killed"),
    ],
)
def test_a_file_behaves(mounted: Mounted, check: str) -> None:
    mounted.probe(check)


@everywhere
def test_one_fault_maps_two_mebibytes(mounted: Mounted) -> None:
    mounted.probe("faults", 16 // 2 + 3)


@with_pages
def test_large_files_are_mapped_with_huge_pages(mounted: Mounted) -> None:
    mounted.probe("huge")


@everywhere
def test_pages_are_copied_while_others_are_mapped(mounted: Mounted) -> None:
    mounted.probe("race", 3000)


@everywhere
def test_mappings_that_are_let_go_can_be_read_from(mounted: Mounted) -> None:
    mounted.probe("dropped", 10000)


@with_pages
def test_direct_output_takes_the_pages_of_a_mapping(mounted: Mounted) -> None:
    """Since 6.15 the kernel takes pages only that DAX file systems count the uses of."""
    mounted.probe("unpinned" if mounted.series == NEWEST else "pinned", "/dev/ram0")


@without_pages
def test_memory_without_pages_refuses_direct_output(mounted: Mounted) -> None:
    mounted.probe("unpinned", "/dev/ram0")


@in_memory
def test_a_handle_finds_the_file_again(mounted: Mounted) -> None:
    mounted.probe("handle", mounted.where)


@everywhere
def test_programs_run_from_it(mounted: Mounted) -> None:
    """The loader maps programs and libraries privately; everything comes from the image."""
    if mounted.where.endswith("cxl"):
        # QEMU emulates each access to such memory, so what runs from there must be short.
        found = mounted.guest.check(["chroot", mounted.where, "/bin/echo", "42"], timeout=600)
        assert found == "42\n"
        return
    script = (
        "set -e; perl -e 'print 6 * 7, qq(\\n)'; dpkg-query -f '${Version}\\n' -W base-files;"
        " find / -xdev -name passwd | sort | head -3; sort /etc/passwd | tail -n 1"
    )
    found = mounted.guest.check(["chroot", mounted.where, "/bin/bash", "-c", script])
    assert found.splitlines()[0] == "42"
    assert len(found.splitlines()) == 6


@in_memory
def test_the_vfs_checks_permissions(mounted: Mounted) -> None:
    def reads(user: int, name: str) -> bool:
        command = ["setpriv", f"--reuid={user}", "--regid=4321", "--clear-groups", "cat"]
        return mounted.guest.run([*command, f"{mounted.where}/{name}"]).status == 0

    assert reads(4321, "etc/passwd")
    assert not reads(4321, "etc/shadow")
    assert reads(1234, "srv/shared"), "the access control list lets this user in"
    assert not reads(4321, "srv/shared")


@in_memory
def test_owners_can_be_moved(mounted: Mounted) -> None:
    """As containers with users of their own mount it."""
    guest, where = mounted.guest, "/run/moved"
    program = guest.workdir.parent / "programs/idmap"
    guest.check(["mkdir", "-p", where])
    guest.check([program, mounted.where, where, "100000"])

    def reads(user: int, name: str) -> bool:
        command = ["setpriv", f"--reuid={user}", "--regid=4321", "--clear-groups", "cat"]
        return guest.run([*command, f"{where}/{name}"]).status == 0

    assert guest.check(["stat", "-c", "%u:%g", f"{where}/etc/shadow"]) == "100000:100042\n"
    assert reads(100000, "etc/shadow")
    assert reads(101234, "srv/shared"), "the access control list lets this user in"
    assert not reads(1234, "srv/shared")
    guest.check(["umount", where])


@in_memory
def test_it_cannot_be_written(mounted: Mounted) -> None:
    guest, where = mounted.guest, mounted.where
    assert "Read-only" in guest.run(["touch", f"{where}/new"]).stderr
    assert "Read-only" in guest.run(["rm", f"{where}/{LARGE}"]).stderr
    assert guest.run(["mount", "-o", "remount,rw", where]).status
    guest.check(["mount", "-o", "remount,ro", where])


@in_memory
def test_the_file_system_has_real_figures(mounted: Mounted, image: Path) -> None:
    found = mounted.guest.check(["stat", "-f", "-c", "%t %s %b %f %c %l", mounted.where]).split()
    blocks = image.stat().st_size // 4096
    assert found[:4] == ["64617833", "4096", str(blocks), "0"]
    assert int(found[4]) > 6000
    assert found[5] == "128"


@in_memory
def test_the_mount_table_shows_the_options(mounted: Mounted, image: Path) -> None:
    table = mounted.guest.check(["grep", f" {mounted.where} ", "/proc/mounts"]).split()
    assert table[2] == "daxfs"
    expected = {"ro", f"phys={RESERVED_ADDRESS:#x}", f"size={image.stat().st_size:#x}"}
    assert expected <= set(table[3].split(","))


@in_memory
def test_nothing_is_cached(mounted: Mounted) -> None:
    """Contents are read and mapped, and the page cache is as it was."""

    def cached() -> int:
        lines = mounted.guest.check(["cat", "/proc/meminfo"]).splitlines()
        return int(next(line for line in lines if line.startswith("Cached:")).split()[1])

    command = f"find {mounted.where}/usr -type f -exec cat {{}} + >/dev/null"
    mounted.guest.check("echo 3 >/proc/sys/vm/drop_caches; cat /proc/meminfo >/dev/null")
    mounted.guest.check("true")
    before = cached()
    mounted.guest.check(command, timeout=300)
    mounted.probe("shared")
    # More than 200 MiB were read; the programs that did it came from elsewhere.
    assert cached() - before < 16 * 1024


@in_memory
def test_a_further_mount_takes_next_to_no_memory(mounted: Mounted) -> None:
    """The most that may be taken is 64 KiB; a tree in tmpfs takes its size."""
    script = f"""
    free() {{ echo 3 >/proc/sys/vm/drop_caches; sed -n 's/MemFree: *\\([0-9]*\\).*/\\1/p' \
        /proc/meminfo; }}
    mkdir -p /run/more; for i in $(seq 100); do mkdir -p /run/more/$i; done
    before=$(free)
    for i in $(seq 100); do
        mount -t daxfs -o phys={RESERVED_ADDRESS:#x} none /run/more/$i || exit 1
    done
    after=$(free)
    for i in $(seq 100); do umount /run/more/$i || exit 1; done
    echo $((before - after))
    """
    kilobytes = int(mounted.guest.check(script)) / 100
    assert kilobytes < 64


@in_memory
def test_containers_share_one_mount(mounted: Mounted) -> None:
    """Ten mount namespaces, each with a writable layer of its own over the one mount."""
    containers, where = 10, mounted.where
    script = f"""
    set -e
    available() {{ sed -n 's/MemAvailable: *\\([0-9]*\\).*/\\1/p' /proc/meminfo; }}
    mkdir -p /run/box; mount -t tmpfs box /run/box
    before=$(available)
    for i in $(seq {containers}); do
        mkdir -p /run/box/$i/upper /run/box/$i/work /run/box/$i/root
        unshare --mount sh -c "
            mount -t overlay -o lowerdir={where},upperdir=/run/box/$i/upper,\
workdir=/run/box/$i/work overlay /run/box/$i/root &&
            chroot /run/box/$i/root /bin/sh -c '
                echo $i >/etc/hostname; echo more >>/etc/passwd; perl -e 1;
                cat /etc/hostname; exec sleep 1000'
        " >/run/box/$i/out &
    done
    for i in $(seq {containers}); do
        until [ -s /run/box/$i/out ]; do sleep 0.05; done; cat /run/box/$i/out
    done
    echo $((before - $(available)))
    kill $(jobs -p) 2>/dev/null; pkill sleep || true
    wait; umount /run/box; head -c 4 {where}/etc/hostname | wc -c; tail -n 1 {where}/etc/passwd
    """
    found = mounted.guest.check(["bash", "-c", script], timeout=300).splitlines()
    assert sorted(found[:containers]) == sorted(map(str, range(1, containers + 1)))
    # The tree has more than 200 MiB; ten shells, layers and inodes take a fraction of it.
    assert int(found[containers]) < 100 * 1024
    assert "more" not in found[-1]


@in_memory
def test_the_commands_mount_physical_memory(mounted: Mounted) -> None:
    guest, where = mounted.guest, "/run/command"
    guest.check(["mkdir", "-p", where])
    command: list[str | Path] = [
        *(BIN / "mkdaxfs", "-q", "-d", INSIDE, "--force"),
        *("-p", f"{SPARE:#x}", "-s", "1M"),
    ]
    guest.check([*command, "-m", where])
    guest.check(["diff", "-r", INSIDE, where])
    guest.check(["umount", where])
    guest.check([BIN / "mount.daxfs", f"phys:{SPARE:#x}", where, "-o", "ro,validate"])
    assert "validate" in guest.check(["grep", where, "/proc/mounts"])
    guest.check(["umount", where])


@in_memory
def test_the_commands_choose_who_mounts(mounted: Mounted) -> None:
    """The module where it serves what is asked for, FUSE for the rest."""
    guest, where, source = mounted.guest, "/run/chosen", f"phys:{SPARE:#x}+4M"
    place = f"phys={SPARE:#x},size=4M"
    guest.check(["mkdir", "-p", where])
    build: list[str | Path] = [
        *(BIN / "mkdaxfs", "-q", "-d", INSIDE, "--force"),
        *("-w", "--delta-size", "1M", "-o"),
    ]
    guest.check([*build, source])

    def mounts(program: str, options: str, source: str = source) -> list[str]:
        command: list[str | Path] = [*(["mount"] if program == "daxfs" else []), source, where]
        guest.check([BIN / program, *command, "-o", options])
        kind, shown = guest.check(["grep", where, "/proc/mounts"]).split()[2:4]
        return [kind, *shown.split(",")]

    def unmount() -> None:
        guest.check([BIN / "daxfs", "umount", where])

    for options in (f"nosuid,{place},noatime,nofail", f"kernel,nosuid,noatime,{place}"):
        shown = mounts("daxfs", options, "none")
        assert shown[0] == "daxfs"
        assert {"ro", "nosuid", "noatime"} <= set(shown)
        unmount()
    assert mounts("mount.daxfs", f"rw,{place}", "none")[:2] == ["daxfs", "ro"]
    guest.check([BIN / "mount.daxfs", "none", where, "-o", f"remount,ro,nodev,{place}"])
    assert "ro,nodev" in guest.check(["grep", where, "/proc/mounts"])
    unmount()
    refused = guest.run([BIN / "daxfs", "mount", "-o", "kernel,rw", source, where])
    assert refused.status == 1
    assert "rw: the kernel's module reads main only" in refused.stderr
    assert mounts("daxfs", "rw")[:2] == ["fuse.daxfs", "rw"]
    guest.check(["touch", f"{where}/new"])
    unmount()
    # The kernel does not show what has changed.
    for options, name in (("ro", source), (place, "none")):
        assert mounts("daxfs", options, name)[0] == "fuse.daxfs"
        guest.check(["test", "-e", f"{where}/new"])
        unmount()
    assert guest.run([BIN / "daxfs", "mount", "-o", "kernel", source, where]).status == 1
    # mount(8) says rw where nobody said anything; without branches nothing could be written.
    static = [word for word in build if word not in ("-w", "--delta-size", "1M")]
    guest.check([*static, source])
    assert mounts("mount.daxfs", "rw")[:2] == ["daxfs", "ro"]
    unmount()
    # Ordinary memory behind a block device has no addresses.
    guest.check([*build, "/dev/ram0"])
    assert mounts("daxfs", "noatime", "/dev/ram0")[0] == "fuse.daxfs"
    unmount()


@pytest.mark.parametrize(
    "mounted",
    [pair for pair in on_heaps if "system" in pair],
    indirect=True,
    ids="-".join,
    scope="module",
)
def test_the_commands_mount_a_buffer(mounted: Mounted) -> None:
    """The mount alone holds the buffer, once mkdaxfs has ended."""
    guest, where = mounted.guest, "/run/command"
    guest.check(["mkdir", "-p", where])
    guest.check([BIN / "mkdaxfs", "-q", "-d", INSIDE, "-H", "system", "-m", where])
    guest.check(["diff", "-r", INSIDE, where])
    assert "dmabuf" in guest.check(["grep", where, "/proc/mounts"])
    guest.check(["umount", where])


@pytest.mark.parametrize("vector", ["static", "branching", "delta"])
@in_memory
def test_images_of_others_show_their_manifests(mounted: Mounted, vector: str) -> None:
    guest = mounted.guest
    put(guest, VECTORS / f"{vector}.daxfs")
    guest.check(["mkdir", "-p", "/run/vector"])
    for flags in ([], ["validate"]):
        mount(guest, "/run/vector", *flags, phys=f"{SPARE:#x}")
        try:
            assert manifest_of(guest, "/run/vector") == [
                json.loads(line)
                for line in (VECTORS / "static.manifest.jsonl").read_text().splitlines()
            ]
        finally:
            guest.check(["umount", "/run/vector"])


def put(guest: Guest, image: Path) -> None:
    """Copy an image into the spare physical memory."""
    guest.check(f"dd if={image} of=/dev/mem bs=4096 seek={SPARE // 4096} conv=notrunc 2>/dev/null")


def manifest_of(guest: Guest, where: str) -> list[dict[str, object]]:
    """Return what a tree shows in the form of the vectors' manifests."""
    listing = guest.check(
        ["find", where, "-printf", r"%P\0%y\0%m\0%U\0%G\0%s\0%l\0%D\0"],
    ).split("\0")[:-1]
    sums = {}
    for line in guest.check(
        f"cd {where} && find . -type f -exec sha256sum {{}} + | sed 's,  \\./,  ,'"
    ).splitlines():
        digest, _, path = line.partition("  ")
        sums[path] = digest
    types = {"f": 0o100000, "d": 0o040000, "l": 0o120000}
    found = []
    for path, kind, mode, uid, gid, size, target, _ in zip(*[iter(listing)] * 8, strict=True):
        record: dict[str, object] = {
            "path": f"/{path}",
            "mode": oct(types[kind] | int(mode, 8)),
            "uid": int(uid),
            "gid": int(gid),
        }
        if kind == "f":
            record |= {"size": int(size), "sha256": sums[path]}
        elif kind == "l":
            record["target"] = target
        found.append(record)
    return sorted(found, key=lambda record: str(record["path"]))


# Settings → words of the kernel's answer.
REFUSALS = {
    "nothing": ([], "no memory given"),
    "two": ([("phys", "0x40000000"), ("dax", "/dev/dax0.0")], "exclude each other"),
    "number": ([("phys", "many")], "not a number"),
    "large": ([("phys", "0x10000000040000000")], "64 bits"),
    "larger": ([("phys", "0x40000000"), ("size", "16384P")], "64 bits"),
    "decimal": ([("phys", "010000000000"), ("size", "1M")], "multiples of 4096"),
    "unaligned": ([("phys", "0x40000001"), ("size", "1M")], "multiples of 4096"),
    "kernel": ([("phys", "0x10000000"), ("size", "64M")], "memmap="),
    "nowhere": ([("phys", "0xffffffffffff0000"), ("size", "1M")], "no such memory"),
    "owned": ([("phys", f"{PMEM_ADDRESS:#x}"), ("size", "64M")], "in use"),
    "empty": ([("phys", f"{SPARE + 16 * MIB:#x}")], "no image"),
    "no-image": ([("phys", f"{SPARE + 16 * MIB:#x}"), ("size", "1M")], "not a daxfs image"),
    "size": ([("source", "/dev/pmem0"), ("size", "1M")], "phys="),
    "missing": ([("dax", "/dev/dax7.0")], "system-ram"),
    "not-dax": ([("dax", "/dev/null")], "not a DAX device"),
    "not-memory": ([("source", "/dev/ram0")], "memory can be addressed"),
    "not-dmabuf": ([("dmabuf", "0")], "not a DMA buffer"),
    "unknown": ([("colour", "blue")], "colour"),
}


@pytest.mark.parametrize("case", REFUSALS)
@in_memory
def test_what_cannot_be_mounted_is_refused_in_words(mounted: Mounted, case: str) -> None:
    """The words come with the mount calls, not only in the kernel's log."""
    settings, words = REFUSALS[case]
    code = (
        "import daxfs._daxfs as d, sys, json\n"
        "try: d.mount_kernel('/mnt', [(key, value) for key, value in json.loads(sys.argv[1])])\n"
        "except OSError as error: print(error)"
    )
    answer = mounted.guest.check([BIN / "python", "-c", code, json.dumps(settings)])
    assert words in answer


@pytest.mark.parametrize("mounted", on_cxl, indirect=True, ids="-".join, scope="module")
def test_a_remount_may_name_the_device(mounted: Mounted) -> None:
    """Also where it was mounted as the source."""
    guest, where = mounted.guest, mounted.where
    device = guest.wait_for("/dev/dax*")
    guest.check(["mount", "-o", f"remount,ro,dax={device}", "none", where])
    assert guest.run(["mount", "-o", "remount,ro,dax=/dev/null", "none", where]).status == 32


@pytest.mark.parametrize("mounted", on_pmem, indirect=True, ids="-".join, scope="module")
def test_what_is_mounted_is_not_built_over(mounted: Mounted) -> None:
    refused = mounted.guest.run(
        [BIN / "mkdaxfs", "-q", "--force", "-d", INSIDE, "-o", "/dev/pmem0"]
    )
    assert refused.status == 1
    assert f"the image there is mounted on {mounted.where}" in refused.stderr
    mounted.guest.check(["cat", f"{mounted.where}/etc/debian_version"])


@pytest.mark.parametrize("mounted", on_pmem, indirect=True, ids="-".join, scope="module")
def test_memory_that_fails_ends_who_touches_it(mounted: Mounted) -> None:
    """The page is lost; its neighbours, and other files, are not."""
    mounted.probe("poisoned")
    digest = mounted.guest.check(["sha256sum", f"{mounted.where}/usr/bin/perl"]).split()[0]
    perl = debian_root() / "usr/bin/perl"
    assert digest == hashlib.sha256(perl.read_bytes()).hexdigest()


@with_pages
def test_memory_that_is_taken_away_is_not_served(mounted: Mounted) -> None:
    """The driver leaves the device while it is mounted and mapped."""
    drivers = (
        "/sys/bus/nd/drivers/nd_pmem"
        if "pmem" in mounted.where
        else ("/sys/bus/dax/drivers/device_dax")
    )
    name = "namespace0.0" if "pmem" in mounted.where else "dax0.0"
    mounted.probe("gone", f"echo {name} >{drivers}/unbind")
    assert mounted.guest.run(["ls", f"{mounted.where}/usr/share"]).status
    mounted.guest.check(["umount", mounted.where])


@pytest.mark.parametrize("mounted", on_cxl, indirect=True, ids="-".join, scope="module")
def test_what_is_mounted_while_the_driver_leaves_is_not_served(mounted: Mounted) -> None:
    guest = mounted.guest
    guest.run(["umount", mounted.where])
    # After the test before, it has left.
    guest.run("echo dax0.0 >/sys/bus/dax/drivers/device_dax/bind")
    device = guest.wait_for("/dev/dax*")
    program = INSIDE / "mount-while-leaving"
    mounts, served = guest.check(
        [BIN / "python", program, device, mounted.where, "etc/debian_version", "100"], timeout=600
    ).split()
    assert int(mounts) > 0
    assert served == "0"
