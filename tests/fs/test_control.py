# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Branches are made, switched, committed and aborted through a mount, and nothing of one is ever
taken for another's."""

from __future__ import annotations

import errno
import faulthandler
import fcntl
import itertools
import mmap
import os
import shutil
import signal
import stat
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

import daxfs
from daxfs import control
from daxfs.errors import BranchBusyError, BranchStaleError, DaxfsError, UnsupportedError
from support.mounts import Mounts, fails_with
from support.pages import is_cached
from support.users import as_user


def dies_of_a_bus_error(work: Callable[[], object]) -> bool:
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGBUS


def shown(point: Path) -> str:
    return next(branch.name for branch in control.branches(point) if branch.mounted)


def test_create_shows_the_new_branch(mounts: Mounts, image: Path) -> None:
    point = mounts.mount(image, "rw")
    (point / "file").write_text("main's")
    control.create(point, "work")
    main, work = control.branches(point)
    assert (main.name, main.mounted, main.parent) == ("main", False, None)
    assert (work.name, work.mounted, work.parent) == ("work", True, "main")
    assert work.owner_pid is not None
    assert not work.owner_dead
    assert (point / "file").read_text() == "main's"
    (point / "file").write_text("work's")
    control.create(point, "deeper")
    assert shown(point) == "deeper"
    assert (point / "file").read_text() == "work's"


# Gives the names in a list, while another party does something between its parts.
NamesWhile = Callable[[Callable[[daxfs.Image], object]], list[str]]


