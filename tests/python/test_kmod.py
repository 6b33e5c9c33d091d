# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects the way to the kernel's module: sources become the right options, what the kernel cannot
serve is left to others, and the package carries everything that the module is built from.

That it mounts is tested in booted kernels.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

import daxfs
from daxfs import _daxfs, errors, kmod
from daxfs.cli.mount import helper
from support.small import Run

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("source", "options", "settings"),
    [
        ("phys:0x100000000", [], [("source", "phys:0x100000000"), ("phys", "0x100000000")]),
        (
            "phys:4G+64M",
            ["ro", "validate"],
            [
                *(("source", "phys:4G+64M"), ("phys", "0x100000000"), ("size", "67108864")),
                ("validate", None),
            ],
        ),
        (
            "none",
            ["phys=0x1000", "size=1M", "defaults", "x-systemd.automount", "idmap", "actimeo=1"],
            [("source", "none"), ("phys", "0x1000"), ("size", "1M")],
        ),
        (
            "none",
            ["nosuid", "phys=0x1000", "noatime", "nofail", "_netdev", "user=me", "X-own", "sync"],
            [("source", "none"), ("nosuid", None), ("phys", "0x1000"), ("noatime", None)],
        ),
        ("dmabuf:7", [], [("source", "dmabuf:7"), ("dmabuf", "7")]),
        ("/dev/null", [], [("source", "/dev/null")]),
        ("/dev/dax99.0", [], [("source", "/dev/dax99.0")]),
        ("/etc/passwd", ["ro"], None),
        ("/nowhere/image", [], None),
    ],
)
def test_sources_become_options(
    source: str, options: list[str], settings: kmod.Settings | None
) -> None:
    assert kmod.settings_of(source, options) == settings


def test_what_the_module_does_not_know_is_not_for_it() -> None:
    assert not kmod.can_serve("/etc/passwd")
    assert not kmod.can_serve("phys:0x1000", ["branch=main"])


