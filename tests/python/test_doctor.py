# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects `daxfs doctor`: what it makes of a machine, and that its advice names the right command.

Each machine is a directory with the procfs, sysfs and device files that such a machine shows.
"""

from __future__ import annotations

import gzip
import json
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from daxfs import doctor
from daxfs.doctor import Check, Report, examine, render

DEBIAN = 'ID=debian\nPRETTY_NAME="Debian GNU/Linux 13"\n'
X86 = "processor : 0\nflags\t\t: fpu clflush sse2 clflushopt clwb\n"
LAPTOP_IOMEM = """\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
e0000000-efffffff : Reserved
100000000-63fffffff : System RAM
"""


class FakeMachine:
    """Builds a machine's file tree below a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def file(self, name: str, content: str | bytes = "", mode: int = 0o644) -> FakeMachine:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return self

    def link(self, name: str, target: str) -> FakeMachine:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
        return self

    def attributes(self, directory: str, **values: object) -> FakeMachine:
        for name, value in values.items():
            self.file(f"{directory}/{name}", f"{value}\n")
        return self

    def kernel(self, release: str = "6.12.9-amd64", arch: str = "x86_64") -> FakeMachine:
        self.attributes("/proc/sys/kernel", osrelease=release, arch=arch)
        self.file("/proc/self/auxv", struct.pack("@LLLLLL", 33, 0x7FFE0000, 6, 4096, 0, 0))
        self.file("/proc/cpuinfo", X86)
        self.file("/proc/filesystems", "nodev\tsysfs\nnodev\ttmpfs\n\text4\n")
        self.file("/proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/sda1 quiet\n")
        return self.file("/etc/os-release", DEBIAN)

    def fuse(self) -> FakeMachine:
        self.file("/proc/filesystems", "nodev\tsysfs\nnodev\tfuse\n\text4\n")
        self.file("/dev/fuse")
        return self.file("/usr/bin/fusermount3", mode=0o4755)

    def dax(self, device: str, driver: str | None, **values: object) -> FakeMachine:
        directory = f"/sys/bus/dax/devices/{device}"
        self.attributes(directory, **values)
        if driver:
            self.link(f"{directory}/driver", f"../../../bus/dax/drivers/{driver}")
        return self

    def checks(self) -> dict[str, Check]:
        report = examine(self.root)
        names = [check.name for check in report.checks]
        assert len(names) == len(set(names))
        for check in report.checks:
            assert check.status in ("ok", "warning", "missing")
            assert len(check.summary.splitlines()) == 1, check.name
            assert bool(check.advice) == (check.status != "ok"), check.name
        return {check.name: check for check in report.checks}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    monkeypatch.setenv("PATH", "/usr/local/bin:/usr/bin:relative")
    return FakeMachine(tmp_path)


def test_bare_container(machine: FakeMachine) -> None:
    machine.kernel().fuse()
    (machine.root / "dev/fuse").unlink()
    (machine.root / "usr/bin/fusermount3").unlink()
    machine.file("/proc/config.gz", gzip.compress(b"CONFIG_DMABUF_HEAPS=y\nCONFIG_UDMABUF=y\n"))
    checks = machine.checks()

    assert checks["kernel"].status == "ok"
    assert checks["kernel"].summary == "Linux 6.12.9-amd64, x86_64, 4 KiB pages"
    assert checks["cpu/write-back"].summary == "clwb"
    assert checks["fuse/device"].status == "missing"
    assert "docker run --device /dev/fuse" in checks["fuse/device"].advice
    assert checks["fuse/filesystem"].status == "ok"
    assert checks["fuse/fusermount3"].advice == "sudo apt install fuse3"
    assert "mount -t tmpfs" in checks["shm/dev-shm"].advice
    # One is built into the kernel, so it was not passed on; the other lacks the system heap.
    assert "docker run --device /dev/udmabuf" in checks["dma-buf/udmabuf"].advice
    assert "CONFIG_DMABUF_HEAPS_SYSTEM=y" in checks["dma-buf/heaps"].advice
    for absent in ("dax", "pmem", "cxl", "dev-mem/device", "reserved/memmap", "reserved/iomem"):
        assert checks[absent].status == "missing", absent
    assert "dev-mem/strict" not in checks