@pytest.fixture
def names_while(
    mounts: Mounts, image: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[NamesWhile]:
    """List more branches than one answer holds."""
    with daxfs.open(image, writable=True) as party:
        for number in range(70):
            party.branch(f"b{number:02}").close()
        point = mounts.mount(image, "branch=b00")

        def names(work: Callable[[daxfs.Image], object]) -> list[str]:
            pending = [work]

            def ioctl(*arguments: object) -> object:
                done = fcntl.ioctl(*arguments)  # type: ignore[call-overload]
                while pending:
                    pending.pop()(party)
                return done

            monkeypatch.setattr(control, "fcntl", SimpleNamespace(ioctl=ioctl))
            found = [one.name for one in control.branches(point)]
            assert not pending
            return found

        yield names


def test_a_long_list_leaves_out_no_branch_when_others_end(names_while: NamesWhile) -> None:
    def change(party: daxfs.Image) -> None:
        party.abort_branch("b05")
        party.branch("new").close()

    names = names_while(change)
    lasting = {f"b{number:02}" for number in range(70)} - {"b05"}
    assert len(names) == len(set(names))
    assert {"main", *lasting} <= set(names) <= {"main", *lasting, "b05", "new"}


def test_a_long_list_is_of_one_main(names_while: NamesWhile) -> None:
    def change(party: daxfs.Image) -> None:
        party.commit_branch("b69")
        for number in range(70):
            party.branch(f"n{number:02}").close()

    assert names_while(change) == ["main", *(f"n{number:02}" for number in range(70))]


def test_commit_leaves_main_and_makes_what_is_open_stale(mounts: Mounts, image: Path) -> None:
    point = mounts.mount(image, "branch=work,parent=main")
    inside = os.open(point / "dir", os.O_RDONLY)
    with (point / "file").open("r+b") as file, mmap.mmap(file.fileno(), 4) as mapped:
        mapped[:4] = b"MMAP"
        control.commit(point)
        assert shown(point) == "main"
        for work in (
            lambda: os.read(file.fileno(), 1),
            lambda: os.write(file.fileno(), b"x"),
            lambda: os.fstat(file.fileno()),
            lambda: os.fsync(file.fileno()),
            lambda: os.listdir(inside),
            lambda: os.stat("other", dir_fd=inside),
        ):
            assert fails_with(errno.ESTALE, work)
        assert dies_of_a_bus_error(lambda: mapped[0])
    os.close(inside)
    # What was changed through the mapping was committed.
    assert (point / "file").read_text() == "MMAP"
    assert [branch.name for branch in control.branches(point)] == ["main"]


@pytest.mark.parametrize("where", ["mounted", "beside"])
def test_what_mappings_changed_is_committed(mounts: Mounts, empty: Path, where: str) -> None:
    """Until 6.15 the kernel writes copies of pages and calls the pages themselves written, so that
    what is on its way can be lost sight of."""
    point = mounts.mount(empty, "rw")
    size = 8 << 20
    for number in range(8):
        control.create(point, "work")
        if where == "beside":
            control.create(point, "other", "main")
        top = point if where == "mounted" else point / ".daxfs/@work"
        (top / "dir").mkdir(exist_ok=True)
        with (top / "dir/pages").open("w+b") as file:
            file.truncate(size)
            with mmap.mmap(file.fileno(), size) as mapped:
                for at in range(0, size, mmap.PAGESIZE):
                    mapped[at] = number + 1
                control.commit(point, "work")
        control.switch(point, "main")
        pages = (point / "dir/pages").read_bytes()[:: mmap.PAGESIZE]
        assert pages == bytes([number + 1]) * (size // mmap.PAGESIZE)


def store_until_killed(path: Path) -> int:
    """Start a process that changes pages of a file through a mapping, again and again."""
    begun, told = os.pipe()
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        # It would be the one that listens, and not go on once the pipe is full.
        os.close(begun)
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            for at in itertools.cycle(range(0, len(mapped), mmap.PAGESIZE)):
                mapped[at] ^= 1
                if at == 0:
                    # Once that is known, nobody listens.
                    with suppress(BrokenPipeError):
                        os.write(told, b".")
    os.close(told)
    assert os.read(begun, 1) == b"."
    os.close(begun)
    return child


@pytest.mark.parametrize("order", [control.abort, control.commit])
def test_who_goes_on_storing_stands_in_nobodys_way(
    mounts: Mounts, empty: Path, order: Callable[[Path, str], object]
) -> None:
    """What is changed while a branch ends is lost with it, and no later order is told of that."""
    point = mounts.mount(empty, "rw")
    for number in range(25):
        control.create(point, f"work-{number}")
        (point / "pages").write_bytes(bytes(8 * mmap.PAGESIZE))
        children = [store_until_killed(point / "pages") for _ in range(3)]
        order(point, f"work-{number}")
        ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        assert ends == [-signal.SIGBUS] * 3


def test_what_mappings_could_not_write_is_not_committed(mounts: Mounts, scratch: Path) -> None:
    tree = scratch / "small"
    tree.mkdir()
    image = mounts.build(tree, "8M")
    point = mounts.mount(image, "branch=work,parent=main")
    calls: list[Callable[[], object]] = [
        lambda: control.commit(point),
        lambda: control.create(point, "other"),
        lambda: control.switch(point, "main"),
    ]
    for call in calls:
        with (point / "file").open("w+b") as file:
            file.truncate(16 << 20)
            with mmap.mmap(file.fileno(), 16 << 20) as mapped:
                for at in range(0, 16 << 20, 4096):
                    mapped[at] = 1
                assert fails_with(errno.ENOSPC, call)
        (point / "file").unlink()
        assert shown(point) == "work"
    (point / "done").touch()
    control.commit(point)
    assert os.listdir(point) == ["done"]


def fill(path: Path) -> None:
    """Change more pages through a mapping than a small image has room for."""
    with path.open("w+b") as file:
        file.truncate(16 << 20)
        with mmap.mmap(file.fileno(), 16 << 20) as mapped:
            for at in range(0, 16 << 20, 4096):
                mapped[at] = 1
            assert fails_with(errno.ENOSPC, mapped.flush)


def test_what_a_file_that_is_gone_has_lost_is_no_loss(mounts: Mounts, scratch: Path) -> None:
    (scratch / "small").mkdir()
    image = mounts.build(scratch / "small", "4M")
    point = mounts.mount(image, "branch=work,parent=main")
    fill(point / "file")
    (point / "file").unlink()
    (point / "done").write_text("done")
    # Open, it is as good as gone.
    fill(point / "file")
    with (point / "file").open():
        (point / "file").unlink()
        control.commit(point)
    assert os.listdir(point) == ["done"]


def test_who_calls_again_goes_on_without_what_is_lost(mounts: Mounts, scratch: Path) -> None:
    (scratch / "small").mkdir()
    image = mounts.build(scratch / "small", "4M")
    point = mounts.mount(image, "branch=work,parent=main")
    fill(point / "file")
    # Who syncs the whole file system is told, too, and the branch is still not what it should be.
    subprocess.run(["sync", "-f", point], check=False)
    said = mounts.run("daxfs-branch", "commit", "-m", point, status=1)
    assert "pages that were changed through a mapping" in said
    assert "call again to go on without them" in said
    mounts.run("daxfs-branch", "commit", "-m", point)
    assert (point / "file").stat().st_size == 16 << 20


def test_abort_drops_everything_and_shows_the_parent(mounts: Mounts, image: Path) -> None:
    point = mounts.mount(image, "branch=work,parent=main")
    (point / "file").write_text("work's")
    (point / "made").touch()
    held = os.open(point / "made", os.O_RDWR)
    control.abort(point)
    assert shown(point) == "main"
    assert (point / "file").read_text() == "base"
    assert not (point / "made").exists()
    assert fails_with(errno.ESTALE, lambda: os.write(held, b"x"))
    os.close(held)
    # Who still works in what was aborted has not been let into main.
    assert fails_with(errno.EROFS, lambda: (point / "file").write_text("leaked"))
    control.switch(point, "main")
    (point / "file").write_text("main's again")


def test_a_mount_of_main_writes_it_again_after_a_branch(mounts: Mounts, image: Path) -> None:
    point = mounts.mount(image, "rw")
    control.create(point, "work")
    (point / "file").write_text("work's")
    control.commit(point)
    (point / "file").write_text("main's")
    control.create(point, "more")
    control.abort(point)
    (point / "file").write_text("main's again")


def test_who_looks_lets_nobody_write_to_main(mounts: Mounts, image: Path) -> None:
    """As long as nobody has asked for main, programs of the branch do not get at it."""
    point = mounts.mount(image, "branch=b,parent=main")
    control.commit(point)
    mounts.run("daxfs-branch", "log", "main", "-m", point)
    assert fails_with(errno.EROFS, lambda: (point / "new").touch())
    control.switch(point, "main")
    (point / "new").touch()


def test_switch_shows_another_branch(mounts: Mounts, image: Path) -> None:
    point = mounts.mount(image, "branch=one,parent=main")
    (point / "file").write_text("one's")
    assert not (point / "only two").exists()
    # `work` is made from `one`, which keeps its own content.
    control.create(point, "two", "main")
    (point / "only two").write_text("two's")
    control.switch(point, "one")
    assert (point / "file").read_text() == "one's"
    assert not (point / "only two").exists()
    control.switch(point, "two")
    assert (point / "file").read_text() == "base"
    assert (point / "only two").read_text() == "two's"


def test_errors_name_the_branch_that_they_are_about(mounts: Mounts, image: Path) -> None:
    point = mounts.mount(image, "branch=work,parent=main")
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: control.create(point, "new", "nope"), "nope"),
        (lambda: control.create(point, "work", "main"), "work"),
        (lambda: control.create(point, "a/b"), "a/b"),
        (lambda: control.commit(point, "nope"), "nope"),
    ]
    for call, name in calls:
        with pytest.raises(DaxfsError, match=name) as caught:
            call()
        assert vars(caught.value)["branch"] == name


