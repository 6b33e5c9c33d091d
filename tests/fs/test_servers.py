# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Servers come and go, and leave nothing behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import daxfs
from daxfs.errors import BranchBusyError
from support.mounts import Mounts, registered, server_of, wait_for_end
from support.snapshot import as_stored, compare, snapshot


def test_a_mount_that_is_refused_leaves_no_branch(mounts: Mounts, empty: Path) -> None:
    made = "branch=work,parent=main"
    mounts.run("daxfs", "mount", "-o", made, empty, empty, status=1)
    assert "work" not in mounts.run("daxfs-branch", "list", "-i", empty)
    # One that was there before stays.
    mounts.run("daxfs-branch", "create", "work", "-i", empty)
    mounts.run("daxfs", "mount", "-o", made, empty, empty, status=1)
    assert "work" in mounts.run("daxfs-branch", "list", "-i", empty)


def test_a_stale_mount_is_cleared_away(mounts: Mounts, tree: Path) -> None:
    image = mounts.build(tree)
    point = mounts.mount(image)
    mounts.kill(point)
    with pytest.raises(OSError) as caught:
        os.listdir(point)
    # The first to ask may still find the connection going down.
    assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    mounts.mount(image, point=point)
    assert compare(as_stored(tree), snapshot(point)) == []
    assert Path("/proc/mounts").read_text().count(str(point)) == 1


@pytest.mark.parametrize("writes", [False, True], ids=["ro", "branch"])
def test_a_server_that_does_not_come_up_leaves_nothing(
    mounts: Mounts, tree: Path, empty: Path, writes: bool
) -> None:
    """Descriptors run out at every point of its start, one after the other."""
    image, point = empty if writes else mounts.build(tree), mounts.point()
    program = Path(sys.executable).with_name("daxfs")
    came_up, branches = [], {"main"}
    for limit in range(4, 60):
        limited = ["prlimit", f"--nofile={limit}:{limit}"]
        options = ["-o", f"branch=b{limit},parent=main"] if writes else []
        done = subprocess.run(
            [*limited, program, "mount", *options, image, point], capture_output=True, check=False
        )
        came_up.append(done.returncode == 0)
        assert point.is_mount() == came_up[-1], (limit, done)
        if came_up[-1]:
            mounts.unmount(point)
            branches |= {f"b{limit}"} if writes else set()
        if writes:
            with daxfs.open(image) as opened:
                assert {branch.name for branch in opened.branches} == branches, (limit, done)
    assert not came_up[0]
    assert came_up[-1]


def test_sigterm_ends_a_server_and_its_mount(mounts: Mounts, empty: Path) -> None:
    point = mounts.mount(empty, "rw")
    (point / "kept").write_text("kept")
    server = server_of(point)
    os.kill(server, signal.SIGTERM)
    wait_for_end(server)
    assert str(point) not in Path("/proc/mounts").read_text()
    assert (mounts.mount(empty, "rw") / "kept").read_text() == "kept"


def test_a_server_takes_only_its_own_mount_away(mounts: Mounts, tree: Path, empty: Path) -> None:
    point = mounts.mount(empty, "rw")
    server = server_of(point)
    with (point / "open").open("w"):
        subprocess.run(["umount", "-l", point], check=True)
        mounts.mount(mounts.build(tree), point=point)
        os.kill(server, signal.SIGTERM)
        wait_for_end(server)
    assert compare(as_stored(tree), snapshot(point)) == []


def test_a_server_finds_its_mount_where_it_was_moved(
    mounts: Mounts, empty: Path, scratch: Path
) -> None:
    top = scratch / "top"
    here, there = top / "here", top / "there, or so"
    for path in (top, here, there):
        path.mkdir()
    # What is shared with other namespaces cannot be moved.
    subprocess.run(["mount", "--bind", "--make-private", top, top], check=True)
    try:
        mounts.mount(empty, "rw", here)
        subprocess.run(["mount", "--move", here, there], check=True)
        (there / "file").touch()
        server = server_of(here)
        os.kill(server, signal.SIGTERM)
        wait_for_end(server)
        assert not there.is_mount()
    finally:
        subprocess.run(["umount", "-lR", top], check=True)


