# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Memory behind drivers: dax devices, persistent memory, CXL, dma-bufs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from .machine import Machine, byte_count, join_facts
from .report import Check

__all__ = ["check_cxl", "check_dax", "check_dma_buf", "check_pmem"]

_DAX = "/sys/bus/dax/devices"
_ND = "/sys/bus/nd/devices"
_CXL = "/sys/bus/cxl/devices"
# How sysfs names the modes of a namespace, and how ndctl does.
_NAMESPACE_MODES = {"memory": "fsdax", "dax": "devdax", "safe": "sector"}


def _address(value: int | None) -> str | None:
    return None if value is None else f"{value:#x}"


def check_dax(machine: Machine) -> Iterator[Check]:
    """Check every dax device."""
    found = False
    for device in machine.names(_DAX):
        # A seed: the empty, driverless device from which the next one is made.
        size = machine.size(f"{_DAX}/{device}/size")
        if size == 0 and not machine.link(f"{_DAX}/{device}/driver"):
            continue
        found = True
        yield _dax_device(machine, device, size)
    if not found:
        yield Check(
            "dax",
            "missing",
            "no dax device",
            advice="from persistent memory: sudo ndctl create-namespace --mode=devdax\n"
            "from CXL memory: see the checks named cxl\n"
            "for a trial: the kernel parameter memmap=1G!4G, then ndctl as above",
        )


def _dax_device(machine: Machine, device: str, size: int | None) -> Check:
    name, directory = f"dax/{device}", f"{_DAX}/{device}"
    driver = machine.link(f"{directory}/driver")
    mode = {"device_dax": "devdax", "kmem": "system-ram"}.get(driver or "", driver)
    address = _address(machine.size(f"{directory}/resource"))
    detail = join_facts(
        [
            ("size", size),
            ("align", machine.size(f"{directory}/align")),
            ("physical address", address),
            ("driver", driver),
            ("target node", machine.number(f"{directory}/target_node")),
        ]
    )
    summary = f"{byte_count(size)} at {address or 'an unknown address'}, {mode or 'no driver'}"
    tool = machine.tool("daxctl", "daxctl", arch="ndctl", suse="ndctl")
    if driver == "device_dax":
        node = f"/dev/{device}"
        if not machine.exists(node):
            return Check(
                name, "warning", f"{summary}, but no {node}", detail, "sudo udevadm trigger"
            )
        if not machine.accessible(node):
            advice = f'run as root, or: sudo chown "$USER" {node}'
            return Check(name, "warning", f"{summary}, not accessible", detail, advice)
        if not size:
            return Check(name, "warning", summary, detail, f"{tool}daxctl list -D -d {device}")
        return Check(name, "ok", summary, detail)
    if driver is None:
        advice = f"{tool}sudo modprobe device_dax && sudo daxctl enable-device {device}"
    else:
        advice = (
            f"{tool}sudo daxctl reconfigure-device --mode=devdax --force {device}"
            "   (loses what is in it)"
        )
    return Check(name, "warning", summary, detail, advice)


def check_pmem(machine: Machine) -> Iterator[Check]:
    """Check persistent memory: block devices, then capacity nobody uses."""
    found = False
    for device in machine.names("/sys/block"):
        if device.startswith("pmem"):
            found = True
            yield _pmem_device(machine, device)
    for device in machine.names(_ND):
        free = machine.size(f"{_ND}/{device}/available_size")
        if re.fullmatch(r"region\d+", device) and free:
            found = True
            yield Check(
                f"pmem/{device}",
                "warning",
                f"{byte_count(free)} without a namespace",
                join_facts([("available", free)]),
                machine.tool("ndctl", "ndctl")
                + f"sudo ndctl create-namespace --mode=fsdax --region={device}"
                "   (or --mode=devdax)",
            )
    if not found:
        yield Check(
            "pmem",
            "missing",
            "no persistent memory",
            advice="with NVDIMMs: sudo modprobe nfit && sudo ndctl create-namespace --mode=fsdax\n"
            "for a trial: the kernel parameter memmap=1G!4G makes /dev/pmem0 of RAM",
        )