def test_one_of_two_commits_wins(mounts: Mounts, image: Path) -> None:
    one = mounts.mount(image, "branch=one,parent=main")
    two = mounts.mount(image, "branch=two,parent=main")
    (one / "file").write_text("one's")
    (two / "file").write_text("two's")
    with (two / "file").open("rb") as file, mmap.mmap(file.fileno(), 4, prot=mmap.PROT_READ) as old:
        control.commit(one)
        assert fails_with(errno.ESTALE, lambda: control.commit(two))
        assert fails_with(errno.ESTALE, lambda: (two / "file").read_text())
        assert fails_with(errno.ESTALE, lambda: (two / "new").touch())
        assert fails_with(errno.ESTALE, lambda: os.listdir(two))
        assert dies_of_a_bus_error(lambda: old[0])
    control.switch(two, "main")
    assert (two / "file").read_text() == (one / "file").read_text() == "one's"


def test_a_reader_of_main_moves_on_with_a_commit(mounts: Mounts, image: Path) -> None:
    reader = mounts.mount(image, "ro")
    writer = mounts.mount(image, "branch=work,parent=main")
    with (reader / "file").open() as file:
        assert file.read() == "base"
        (writer / "file").write_text("work's")
        (writer / "dir/more").touch()
        assert (reader / "file").read_text() == "base"
        assert not (reader / "dir/more").exists()
        control.commit(writer)
        # What is open goes on, with what main is now: to the end, as one read may stop before it.
        file.seek(0)
        assert file.read() == "work's"
    assert (reader / "dir/more").exists()


