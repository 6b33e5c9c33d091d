# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects branches from Python: what `daxfs.Branch` does, refuses, keeps and gives up."""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import pytest

import daxfs
from daxfs import errors
from support.small import MIB, VECTORS, sound


@pytest.fixture
def image(writable: daxfs.Image) -> daxfs.Image:
    return writable


class TestFiles:
    def test_modes_are_those_of_open(self, branch: daxfs.Branch, tmp_path: Path) -> None:
        """Every mode, beside the built-in on a file of the host."""
        here = tmp_path / "here"
        for mode in ("r+b", "wb", "ab", "w+b", "a+b", "rb"):
            branch.write_bytes("f", b"0123456789")
            here.write_bytes(b"0123456789")
            found = []
            files: list[IO[bytes]] = [branch.open("f", mode, 8192), here.open(mode)]
            for file in files:
                with file:
                    steps: list[object] = [file.tell(), file.readable(), file.writable()]
                    if file.readable():
                        steps.append(file.read(3))
                    if file.writable():
                        steps += [file.write(b"abc"), file.tell()]
                        file.flush()
                    steps += [file.seek(1), file.seek(2, 1), file.seek(-1, 2)]
                    if file.writable():
                        steps += [file.write(b"XY"), file.truncate(8), file.seek(0, 2)]
                found.append(steps)
            assert found[0] == found[1], mode
            assert branch.read_bytes("f") == here.read_bytes(), mode
        branch.symlink("round", "round")
        for taken in ("f", "dangling", "round"):
            with pytest.raises(FileExistsError):
                branch.open(taken, "xb")
        with branch.open("new", "x") as text:
            text.write("ünïcödé\n")
        with branch.open("new", encoding="utf-8", mode="r") as text:
            assert text.read() == "ünïcödé\n"
        with pytest.raises(FileNotFoundError):
            branch.open("nope", "r+b")

    @pytest.mark.parametrize("mode", ["", "rw", "bt", "rbb", "z", "U"])
    def test_modes_that_are_none(self, branch: daxfs.Branch, mode: str) -> None:
        with pytest.raises(ValueError, match="mode"):
            branch.open("empty", mode)

    def test_what_a_stream_was_not_opened_for(self, branch: daxfs.Branch) -> None:
        with branch.open("f", "wb", 0) as file, pytest.raises(io.UnsupportedOperation):
            file.read()
        with branch.open("f") as raw:
            with pytest.raises(io.UnsupportedOperation):
                raw.write(b"")
            with pytest.raises(io.UnsupportedOperation):
                raw.truncate()
        with pytest.raises(ValueError, match="unbuffered text"):
            branch.open("big", "w", 0)
        with pytest.raises(ValueError, match="encoding"):
            branch.open("big", "wb", encoding="utf-8")
        assert branch.stat("big").st_size > 0
        with pytest.raises(ValueError, match="closed"):
            raw.read()

    def test_numbers_are_written_as_they_lie(self, branch: daxfs.Branch) -> None:
        numbers = np.arange(100_000, dtype="int64")
        assert branch.write_bytes("n", numbers) == numbers.nbytes  # type: ignore[arg-type]
        assert (np.frombuffer(branch.view("n"), dtype="int64") == numbers).all()
        with branch.open("n", "r+b", 0) as file:
            file.seek(8 * 5)
            file.write(np.array([-1], dtype="int64"))  # type: ignore[arg-type]
        assert np.frombuffer(branch.read_bytes("n"), dtype="int64")[4:7].tolist() == [4, -1, 6]
        # None at all, in however many dimensions.
        empty: Any = np.zeros((0, 2))
        with branch.open("n", "r+b", 0) as file:
            assert file.write(empty) == 0
        assert branch.stat("n").st_size == numbers.nbytes
        assert branch.write_bytes("n", empty) == 0
        assert branch.read_bytes("n") == b""

    @pytest.mark.parametrize(
        "data", [None, "text", 5, memoryview(b"abcd")[::2], np.zeros((2, 2)).T]
    )
    def test_what_cannot_be_written_leaves_the_file(self, branch: daxfs.Branch, data: Any) -> None:
        for write in (branch.write_bytes, lambda _, data: (branch / "big").write_bytes(data)):
            with pytest.raises(TypeError):
                write("big", data)
        if not isinstance(data, str):
            for write in (branch.write_text, lambda _, data: (branch / "big").write_text(data)):
                with pytest.raises(TypeError, match="must be str"):
                    write("big", data)
        assert branch.diff() == []

    @pytest.mark.parametrize("newline", [None, "", "\n", "\r", "\r\n", "x"])
    def test_text_is_written_as_pathlib_does(
        self, branch: daxfs.Branch, tmp_path: Path, newline: str | None
    ) -> None:
        results: list[Any] = []
        for path in (tmp_path / "t", branch / "t"):
            try:
                results.append(path.write_text(data="a\nb\r\nc\r", newline=newline))
                results.append(path.read_bytes())
            except ValueError as error:
                results.append(str(error))
        half = len(results) // 2
        assert results[:half] == results[half:]

    def test_links_are_made_as_pathlib_does(self, branch: daxfs.Branch) -> None:
        (branch / "to-dir").symlink_to(PurePosixPath("dir"), target_is_directory=True)
        assert (branch / "to-dir").readlink() == "dir"

    def test_an_unlinked_file_goes_on(self, branch: daxfs.Branch) -> None:
        with branch.open("f", "w+b", 0) as file:
            file.write(b"before")
            branch.unlink("f")
            assert not branch.exists("f")
            file.write(b" and after")
            file.seek(0)
            assert file.read() == b"before and after"
            assert file.stat().st_nlink == 0

    def test_a_closed_file_keeps_nothing(self, tmp_path: Path) -> None:
        """Whether its object is still there or not."""
        path, empty = tmp_path / "small", tmp_path / "empty"
        empty.mkdir()
        daxfs.build(empty, path, branches=True, delta_size=4 * MIB)
        with daxfs.open(path, writable=True) as image, image.branch("b") as branch:
            with branch.open("first", "wb") as file:
                file.write(b"x" * (2 * MIB))
            branch.unlink("first")
            branch.write_bytes("second", b"y" * (2 * MIB))
        with daxfs.open(path, writable=True) as image, image.open("second") as read:
            assert read.read(1) == b"y"
        with daxfs.open(path, writable=True) as image:
            assert image.openers == []
        assert file.closed
        for use in (lambda: read.size, read.stat, lambda: read.seek(0)):
            with pytest.raises(ValueError, match="closed"):
                use()

    def test_truncated_bytes_come_back_as_zeroes(self, branch: daxfs.Branch) -> None:
        branch.write_bytes("f", b"x" * 10_000)
        branch.truncate("f", 5_000)
        branch.truncate("f", 9_000)
        assert branch.read_bytes("f") == b"x" * 5_000 + bytes(4_000)
        branch.write_bytes("f", b"y" * 20_000)
        branch.punch_hole("f", 4096, 4096)
        expected = b"y" * 4096 + bytes(4096) + b"y" * (20_000 - 8192)
        assert branch.read_bytes("f") == expected
        branch.allocate("f", 20_000, 100, keep_size=True)
        assert branch.stat("f").st_size == 20_000
        branch.allocate("f", 20_000, 100)
        assert branch.read_bytes("f") == expected + bytes(100)

    def test_views_stay(self, image: daxfs.Image) -> None:
        with image.branch("b") as branch:
            branch.write_bytes("f", b"z" * 8192)
            view = branch.view("f")
        assert bytes(view) == b"z" * 8192
        with image.branch("c") as branch:
            branch.write_bytes("f", b"a" * 8192)
        image.maintain()
        assert bytes(view) == b"z" * 8192
        with pytest.raises(TypeError):
            view[0] = 1

    def test_threads_share_a_branch(self, branch: daxfs.Branch) -> None:
        def work(number: int) -> None:
            for step in range(50):
                branch.write_text(f"t{number}-{step}", str(step))
                with branch.open("shared", "ab", 0) as file:
                    file.write(b"%d\n" % number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(branch.read_text("shared").split()) == sorted("0123" * 50)
        assert len(list(branch.glob("t*-*"))) == 200

    def test_threads_make_one_file(self, branch: daxfs.Branch) -> None:
        def work(name: str) -> None:
            barrier.wait()
            with branch.open(name, "ab", 0) as file:
                file.write(b"x")

        for step in range(200):
            barrier = threading.Barrier(4)
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(work, [f"file {step}"] * 4))
            assert branch.read_text(f"file {step}") == "xxxx"

    def test_a_view_of_the_base_keeps_nobody_from_committing(
        self, path: Path, image: daxfs.Image
    ) -> None:
        view = image.view("dir/text.txt")
        before = bytes(view)
        with daxfs.open(path, writable=True) as other:
            for step in range(300):
                with other.branch("next") as branch:
                    branch.write_text("dir/text.txt", str(step))
        assert bytes(view) == before

    def test_compact_drops_what_a_fifo_has_no_use_for(self, path: Path, image: daxfs.Image) -> None:
        with image.branch("b") as branch:
            branch.mknod("numbered", stat.S_IFIFO | 0o644, 5)
        image.close()
        daxfs.compact(path)
        assert sound(path)


