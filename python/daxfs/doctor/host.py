# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The kernel, the processor and ordinary shared memory."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator

from .machine import Machine, byte_count, join_facts
from .report import Check

__all__ = ["check_host", "check_shared_memory"]

# The oldest kernel the module is built for.
_MODULE_KERNEL = (6, 1)
_FORMAT_BLOCK = 4096
_SHMEM_ENABLED = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
# A container's /dev/shm is 64 MiB unless it was asked for more.
_SMALL_SHM = 64 << 20


def check_host(machine: Machine) -> Iterator[Check]:
    """Check the kernel, the write-back instructions and huge pages."""
    yield _kernel(machine)
    yield _write_back(machine)
    yield _huge_pages(machine)


def _kernel(machine: Machine) -> Check:
    release = machine.release
    version = re.match(r"(\d+)\.(\d+)", release or "")
    if release is None or version is None:
        return Check(
            "kernel",
            "missing",
            "/proc/sys/kernel/osrelease cannot be read",
            advice="mount procfs: sudo mount -t proc proc /proc",
        )
    page_size = machine.page_size
    pages = f"{byte_count(page_size)} pages" if page_size else "unknown page size"
    summary = f"Linux {release}, {machine.architecture or 'unknown architecture'}, {pages}"
    if (int(version[1]), int(version[2])) < _MODULE_KERNEL:
        oldest = ".".join(map(str, _MODULE_KERNEL))
        return Check(
            "kernel",
            "warning",
            summary,
            advice=f"use a kernel {oldest} or newer for the daxfs module; FUSE works with this one",
        )
    if page_size is not None and page_size != _FORMAT_BLOCK:
        return Check(
            "kernel",
            "warning",
            summary,
            detail="daxfs blocks are 4 KiB, smaller than a page here",
            advice="use a kernel with 4 KiB pages (arm64: CONFIG_ARM64_4K_PAGES=y) to map files",
        )
    return Check("kernel", "ok", summary)


def _write_back(machine: Machine) -> Check:
    name = "cpu/write-back"
    if machine.architecture in ("aarch64", "arm64"):
        return Check(name, "ok", "dc cvac")
    flags: set[str] = set()
    for line in machine.lines("/proc/cpuinfo"):
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            flags = set(value.split())
            break
    # Best first: clwb keeps the line cached, clflushopt evicts it, clflush also orders each one.
    found = [flag for flag in ("clwb", "clflushopt", "clflush") if flag in flags]
    if found:
        detail = f"available: {', '.join(found)}"
        if found[0] == "clflush":
            return Check(
                name,
                "warning",
                "only clflush, which waits for every cache line",
                detail=detail,
                advice="on a virtual machine pass the host's processor through (qemu: -cpu host)",
            )
        return Check(name, "ok", found[0], detail=detail)
    return Check(
        name,
        "missing",
        f"no known instruction on {machine.architecture or 'this processor'}",
        advice="share images only between CPUs of this machine, whose caches are coherent",
    )


def _huge_pages(machine: Machine) -> Check:
    name = "huge-pages"
    setting = machine.choice(_SHMEM_ENABLED)
    if setting is None:
        option = machine.config("CONFIG_TRANSPARENT_HUGEPAGE")
        return Check(
            name,
            "missing",
            "no transparent huge pages for shared memory",
            detail=join_facts([("CONFIG_TRANSPARENT_HUGEPAGE", option)]),
            advice="use a kernel with CONFIG_TRANSPARENT_HUGEPAGE=y and CONFIG_SHMEM=y",
        )
    if setting in ("never", "deny"):
        advice = f"for memfd: echo advise | sudo tee {_SHMEM_ENABLED}"
        if setting == "never":
            advice += "\nfor /dev/shm: sudo mount -o remount,huge=advise /dev/shm"
        return Check(name, "warning", f"shared memory: {setting}", advice=advice)
    return Check(name, "ok", f"shared memory: {setting}")


def check_shared_memory(machine: Machine) -> Iterator[Check]:
    """Check ``/dev/shm`` and sealed memfds."""
    yield _dev_shm(machine)
    yield _memfd()


def _dev_shm(machine: Machine) -> Check:
    name = "shm/dev-shm"
    try:
        stat = os.statvfs(machine.path("/dev/shm"))
    except OSError as error:
        return Check(
            name,
            "missing",
            f"/dev/shm: {error.strerror}",
            advice="sudo mkdir -p /dev/shm && sudo mount -t tmpfs -o mode=1777 tmpfs /dev/shm",
        )
    size, free = stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize
    kind = None
    for line in machine.lines("/proc/self/mounts"):
        fields = line.split()
        if len(fields) > 2 and fields[1] == "/dev/shm":
            kind = fields[2]
    summary = f"{byte_count(free)} free of {byte_count(size)}"
    detail = join_facts([("file system", kind)])
    if kind not in (None, "tmpfs"):
        return Check(
            name,
            "warning",
            f"/dev/shm is {kind}, not memory",
            detail=detail,
            advice="sudo mount -t tmpfs -o mode=1777 tmpfs /dev/shm",
        )
    if not machine.accessible("/dev/shm", os.W_OK | os.X_OK):
        return Check(
            name, "warning", "/dev/shm is not writable", detail, "sudo chmod 1777 /dev/shm"
        )
    if free < _SMALL_SHM or size <= _SMALL_SHM:
        return Check(
            name,
            "warning",
            summary,
            detail=detail,
            advice="sudo mount -o remount,size=50% /dev/shm\n"
            "in a container: start it with a larger one (docker run --shm-size=1g)",
        )
    return Check(name, "ok", summary, detail=detail)


def _memfd() -> Check:
    # A system call, not a file: it can be asked of the running kernel only.
    name = "shm/memfd"
    try:
        fd = os.memfd_create("daxfs-doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        return Check(
            name,
            "missing",
            f"memfd_create: {error.strerror}",
            advice="use a kernel with CONFIG_MEMFD_CREATE=y\n"
            "in a container: allow memfd_create in its seccomp profile",
        )
    try:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    except OSError as error:
        return Check(
            name,
            "warning",
            f"memfd without seals: {error.strerror}",
            advice="in a container: allow fcntl F_ADD_SEALS in its seccomp profile",
        )
    finally:
        os.close(fd)
    return Check(name, "ok", "memfd with sealing")
