# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The kinds of shared memory a guest can be given, one name each.

They take different addresses, so that one guest can have all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

INSIDE = Path(__file__).parent / "inside"
MIB = 1 << 20


@dataclass(frozen=True)
class Device:
    """What a guest needs to have a kind of memory.

    Attributes
    ----------
    machine, memory, qemu :
        Additions to QEMU's ``-machine`` and ``-m`` options, and further arguments.
    cpu :
        The CPU the device insists on, if any.
    append :
        Kernel parameters.
    modules :
        Kernel modules to load after boot.
    setup :
        Command to run in the guest once the modules are there.
    node :
        Pattern of what then appears in /dev. It has a number that the kernel gives to regions of
        all kinds, and drivers take their devices in their own time.
    """

    machine: tuple[str, ...] = ()
    memory: tuple[str, ...] = ()
    qemu: tuple[str, ...] = ()
    cpu: str | None = None
    append: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    node: str = ""


# Physical memory that the kernel leaves alone, for /dev/mem.
RESERVED_ADDRESS = 1 << 30
RESERVED_SIZE = 256 * MIB
RESERVED = Device(append=(f"memmap={RESERVED_SIZE:#x}${RESERVED_ADDRESS:#x}",))

# The same on arm64, whose memory begins at 1 GiB and which has no such parameter: the kernel never
# hears of what lies beyond its own.
HIDDEN_ADDRESS = 2 << 30
HIDDEN = Device(append=(f"mem={HIDDEN_ADDRESS - (1 << 30):#x}",))

# Let /dev/mem reach memory that has an owner in /proc/iomem.
RELAXED = Device(append=("iomem=relaxed",))

# Persistent memory made of ordinary memory: /dev/pmemN.
PMEM_ADDRESS = RESERVED_ADDRESS + RESERVED_SIZE
PMEM_SIZE = 256 * MIB
PMEM = Device(
    append=(f"memmap={PMEM_SIZE:#x}!{PMEM_ADDRESS:#x}",),
    modules=("nd_btt", "nd_pmem", "nd_e820"),
    node="/dev/pmem*",
)

# Huge pages, as files.
HUGE = Device(
    append=("hugepages=40",),
    setup=("sh", "-c", "mkdir /run/huge && mount -t hugetlbfs hugetlbfs /run/huge"),
)

CXL_SIZE = 512 * MIB


def cxl(path: Path | None = None) -> Device:
    """Return a CXL memory expander, /dev/daxN.0, kept in the file `path` if one is given.

    The kernel refuses to commit a region when the CPU says that it runs under a hypervisor.
    """
    backend = "memory-backend-ram" if path is None else f"memory-backend-file,mem-path={path}"
    return Device(
        machine=("cxl=on", "cxl-fmw.0.targets.0=cxl.1", "cxl-fmw.0.size=4G"),
        memory=("maxmem=8G", "slots=8"),
        qemu=(
            *("-object", f"{backend},id=vmem0,share=on,size={CXL_SIZE}"),
            *("-device", "pxb-cxl,bus_nr=12,bus=pcie.0,id=cxl.1"),
            *("-device", "cxl-rp,port=0,bus=cxl.1,id=rp0,chassis=0,slot=2"),
            *("-device", "cxl-type3,bus=rp0,volatile-memdev=vmem0,id=cxl0"),
        ),
        cpu="max,-hypervisor",
        modules=(
            *("cxl_acpi", "cxl_pmem", "cxl_pci", "cxl_mem"),
            *("dax_hmem", "device_dax", "dax_pmem", "dax_cxl"),
        ),
        setup=("sh", f"{INSIDE}/cxl-region", f"{CXL_SIZE:#x}"),
        node="/dev/dax*",
    )


CXL = cxl()


def loaded(path: Path, address: int) -> Device:
    """Return memory at a physical address that holds the file `path` when the guest starts."""
    return Device(qemu=("-device", f"loader,file={path},addr={address:#x},force-raw=on"))


def nvdimm(path: Path, size: int) -> Device:
    """Return an NVDIMM kept in the file `path`, so that it outlives the guest.

    It lies at physical address 4 GiB, and is ordinary reserved memory as long as no driver for
    persistent memory is loaded.
    """
    return Device(
        machine=("nvdimm=on",),
        memory=("maxmem=8G", "slots=8"),
        qemu=(
            *("-object", f"memory-backend-file,id=nv0,share=on,mem-path={path},size={size}"),
            *("-device", "nvdimm,memdev=nv0,id=nvdimm0"),
        ),
    )