def test_laptop_with_fuse_only(machine: FakeMachine) -> None:
    machine.kernel().fuse()
    machine.file("/etc/fuse.conf", "# a comment\nuser_allow_other   # for daxfs\n")
    machine.file("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "always [advise] never\n")
    machine.file("/proc/iomem", LAPTOP_IOMEM)
    machine.file("/dev/mem")
    machine.file("/boot/config-6.12.9-amd64", "CONFIG_STRICT_DEVMEM=y\nCONFIG_IO_STRICT_DEVMEM=y\n")
    machine.file("/lib/modules/6.12.9-amd64/build/Makefile")
    checks = machine.checks()

    for ready in ("fuse/device", "fuse/filesystem", "fuse/fusermount3", "fuse/allow-other"):
        assert checks[ready].status == "ok", ready
    assert checks["huge-pages"].status == "ok"
    assert checks["module/headers"].status == "ok"
    assert checks["module/loaded"].advice == "sudo daxfs module load"
    assert checks["module/file"].advice == "sudo daxfs module install"
    assert "iomem=relaxed" in checks["dev-mem/strict"].advice
    assert checks["dev-mem/lockdown"].status == "ok"
    assert checks["reserved/iomem"].status == "missing"
    assert "256 MiB at 0xe0000000: Reserved" in checks["reserved/iomem"].detail
    assert "ndctl create-namespace --mode=devdax" in checks["dax"].advice


def cxl_server(machine: FakeMachine) -> FakeMachine:
    cxl = "/sys/bus/cxl/devices"
    machine.kernel("6.12.9").fuse()
    machine.attributes(
        f"{cxl}/decoder0.0",
        devtype="cxl_decoder_root",
        start="0x490000000",
        size="0x400000000",
        cap_ram=1,
        cap_pmem=0,
    )
    for number in (0, 1):
        machine.attributes(f"{cxl}/mem{number}", numa_node=0)
        machine.attributes(f"{cxl}/mem{number}/ram", size="0x100000000")
        machine.attributes(f"{cxl}/mem{number}/pmem", size="0x0")
        machine.link(f"{cxl}/mem{number}/driver", "../../drivers/cxl_mem")
        endpoint = number + 2
        machine.link(f"{cxl}/endpoint{endpoint}/uport", f"../mem{number}")
        machine.attributes(f"{cxl}/decoder{endpoint}.0", devtype="cxl_decoder_endpoint")
    machine.attributes(f"{cxl}/decoder2.0", dpa_size="0x100000000")
    machine.attributes(f"{cxl}/decoder3.0", dpa_size="0x0000000000000000")
    machine.attributes(f"{cxl}/region0", size="0x100000000", resource="0x490000000", mode="ram")
    machine.link(f"{cxl}/region0/driver", "../../drivers/cxl_region")
    return machine


def test_cxl_server_with_dax_in_system_ram_mode(machine: FakeMachine) -> None:
    cxl_server(machine)
    machine.dax(
        "dax0.0",
        "kmem",
        size=4294967296,
        align=2097152,
        resource="0x490000000",
        target_node=2,
    )
    machine.dax("dax0.1", None, size=0, align=2097152)
    machine.file("/usr/bin/daxctl", mode=0o755)
    machine.file("/proc/iomem", "490000000-88fffffff : CXL Window 0\n  490000000-58fffffff : x\n")
    checks = machine.checks()

    dax = checks["dax/dax0.0"]
    assert dax.status == "warning"
    assert dax.summary == "4 GiB at 0x490000000, system-ram"
    assert "daxctl reconfigure-device --mode=devdax --force dax0.0" in dax.advice
    assert "apt install" not in dax.advice
    assert "target node: 2" in dax.detail
    assert "dax/dax0.1" not in checks, "a seed device is not memory"
    assert checks["cxl/decoder0.0"].summary == "window of 16 GiB at 0x490000000 for ram"
    assert "cxl/decoder2.0" not in checks
    assert checks["cxl/mem0"].status == "ok"
    assert checks["cxl/mem1"].status == "warning"
    assert "apt install cxl" in checks["cxl/mem1"].advice
    assert "cxl create-region -m -d decoder0.0 -t ram mem1" in checks["cxl/mem1"].advice
    assert checks["cxl/region0"].status == "ok"
    assert checks["reserved/iomem"].summary == "16 GiB at 0x490000000: CXL Window 0"


def test_dax_device_in_devdax_mode(machine: FakeMachine) -> None:
    machine.kernel().dax("dax10.0", "device_dax", size=1 << 30, resource="0x100000000")
    machine.dax("dax2.0", None, size=1 << 30)
    assert "udevadm" in machine.checks()["dax/dax10.0"].advice
    machine.file("/dev/dax10.0")
    checks = machine.checks()
    assert checks["dax/dax10.0"].status == "ok"
    assert "daxctl enable-device dax2.0" in checks["dax/dax2.0"].advice
    assert "apt install daxctl" in checks["dax/dax2.0"].advice
    names = [name for name in checks if name.startswith("dax/")]
    assert names == ["dax/dax2.0", "dax/dax10.0"]


@pytest.mark.parametrize(
    ("change", "name", "advice"),
    [
        ("region driver", "cxl/region0", "cxl enable-region region0"),
        ("dax region", "cxl/region0", "modprobe dax_cxl"),
        ("memdev driver", "cxl/mem0", "modprobe cxl_mem"),
        ("no window", "cxl", "modprobe cxl_acpi"),
    ],
)
def test_cxl_memory_half_way(machine: FakeMachine, change: str, name: str, advice: str) -> None:
    devices = cxl_server(machine).root / "sys/bus/cxl/devices"
    if change == "region driver":
        (devices / "region0/driver").unlink()
    elif change == "dax region":
        (devices / "dax_region0").mkdir()
    elif change == "memdev driver":
        (devices / "mem0/driver").unlink()
    else:
        (devices / "decoder0.0/devtype").write_text("cxl_decoder_switch\n")
    check = machine.checks()[name]
    assert check.status == "warning"
    assert advice in check.advice


def test_pmem_and_lockdown(machine: FakeMachine) -> None:
    machine.kernel()
    machine.file("/etc/os-release", 'ID="rhel"\nID_LIKE="fedora"\n')
    machine.file("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
    machine.file("/dev/mem")
    machine.file("/proc/cmdline", "quiet memmap=1G!4G,256M$0x40000000 iomem=relaxed\n")
    machine.file("/proc/config.gz", gzip.compress(b"CONFIG_STRICT_DEVMEM=y\n"))
    machine.attributes("/sys/block/pmem0", size=2097152)
    machine.attributes("/sys/block/pmem0/queue", dax=1)
    machine.link("/sys/block/pmem0/device", "../../../pfn0.0")
    machine.attributes("/sys/bus/nd/devices/pfn0.0", namespace="namespace0.0")
    machine.attributes("/sys/bus/nd/devices/namespace0.0", mode="memory")
    machine.attributes("/sys/block/pmem1", size=2097152)
    machine.attributes("/sys/block/pmem1/queue", dax=0)
    machine.link("/sys/block/pmem1/device", "../../../namespace1.0")
    machine.attributes("/sys/bus/nd/devices/namespace1.0", mode="raw")
    machine.attributes("/sys/bus/nd/devices/region2", available_size=1 << 34)
    machine.file("/proc/iomem", "100000000-13fffffff : Persistent Memory (legacy)\n")
    checks = machine.checks()

    assert checks["pmem/pmem0"].status == "ok"
    assert checks["pmem/pmem0"].summary == "1 GiB, mode fsdax, dax"
    assert checks["pmem/pmem1"].status == "warning"
    advice = checks["pmem/pmem1"].advice
    assert "ndctl create-namespace --force --reconfig=namespace1.0 --mode=fsdax" in advice
    assert advice.startswith("sudo dnf install ndctl\n")
    assert "ndctl create-namespace --mode=fsdax --region=region2" in checks["pmem/region2"].advice
    assert checks["dev-mem/device"].status == "warning"
    assert "Secure Boot" in checks["dev-mem/lockdown"].advice
    assert "mokutil" in checks["module/loaded"].advice
    assert checks["dev-mem/strict"].status == "ok"
    assert checks["module/headers"].advice == "sudo dnf install kernel-devel-6.12.9-amd64"
    assert checks["reserved/memmap"].summary == (
        "1 GiB at 0x100000000, persistent memory; 256 MiB at 0x40000000, reserved"
    )
    assert checks["reserved/iomem"].status == "ok"


def test_module_loaded_and_indexed(machine: FakeMachine) -> None:
    machine.kernel()
    machine.file("/proc/filesystems", "\tdaxfs\n")
    machine.file("/sys/module/daxfs/version", "1.2.3\n")
    modules = "/lib/modules/6.12.9-amd64"
    machine.file(f"{modules}/updates/dkms/daxfs.ko.xz")
    machine.file(f"{modules}/kernel/fs/fuse/fuse.ko")
    machine.file(f"{modules}/modules.dep", "kernel/fs/fuse/fuse.ko:\n")
    checks = machine.checks()
    assert checks["module/loaded"].summary == "daxfs 1.2.3 is loaded"
    assert checks["module/file"].advice == "sudo depmod"
    assert checks["fuse/filesystem"].status == "warning"
    assert checks["fuse/filesystem"].advice == "sudo modprobe fuse"

    machine.file(f"{modules}/modules.dep", "updates/dkms/daxfs.ko.xz: kernel/lib/x.ko\n")
    assert machine.checks()["module/file"].status == "ok"


@pytest.mark.parametrize(
    ("name", "content", "check", "status", "advice"),
    [
        ("/proc/sys/kernel/osrelease", "5.15.0", "kernel", "warning", "6.1 or newer"),
        ("/proc/cpuinfo", "flags : clflush", "cpu/write-back", "warning", "-cpu host"),
        ("/proc/cpuinfo", "isa : rv64", "cpu/write-back", "missing", "coherent"),
        (
            "/sys/kernel/mm/transparent_hugepage/shmem_enabled",
            "always [never]",
            "huge-pages",
            "warning",
            "echo advise | sudo tee",
        ),
        ("/proc/cmdline", "memmap=256MG", "reserved/memmap", "warning", "dollar sign"),
        ("/proc/cmdline", "memmap=exactmap,2G", "reserved/memmap", "missing", "memmap=SIZE$"),
        ("/proc/cmdline", f"memmap={'9' * 9999}$1G", "reserved/memmap", "warning", "memmap=SIZE$"),
        ("/proc/iomem", LAPTOP_IOMEM, "reserved/iomem", "missing", "firmware"),
        (
            "/proc/iomem",
            "00000000-00000000 : Reserved\n00000000-00000000 : Soft Reserved\n",
            "reserved/iomem",
            "warning",
            "sudo daxfs doctor",
        ),
    ],
)
def test_one_finding(
    machine: FakeMachine, name: str, content: str, check: str, status: str, advice: str
) -> None:
    found = machine.kernel().file(name, content).checks()[check]
    assert found.status == status
    assert advice in found.advice


def test_arm64(machine: FakeMachine) -> None:
    machine.kernel(arch="aarch64").file("/proc/cpuinfo", "Features : fp asimd\n")
    machine.file("/proc/self/auxv", struct.pack("@LL", 6, 65536))
    checks = machine.checks()
    assert checks["cpu/write-back"].summary == "dc cvac"
    assert checks["kernel"].status == "warning"
    assert "CONFIG_ARM64_4K_PAGES" in checks["kernel"].advice


def test_fusermount_without_setuid(machine: FakeMachine) -> None:
    machine.kernel().fuse().file("/usr/bin/fusermount3", mode=0o755)
    check = machine.checks()["fuse/fusermount3"]
    assert check.status == "warning"
    assert "chmod u+s /usr/bin/fusermount3" in check.advice


def test_path_that_cannot_be_searched(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"/{'x' * 300}:/usr/bin")
    assert machine.kernel().fuse().checks()["fuse/fusermount3"].status == "ok"


def test_small_or_wrong_dev_shm(machine: FakeMachine) -> None:
    machine.kernel().file("/dev/shm/.keep")
    assert machine.checks()["shm/memfd"].status == "ok"
    machine.file("/proc/self/mounts", "overlay /dev/shm overlay rw 0 0\n")
    check = machine.checks()["shm/dev-shm"]
    assert check.status == "warning"
    assert "mount -t tmpfs" in check.advice


def test_empty_root_is_a_report(machine: FakeMachine) -> None:
    checks = machine.checks()
    assert checks["kernel"].status == "missing"
    assert "mount -t proc" in checks["kernel"].advice


@pytest.mark.parametrize("seed", range(20))
def test_garbled_files_are_findings(machine: FakeMachine, seed: int) -> None:
    cxl_server(machine).dax("dax0.0", "kmem", size=1, align=1, resource=1, target_node=1)
    machine.file("/proc/config.gz", gzip.compress(b"CONFIG_STRICT_DEVMEM=y\n" * 99))
    machine.attributes("/sys/block/pmem0", size=8).link("/sys/block/pmem0/device", "pfn0.0")
    machine.attributes("/sys/bus/nd/devices/pfn0.0", namespace="../../..")
    machine.file("/proc/iomem", LAPTOP_IOMEM).file("/etc/fuse.conf").file("/dev/mem")
    source = random.Random(seed)
    for path in sorted(machine.root.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        match source.randrange(5):
            case 0:
                path.write_bytes(source.randbytes(source.randrange(300)))
            case 1:
                path.write_bytes(path.read_bytes()[: source.randrange(8)])
            case 2:
                path.write_text("-1\n" if seed % 2 else "9" * 5000)
            case 3:
                path.unlink()
                path.mkdir()
            case _:
                path.write_bytes(b"\x1b[31m\0\xff" + path.read_bytes())
    machine.checks()
    text = render(examine(machine.root), verbose=True)
    assert all(char.isprintable() or char == "\n" for char in text)


def test_this_machine() -> None:
    report = examine()
    assert report == examine(Path("/"))
    checks = {check.name: check for check in report.checks}
    assert checks["kernel"].status != "missing"
    assert checks["shm/memfd"].status == "ok"
    assert json.loads(report.to_json())["checks"][0] == {
        "name": "kernel",
        "status": checks["kernel"].status,
        "summary": checks["kernel"].summary,
        "detail": checks["kernel"].detail,
        "advice": checks["kernel"].advice,
    }


def test_render_aligns_and_indents() -> None:
    report = Report(
        (
            Check("a", "ok", "fine", detail="size: 1"),
            Check("longer/name", "missing", "none", advice="do this\nthen that"),
        )
    )
    assert render(report) == (
        "ok       a            fine\n"
        "missing  longer/name  none\n"
        "                      -> do this\n"
        "                      -> then that\n"
    )
    assert "                      size: 1\n" in render(report, verbose=True)
    assert render(Report(())) == ""


def test_imports_the_standard_library_only() -> None:
    # Alone, under a name of its own: it must work where the compiled module does not.
    code = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("doctor", sys.argv[1])
sys.modules["doctor"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
assert module.examine().checks
print(*{name.partition(".")[0] for name in sys.modules})
"""
    output = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(doctor.__file__)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert set(output.split()) <= sys.stdlib_module_names | {"doctor", "__main__"}
