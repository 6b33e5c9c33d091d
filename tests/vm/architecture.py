# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What differs between the architectures of guests."""

from __future__ import annotations

from dataclasses import dataclass

from vmconfig import ARM64_KERNELS


@dataclass(frozen=True)
class Architecture:
    """A processor, and the machine around it.

    Attributes
    ----------
    debian :
        What Debian calls it.
    emulator, machine, cpu :
        QEMU's program, and what it emulates: the processor that it runs fastest.
    console, port :
        The guest's first serial port, and the device of its second.
    compiler :
        What the names of its compiler and linker begin with.
    native :
        Whether the host's programs run on it.
    """

    debian: str
    emulator: str
    machine: str
    cpu: str
    console: str
    port: str
    compiler: str
    native: bool


X86_64 = Architecture(
    debian="amd64",
    emulator="qemu-system-x86_64",
    machine="q35",
    cpu="Nehalem",
    console="ttyS0",
    port="/dev/ttyS1",
    compiler="",
    native=True,
)
ARM64 = Architecture(
    debian="arm64",
    emulator="qemu-system-aarch64",
    machine="virt",
    cpu="cortex-a72",
    console="ttyAMA0",
    port="/dev/ttyAMA1",
    compiler="aarch64-linux-gnu-",
    native=False,
)


def of_kernel(series: str) -> Architecture:
    """Return the architecture of a kernel."""
    return ARM64 if series in ARM64_KERNELS else X86_64
