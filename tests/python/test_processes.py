# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects an image from other processes: forks of the one that has it open, who have its identity,
and those who may only read it."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

import daxfs
from daxfs import errors
from daxfs.fsspec import DaxfsFileSystem
from support.small import sound


def in_a_fork(work: Callable[[], None]) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_fork_changes_nothing_through_what_it_inherited(path: Path) -> None:
    with daxfs.open(path, writable=True) as image, image.branch("b", keep=True) as branch:
        branch.write_bytes("old", b"x" * 10_000)

        def work() -> None:
            changes: list[Callable[[], object]] = [
                lambda: branch.write_bytes("old", b"y"),
                lambda: branch.write_text("new", "z"),
                lambda: branch.unlink("old"),
                branch.sync,
                branch.commit,
                branch.abort,
                lambda: image.branch("of the fork"),
                lambda: image.abort_branch("b"),
                image.maintain,
            ]
            for change in changes:
                with pytest.raises(errors.BranchBusyError, match=r"^image .* is a fork") as busy:
                    change()
                assert busy.value.branch is None
            branch.release()
            branch.close()
            image.close()

        in_a_fork(work)
        assert branch.read_bytes("old") == b"x" * 10_000
        branch.write_text("new", "by the parent")
        assert image.branches["b"].owner is not None
        branch.commit()
        assert image.read_text("new") == "by the parent"
    assert sound(path)


def test_a_fork_opens_the_image_again(path: Path) -> None:
    with daxfs.open(path, writable=True) as image, image.branch("b", keep=True) as branch:

        def work() -> None:
            with pytest.raises(errors.BranchBusyError, match="writes to it"):
                daxfs.open(path, writable=True).branch("b")
            with daxfs.open(path, writable=True) as own, own.branch("c", keep=True) as other:
                other.write_text("new", "by the fork")

        in_a_fork(work)
        branch.write_text("new", "by the parent")
        with daxfs.open(path, branch="c") as other:
            assert other.read_text("new") == "by the fork"
    assert sound(path)


def test_a_fork_waits_for_no_thread_that_it_lacks(path: Path) -> None:
    """Those of its parent may have been writing when it was made."""
    big, ended = bytes(1 << 20), threading.Event()

    with daxfs.open(path, writable=True) as image, image.branch("b", keep=True) as branch:

        def write() -> None:
            while not ended.is_set():
                branch.write_bytes("f", big)

        def work() -> None:
            # It would hang.
            signal.alarm(60)
            with pytest.raises(errors.BranchBusyError):
                branch.write_text("new", "text")
            with suppress(errors.BranchBusyError):
                branch.read_bytes("dir/text.txt")
            branch.close()

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            try:
                for _ in range(40):
                    in_a_fork(work)
            finally:
                ended.set()
            writing.result()
    assert sound(path)


def test_a_fork_opens_the_image_of_fsspec_itself(path: Path) -> None:
    files = DaxfsFileSystem(path, branch="b", parent="main")
    files.pipe("first", b"1")

    def work() -> None:
        assert files.cat("first") == b"1"
        files.pipe("second", b"2")
        assert {"first", "second"} < set(files.ls("", False))

    in_a_fork(work)
    assert files.cat("second") == b"2"
    files.pipe("third", b"3")


@pytest.mark.parametrize("written", [False, True])
def test_a_fork_waits_for_no_thread_of_fsspec(path: Path, written: bool) -> None:
    files = DaxfsFileSystem(path, branch="b", parent="main")
    if written:
        files.pipe("first", b"1")
    inside, ended = threading.Event(), threading.Event()

    def change() -> None:
        with files._lock:
            inside.set()
            ended.wait()

    def work() -> None:
        # It would hang.
        signal.alarm(60)
        files.mkdir("of the fork")

    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(change)
        inside.wait()
        try:
            in_a_fork(work)
        finally:
            ended.set()
        changing.result()
    assert DaxfsFileSystem(path, branch="b").isdir("of the fork")


def test_a_fork_ends_only_its_own_uses_through_fsspec(path: Path) -> None:
    """What was open for writing when it was made is its parent's."""
    files = DaxfsFileSystem(path, branch="b", parent="main")
    inherited = files.open("first", "wb")
    inherited.write(b"1")
    inherited.flush()
    ready, go_on = os.pipe(), os.pipe()

    def work() -> None:
        with pytest.raises(errors.BranchBusyError):
            files.touch("second")
        inherited.close()
        with pytest.raises(errors.BranchBusyError):
            files.touch("second")
        os.write(ready[1], b"x")
        os.read(go_on[0], 1)
        # What it changes now is its last use, and lets the branch go.
        files.touch("second")
        os.write(ready[1], b"x")
        os.read(go_on[0], 1)

    with ThreadPoolExecutor(1) as pool:
        child = pool.submit(in_a_fork, work)
        try:
            os.read(ready[0], 1)
            inherited.close()
            os.write(go_on[1], b"x")
            os.read(ready[0], 1)
            files.touch("third")
        finally:
            os.write(go_on[1], b"xx")
        child.result()
    assert {"first", "second", "third"} < set(files.ls("", False))
    for end in (*ready, *go_on):
        os.close(end)


def test_a_fork_reads_what_was_open(path: Path) -> None:
    with daxfs.open(path) as image:
        names = [name for name in image.listdir("/") if image.is_file(name)]
        contents = [image.read_bytes(name) for name in names]

        def work() -> None:
            assert [image.read_bytes(name) for name in names] == contents

        in_a_fork(work)


def test_locks_for_reading_keep_nobody_from_writing(path: Path) -> None:
    """Whoever may read the file can take them."""
    ready, written = os.pipe()
    child = os.fork()
    if child == 0:
        image = daxfs.open(path, writable=True)
        branch = image.branch("b", keep=True)
        branch.write_text("new", "by the dead")
        branch.sync()
        os.write(written, b".")
        signal.pause()
    os.read(ready, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with path.open("rb") as reader:
        whole_file = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(reader, fcntl.F_OFD_SETLK, whole_file)
        with daxfs.open(path, writable=True) as image, daxfs.open(path, writable=True) as other:
            owner = image.branches["b"].owner
            assert owner is None or not owner.alive
            with image.branch("b") as branch:
                assert branch.read_text("new") == "by the dead"
                owner = other.branches["b"].owner
                assert owner is not None
                assert (owner.pid, owner.alive) == (os.getpid(), True)
                with pytest.raises(errors.BranchBusyError):
                    other.branch("b")
            assert other.read_text("new") == "by the dead"
    assert sound(path)
