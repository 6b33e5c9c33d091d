# SPDX-License-Identifier: Apache-2.0 OR MIT
"""mount(8) and its helper, and what a remount changes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import daxfs
from daxfs import control
from support.mounts import Mounts


def test_mount_8_finds_the_helper(mounts: Mounts, tree: Path) -> None:
    image, writable, point = mounts.build(tree), mounts.build(tree, "16M"), mounts.point()
    done = mounts.with_helpers(
        f"mount -t daxfs {image} {point} && "
        f"ls {point} && grep 'fuse.daxfs ro,' /proc/mounts && umount {point} && "
        f"mount -t daxfs -o 'branch=b\\,c,parent=main' {writable} {point} && touch {point}/new && "
        f"mount -o remount,ro,nosuid {point} && ! touch {point}/more 2>/dev/null && "
        f"grep 'fuse.daxfs ro,nosuid,' /proc/mounts && mount -o remount,rw {point} && "
        f"rm {point}/new && umount {point}"
    )
    assert done.returncode == 0, done.stdout
    assert str(image) in done.stdout
    with daxfs.open(writable) as opened:
        assert [branch.name for branch in opened.branches] == ["main", "b,c"]


def test_mount_8_reads_what_others_write(mounts: Mounts, empty: Path) -> None:
    """It says rw where nobody did."""
    work = mounts.mount(empty, "branch=work,parent=main")
    _mounts_for_reading(mounts, empty)
    control.abort(work)
    control.switch(work, "main")
    (work / "file").touch()
    _mounts_for_reading(mounts, empty)


def test_mount_8_reads_what_lies_on_a_read_only_medium(
    mounts: Mounts, empty: Path, scratch: Path
) -> None:
    medium = scratch / "medium"
    medium.mkdir()
    shutil.copy(empty, medium / "image")
    subprocess.run(["mount", "--bind", medium, medium], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", medium], check=True)
        _mounts_for_reading(mounts, medium / "image")
    finally:
        subprocess.run(["umount", medium], check=True)


def _mounts_for_reading(mounts: Mounts, image: Path) -> None:
    point = mounts.point()
    done = mounts.with_helpers(
        f"mount -t daxfs {image} {point} && grep '{point} fuse.daxfs ro,' /proc/mounts && "
        f"umount {point} && ! mount -t daxfs -o branch=work {image} {point}"
    )
    assert done.returncode == 0, done.stdout
    assert f"mount.daxfs: {image}: cannot be written, mounted read-only" in done.stdout


def test_the_helper_says_read_only_of_what_is_mounted_so(mounts: Mounts, tree: Path) -> None:
    image, point = mounts.build(tree), mounts.point()
    said = mounts.run("mount.daxfs", image, point, "-o", "rw,nosuid,rw")
    assert said == f"mount.daxfs: {image}: cannot be written, mounted read-only\n"
    assert _options(point) >= {"ro", "nosuid"}
    said = mounts.run("mount.daxfs", image, point / "missing", "-o", "rw", status=32)
    assert "No such file" in said
    assert "mounted read-only" not in said


def test_who_takes_a_mount_away_can_write_at_once(mounts: Mounts, empty: Path) -> None:
    point = mounts.mount(empty, "branch=work,parent=main")
    for number in range(30):
        (point / "file").write_text(str(number))
        daxfs.unmount(point)
        with daxfs.open(empty, writable=True) as image, image.branch("work", keep=True) as branch:
            assert branch.read_text("file") == str(number)
            branch.write_text("other", str(number))
        mounts.mount(empty, "branch=work", point)
        assert (point / "other").read_text() == str(number)


def test_a_remount_changes_what_it_says_alone(mounts: Mounts, tree: Path, empty: Path) -> None:
    point = mounts.mount(mounts.build(tree), "ro,nosuid,nodev,noatime")
    assert _options(point) >= {"ro", "nosuid", "nodev", "noatime"}
    mounts.run("daxfs", "mount", "-o", "remount,noexec,dev", "image", point)
    assert _options(point) >= {"ro", "nosuid", "noexec", "noatime"}
    mounts.run("daxfs", "mount", "-o", "remount,atime", "image", point)
    assert "nodev" not in _options(point)
    assert _options(point) >= {"ro", "nosuid", "noexec", "relatime"}
    point = mounts.mount(empty, "rw,sync")
    mounts.run("daxfs", "mount", "-o", "remount,nosuid", "image", point)
    assert _options(point) >= {"rw", "nosuid", "sync"}
    mounts.run("daxfs", "mount", "-o", "remount,ro", "image", point)
    mounts.run("daxfs", "mount", "-o", "remount,nosuid,rw", "image", point)
    (point / "made").touch()


def test_what_cannot_be_remounted_stays(
    mounts: Mounts, tree: Path, empty: Path, scratch: Path
) -> None:
    # Whoever serves them only reads.
    for image in (empty, mounts.build(tree)):
        point = mounts.mount(image, "ro")
        said = mounts.run("daxfs", "mount", "-o", "remount,rw", image, point, status=1)
        assert "mounted for reading" in said
        assert "ro" in _options(point)
    foreign = mounts.point()
    subprocess.run(["mount", "-t", "tmpfs", "none", foreign], check=True)
    for options in ("remount,ro", "remount,rw", "remount"):
        for point in (foreign, scratch):
            said = mounts.run("daxfs", "mount", "-o", options, empty, point, status=1)
            assert "no image is mounted there" in said
    assert "rw" in _options(foreign)


def test_a_remount_shows_no_other_branch(mounts: Mounts, tree: Path, empty: Path) -> None:
    """A line of /etc/fstab, with all its options, is no mistake."""
    point = mounts.mount(empty, r"branch=one\,two,parent=main,nocontrol,threads=2,allow_other")
    line = r"remount,nosuid,branch=one\,two,parent=main,validate,nocontrol,threads=3,noallow_other"
    mounts.run("daxfs", "mount", "-o", line, empty, point)
    assert "nosuid" in _options(point)
    static = mounts.mount(mounts.build(tree))
    mounts.run("daxfs", "mount", "-o", "remount,branch=main", empty, static)
    for where in (point, static):
        said = mounts.run("daxfs", "mount", "-o", "remount,dev,branch=c", empty, where, status=1)
        assert f"`daxfs-branch switch c -m {where}` does" in said


def test_options_of_mount_8(mounts: Mounts, tree: Path) -> None:
    image, point = mounts.build(tree), mounts.point()
    done = mounts.with_helpers(
        "for option in lazytime strictatime nosymfollow iversion nolazytime nostrictatime "
        "symfollow noiversion nomand loud X-own.word; do "
        f"mount -t daxfs -o ro,$option {image} {point} && "
        f"grep {point} /proc/mounts && umount {point} || exit; done"
    )
    assert done.returncode == 0, done.stdout
    found = [set(line.split()[3].split(",")) for line in done.stdout.splitlines()]
    assert len(found) == 11
    assert "lazytime" in found[0]
    assert "relatime" not in found[1]
    assert "nosymfollow" in found[2]


def test_reading_changes_no_access_time(mounts: Mounts, tree: Path) -> None:
    (tree / "old").write_text("old")
    os.utime(tree / "old", (1, 2))
    point = mounts.mount(mounts.build(tree, "16M"), "rw,strictatime")
    (point / "new").write_text("new")
    os.utime(point / "new", (3, 4))
    for name, accessed in (("old", 2), ("new", 3)):
        (point / name).read_text()
        assert (point / name).stat().st_atime == accessed


def test_a_mount_is_taken_away_through_a_symbolic_link(
    mounts: Mounts, tree: Path, scratch: Path
) -> None:
    point, link = mounts.point(), scratch / "link"
    link.symlink_to(point)
    image = mounts.build(tree)
    mounts.mount(image, point=link)
    assert point.is_mount()
    mounts.run("daxfs", "umount", link)
    assert not point.is_mount()
    # Also when nobody answers there any more.
    mounts.mount(image, point=point)
    mounts.kill(point)
    mounts.run("daxfs", "umount", link)
    assert str(point) not in Path("/proc/mounts").read_text()


def _options(point: Path) -> set[str]:
    """Options of a mount, as the kernel shows them."""
    lines = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return next(set(words[3].split(",")) for words in lines if words[1] == str(point))
