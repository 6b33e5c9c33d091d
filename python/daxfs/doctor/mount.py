# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The two ways to mount an image: FUSE and the kernel module."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from .machine import Machine, join_facts
from .report import Check

__all__ = ["check_fuse", "check_module"]


def check_fuse(machine: Machine) -> Iterator[Check]:
    """Check what a FUSE mount needs."""
    yield _fuse_device(machine)
    yield _fuse_filesystem(machine)
    yield _fusermount(machine)
    yield _allow_other(machine)


def _fuse_device(machine: Machine) -> Check:
    name = "fuse/device"
    loaded = "fuse" in machine.filesystems
    container = "in a container: docker run --device /dev/fuse --cap-add SYS_ADMIN"
    if not machine.exists("/dev/fuse"):
        host = "sudo mknod -m 666 /dev/fuse c 10 229" if loaded else "sudo modprobe fuse"
        return Check(name, "missing", "no /dev/fuse", advice=f"{host}\n{container}")
    # Opening the node of a module not yet loaded would load it; looking must change nothing.
    if loaded:
        error = machine.open_error("/dev/fuse", os.O_RDWR)
    else:
        error = None if machine.accessible("/dev/fuse") else "Permission denied"
    if error:
        return Check(
            name,
            "warning",
            f"/dev/fuse: {error}",
            advice=f"sudo chmod 666 /dev/fuse\n{container}",
        )
    return Check(name, "ok", "/dev/fuse can be opened")


def _fuse_filesystem(machine: Machine) -> Check:
    name = "fuse/filesystem"
    if "fuse" in machine.filesystems:
        return Check(name, "ok", "the kernel has FUSE")
    option = machine.config("CONFIG_FUSE_FS")
    file = machine.module_file("fuse")
    detail = join_facts([("CONFIG_FUSE_FS", option), ("module", file)])
    if file:
        return Check(name, "warning", "FUSE is not loaded", detail, "sudo modprobe fuse")
    return Check(
        name,
        "missing",
        "the kernel has no FUSE and no module for it",
        detail,
        "use a kernel with CONFIG_FUSE_FS=y or =m; in a container: on the host",
    )


def _fusermount(machine: Machine) -> Check:
    name = "fuse/fusermount3"
    program = machine.which("fusermount3")
    if program is None:
        return Check(
            name,
            "missing",
            "fusermount3 is not in PATH, so that only root can mount",
            advice=machine.install("fuse3"),
        )
    try:
        mode = machine.path(program).stat().st_mode
    except OSError:
        mode = 0
    if not mode & stat.S_ISUID:
        return Check(
            name,
            "warning",
            f"{program} is not setuid, so that only root can mount",
            advice=f"sudo chown root {program} && sudo chmod u+s {program}",
        )
    return Check(name, "ok", f"{program}, setuid")


def _allow_other(machine: Machine) -> Check:
    name = "fuse/allow-other"
    settings = {line.partition("#")[0].strip() for line in machine.lines("/etc/fuse.conf")}
    if "user_allow_other" in settings:
        return Check(name, "ok", "user_allow_other is set")
    return Check(
        name,
        "warning",
        "user_allow_other is not set: a user's mount is visible to that user only",
        advice="echo user_allow_other | sudo tee -a /etc/fuse.conf",
    )


def check_module(machine: Machine) -> Iterator[Check]:
    """Check the daxfs kernel module: loaded, installed, buildable."""
    yield _module_loaded(machine)
    yield _module_file(machine)
    yield _module_headers(machine)


def _module_loaded(machine: Machine) -> Check:
    name = "module/loaded"
    if "daxfs" in machine.filesystems:
        version = machine.value("/sys/module/daxfs/version")
        return Check(name, "ok", f"daxfs {version or 'of unknown version'} is loaded")
    advice = "sudo daxfs module load"
    if machine.lockdown in ("integrity", "confidentiality"):
        advice += "\nlockdown takes signed modules only: enrol the signing key, mokutil --import"
    return Check(name, "missing", "the kernel has no daxfs; mounting uses FUSE", "", advice)


def _module_file(machine: Machine) -> Check:
    name = "module/file"
    indexed = machine.module_file("daxfs")
    if indexed:
        return Check(name, "ok", f"{machine.modules}/{indexed}")
    for directory in ("updates/dkms", "updates", "extra", "kernel/fs/daxfs"):
        for file in machine.names(f"{machine.modules}/{directory}"):
            if file.startswith("daxfs.ko"):
                path = f"{machine.modules}/{directory}/{file}"
                return Check(
                    name,
                    "warning",
                    f"{path} is not in the index of modprobe",
                    advice="sudo depmod",
                )
    return Check(
        name,
        "missing",
        f"no daxfs.ko below {machine.modules}",
        advice="sudo daxfs module install",
    )


def _module_headers(machine: Machine) -> Check:
    name = "module/headers"
    build = f"{machine.modules}/build"
    if machine.exists(f"{build}/Makefile"):
        return Check(name, "ok", build)
    release = machine.release or "$(uname -r)"
    return Check(
        name,
        "missing",
        f"no kernel headers at {build}",
        advice=machine.install(
            f"linux-headers-{release}",
            fedora=f"kernel-devel-{release}",
            arch="linux-headers",
            suse="kernel-default-devel",
            alpine="linux-lts-dev",
        ),
    )
