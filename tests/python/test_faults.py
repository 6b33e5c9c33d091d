# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects the promise that nothing half-made appears under an image's name, whatever goes wrong:
a full disk, an interruption at any moment, input that cannot be read or changes meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import daxfs

MKDAXFS = Path(sys.executable).with_name("mkdaxfs")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a tree that takes some milliseconds to build."""
    top = tmp_path / "tree"
    block = random.Random(5).randbytes(1 << 20)
    for directory in range(40):
        (top / f"{directory:02}").mkdir(parents=True)
        for number in range(50):
            (top / f"{directory:02}/{number:02}").write_bytes(block[: 1 + number * 997])
    (top / "large").write_bytes(block * 40)
    return top


@pytest.fixture
def shared() -> Iterator[Path]:
    """Return a directory in shared memory."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a mounted file system of 16 MiB."""
    point = tmp_path / "small"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", point], check=True)
    yield point
    subprocess.run(["umount", point], check=True)


def mkdaxfs(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(MKDAXFS), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@needs_root
@pytest.mark.parametrize("old", [None, b"what was there before"])
def test_a_full_disk(tree: Path, small_disk: Path, old: bytes | None) -> None:
    image = small_disk / "image.daxfs"
    if old is not None:
        image.write_bytes(old)
    done = mkdaxfs("-d", tree, "-o", image, "--force")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr
    assert [path.name for path in small_disk.iterdir()] == ([] if old is None else [image.name])
    assert old is None or image.read_bytes() == old


@needs_root
def test_an_image_on_a_disk_that_got_full_is_read(tmp_path: Path, small_disk: Path) -> None:
    """In tmpfs, looking at a hole takes memory."""
    (tmp_path / "small tree").mkdir()
    image = small_disk / "image.daxfs"
    daxfs.build(tmp_path / "small tree", image, branches=True, delta_size="4M")
    with suppress(OSError), (small_disk / "rest").open("wb", buffering=0) as rest:
        while rest.write(bytes(4096)):
            pass
    for command in (["fsck.daxfs"], ["daxfs", "ls"]):
        program = Path(sys.executable).with_name(command[0])
        done = subprocess.run([program, *command[1:], image], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


@needs_root
@pytest.mark.parametrize("from_pipe", [False, True])
def test_a_disk_that_gets_full_under_an_image(
    tree: Path, small_disk: Path, from_pipe: bool
) -> None:
    image = small_disk / "image.daxfs"
    empty = tree / "empty"
    empty.mkdir()
    daxfs.build(empty, image, branches=True, delta_size="64M")
    with daxfs.open(image, writable=True) as opened:
        opened.branch("b").close()
    program = Path(sys.executable).with_name("daxfs-branch")
    with (tree / "large").open("rb") as large:
        what = "-" if from_pipe else str(tree / "large")
        command = [str(program), "put", "-i", str(image), "-b", "b", what, "/copy"]
        done = subprocess.run(command, stdin=large, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("daxfs-branch: /copy: the file system under the image")
    assert done.stderr.count("\n") == 1
    assert daxfs.validate(image).errors == 0


@needs_root
@pytest.mark.parametrize("delta_size", [None, "12G"])
def test_a_disk_that_gets_full_under_memory(
    tree: Path, small_disk: Path, delta_size: str | None
) -> None:
    """A hole that cannot be filled is a fault to whoever stores there."""
    options = ""
    if delta_size is not None:
        # It is the owner map that there is no room for.
        tree = small_disk / "tree"
        tree.mkdir()
        options = f", branches=True, delta_size={delta_size!r}"
    where = "os.open(sys.argv[2], os.O_RDWR)"
    program = f"import daxfs, os, sys; daxfs.build(sys.argv[1], {where}{options})"
    holes = small_disk / "holes"
    with holes.open("xb") as file:
        file.truncate(128 << 20 if delta_size is None else 13 << 30)
    command = [sys.executable, "-c", program, str(tree), str(holes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "NoSpaceError: the file system under the image needs" in done.stderr


@needs_root
def test_an_image_on_a_read_only_disk_is_checked(tmp_path: Path, small_disk: Path) -> None:
    (tmp_path / "empty").mkdir()
    image = small_disk / "image.daxfs"
    daxfs.build(tmp_path / "empty", image, branches=True, delta_size="4M")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    program = Path(sys.executable).with_name("fsck.daxfs")
    for option, status in (("-a", 0), ("--repair", 8)):
        done = subprocess.run([program, option, image], capture_output=True, check=False)
        assert done.returncode == status, done.stderr


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_an_interruption_at_any_moment(tree: Path, shared: Path, signum: int) -> None:
    rng = random.Random(signum)
    image = shared / "image.daxfs"
    for attempt in range(20):
        # Before the interpreter has started it answers a signal in its own words.
        process = subprocess.Popen([MKDAXFS, "-d", tree, "-o", image], stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, 0.25))
        process.send_signal(signum)
        process.wait()
        if image.exists():
            assert daxfs.validate(image).errors == 0
            image.unlink()
        else:
            assert process.returncode != 0, attempt
        # What is left in shared memory stays there until somebody finds it.
        assert list(shared.iterdir()) == []


def test_every_unreadable_file_is_named(tree: Path, tmp_path: Path) -> None:
    too_long = ["n" * 129, "m" * 255]
    for name in too_long:
        (tree / "03" / name).touch()
    image = tmp_path / "image.daxfs"
    done = mkdaxfs("-d", tree, "-o", image)
    assert done.returncode == 1
    assert [line.split(":")[1].strip() for line in done.stderr.splitlines()] == [
        f"03/{name}" for name in sorted(too_long)
    ]
    assert not image.exists()
    done = mkdaxfs("-d", tree, "-o", image, "--skip-errors")
    assert all(f"03/{name}" in done.stderr for name in too_long)
    with daxfs.open(image) as opened:
        assert len(opened.listdir("03")) == 50


def as_nobody(work: Callable[[], object], user: int = 65534) -> str:
    """Do something as a user without rights; return the error's text, or nothing."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        try:
            work()
        except daxfs.DaxfsError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        text = pipe.read()
    os.wait()
    return text


@needs_root
def test_a_limit_on_processes(tmp_path: Path) -> None:
    """As containers have one: there may be room for few threads, or for none, which is an error."""
    (tmp_path / "tree").mkdir()
    daxfs.build(tmp_path / "tree", tmp_path / "image")

    def within(limit: int, work: Callable[[], object]) -> str:
        def limited() -> None:
            resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
            work()

        # A user who has no other processes.
        return as_nobody(limited, user=54321)

    with daxfs.open(tmp_path / "image") as opened, (tmp_path / "image").open("rb") as file:
        works: list[Callable[[], object]] = [
            lambda: daxfs.open(file.fileno()),
            lambda: daxfs.validate(file.fileno()),
            lambda: opened.compare("/"),
        ]
        for work in works:
            assert within(1, work).startswith("cannot start a thread: Resource temporarily")
        assert within(1, lambda: daxfs.open(file.fileno(), trusted=True)) == ""
        assert within(2, works[0]) == ""


@needs_root
def test_files_of_others() -> None:
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory)
        top.chmod(0o777)
        tree, image = top / "tree", top / "image.daxfs"
        for name in ("open/file", "closed/file"):
            (tree / name).parent.mkdir(parents=True)
            (tree / name).write_text(name)
        (tree / "also").hardlink_to(tree / "open/file")
        (tree / "secret").write_text("secret")
        (tree / "secret").chmod(0)
        (tree / "closed").chmod(0)
        left = set(top.iterdir())
        text = as_nobody(lambda: daxfs.build(tree, image))
        assert text.startswith("closed/: cannot open the directory: Permission denied")
        assert set(top.iterdir()) == left
        assert as_nobody(lambda: daxfs.build(tree, image, skip_errors=True)) == ""
        with daxfs.open(image) as opened:
            assert opened.listdir("/") == ["also", "closed", "open"]
            assert opened.listdir("closed") == []
            assert opened.read_text("open/file") == "open/file"
            assert opened.stat("also").st_ino == opened.stat("open/file").st_ino
        # As if they were not there.
        times = [(path, path.stat().st_mtime_ns) for path in (tree, tree / "closed")]
        (tree / "secret").unlink()
        (tree / "closed/file").unlink()
        for path, mtime in times:
            os.utime(path, ns=(mtime, mtime))
        daxfs.build(tree, top / "without")
        assert (top / "without").read_bytes() == image.read_bytes()


@needs_root
def test_files_of_others_are_all_named_where_a_tree_is_compared() -> None:
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory)
        top.chmod(0o755)
        (top / "tree").mkdir()
        for name in ("a", "b", "c"):
            (top / "tree" / name).write_text(name)
        daxfs.build(top / "tree", top / "image")
        with daxfs.open(top / "image") as opened:
            for name in ("a", "c"):
                (top / "tree" / name).chmod(0)
            text = as_nobody(lambda: opened.compare(top / "tree"))
    assert text.splitlines() == [f"{name}: cannot open: Permission denied" for name in "ac"]


def test_a_tree_that_changes_meanwhile(tree: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.daxfs"
    stop = threading.Event()

    def disturb() -> None:
        rng = random.Random(3)
        while not stop.is_set():
            path = tree / f"{rng.randrange(40):02}" / f"{rng.randrange(50):02}"
            match rng.randrange(3):
                case 0:
                    path.unlink(missing_ok=True)
                case 1:
                    path.write_bytes(b"x" * rng.randrange(100_000))
                case 2:
                    with contextlib.suppress(FileNotFoundError):
                        os.truncate(path, 0)

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        for _ in range(5):
            with contextlib.suppress(daxfs.errors.InputError):
                daxfs.build(tree, image)
            if image.exists():
                assert daxfs.validate(image).errors == 0
                image.unlink()
            daxfs.build(tree, image, force=True, skip_errors=True)
            assert daxfs.validate(image).errors == 0
            image.unlink()
    finally:
        stop.set()
        disturber.join()


def test_what_is_there_is_not_replaced(tree: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.daxfs"
    image.write_bytes(b"precious")
    done = mkdaxfs("-d", tree, "-o", image)
    assert (done.returncode, done.stderr) == (1, f"mkdaxfs: {image}: exists; --force replaces it\n")
    assert image.read_bytes() == b"precious"
