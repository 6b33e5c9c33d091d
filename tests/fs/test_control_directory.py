# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Every branch can be had through one mount, by its name in the control directory."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

import daxfs
from daxfs import control
from support.mounts import Mounts, fails_with

LIBC = ctypes.CDLL(None, use_errno=True)
EXCHANGE = 2


def renameat2(directory: Path, old: str, new: str, flags: int) -> None:
    """Rename in a directory, as `os` cannot."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        if LIBC.renameat2(fd, old.encode(), fd, new.encode(), flags):
            raise OSError(ctypes.get_errno(), "renameat2")
    finally:
        os.close(fd)


def test_every_branch_in_the_control_directory(mounts: Mounts, image: Path) -> None:
    point = mounts.mount(image, "branch=one,parent=main")
    control.create(point, "two", "main")
    assert ".daxfs" not in os.listdir(point)
    assert sorted(os.listdir(point / ".daxfs")) == ["@main", "@one", "@two"]
    one, two = point / ".daxfs/@one", point / ".daxfs/@two"
    (one / "dir/in one").write_text("1")
    (two / "dir/in two").write_text("2")
    assert sorted(os.listdir(one / "dir")) == ["in one", "other"]
    assert sorted(os.listdir(point / "dir")) == ["in two", "other"]
    assert (one / "file").stat().st_ino != (two / "file").stat().st_ino
    assert fails_with(errno.EXDEV, lambda: (one / "file").rename(two / "moved"))
    assert fails_with(errno.EXDEV, lambda: os.link(one / "file", two / "moved"))
    assert fails_with(errno.EROFS, lambda: (point / ".daxfs/@main/x").touch())
    assert fails_with(errno.ENOENT, lambda: os.listdir(point / ".daxfs/@three"))
    control.commit(point, "one")
    # The other one lost, and what is mounted with it.
    assert fails_with(errno.ESTALE, lambda: (point / "file").read_text())
    control.switch(point, "main")
    assert (point / "dir/in one").exists()


def test_a_list_of_branches_stays_while_some_end(mounts: Mounts, image: Path) -> None:
    """More of them than the kernel asks for at once."""
    names = [f"b{number}" for number in range(240)]
    with daxfs.open(image, writable=True) as opened:
        for name in names:
            opened.branch(name).release()
        point = mounts.mount(image)
        with os.scandir(point / ".daxfs") as entries:
            seen = [next(entries).name]
            for name in names[:120]:
                opened.abort_branch(name)
            seen += [entry.name for entry in entries]
    assert len(seen) == len(set(seen))
    assert {"@main", *(f"@{name}" for name in names[120:])} <= set(seen)


def test_a_branch_in_the_control_directory_moves_on_after_it_was_written(
    mounts: Mounts, image: Path
) -> None:
    point = mounts.mount(image, "branch=work,parent=main")
    control.commit(point)
    control.switch(point, "main")
    main = point / ".daxfs/@main"
    # Held from here on, until a branch is made of it.
    (main / "dir/mine").touch()
    assert (main / "file").read_text() == "base"
    assert not (main / "dir/new").exists()
    control.create(point, "other")
    (point / "file").write_text("other's")
    (point / "dir/new").touch()
    (point / "dir/mine").unlink()
    control.commit(point)
    assert (main / "file").read_text() == "other's"
    assert (main / "dir/new").exists()
    assert not (main / "dir/mine").exists()


def test_the_mounted_branch_in_the_control_directory_is_the_root(
    mounts: Mounts, image: Path
) -> None:
    point = mounts.mount(image, "branch=work,parent=main")
    work = point / ".daxfs/@work"
    assert work.is_symlink()
    assert not (point / ".daxfs/@main").is_symlink()
    for writer, reader in ((point, work), (work, point)):
        assert not (reader / "dir/new").exists()
        (writer / "dir/new").write_text("long")
        assert (reader / "dir/new").read_text() == "long"
        (writer / "dir/new").write_text("a")
        with (reader / "dir/new").open("a") as file:
            file.write("b")
        assert (writer / "dir/new").read_text() == "ab"
        (reader / "dir/new").unlink()
    # One that was entered there, and is mounted then.
    control.create(point, "two", "main")
    assert (work / "file").read_text() == "base"
    assert not work.is_symlink()
    (work / "file").write_text("two's")
    held = os.open(work / "file", os.O_RDONLY)
    control.switch(point, "work")
    assert work.is_symlink()
    assert (point / "file").read_text() == "two's"
    (point / "file").write_text("root's")
    assert (work / "file").read_text() == "root's"
    assert fails_with(errno.ESTALE, lambda: os.read(held, 1))
    os.close(held)
    mounts.sound(image)


def test_no_control_directory_if_not_wanted(mounts: Mounts, image: Path) -> None:
    point = mounts.mount(image, "rw,nocontrol")
    assert not (point / ".daxfs").exists()


def test_nothing_takes_the_name_of_the_control_directory(mounts: Mounts, image: Path) -> None:
    point = mounts.mount(image, "rw")
    control_name, inside = point / ".daxfs", point / "dir"
    for number, work in [
        (errno.EEXIST, lambda: os.rename(inside, control_name)),
        (errno.EEXIST, lambda: renameat2(point, "dir", ".daxfs", EXCHANGE)),
        (errno.EPERM, lambda: renameat2(point, ".daxfs", "dir", EXCHANGE)),
        (errno.EEXIST, lambda: os.link(point / "file", control_name)),
        (errno.EEXIST, control_name.mkdir),
        (errno.EEXIST, lambda: os.symlink("file", control_name)),
        (errno.EEXIST, lambda: os.mkfifo(control_name)),
        (errno.EPERM, lambda: os.rename(control_name, point / "moved")),
        (errno.EPERM, lambda: os.rmdir(control_name)),
    ]:
        assert fails_with(number, work)
    assert sorted(os.listdir(point)) == ["dir", "file"]
    # Below the root it is a name like any other.
    os.rename(point / "file", inside / ".daxfs")
    assert (inside / ".daxfs").read_text() == "base"


def test_a_tree_with_the_name_of_the_control_directory(mounts: Mounts, scratch: Path) -> None:
    tree = scratch / "tree"
    (tree / ".daxfs/inner").mkdir(parents=True)
    image = mounts.build(tree, "16M")
    point = mounts.mount(image, "rw")
    assert os.listdir(point) == []
    assert os.listdir(point / ".daxfs") == ["@main"]
    assert fails_with(errno.EPERM, lambda: os.rename(point / ".daxfs", point / "moved"))
    control.create(point, "other")
    main = point / ".daxfs/@main"
    assert (os.listdir(main), os.listdir(main / ".daxfs")) == ([".daxfs"], ["inner"])
    mounts.unmount(point)
    daxfs.open(image, writable=True).abort_branch("other")
    for other in (mounts.mount(image, "rw,nocontrol"), mounts.mount(mounts.build(tree))):
        assert os.listdir(other) == [".daxfs"]
        assert os.listdir(other / ".daxfs") == ["inner"]