def test_memory_that_is_mounted_is_not_built_into(mounts: Mounts, tree: Path) -> None:
    image = mounts.build(tree)
    point = mounts.mount(image)
    with image.open("r+b") as file:
        for source in (tree, point):
            with pytest.raises(BranchBusyError, match=f"mounted on {point}"):
                daxfs.build(source, file.fileno(), force=True)
        assert compare(as_stored(tree), snapshot(point)) == []
        mounts.unmount(point)
        daxfs.build(tree, file.fileno(), force=True)
    mounts.sound(image)


@pytest.mark.parametrize("options", ["ro", "rw"])
def test_nobody_is_registered_after_an_unmount(mounts: Mounts, empty: Path, options: str) -> None:
    for _ in range(12):
        point = mounts.mount(empty, options)
        os.listdir(point)
        mounts.unmount(point)
    point = mounts.mount(empty, options)
    server = server_of(point)
    os.kill(server, signal.SIGTERM)
    wait_for_end(server)
    assert registered(empty) == []


def test_nothing_but_images_is_unmounted(mounts: Mounts, empty: Path) -> None:
    point, image = mounts.point(), mounts.mount(empty)
    subprocess.run(["mount", "-t", "tmpfs", "none", point], check=True)
    try:
        (point / "file").touch()
        for lazy in ([], ["--lazy"]):
            said = mounts.run("daxfs", "umount", *lazy, point, status=1)
            assert "no image is mounted there" in said
        assert (point / "file").exists()
        # The others go all the same.
        mounts.run("daxfs", "umount", point, image, status=1)
        assert not os.path.ismount(image)
    finally:
        subprocess.run(["umount", point], check=True)


def test_a_mount_in_use_stays_and_says_what_takes_it_away(mounts: Mounts, empty: Path) -> None:
    point = mounts.mount(empty, "rw")
    with (point / "open").open("w") as file:
        said = mounts.run("daxfs", "umount", point, status=1)
        assert "busy: programs or mounts below use it; -l takes its name away" in said
        assert os.path.ismount(point)
        server = server_of(point)
        mounts.run("daxfs", "umount", "-l", point)
        assert not os.path.ismount(point)
        file.write("as before")
    wait_for_end(server)


def test_a_server_that_goes_on_is_told(mounts: Mounts, empty: Path) -> None:
    point, other = mounts.mount(empty, "rw"), mounts.point()
    subprocess.run(["mount", "--bind", point, other], check=True)
    try:
        assert "the server goes on" in mounts.run("daxfs", "umount", point, status=1)
        assert os.listdir(other) == []
    finally:
        subprocess.run(["umount", other], check=True)


def test_a_server_that_does_not_answer_is_told(mounts: Mounts, empty: Path) -> None:
    point = mounts.mount(empty, "rw")
    server = server_of(point)
    away, here = "`daxfs umount -l` takes the mount away", ("-m", point)
    commands: list[tuple[str, tuple[str | Path, ...]]] = [
        ("", ("daxfs", "mount", "-o", "remount,rw", empty, point)),
        (away, ("daxfs", "mount", "-o", "ro", empty, point)),
        (away, ("daxfs", "mount", "-o", "ro", empty, point / "below")),
        ("-l takes the mount away", ("daxfs", "umount", point)),
        (away, ("daxfs", "umount", "-l", point / "below")),
        (away, ("daxfs-branch", "list", *here)),
        (away, ("daxfs-branch", "create", "b", *here)),
        (away, ("daxfs-branch", "commit", *here)),
        (away, ("daxfs-branch", "gc", *here)),
    ]
    os.kill(server, signal.SIGSTOP)
    try:
        # Each of them waits for some seconds.
        with ThreadPoolExecutor(len(commands)) as pool:
            said = pool.map(lambda command: mounts.run(*command[1], status=1), commands)
        for (advice, _), answer in zip(commands, said, strict=True):
            assert f"the server does not answer{advice and '; '}{advice}" in answer
            assert len(answer.splitlines()) == 1
        assert str(point) in Path("/proc/mounts").read_text()
        mounts.run("daxfs", "umount", "-l", point)
        assert str(point) not in Path("/proc/mounts").read_text()
    finally:
        os.kill(server, signal.SIGCONT)
    wait_for_end(server)