class Mounted:
    """Stands in for the ways to mount, and notes which were taken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refusal: OSError | None = None) -> None:
        self.calls: list[tuple[object, ...]] = []

        def by_kernel(_target: object, settings: kmod.Settings) -> None:
            self.calls.append(("kernel", settings[1:]))
            if refusal is not None:
                raise refusal

        def by_fuse(source: object, _target: object, options: str, *, foreground: bool) -> None:
            assert not foreground
            self.calls.append(("fuse", source, options))

        monkeypatch.setattr(_daxfs, "mount_kernel", by_kernel)
        monkeypatch.setattr(_daxfs, "mount_fuse", by_fuse)
        monkeypatch.setattr(kmod, "_is_loaded", lambda: True)


MEMORY = "phys:0x1000"
AT = ("phys", "0x1000")


@pytest.mark.parametrize(
    ("source", "options", "calls"),
    [
        (MEMORY, "", [("kernel", [AT])]),
        (MEMORY, "rw,ro", [("kernel", [AT])]),
        (MEMORY, "noatime,nofail", [("kernel", [AT, ("noatime", None)])]),
        (MEMORY, "kernel,nosuid", [("kernel", [AT, ("nosuid", None)])]),
        ("none", "nosuid,phys=0x1000", [("kernel", [("nosuid", None), AT])]),
        (MEMORY, "rw", [("fuse", MEMORY, "rw")]),
        (MEMORY, "ro,branch=b", [("fuse", MEMORY, "ro,branch=b")]),
        (MEMORY, "fuse,nosuid", [("fuse", MEMORY, "nosuid")]),
        (MEMORY, "allow_other", [("fuse", MEMORY, "allow_other")]),
        ("none", "rw,phys=0x1000,size=1M", [("fuse", "phys:0x1000+1M", "rw")]),
        ("none", "rw,dax=/dev/dax9.0", [("fuse", "/dev/dax9.0", "rw")]),
        ("/etc/passwd", "", [("fuse", "/etc/passwd", "")]),
    ],
)
def test_who_asks_to_write_gets_fuse(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    source: str,
    options: str,
    calls: list[tuple[object, ...]],
) -> None:
    mounted = Mounted(monkeypatch)
    daxfs.mount(source, tmp_path, options)
    assert mounted.calls == calls


@pytest.mark.parametrize("word", ["rw", "branch=b", "parent=main"])
def test_the_module_is_not_asked_to_write(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, word: str
) -> None:
    mounted = Mounted(monkeypatch)
    with pytest.raises(errors.InvalidError, match=f"^{word}: the kernel's module reads main only"):
        daxfs.mount(MEMORY, tmp_path, f"kernel,{word}")
    assert not mounted.calls


@pytest.mark.parametrize(
    "refusal",
    [
        errors.BackingError(errno.EOPNOTSUPP, "the kernel cannot mount it: mount with FUSE"),
        errors.SystemCallError(errno.EPERM, "mount: Operation not permitted"),
        errors.BackingError(
            errno.EINVAL, "vdb: not a device whose memory can be addressed, or in use"
        ),
    ],
    ids=lambda refusal: errno.errorcode[refusal.errno],
)
def test_fuse_takes_what_the_kernel_refuses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refusal: OSError
) -> None:
    mounted = Mounted(monkeypatch, refusal)
    daxfs.mount("none", tmp_path, "ro,phys=0x1000,validate")
    assert mounted.calls == [("kernel", [AT, ("validate", None)]), ("fuse", MEMORY, "ro,validate")]
    with pytest.raises(type(refusal)):
        daxfs.mount(MEMORY, tmp_path, "kernel")
    assert mounted.calls[2:] == [("kernel", [AT])]


def test_a_module_that_cannot_be_loaded_is_done_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refusal = errors.BackingError(errno.ENODEV, "this kernel has no module daxfs")
    mounted = Mounted(monkeypatch, refusal)
    monkeypatch.setattr(kmod, "_is_loaded", lambda: False)
    monkeypatch.setattr(kmod, "is_available", lambda: True)
    monkeypatch.setattr(kmod, "_modprobe", lambda: None)
    daxfs.mount(MEMORY, tmp_path)
    assert mounted.calls == [("kernel", [AT]), ("fuse", MEMORY, "")]


def test_an_image_that_is_wrong_is_not_tried_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number in (errno.EUCLEAN, errno.EINVAL, errno.ENODEV, errno.EBUSY):
        mounted = Mounted(monkeypatch, errors.BackingError(number, "no image at 0x1000"))
        with pytest.raises(errors.BackingError, match="no image"):
            daxfs.mount(MEMORY, tmp_path)
        assert mounted.calls == [("kernel", [AT])]


@pytest.mark.parametrize(("value", "taken"), [("1\n", True), ("0\n", False), (None, False)])
@pytest.mark.parametrize("partition", [False, True])
def test_block_devices_are_taken_where_they_are_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str | None, taken: bool, partition: bool
) -> None:
    disk = tmp_path / "devices" / "pmem0"
    (disk / "pmem0p1").mkdir(parents=True)
    (disk / "queue").mkdir()
    if value is not None:
        (disk / "queue" / "dax").write_text(value)
    (disk / "pmem0p1" / "partition").write_text("1\n")
    (tmp_path / "259:7").symlink_to(disk / "pmem0p1" if partition else disk)
    monkeypatch.setattr(kmod, "_BLOCK_DEVICES", tmp_path)
    found = os.stat_result((stat.S_IFBLK | 0o660, *[0] * 9), {"st_rdev": os.makedev(259, 7)})
    plain = os.stat

    def stat_of(path: str | os.PathLike[str], **how: bool) -> os.stat_result:
        # Nobody but root could make such a node.
        return found if path == "/dev/some" else plain(path, **how)

    with monkeypatch.context() as patch:
        patch.setattr("os.stat", stat_of)
        settings = kmod.settings_of("/dev/some", ["ro"])
    assert settings == ([("source", "/dev/some")] if taken else None)


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        # mount(8) says rw where nobody did.
        ("rw,phys=0x1000", [("kernel", [AT])]),
        ("rw,kernel,phys=0x1000", [("kernel", [AT])]),
        ("rw,nofail", [("fuse", "none", "rw,nofail")]),
    ],
)
def test_what_mount_8_says_is_understood(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: str, calls: list[tuple[object, ...]]
) -> None:
    mounted = Mounted(monkeypatch)
    done = CliRunner().invoke(helper, ["none", str(tmp_path), "-o", options])
    assert (done.exit_code, mounted.calls) == (0, calls)


def test_a_remount_passes_over_what_the_module_was_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    monkeypatch.setattr(_daxfs, "remount", lambda _point, options: said.append(options))
    told = "remount,ro,phys=0x1000,size=1M,dax=/dev/dax0.0,dmabuf,dmabuf=3,validate,nosuid"
    daxfs.mount("none", tmp_path, told)
    assert said == ["remount,ro,nosuid"]


def test_a_file_is_refused_in_words(run: Run, tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidError, match="devices"):
        kmod.mount("/etc/passwd", tmp_path)
    done = run("mount.daxfs", "-o", "kernel", "/etc/passwd", tmp_path, status=32)
    assert b"/etc/passwd: the kernel mounts devices" in done.stderr
    done = run("mkdaxfs", "-d", tmp_path, "-o", tmp_path / "x", "-m", tmp_path, status=2)
    assert b"-m mounts what lies in memory" in done.stderr
    assert not (tmp_path / "x").exists()


def test_the_package_has_every_source() -> None:
    files = {file.name: file.read_text() for file in (ROOT / "kernel").iterdir() if file.is_file()}
    built = re.compile(r"\.(ko|o|mod|mod\.c|cmd|symvers|order)$")
    files = {name: text for name, text in files.items() if not built.search(name)}
    assert dict(_daxfs.module_sources()) == files


def test_versions_agree() -> None:
    sources = dict(_daxfs.module_sources())
    version = re.escape(_daxfs.__version__)
    assert re.search(rf'MODULE_VERSION\("{version}"\)', sources["vfs_super.c"])
    assert re.search(rf'^PACKAGE_VERSION="{version}"$', sources["dkms.conf"], re.MULTILINE)


def test_headers_that_are_missing_are_named(run: Run, tmp_path: Path) -> None:
    done = run("daxfs", "module", "build", "--headers", tmp_path, status=1)
    assert str(tmp_path).encode() in done.stderr
    assert b"linux-headers" in done.stderr


@pytest.mark.parametrize("name", ["a b", "a:b", "a%b"])
def test_a_directory_that_kbuild_cannot_work_in_is_named(
    run: Run, tmp_path: Path, name: str
) -> None:
    scratch, headers = tmp_path / name, tmp_path / "headers"
    scratch.mkdir()
    headers.mkdir()
    (headers / "Makefile").touch()
    env = {**os.environ, "TMPDIR": str(scratch)}
    done = run("daxfs", "module", "build", "--headers", headers, status=1, env=env)
    assert str(scratch).encode() in done.stderr
    assert b"set TMPDIR" in done.stderr


@pytest.fixture
def headers(tmp_path: Path) -> Path:
    """Return what looks like another kernel's build directory."""
    directory = tmp_path / "headers"
    for file, text in (
        # As in Debian 12, where it is not what uname prints.
        ("config/kernel.release", "1.2.3\n"),
        ("generated/utsrelease.h", '#define UTS_RELEASE "1.2.3-other"\n'),
    ):
        path = directory / "include" / file
        path.parent.mkdir(parents=True)
        path.write_text(text)
    (directory / "Makefile").write_text("modules:\n\t@echo $(M) >$(M)/daxfs.ko\nmodules_install:\n")
    return directory


