# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Physical memory without a driver: ``/dev/mem`` and reserved ranges."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from .machine import Machine, byte_count, join_facts
from .report import Check

__all__ = ["check_dev_mem", "check_reserved"]

_SAFER = "or use a dax device, persistent memory or a dma-buf instead"
# Names in /proc/iomem of memory that a region can lie in.
_USABLE = ("soft reserved", "persistent memory", "cxl window")
# Smaller reserved ranges belong to firmware; a region is at least one huge page.
_SMALLEST = 2 << 20
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_MEMMAP_KINDS = {"$": "reserved", "!": "persistent memory", "#": "ACPI data", "@": "RAM"}
_NUMBER = r"(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})([KMGTkmgt]?)"


def check_dev_mem(machine: Machine) -> Iterator[Check]:
    """Check ``/dev/mem`` and what restricts it."""
    yield _device(machine)
    if machine.exists("/dev/mem"):
        yield _strict(machine)
    yield _lockdown(machine)


def _locked_down(machine: Machine) -> bool:
    return machine.lockdown in ("integrity", "confidentiality")


def _device(machine: Machine) -> Check:
    name = "dev-mem/device"
    if not machine.exists("/dev/mem"):
        option = machine.config("CONFIG_DEVMEM")
        advice = (
            "the kernel has it: sudo mknod -m 600 /dev/mem c 1 1"
            if option == "y"
            else "use a kernel with CONFIG_DEVMEM=y"
        )
        detail = join_facts([("CONFIG_DEVMEM", option)])
        return Check(name, "missing", "no /dev/mem", detail, f"{advice}\n{_SAFER}")
    # An open that lockdown refuses is written to the kernel's log: do not cause it.
    if _locked_down(machine):
        return Check(
            name, "warning", "/dev/mem is refused by lockdown", advice="see dev-mem/lockdown"
        )
    error = machine.open_error("/dev/mem", os.O_RDONLY)
    if error:
        advice = "run as root (CAP_SYS_RAWIO): sudo daxfs doctor"
        return Check(name, "warning", f"/dev/mem: {error}", advice=advice)
    return Check(name, "ok", "/dev/mem can be read")


def _strict(machine: Machine) -> Check:
    name = "dev-mem/strict"
    strict = machine.config("CONFIG_STRICT_DEVMEM")
    io_strict = machine.config("CONFIG_IO_STRICT_DEVMEM")
    relaxed = "iomem=relaxed" in machine.command_line
    detail = join_facts(
        [
            ("CONFIG_STRICT_DEVMEM", strict),
            ("CONFIG_IO_STRICT_DEVMEM", io_strict),
            ("iomem=relaxed", "yes" if relaxed else "no"),
        ]
    )
    if strict is None:
        release = machine.release or "$(uname -r)"
        return Check(
            name,
            "warning",
            "unknown: the kernel's configuration cannot be read",
            detail,
            f"sudo modprobe configs (gives /proc/config.gz), or provide /boot/config-{release}",
        )
    if io_strict == "y" and not relaxed:
        return Check(
            name,
            "warning",
            "strict: ranges that are busy, reserved ones included, are refused",
            detail,
            "add iomem=relaxed to the kernel's command line (/etc/default/grub, "
            f"then sudo update-grub) and reboot\n{_SAFER}",
        )
    if strict == "y":
        return Check(name, "ok", "system RAM is refused, reserved ranges are not", detail)
    return Check(name, "ok", "not restricted", detail)


def _lockdown(machine: Machine) -> Check:
    name = "dev-mem/lockdown"
    if _locked_down(machine):
        return Check(
            name,
            "warning",
            f"lockdown: {machine.lockdown}; /dev/mem is closed and modules must be signed",
            advice="turn Secure Boot off (see mokutil --sb-state) or take lockdown= off the "
            f"kernel's command line, and reboot\n{_SAFER}",
        )
    if machine.lockdown is None:
        return Check(name, "ok", "no lockdown reported")
    return Check(name, "ok", f"lockdown: {machine.lockdown}")


def check_reserved(machine: Machine) -> Iterator[Check]:
    """Check for memory kept away from the kernel."""
    yield _memmap(machine)
    yield _iomem(machine)


def _amount(number: str, unit: str) -> int:
    return int(number, 0 if number[:2].lower() == "0x" else 10) * _UNITS[unit.upper()]


def _memmap(machine: Machine) -> Check:
    name = "reserved/memmap"
    found: list[str] = []
    garbled: list[str] = []
    for parameter in machine.command_line:
        key, _, values = parameter.partition("=")
        for value in values.split(",") if key == "memmap" else ():
            match = re.fullmatch(rf"{_NUMBER}([$!#@%]){_NUMBER}(.*)", value)
            if match is None:
                # memmap=exactmap and a bare memmap=SIZE, a limit, reserve nothing.
                if value != "exactmap" and not re.fullmatch(_NUMBER, value):
                    garbled.append(value)
                continue
            size, start = _amount(match[1], match[2]), _amount(match[4], match[5])
            kind = _MEMMAP_KINDS.get(match[3], f"type change {match[6]}")
            if match[3] != "@":
                found.append(f"{byte_count(size)} at {start:#x}, {kind}")
    escape = r"in /etc/default/grub write the dollar sign as \\\$"
    if garbled:
        return Check(
            name,
            "warning",
            f"not understood: memmap={','.join(garbled)}",
            "\n".join(found),
            f"{escape}; the form is memmap=SIZE$ADDRESS",
        )
    if found:
        return Check(name, "ok", "; ".join(found), "\n".join(found))
    return Check(
        name,
        "missing",
        "no memmap= on the kernel's command line",
        advice="choose a part of System RAM in /proc/iomem, add memmap=SIZE$ADDRESS (x86) to the "
        f"kernel's command line, and reboot\n{escape}",
    )


def _iomem(machine: Machine) -> Check:
    name = "reserved/iomem"
    hidden = True
    usable: list[str] = []
    reserved: list[str] = []
    lines = machine.lines("/proc/iomem")
    for line in lines:
        match = re.fullmatch(r"\s*([0-9a-f]{1,16})-([0-9a-f]{1,16}) : (.+)", line)
        if match is None:
            continue
        start, end = int(match[1], 16), int(match[2], 16)
        hidden = hidden and end == 0
        label = match[3].strip()
        text = f"{byte_count(end - start + 1)} at {start:#x}: {label}" if end else label
        if label.lower().startswith(_USABLE):
            usable.append(text)
        elif label.lower() == "reserved" and end - start + 1 >= _SMALLEST:
            reserved.append(text)
    detail = "\n".join(usable + reserved)
    if not lines:
        return Check(name, "missing", "/proc/iomem cannot be read", advice="sudo daxfs doctor")
    if hidden:
        return Check(
            name,
            "warning",
            "addresses are hidden: /proc/iomem shows zeros to all but root",
            detail,
            "sudo daxfs doctor",
        )
    if usable:
        return Check(name, "ok", "; ".join(usable), detail)
    return Check(
        name,
        "missing",
        f"no soft-reserved, persistent or CXL range ({len(reserved)} other reserved)",
        detail,
        "a range named Reserved may belong to firmware: use only one that you reserved yourself",
    )