class TestNames:
    def test_links_are_followed_inside_the_image(self, branch: daxfs.Branch) -> None:
        branch.write_text("link", "through")
        assert branch.read_text("dir/text.txt") == "through"
        assert branch.lstat("link").is_symlink()
        branch.write_text("dangling", "made")
        assert branch.read_text("nowhere") == "made"
        branch.symlink("../../../../dir/new", "escape")
        branch.write_text("escape", "inside")
        assert branch.read_text("dir/new") == "inside"
        branch.mkdir("dirlink/below")
        assert branch.is_dir("dir/below")
        with pytest.raises(errors.LoopError):
            branch.write_text("loop", "")
        with pytest.raises(FileExistsError):
            branch.open("escape", "x")
        branch.unlink("escape")
        branch.symlink("gone", "escape")
        with pytest.raises(FileExistsError):
            branch.open("escape", "x")
        branch.chmod("link", 0o600, follow_symlinks=False)
        assert stat.S_IMODE(branch.stat("link").st_mode) != 0o600

    def test_directories(self, branch: daxfs.Branch) -> None:
        branch.makedirs("a/b/c", 0o700)
        assert stat.S_IMODE(branch.stat("a/b/c").st_mode) == 0o700
        branch.makedirs(b"a/b/c", exist_ok=True)
        with pytest.raises(FileExistsError):
            branch.makedirs("a/b/c")
        with pytest.raises(FileExistsError):
            branch.mkdir("empty", exist_ok=True)
        branch.mkdir("/", exist_ok=True)
        with pytest.raises(errors.InvalidError, match=r"^a: .* below itself"):
            branch.replace("a", "a/b/c/x")
        branch.symlink("..", "a/b/up")
        branch.write_text("a/b/f", "")
        branch.rmtree("a")
        assert not branch.exists("a")
        assert branch.stat("/").st_nlink == 2 + 2
        for other in ("dirlink", "dirlink/", "empty"):
            with pytest.raises(NotADirectoryError) as caught:
                branch.rmtree(other)
            assert (caught.value.errno, caught.value.filename) == (
                errno.ENOTDIR,
                other.rstrip("/"),
            )

    @pytest.mark.parametrize("name", ["/", "", ".", "..", b"//", "dir/.", "dir/sub/..", "dir/./"])
    def test_what_cannot_go_itself_keeps_what_is_in_it(
        self, branch: daxfs.Branch, name: str | bytes
    ) -> None:
        with pytest.raises(errors.InvalidError) as caught:
            branch.rmtree(name)
        assert (caught.value.errno, caught.value.filename) == (errno.EINVAL, os.fsdecode(name))
        assert branch.diff() == []

    def test_directories_above_are_made_as_os_does(
        self, branch: daxfs.Branch, tmp_path: Path
    ) -> None:
        host = tmp_path / "host"
        for name in ("./k/l", "n1/../n2/x", "./", "k/./l/m/.", "k/..", "/o//p/"):
            branch.makedirs(name, exist_ok=True)
            os.makedirs(f"{host}/{name}", exist_ok=True)
        made = {one.path for one in branch.diff() if one.kind == "added"}
        assert made == {f"/{path.relative_to(host)}" for path in host.rglob("*")}
        for taken in ("k/l", "./k/l", "k/l/.", b"./k/l"):
            with pytest.raises(FileExistsError):
                branch.makedirs(taken)
        with pytest.raises(NotADirectoryError):
            branch.makedirs("empty/../x")
        with pytest.raises(FileExistsError):
            branch.makedirs("/")

    def test_moves(self, branch: daxfs.Branch) -> None:
        branch.write_text("one", "1")
        branch.write_text("two", "2")
        with pytest.raises(FileExistsError):
            branch.rename("one", "two")
        branch.exchange("one", "two")
        assert (branch.read_text("one"), branch.read_text("two")) == ("2", "1")
        branch.replace("one", "two")
        assert not branch.exists("one")
        branch.rename("two", "dir/two")
        assert branch.read_text("dir/two") == "2"
        branch.replace("dir", "elsewhere")
        assert branch.read_text("elsewhere/sub/deep") == "deep\n"

    def test_hard_links_and_special_files(self, branch: daxfs.Branch) -> None:
        branch.link("dir/text.txt", "third")
        assert branch.stat("hard").st_nlink == 3
        branch.link("link", "is-link", follow_symlinks=False)
        assert branch.lstat("is-link").is_symlink()
        branch.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        assert branch.stat("null").st_rdev == os.makedev(1, 3)
        branch.mknod("pipe", stat.S_IFIFO)
        assert stat.S_ISFIFO(branch.stat("pipe").st_mode)
        branch.mknod("disk", stat.S_IFBLK | 0o600, os.makedev(8, 0))
        branch.mknod("socket", stat.S_IFSOCK | 0o600)
        tests = ("is_char_device", "is_fifo", "is_block_device", "is_socket", "is_file", "is_dir")
        for at, name in enumerate(("null", "pipe", "disk", "socket", "hard", "dir")):
            found = [getattr(branch / name, test)() for test in tests]
            assert found == [test == tests[at] for test in tests], name
        branch.mknod("plain")
        assert branch.read_bytes("plain") == b""

    def test_numbers_of_devices_have_a_limit(self, branch: daxfs.Branch) -> None:
        branch.mknod("last", stat.S_IFBLK | 0o600, os.makedev(4095, 1048575))
        assert branch.stat("last").st_rdev == os.makedev(4095, 1048575)
        for device in (os.makedev(4096, 0), os.makedev(0, 1048576)):
            with pytest.raises(errors.InvalidError, match="at most 4095:1048575") as caught:
                branch.mknod("more", stat.S_IFBLK | 0o600, device)
            assert (caught.value.errno, caught.value.filename) == (errno.EINVAL, "more")
        assert not branch.exists("more")

    def test_a_mode_gives_permissions_alone(self, branch: daxfs.Branch) -> None:
        branch.mkdir("d", stat.S_IFREG | 0o2750)
        branch.makedirs("e/f", stat.S_IFREG | 0o2750)
        (branch / "g").mkdir(stat.S_IFREG | 0o2750)
        for name in ("d", "e/f", "g"):
            assert branch.stat(name).st_mode == stat.S_IFDIR | 0o2750
        branch.touch("t", stat.S_IFSOCK | 0o640)
        assert branch.stat("t").st_mode == stat.S_IFREG | 0o640

    def test_attributes(self, branch: daxfs.Branch) -> None:
        branch.chmod("setuid", 0o2711)
        assert stat.S_IMODE(branch.stat("setuid").st_mode) == 0o2711
        branch.chown("setuid", 5, 6)
        branch.chown("setuid", gid=7)
        info = branch.stat("setuid")
        assert (info.st_uid, info.st_gid) == (5, 7)
        branch.chown("setuid", 0xFFFF_FFFF, 0xFFFF_FFFF)
        info = branch.stat("setuid")
        assert (info.st_uid, info.st_gid) == (5, 7)
        branch.chown("setuid", 0xFFFF_FFFE)
        assert branch.stat("setuid").st_uid == 0xFFFF_FFFE
        for number in (-2, 1 << 32):
            with pytest.raises(errors.InvalidError, match=f"uid {number}"):
                branch.chown("setuid", number)
            with pytest.raises(errors.InvalidError, match=f"gid {number}"):
                branch.chown("setuid", gid=number)
        branch.utime("setuid", (1.5, 2.25))
        info = branch.stat("setuid")
        assert (info.st_atime, info.st_mtime) == (1.5, 2.25)
        branch.utime("setuid")
        assert branch.stat("setuid").st_mtime > 1e9
        with pytest.raises(ValueError):
            branch.utime("setuid", (1, 1), ns=(1, 1))
        for times in ((1,), (1, 2, 3)):
            with pytest.raises(ValueError):
                branch.utime("setuid", times)  # type: ignore[arg-type]
            with pytest.raises(ValueError):
                branch.utime("setuid", ns=times)  # type: ignore[arg-type]
        with pytest.raises(ValueError):
            branch.utime("setuid", ns=())  # type: ignore[arg-type]
        with pytest.raises(OverflowError):
            branch.utime("setuid", ns=(0, 1 << 63))
        with pytest.raises(errors.InvalidError, match="below 0"):
            branch.truncate("big", -1)
        with branch.open("big", "r+b", 0) as file, pytest.raises(errors.InvalidError):
            file.truncate(-1)
        branch.setxattr("big", "user.more", b"1")
        with pytest.raises(FileExistsError):
            branch.setxattr("big", "user.more", b"2", os.XATTR_CREATE)
        with pytest.raises(errors.NoAttributeError):
            branch.setxattr("big", "user.less", b"2", os.XATTR_REPLACE)
        branch.removexattr("big", "user.note")
        assert branch.xattrs("big") == {"user.more": b"1"}

    def test_seconds_are_taken_as_os_does(self, branch: daxfs.Branch, tmp_path: Path) -> None:
        here = tmp_path / "here"
        here.touch()
        for seconds in (1700000000.1, 1.7e9 + 1 / 3, -0.1, -1193814535.3255925, 0.3, 2**31, 1e-10):
            os.utime(here, (seconds, seconds))
            branch.utime("big", (seconds, seconds))
            assert branch.stat("big").st_mtime_ns == here.stat().st_mtime_ns

    @pytest.mark.parametrize(
        "name", ["user.x", "trusted.x", "plain", "no.such", "system.x", "userx", "user."]
    )
    def test_attributes_have_names_as_those_of_the_operating_system(
        self, branch: daxfs.Branch, tmp_path: Path, name: str
    ) -> None:
        file = tmp_path / "file"
        file.touch()
        outcomes: list[int | None] = []
        for what, path in ((os, file), (branch, "big")):
            try:
                what.setxattr(path, name, b"1")
                outcomes.append(None)
            except OSError as error:
                outcomes.append(error.errno)
        assert outcomes[1] == outcomes[0]

    @pytest.mark.parametrize("name", ["user.x", "trusted.x"])
    @pytest.mark.parametrize("kind", ["file", "directory", "link", "fifo"])
    def test_files_have_attributes_as_those_of_the_operating_system(
        self, branch: daxfs.Branch, tmp_path: Path, kind: str, name: str
    ) -> None:
        def outcomes(system: Any, path: str) -> Iterator[tuple[int | None, str]]:
            if kind == "directory":
                system.mkdir(path)
            elif kind == "link":
                system.symlink("big", path)
            else:
                system.mknod(path, 0o644 | (stat.S_IFIFO if kind == "fifo" else stat.S_IFREG))
            calls: tuple[Callable[[], None], ...] = (
                lambda: system.removexattr(path, name, follow_symlinks=False),
                lambda: system.setxattr(path, name, b"1", follow_symlinks=False),
                lambda: system.setxattr(path, name, b"1", os.XATTR_CREATE, follow_symlinks=False),
            )
            for call in calls:
                try:
                    call()
                    yield None, ""
                except OSError as error:
                    yield error.errno, os.path.basename(error.filename)

        assert list(outcomes(branch, "/new")) == list(outcomes(os, f"{tmp_path}/new"))

    def test_attributes_beyond_what_one_file_can_have(
        self, image: daxfs.Image, branch: daxfs.Branch
    ) -> None:
        branch.write_text("f", "kept")
        for number in range(15):
            branch.setxattr("f", f"user.{number}", bytes(65536))
        with pytest.raises(errors.NoSpaceError, match="set of attributes"):
            branch.setxattr("f", "user.15", bytes(65536))
        assert len(branch.xattrs("f")) == 15
        branch.write_text("g", "as well")
        branch.commit()
        assert (image.read_text("f"), image.read_text("g")) == ("kept", "as well")

    def test_groups_are_inherited(self, branch: daxfs.Branch) -> None:
        branch.mkdir("team")
        branch.chown("team", 0, 4242)
        branch.chmod("team", 0o2775)
        branch.mkdir("team/sub")
        branch.write_text("team/sub/file", "")
        branch.symlink("x", "team/link")
        for name in ("sub", "sub/file", "link"):
            assert branch.lstat(f"team/{name}").st_gid == 4242
        assert branch.stat("team/sub").st_mode & stat.S_ISGID

    def test_a_slash_at_the_end_asks_for_a_directory(
        self, branch: daxfs.Branch, tmp_path: Path
    ) -> None:
        def outcome(use: Callable[..., object], *arguments: str | Path) -> int | None:
            try:
                use(*arguments)
            except OSError as error:
                return error.errno
            return None

        there = tmp_path / "there"
        there.mkdir()
        (there / "file").touch()
        (there / "dir").mkdir()
        (there / "link").symlink_to("dir")
        branch.mkdir("there")
        branch.write_bytes("there/file", b"")
        branch.mkdir("there/dir")
        branch.symlink("dir", "there/link")
        for ours, theirs in (
            (branch.unlink, os.unlink),
            (branch.rmdir, os.rmdir),
            (branch.mknod, os.mknod),
            (lambda path: branch.symlink("x", path), lambda path: os.symlink("x", path)),
            (
                lambda path: branch.open(path, "xb"),
                lambda path: os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL),
            ),
            (
                lambda path: branch.rename(path, "there/moved"),
                lambda path: os.rename(path, there / "moved"),
            ),
            (
                lambda path: branch.rename("there/moved", path),
                lambda path: os.rename(there / "moved", path),
            ),
            (branch.mkdir, os.mkdir),
        ):
            for name in ("file/", "link/", "new/", "dir/"):
                expected = outcome(theirs, f"{there}/{name}")
                assert outcome(ours, f"there/{name}") == expected, (theirs, name)
        assert sorted(branch.listdir("there")) == sorted(os.listdir(there))

    @pytest.mark.parametrize(
        ("use", "number"),
        [
            (lambda b: b.mkdir("dir"), errno.EEXIST),
            (lambda b: b.mkdir("nope/x"), errno.ENOENT),
            (lambda b: b.mkdir("empty/x"), errno.ENOTDIR),
            (lambda b: b.mkdir("n" * 129), errno.ENAMETOOLONG),
            (lambda b: b.rmdir("dir"), errno.ENOTEMPTY),
            (lambda b: b.rmdir("empty"), errno.ENOTDIR),
            (lambda b: b.rmdir("/"), errno.EINVAL),
            (lambda b: b.unlink("dir"), errno.EISDIR),
            (lambda b: b.unlink("nope"), errno.ENOENT),
            (lambda b: b.link("dir", "x"), errno.EPERM),
            (lambda b: b.replace("dir", "dir/sub/x"), errno.EINVAL),
            (lambda b: b.replace("dir", "empty"), errno.ENOTDIR),
            (lambda b: b.replace("empty", "empty dir"), errno.EISDIR),
            (lambda b: b.replace("empty dir", "dir"), errno.ENOTEMPTY),
            (lambda b: b.exchange("empty", "nope"), errno.ENOENT),
            (lambda b: b.exchange("dir", "empty/"), errno.ENOTDIR),
            (lambda b: b.symlink("", "x"), errno.ENOENT),
            (lambda b: b.symlink("t" * 4096, "x"), errno.ENAMETOOLONG),
            (lambda b: b.write_bytes("dir", b""), errno.EISDIR),
            (lambda b: b.write_bytes("new/", b""), errno.EISDIR),
            (lambda b: b.truncate("empty", 1 << 63), errno.EFBIG),
            (lambda b: b.truncate("dir", 1), errno.EISDIR),
            (lambda b: b.removexattr("big", "user.nope"), errno.ENODATA),
            (lambda b: b.write_bytes("big", bytes(20 << 20)), errno.ENOSPC),
        ],
    )
    def test_errors_are_those_of_posix(
        self, branch: daxfs.Branch, use: Callable[[daxfs.Branch], object], number: int
    ) -> None:
        before = sorted(branch.glob("**/*"))
        with pytest.raises(errors.DaxfsError) as caught:
            use(branch)
        assert caught.value.errno == number
        assert sorted(branch.glob("**/*")) == before

    def test_errors_name_the_path(self, branch: daxfs.Branch) -> None:
        for use in (branch.mkdir, branch.rmdir, branch.unlink):
            with pytest.raises(errors.DaxfsError) as caught:
                use("dir/sub")
            assert caught.value.filename == "dir/sub"
        branch.symlink("round", "round")
        branch.symlink("nope/x", "lost")
        for path, modes in (("nope/x", "wxa"), ("round/x", "wxa"), ("lost", "wa")):
            for mode in modes:
                with pytest.raises(errors.DaxfsError) as caught:
                    branch.open(path, mode)
                assert caught.value.filename == path

    def test_paths_write_as_pathlib_does(self, image: daxfs.Image, branch: daxfs.Branch) -> None:
        top = branch / "p"
        (top / "q").mkdir(parents=True)
        file = top / "q" / "f.txt"
        assert file.write_text("text") == 4
        with file.open("a") as text:
            text.write(" more")
        assert file.read_text() == "text more"
        (top / "hard").hardlink_to(file)
        (top / "soft").symlink_to("q/f.txt")
        assert (top / "soft").read_bytes() == b"text more"
        assert str(file.rename(top / "g")) == "/p/g"
        (top / "g").replace("/p/h")
        (top / "h").chmod(0o600)
        (top / "t").touch()
        (top / "h").unlink()
        (top / "h").unlink(missing_ok=True)
        (top / "q").rmdir()
        assert sorted(path.name for path in top.iterdir()) == ["hard", "soft", "t"]