def test_headers_may_be_named_from_where_one_is(
    run: Run, headers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = headers.parent
    monkeypatch.chdir(top)
    run("daxfs", "module", "build", "--headers", headers.name)
    assert (top / "daxfs.ko").exists()
    blank = headers.rename(top / "a b")
    done = run("daxfs", "module", "build", "--headers", blank, status=1)
    assert b"give another path" in done.stderr


def test_a_module_that_has_no_place_is_not_built(run: Run, headers: Path, tmp_path: Path) -> None:
    (headers / "Makefile").write_text(f"modules:\n\t@touch {tmp_path}/built $(M)/daxfs.ko\n")
    (tmp_path / "file").touch()
    for place, words in (("none", b"No such file"), ("file", b"Not a directory")):
        command = ("daxfs", "module", "build", "--headers", headers, "-o", tmp_path / place)
        assert words in run(*command, status=1).stderr
    assert not (tmp_path / "built").exists()
    run("daxfs", "module", "build", "--headers", headers, "-o", tmp_path)
    assert (tmp_path / "built").exists()


def test_headers_say_what_kernel_they_are_of(run: Run, headers: Path, tmp_path: Path) -> None:
    tool = tmp_path / "bin/depmod"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/asked\n')
    tool.chmod(0o755)
    env = {**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}"}
    done = run("daxfs", "module", "install", "--headers", headers, env=env)
    assert done.stdout == b"installed for 1.2.3-other\n"
    assert (tmp_path / "asked").read_text() == "-a 1.2.3-other\n"
    other = ("--headers", headers, "--release", "4.5.6")
    done = run("daxfs", "module", "install", *other, status=1, env=env)
    assert b"the headers of 1.2.3-other, not of 4.5.6" in done.stderr


def test_the_status_is_told(run: Run) -> None:
    loaded = "daxfs" in Path("/proc/filesystems").read_text()
    done = run("daxfs", "module", "status", status=0 if loaded else 1)
    assert b"module/loaded" in done.stdout
    assert b"module/headers" in done.stdout
    told = json.loads(run("daxfs", "module", "status", "--json", status=done.returncode).stdout)
    everything = json.loads(run("daxfs", "doctor", "--json").stdout)
    # Written as an examination of the machine writes it.
    assert [check for check in told["checks"] if check not in everything["checks"]] == []