def test_readers_see_what_is_written(mounts: Mounts, image: Path) -> None:
    writer, reader = mounts.mount(image, "rw"), mounts.mount(image, "ro")
    for number in range(50):
        assert not (reader / f"new {number}").exists()
        (writer / f"new {number}").touch()
        (writer / "file").write_text(f"version {number}")
        assert (reader / f"new {number}").exists()
        assert (reader / "file").read_text() == f"version {number}"
        (writer / f"new {number}").unlink()
        assert not (reader / f"new {number}").exists()


@pytest.mark.parametrize("options", ["ro", "ro,actimeo=1000"])
def test_news_leave_other_files_in_the_cache(mounts: Mounts, scratch: Path, options: str) -> None:
    """What a page of a mapping shows changes with the news; what is as it was stays."""
    tree = scratch / "tree"
    tree.mkdir()
    for name in ("changes", "stays"):
        (tree / name).write_bytes(b"0" * 4096)
    image = mounts.build(tree, "4M")
    writer = mounts.mount(image, "branch=work,parent=main")
    reader = mounts.mount(image, f"{options},branch=work")
    assert (reader / "stays").read_bytes() == (tree / "stays").read_bytes()
    with (reader / "changes").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ)
    for version in b"123":
        assert is_cached(reader / "stays")
        with (writer / "changes").open("r+b") as file:
            file.write(bytes([version]) * 4096)
            file.flush()
            os.fsync(file.fileno())
        while mapped[0] != version:
            time.sleep(0.01)
    assert is_cached(reader / "stays")


def test_a_reader_may_go_on_with_what_it_knows(mounts: Mounts, image: Path) -> None:
    """With names for as long as it is told, and with contents until the news comes."""
    writer = mounts.mount(image, "rw")
    patient, hasty = (mounts.mount(image, f"ro,actimeo={seconds}") for seconds in ("100000", "0.2"))
    for reader in (patient, hasty):
        assert not (reader / "dir/new").exists()
        assert (reader / "file").read_text() == "base"
    (writer / "dir/new").touch()
    (writer / "file").write_text("version 2")
    assert not (patient / "dir/new").exists()
    for reader in (patient, hasty):
        while (reader / "file").read_text() != "version 2":
            time.sleep(0.01)
    while not (hasty / "dir/new").exists():
        time.sleep(0.01)
    assert not (patient / "dir/new").exists()


def test_what_others_made_meanwhile_is_opened(mounts: Mounts, image: Path) -> None:
    point = mounts.mount(image, "branch=work,parent=main,actimeo=100000")
    control.abort(point)
    control.switch(point, "main")
    file = point / "dir/new"
    assert not file.exists()
    with daxfs.open(image, writable=True) as opened, opened.branch("main", keep=True) as main:
        main.write_bytes("dir/new", b"theirs")
    with file.open("a") as text:
        text.write(", ours")
    assert file.read_text() == "theirs, ours"
    assert fails_with(errno.EEXIST, lambda: file.open("x"))


def test_what_is_rewritten_where_it_lies_is_seen(mounts: Mounts, image: Path) -> None:
    """Nothing else is written, and nobody asks for it to be synced."""
    writer, reader = mounts.mount(image, "rw"), mounts.mount(image, "ro")
    (writer / "file").write_bytes(b"1" * 4096)
    assert (reader / "file").read_bytes() == b"1" * 4096
    time.sleep(0.1)
    for version in (b"2", b"3"):
        with (writer / "file").open("r+b") as file:
            file.write(version * 4096)
        deadline = time.monotonic() + 20
        while (reader / "file").read_bytes() != version * 4096:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_what_others_remove_is_stale_where_it_is_open(mounts: Mounts, scratch: Path) -> None:
    (scratch / "small").mkdir()
    image = mounts.build(scratch / "small", "4M")
    writer, reader = mounts.mount(image, "rw"), mounts.mount(image, "ro")
    (writer / "file").write_text("main's")
    (writer / "dir").mkdir()
    with (reader / "file").open("rb") as file:
        inside = os.open(reader / "dir", os.O_RDONLY)
        (writer / "file").unlink()
        (writer / "dir").rmdir()
        # Until main's log is begun anew, and after it.
        for _ in range(2):
            for work in (
                lambda: os.pread(file.fileno(), 4, 0),
                lambda: os.fstat(file.fileno()),
                lambda: os.lseek(file.fileno(), 0, os.SEEK_DATA),
                lambda: os.listxattr(file.fileno()),
            ):
                assert fails_with(errno.ESTALE, work)
            for _ in range(12):
                (writer / "passing").write_bytes(bytes(1 << 20))
                (writer / "passing").unlink()
        assert fails_with(errno.ESTALE, lambda: os.fstat(inside))
        os.close(inside)
    # A name that is not there is another thing.
    assert fails_with(errno.ENOENT, lambda: (reader / "file").stat())