def _pmem_device(machine: Machine, device: str) -> Check:
    directory = f"/sys/block/{device}"
    sectors = machine.size(f"{directory}/size")
    size = None if sectors is None else sectors * 512
    # The disk hangs below its namespace, or below the pfn or btt device that claimed it.
    parent = machine.link(f"{directory}/device") or ""
    if not parent.startswith("namespace"):
        parent = machine.value(f"{_ND}/{parent}/namespace") or ""
    namespace = parent if re.fullmatch(r"namespace\d+\.\d+", parent) else None
    raw_mode = machine.value(f"{_ND}/{namespace}/mode") if namespace else None
    mode = _NAMESPACE_MODES.get(raw_mode or "", raw_mode)
    dax = machine.number(f"{directory}/queue/dax")
    detail = join_facts([("size", size), ("dax", dax), ("namespace", namespace), ("mode", mode)])
    summary = f"{byte_count(size)}, mode {mode or 'unknown'}"
    if dax == 1:
        return Check(f"pmem/{device}", "ok", f"{summary}, dax", detail)
    target = namespace or "namespaceX.Y"
    return Check(
        f"pmem/{device}",
        "warning",
        f"{summary}, no dax",
        detail,
        machine.tool("ndctl", "ndctl")
        + ("" if namespace else "find the namespace: ndctl list -N\n")
        + f"sudo ndctl create-namespace --force --reconfig={target} --mode=fsdax"
        "   (or --mode=devdax; loses what is in it)",
    )


def check_cxl(machine: Machine) -> Iterator[Check]:
    """Check CXL memory devices, root decoders and regions."""
    devices = machine.names(_CXL)
    roots = [
        device
        for device in devices
        if machine.value(f"{_CXL}/{device}/devtype") == "cxl_decoder_root"
    ]
    memdevs = [device for device in devices if re.fullmatch(r"mem\d+", device)]
    regions = [device for device in devices if re.fullmatch(r"region\d+", device)]
    for device in roots:
        yield _root_decoder(machine, device)
    for device in memdevs:
        yield _memdev(machine, device, devices, roots)
    for device in regions:
        yield _region(machine, device)
    if not memdevs and not regions:
        yield Check(
            "cxl",
            "missing",
            "no CXL memory",
            join_facts([("CONFIG_CXL_BUS", machine.config("CONFIG_CXL_BUS"))]),
            "look for devices: lspci -d ::0502\n"
            "if there are: sudo modprobe -a cxl_acpi cxl_pci cxl_mem cxl_port (CONFIG_CXL_BUS)",
        )
    elif not roots:
        yield Check(
            "cxl",
            "warning",
            "no memory window (root decoder), so that no region can be made",
            advice="sudo modprobe cxl_acpi\notherwise enable CXL in the firmware setup",
        )


def _root_decoder(machine: Machine, device: str) -> Check:
    directory = f"{_CXL}/{device}"
    kinds = [kind for kind in ("ram", "pmem") if machine.number(f"{directory}/cap_{kind}") == 1]
    start, size = machine.size(f"{directory}/start"), machine.size(f"{directory}/size")
    summary = f"window of {byte_count(size)} at {_address(start) or 'an unknown address'}"
    detail = join_facts([("start", _address(start)), ("size", size), ("takes", ", ".join(kinds))])
    return Check(f"cxl/{device}", "ok", f"{summary} for {' and '.join(kinds) or '?'}", detail)


def _memdev(machine: Machine, device: str, devices: list[str], roots: list[str]) -> Check:
    directory = f"{_CXL}/{device}"
    sizes = {kind: machine.size(f"{directory}/{kind}/size") for kind in ("ram", "pmem")}
    driver = machine.link(f"{directory}/driver")
    assigned = 0
    for endpoint in devices:
        if endpoint.startswith("endpoint") and machine.link(f"{_CXL}/{endpoint}/uport") == device:
            number = endpoint.removeprefix("endpoint")
            assigned += sum(
                machine.size(f"{_CXL}/{decoder}/dpa_size") or 0
                for decoder in devices
                if decoder.startswith(f"decoder{number}.")
            )
    detail = join_facts(
        [
            *sizes.items(),
            ("driver", driver),
            ("assigned to decoders", assigned),
            ("numa node", machine.number(f"{directory}/numa_node")),
        ]
    )
    parts = [f"{byte_count(size)} {kind}" for kind, size in sizes.items() if size]
    summary = " and ".join(parts) or "unknown size"
    if driver is None:
        return Check(
            f"cxl/{device}", "warning", f"{summary}, no driver", detail, "sudo modprobe cxl_mem"
        )
    if assigned:
        return Check(f"cxl/{device}", "ok", f"{summary}, {byte_count(assigned)} in use", detail)
    kind = "ram" if sizes["ram"] else "pmem"
    decoder = next(
        (root for root in roots if machine.number(f"{_CXL}/{root}/cap_{kind}") == 1), "decoderX.Y"
    )
    advice = machine.tool("cxl", "cxl", fedora="cxl-cli", arch="ndctl", suse="ndctl")
    advice += f"sudo cxl create-region -m -d {decoder} -t {kind} {device}"
    if kind == "pmem":
        advice += "\nthen: sudo ndctl create-namespace --mode=devdax"
    else:
        advice += "   (-t ram: cxl 77 or newer)"
    return Check(f"cxl/{device}", "warning", f"{summary}, not in a region", detail, advice)