class TestDiff:
    def test_every_kind(self, image: daxfs.Image) -> None:
        with image.branch("b", keep=True) as branch:
            branch.write_text("dir/text.txt", "other")
            branch.mkdir("new")
            branch.write_text("new/file", "")
            branch.rmtree("empty dir")
            branch.chmod("setuid", 0o600)
            branch.chown("fifo", 1, 1)
            branch.unlink("dangling")
            branch.symlink("dir", "dangling")
            branch.unlink("empty")
            branch.mkdir("empty")
            branch.utime("absolute", ns=(5, 5), follow_symlinks=False)
            branch.setxattr("dir", "user.x", b"")
            found = [(one.kind, one.path, one.aspects) for one in branch.diff()]
            assert found == [
                ("changed", "/absolute", ["mtime"]),
                ("changed", "/dangling", ["target", "mtime"]),
                ("changed", "/dir", ["xattrs"]),
                ("changed", "/dir/text.txt", ["content", "mtime"]),
                ("changed", "/empty", ["type"]),
                ("removed", "/empty dir", []),
                ("changed", "/fifo", ["owner"]),
                ("changed", "/hard", ["content", "mtime"]),
                ("added", "/new", []),
                ("added", "/new/file", []),
                ("changed", "/setuid", ["mode"]),
            ]
            (text,) = (one for one in branch.diff() if one.path == "/dir/text.txt")
            assert text.before is not None
            assert text.after is not None
            assert (text.before.st_size, text.after.st_size) == (25, 5)
            fewer = branch.diff(ignore_mtime=True, ignore_owner=True, ignore_xattrs=True)
            assert not {"/absolute", "/fifo", "/dir"} & {one.path for one in fewer}
        with image.branch("c", parent="b", keep=True) as child:
            assert child.diff() == []
            child.write_text("more", "")
            assert [one.path for one in child.diff()] == ["/more"]
            assert len(child.diff("main")) == len(found) + 1
            assert [one.kind for one in image.changes_since(child) if one.path == "/more"] == [
                "removed"
            ]

    def test_plain_images_have_changes_too(self) -> None:
        with daxfs.open(VECTORS / "delta.daxfs", branch="b1") as image:
            kinds = {one.path: one.kind for one in image.changes_since(image.tree("main"))}
            assert kinds["/dir/moved.txt"] == "added"
            assert kinds["/emptydir"] == "removed"