def test_a_directory_that_others_moved_is_listed_where_it_is_open(
    mounts: Mounts, scratch: Path
) -> None:
    (scratch / "small").mkdir()
    image = mounts.build(scratch / "small", "4M")
    writer, reader = mounts.mount(image, "rw"), mounts.mount(image, "ro")
    (writer / "old/dir").mkdir(parents=True)
    (writer / "old/dir/file").touch()
    inside = os.open(reader / "old/dir", os.O_RDONLY)
    (writer / "old/dir").rename(writer / "dir")
    (writer / "old").rmdir()
    # Until main's log is begun anew, and after it.
    for _ in range(2):
        assert os.listdir(inside) == ["file"]
        for _ in range(12):
            (writer / "passing").write_bytes(bytes(1 << 20))
            (writer / "passing").unlink()
    os.close(inside)


def test_what_others_removed_before_is_not_written(mounts: Mounts, image: Path) -> None:
    point = mounts.mount(image, "branch=work,parent=main")
    control.abort(point)
    control.switch(point, "main")
    with (point / "file").open("r+b") as file:
        with daxfs.open(image, writable=True) as opened, opened.branch("main", keep=True) as main:
            main.remove("file")
        for work in (
            lambda: os.pwrite(file.fileno(), b"x", 0),
            lambda: os.ftruncate(file.fileno(), 0),
            lambda: os.fchmod(file.fileno(), 0o600),
            lambda: os.posix_fallocate(file.fileno(), 0, 4),
        ):
            assert fails_with(errno.ESTALE, work)


def test_what_others_wrote_just_before_is_not_undone(mounts: Mounts, image: Path) -> None:
    point = mounts.mount(image, "rw")
    (point / "file").write_bytes(bytes(8192))
    (point / "other").touch()
    with daxfs.open(image, writable=True) as opened:
        for content in (bytes([number]) * 8192 for number in range(1, 9)):
            # Main is shown and held by nobody then.
            control.create(point, "work")
            control.commit(point)
            assert (point / "file").read_bytes() != content
            with (point / "file").open("r+b") as file, (point / "other").open("r+b") as other:
                with mmap.mmap(file.fileno(), 8192) as mapped:
                    assert mapped[0] == content[0] - 1
                    main = opened.branch("main", keep=True)
                    with main.open("file", "r+b") as theirs:
                        theirs.write(content)
                    main.close()
                    # Takes main before anybody has looked what became of it.
                    os.write(other.fileno(), b"x")
                    for _ in range(500):
                        if mapped[0] == content[0]:
                            break
                        time.sleep(0.01)
                    mapped[1] = 99
                assert os.pread(file.fileno(), 8192, 0) == content[:1] + b"c" + content[2:]
    mounts.unmount(point)
    with daxfs.open(image) as opened:
        assert opened.read_bytes("file") == content[:1] + b"c" + content[2:]


def test_what_is_mounted_below_is_kept(mounts: Mounts, image: Path) -> None:
    """With a name that the kernel forgets it takes away what is mounted there."""
    point = mounts.mount(image, "branch=b,parent=main")
    below = point / "dir/mount"
    below.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", below], check=True)
    try:
        (below / "precious").touch()
        orders: list[Callable[[], object]] = [
            lambda: control.create(point, "c"),
            lambda: control.switch(point, "main"),
            lambda: control.commit(point),
            lambda: control.abort(point),
        ]
        for work in orders:
            with pytest.raises(BranchBusyError, match=f"{below} is mounted below"):
                work()
        control.switch(point, "b")
        assert os.listdir(below) == ["precious"]
    finally:
        subprocess.run(["umount", below], check=True)
    control.commit(point)
    assert below.is_dir()