def _region(machine: Machine, device: str) -> Check:
    directory = f"{_CXL}/{device}"
    size, mode = machine.size(f"{directory}/size"), machine.value(f"{directory}/mode")
    address = _address(machine.size(f"{directory}/resource"))
    driver = machine.link(f"{directory}/driver")
    detail = join_facts(
        [("size", size), ("mode", mode), ("physical address", address), ("driver", driver)]
    )
    summary = f"region of {byte_count(size)}, {mode or 'unknown type'}"
    if driver is None:
        return Check(
            f"cxl/{device}",
            "warning",
            f"{summary}, not enabled",
            detail,
            machine.tool("cxl", "cxl", fedora="cxl-cli", arch="ndctl", suse="ndctl")
            + f"sudo cxl enable-region {device}",
        )
    dax_region = f"{_CXL}/dax_{device}"
    if mode == "ram" and machine.exists(dax_region) and not machine.link(f"{dax_region}/driver"):
        return Check(
            f"cxl/{device}",
            "warning",
            f"{summary}, without its dax device",
            detail,
            "sudo modprobe dax_cxl",
        )
    return Check(f"cxl/{device}", "ok", summary, detail)


def check_dma_buf(machine: Machine) -> Iterator[Check]:
    """Check the dma-buf heaps and udmabuf."""
    heaps = machine.names("/dev/dma_heap")
    if heaps:
        nodes = [f"/dev/dma_heap/{heap}" for heap in heaps]
        yield _device_nodes(machine, "dma-buf/heaps", nodes)
    else:
        yield _absent_device(
            machine,
            "dma-buf/heaps",
            "/dev/dma_heap/system",
            ("CONFIG_DMABUF_HEAPS", "CONFIG_DMABUF_HEAPS_SYSTEM"),
            "for physically contiguous memory also CONFIG_DMABUF_HEAPS_CMA=y and cma=SIZE",
        )
    if machine.exists("/dev/udmabuf"):
        yield _device_nodes(machine, "dma-buf/udmabuf", ["/dev/udmabuf"])
    else:
        yield _absent_device(machine, "dma-buf/udmabuf", "/dev/udmabuf", ("CONFIG_UDMABUF",))


def _device_nodes(machine: Machine, name: str, nodes: list[str]) -> Check:
    # A heap is only ever asked by ioctl: reading permission is enough to open it.
    denied = [node for node in nodes if not machine.accessible(node, os.R_OK)]
    if denied:
        summary = f"not accessible: {', '.join(denied)}"
        advice = f'run as root, or: sudo chown "$USER" {" ".join(denied)}'
        return Check(name, "warning", summary, "\n".join(nodes), advice)
    return Check(name, "ok", ", ".join(nodes))


def _absent_device(
    machine: Machine, name: str, node: str, options: tuple[str, ...], more: str = ""
) -> Check:
    """Say why a device node is absent: not in the kernel, or not passed on to this container."""
    values = {option: machine.config(option) for option in options}
    if all(value == "y" for value in values.values()):
        advice = f"the kernel has it; in a container: docker run --device {node}"
    else:
        advice = f"use a kernel with {' and '.join(f'{option}=y' for option in options)}"
        advice += f"\n{more}" if more else ""
    return Check(name, "missing", f"no {node}", join_facts(values.items()), advice)