# One whose server stops answering once it has been asked whether it does.
WAITING = """
import sys
from daxfs import mounting
from daxfs.cli import daxfs_branch
mounting.expect_answer = lambda mountpoint: print("asked", flush=True)
daxfs_branch.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_waits_for_a_server_can_be_ended(
    mounts: Mounts, empty: Path, number: signal.Signals
) -> None:
    point = mounts.mount(empty, "rw")
    server = server_of(point)
    os.kill(server, signal.SIGSTOP)
    try:
        waiting = subprocess.Popen(
            [sys.executable, "-c", WAITING, "list", "-m", point], stdout=subprocess.PIPE, text=True
        )
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "asked\n"
        status = Path(f"/proc/{waiting.pid}/stat")
        while status.read_text().rpartition(")")[2].split()[0] == "R":
            pass
        waiting.send_signal(number)
        try:
            wait_for_end(waiting.pid)
        finally:
            waiting.kill()
            waiting.communicate()
        assert waiting.returncode in (-number, 128 + number)
    finally:
        os.kill(server, signal.SIGCONT)


def test_a_mount_needs_no_proc(mounts: Mounts, tree: Path) -> None:
    image, point = mounts.build(tree), mounts.point()
    program = Path(sys.executable).with_name("daxfs")
    script = f"umount -l /proc && {program} mount {image} {point} && umount {point}"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_in_the_foreground_ctrl_c_ends_it(mounts: Mounts, tree: Path) -> None:
    image, point = mounts.build(tree), mounts.point()
    daxfs_command = str(Path(sys.executable).with_name("daxfs"))
    command = [daxfs_command, "mount", "-f", str(image), str(point)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        assert "mounted" in server.stderr.readline()
        assert os.listdir(point)
        server.send_signal(signal.SIGINT)
        server.wait()
        assert server.returncode == 0
    assert not os.path.ismount(point)


def test_a_log_that_nobody_reads_stops_nobody(mounts: Mounts, empty: Path) -> None:
    point = mounts.point()
    programs = Path(sys.executable).parent
    command = [str(programs / "daxfs"), "mount", "-f", "-o", "rw", str(empty), str(point)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as server:
        assert server.stderr is not None
        assert b"mounted" in server.stderr.readline()
        server.stderr.close()
        # What is refused is logged.
        for _ in range(2):
            refused = mounts.run(programs / "daxfs-branch", "switch", "-m", point, "nope", status=1)
            assert "no such branch" in refused
        server.send_signal(signal.SIGINT)
    assert not point.is_mount()


# Signals come while requests are under way, as in every program of Go; then it waits for events.
INTERRUPTED = """
import os, select, signal, sys, time
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
end = time.monotonic() + 1
while time.monotonic() < end:
    descriptor = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
    os.pwrite(descriptor, b"x", 0)
    os.close(descriptor)
    os.unlink(sys.argv[1])
signal.setitimer(signal.ITIMER_REAL, 0)
with open(sys.argv[1], "w") as file:
    poll = select.poll()
    poll.register(file)
    assert poll.poll()
"""


def test_what_the_kernel_asks_in_passing_is_not_logged(
    mounts: Mounts, empty: Path, scratch: Path
) -> None:
    point, log = mounts.point(), scratch / "log"
    program = str(Path(sys.executable).with_name("daxfs"))
    command = [program, "mount", "-f", "-o", "rw,threads=4", str(empty), str(point)]
    with log.open("w") as said, subprocess.Popen(command, stderr=said) as server:
        while not point.is_mount():
            assert server.poll() is None
        subprocess.run([sys.executable, "-c", INTERRUPTED, point / "file"], check=True)
        server.send_signal(signal.SIGINT)
    assert log.read_text() == f"daxfs: {point}: {empty} mounted\ndaxfs: {point}: unmounted\n"


def test_the_server_is_small(mounts: Mounts, tree: Path) -> None:
    # As many threads as on a larger machine: none of them may cost a buffer for whole requests.
    point = mounts.mount(mounts.build(tree), "threads=16")
    snapshot(point)
    status = Path(f"/proc/{server_of(point)}/status").read_text()
    anonymous = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    assert int(anonymous.split()[1]) < 30 * 1024