def test_a_list_of_a_branch_that_is_shown_no_more_keeps_no_space(
    mounts: Mounts, scratch: Path
) -> None:
    tree = scratch / "tree"
    (tree / "dir").mkdir(parents=True)
    (tree / "dir/file").touch()
    image = mounts.build(tree, "16M")
    point = mounts.mount(image, "branch=one,parent=main")
    control.create(point, "two", "main")
    control.switch(point, "one")
    with os.scandir(point / "dir") as entries:
        next(entries)
        control.switch(point, "two")
        with daxfs.open(image, writable=True) as opened:
            opened.abort_branch("one")
        for _ in range(20):
            (point / "large").write_bytes(bytes(1 << 20))
            (point / "large").unlink()


def test_whoever_may_write_to_the_root_controls(mounts: Mounts, scratch: Path) -> None:
    tree = scratch / "shared"
    tree.mkdir()
    os.chown(tree, 0, 1234)
    tree.chmod(0o775)
    point = mounts.mount(mounts.build(tree, "16M"), "rw")

    def refused() -> None:
        with pytest.raises(PermissionError, match="for who may write to its root directory"):
            control.create(point, "theirs")

    assert as_user(refused) == 0
    assert as_user(lambda: control.create(point, "ours"), groups=[77, 1234]) == 0
    assert shown(point) == "ours"


def test_a_list_of_the_root_says_who_controls(mounts: Mounts, scratch: Path) -> None:
    tree = scratch / "shared"
    tree.mkdir()
    os.chown(tree, 0, 1234)
    point = mounts.mount(mounts.build(tree, "16M"), "rw")
    # The group may not write, though the group's bits of the mode, which are the mask, say so.
    owner, named, rest = (1, 7, -1), (2, 7, 4321), ((4, 5, -1), (16, 7, -1), (32, 5, -1))

    def set_list(*entries: tuple[int, int, int]) -> None:
        packed = (struct.pack("<HHi", *entry) for entry in entries)
        os.setxattr(point, "system.posix_acl_access", struct.pack("<I", 2) + b"".join(packed))

    set_list(owner, *rest)
    assert stat.S_IMODE(point.stat().st_mode) == 0o775
    for work in (lambda: (point / "new").touch(), lambda: control.create(point, "theirs")):
        assert as_user(work, groups=[1234]) == errno.EACCES
    set_list(owner, named, *rest)
    assert as_user(lambda: control.create(point, "ours")) == 0
    assert shown(point) == "ours"


def test_a_stale_root_of_somebody_else_can_be_left(mounts: Mounts, scratch: Path) -> None:
    tree = scratch / "theirs"
    tree.mkdir()
    os.chown(tree, 4321, 4321)
    image = mounts.build(tree, "16M")
    point = mounts.mount(image, "branch=one,parent=main")
    with daxfs.open(image, writable=True) as opened, opened.branch("two") as two:
        two.write_text("file", "two's")
    assert fails_with(errno.ESTALE, lambda: (point / "new").touch())
    control.switch(point, "main")
    assert (point / "file").read_text() == "two's"


def test_nothing_is_made_of_a_branch_that_has_ended(mounts: Mounts, image: Path) -> None:
    point = mounts.mount(image, "branch=work,parent=main")
    with daxfs.open(image, writable=True) as opened:
        opened.branch("other").commit()
        # Another one of that name is not what the mount shows.
        opened.branch("work").close()
    with pytest.raises(BranchStaleError):
        control.create(point, "deeper")
    control.create(point, "deeper", "work")
    assert shown(point) == "deeper"