class TestMaintenance:
    def test_space_comes_back(self, path: Path) -> None:
        with daxfs.open(path, writable=True) as image:
            for round_ in range(20):
                with suppress(KeyError), image.branch(f"b{round_}") as branch:
                    branch.write_bytes("f", bytes([round_]) * (6 << 20))
                    raise KeyError
                image.maintain()
            with image.branch("last") as branch:
                branch.write_bytes("f", b"x" * (6 << 20))
        assert sound(path)

    def test_release(self, path: Path, image: daxfs.Image, branch: daxfs.Branch) -> None:
        assert image.release_branch("b") is False
        with daxfs.open(path, writable=True) as other:
            assert [one.pid for one in other.openers] == [os.getpid()]
            with pytest.raises(errors.BranchBusyError):
                other.release_branch("b", force=True)
            branch.release()
            with other.branch("b", keep=True) as again:
                again.write_text("x", "")
            branch.write_text("y", "")
            assert branch.exists("x")

    def test_an_image_tells_of_itself_when_its_branch_has_ended(
        self, path: Path, image: daxfs.Image, branch: daxfs.Branch
    ) -> None:
        with daxfs.open(path, branch="b", writable=True) as other:
            branch.abort()
            with pytest.raises(errors.BranchStaleError, match="aborted"):
                other.listdir()
            assert other.size == path.stat().st_size
            assert (other.uuid, other.spans) == (image.uuid, image.spans)
            assert repr(other) == repr(image)

    def test_an_image_in_use_is_not_replaced(
        self, path: Path, tree: Path, image: daxfs.Image, branch: daxfs.Branch
    ) -> None:
        branch.write_text("f", "kept")
        with pytest.raises(errors.BranchBusyError, match=f"process {os.getpid()} has the image"):
            daxfs.build(tree, path, force=True)
        branch.close()
        image.close()
        daxfs.build(tree, path, force=True)
        (path.parent / "no image").write_text("text")
        daxfs.build(tree, path.parent / "no image", force=True)