def test_commands_find_the_image_that_is_mounted(
    mounts: Mounts, image: Path, tmp_path: Path
) -> None:
    # On a disk, where what is written is not published at once.
    named = tmp_path / "an image, \\ and all"
    shutil.move(image, named)
    point = mounts.mount(named, "branch=work,parent=main")

    def branch(*arguments: str) -> str:
        return mounts.run("daxfs-branch", *arguments, "-m", point)

    with (point / "file").open("r+b") as file, mmap.mmap(file.fileno(), 4) as memory:
        memory[:] = b"page"
        assert branch("diff", "--name-only").splitlines() == ["/file"]
        assert "+page" in branch("diff", "work", "--content")
    assert "extent       /file  (4 bytes at 0" in branch("log")
    (point / "more").touch()
    assert branch("diff", "--name-only").splitlines() == ["/file", "/more"]
    (point / "more").unlink()
    for name, parent in (("one", "work"), ("two", "one"), ("three", "one")):
        branch("create", name, "-p", parent)
    assert branch("diff") == ""
    branch("switch", "work")
    assert "no such branch" in mounts.run("daxfs-branch", "delete", "four", "-m", point, status=1)
    branch("delete", "-r", "one")
    assert [one.name for one in control.branches(point)] == ["main", "work"]
    assert "record" in branch("gc")
    assert (point / "file").read_text() == "page"


def test_commands_refuse_another_image_of_that_name(
    mounts: Mounts, image: Path, scratch: Path
) -> None:
    point = mounts.mount(image, "branch=work,parent=main")
    assert control.info(point).writes
    assert not control.info(mounts.mount(image, "ro")).writes
    os.rename(image, scratch / "elsewhere")
    (scratch / "tree/new").touch()
    other = mounts.build(scratch / "tree", "64M")
    other.rename(image)
    for command in (["diff"], ["log"], ["gc"], ["release", "work"]):
        said = mounts.run("daxfs-branch", *command, "-m", point, status=1)
        assert "another image lies there now" in said
    with daxfs.open(scratch / "elsewhere") as opened:
        assert opened.uuid == control.info(point).uuid


def test_an_empty_name_is_not_what_is_mounted(mounts: Mounts, image: Path) -> None:
    # As of a variable of the shell that was not set.
    point = mounts.mount(image, "branch=work,parent=main")
    (point / "file").write_text("precious")
    for arguments in (["abort", ""], ["commit", ""], ["delete", ""], ["create", "x", "-p", ""]):
        said = mounts.run("daxfs-branch", *arguments, "-m", point, status=1)
        assert "'' cannot name a branch" in said
    for command in ("diff", "log", "release"):
        assert "no such branch" in mounts.run("daxfs-branch", command, "", "-m", point, status=1)
    assert shown(point) == "work"
    assert (point / "file").read_text() == "precious"


def test_who_may_control(mounts: Mounts, image: Path) -> None:
    point = mounts.mount(image, "rw")

    def as_nobody(work: Callable[[], object]) -> int:
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            try:
                work()
            except OSError as error:
                os._exit(error.errno or 1)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert as_nobody(lambda: control.branches(point)) == 0
    assert as_nobody(lambda: control.create(point, "mine")) == errno.EACCES
    point.chmod(0o1777)
    assert as_nobody(lambda: control.create(point, "mine")) == 0


def test_what_makes_no_sense_is_refused(mounts: Mounts, image: Path, scratch: Path) -> None:
    point = mounts.mount(image, "rw")
    calls: list[tuple[int, Callable[[], object]]] = [
        (errno.ENOENT, lambda: control.switch(point, "nowhere")),
        (errno.ENOENT, lambda: control.create(point, "x", "nowhere")),
        (errno.EINVAL, lambda: control.create(point, "a/b")),
        (errno.EINVAL, lambda: control.create(point, "n" * 40)),
        (errno.EINVAL, lambda: control.commit(point)),
        (errno.EINVAL, lambda: control.abort(point)),
        (errno.ENOTTY, lambda: control.branches(point / "dir")),
        (errno.ENOTTY, lambda: control.branches(scratch)),
        (errno.ENOENT, lambda: control.branches(scratch / "missing")),
    ]
    for number, work in calls:
        with pytest.raises(DaxfsError) as caught:
            work()
        assert caught.value.errno == number
    # Of the last of them the mount point itself is not there.
    assert caught.value.filename == str(scratch / "missing")
    static = mounts.mount(mounts.build(scratch / "tree"))
    for refused in (control.create, control.switch, control.commit, control.abort):
        with pytest.raises(UnsupportedError):
            refused(static, "x")
    said = mounts.run("daxfs-branch", "list", "-m", static, status=1)
    assert "no branches that this mount could control" in said
    reader = mounts.mount(image, "ro")
    assert fails_with(errno.EROFS, lambda: control.create(reader, "x"))
