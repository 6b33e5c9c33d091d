# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects `daxfs-branch`, `daxfs compact` and `fsck --repair`: what they do, print and refuse."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import pytest
from click.testing import CliRunner

import daxfs
from daxfs import control
from daxfs.cli import _branch_files
from daxfs.cli._branch_list import of_image, of_mount
from support.small import MIB, VECTORS, Run


@pytest.fixture
def path(tree: Path, tmp_path: Path) -> Path:
    """Build an image of the tree with room for branches."""
    daxfs.build(tree, tmp_path / "x.daxfs", branches=True, delta_size="16M", label="a label")
    return tmp_path / "x.daxfs"


class Branches:
    """`daxfs-branch` on one image."""

    def __init__(self, run: Run, path: Path) -> None:
        self._run, self.path = run, path

    def __call__(self, *arguments: str | Path, status: int = 0, input: bytes = b"") -> str:
        done = self._run("daxfs-branch", *arguments, "-i", self.path, status=status, input=input)
        assert bool(done.stderr) == bool(status)
        return done.stdout.decode() + done.stderr.decode()

    def output(self, *arguments: str) -> bytes:
        return self._run("daxfs-branch", *arguments, "-i", self.path).stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))


@pytest.fixture
def on(run: Run, path: Path) -> Branches:
    return Branches(run, path)


def test_a_branch_from_end_to_end(on: Branches, run: Run, tmp_path: Path) -> None:
    on("create", "feature")
    on("create", "nested", "-p", "feature")
    (tmp_path / "in").write_text("first\n2nd\n")
    on("put", "-b", "nested", tmp_path / "in", "dir/text.txt")
    on("put", "-b", "nested", "-", "stdin", input=b"piped")
    on("mkdir", "-b", "nested", "-p", "a/b/c")
    on("mv", "-b", "nested", "stdin", "a/b")
    on("rm", "-b", "nested", "-r", "empty dir", "dangling")
    assert on("diff", "nested").splitlines() == [
        "A /a/",
        "A /a/b/",
        "A /a/b/c/",
        "A /a/b/stdin",
        "D /dangling",
        "M /dir/text.txt  (content, mtime)",
        "D /empty dir/",
        "M /hard  (content, mtime)",
    ]
    assert run("daxfs", "cat", on.path, "dir/text.txt", "-b", "nested").stdout == b"first\n2nd\n"
    assert b"2nd" not in run("daxfs", "cat", on.path, "dir/text.txt").stdout
    assert "nested was made from it" in on("commit", "feature", status=1)
    on("commit", "-b", "nested")
    assert run("daxfs", "cat", on.path, "a/b/stdin").stdout == b"piped"
    assert "no such branch: feature" in on("commit", "feature", status=1)
    run("fsck.daxfs", on.path)


def test_list(on: Branches, run: Run) -> None:
    assert [row.split()[0] for row in on("list").splitlines()] == ["BRANCH", "main"]
    for name, parent in (("a", "main"), ("b", "main"), ("aa", "a"), ("ab", "a"), ("aaa", "aa")):
        on("create", name, "-p", parent)
    on("put", "-b", "aaa", "-", "f", input=b"x" * 10_000)
    names = [re.split(r"  +(?=\d|CH)", row)[0] for row in on("list").splitlines()]
    assert names == [
        "BRANCH",
        "main",
        "├── a",
        "│   ├── aa",
        "│   │   └── aaa",
        "│   └── ab",
        "└── b",
    ]
    rows = {row["name"]: row for row in on.json("list")}
    assert rows["aaa"]["parent"] == "aa"
    assert rows["aaa"]["size"] >= 12288
    assert rows["aaa"]["layers"] == 4
    assert rows["a"]["frozen"]
    assert not rows["b"]["frozen"]
    assert rows["main"]["created_ns"] is None
    assert rows["b"]["owner"] is None
    with daxfs.open(on.path, writable=True) as image, image.branch("b", keep=True):
        assert f"written by process {os.getpid()}" in on("list")
        owners = {row["name"]: row["owner"] for row in on.json("list") if row["owner"]}
        assert owners.keys() == {"b"}
        assert (owners["b"]["pid"], owners["b"]["alive"]) == (os.getpid(), True)
    on("delete", "-r", "a")
    on("delete", "b")
    assert [row["name"] for row in on.json("list")] == ["main"]


def test_mounts_and_images_tell_of_branches_alike(on: Branches) -> None:
    on("create", "a")
    with daxfs.open(on.path, writable=True) as image:
        for status in image.branches:
            size, created = status.size or 0, status.created_ns or 0
            names = (status.name.encode(), (status.parent or "").encode())
            answer = control._BRANCH.pack(
                status.id, status.log_size, size // 4096, created, 0, 0, *names
            )
            told = control._decode(answer, 0)
            for field in ("name", "id", "parent", "log_size", "size", "created_ns"):
                assert getattr(told, field) == getattr(status, field)
            assert of_image(status).keys() - of_mount(told).keys() == {"layers"}


def test_list_of_what_is_only_read(run: Run) -> None:
    done = run("daxfs-branch", "list", "-i", VECTORS / "delta.daxfs", "--json")
    rows = json.loads(done.stdout)
    assert [(row["name"], row["parent"], row["size"]) for row in rows] == [
        ("main", None, None),
        ("b1", "main", None),
    ]
    done = run("daxfs-branch", "diff", "-i", VECTORS / "delta.daxfs", "b1", "--name-only")
    assert b"/dir/moved.txt\n" in done.stdout
    done = run("daxfs-branch", "create", "x", "-i", VECTORS / "delta.daxfs", status=1)
    assert b"daxfs compact" in done.stderr


def test_list_of_what_has_no_room_for_branches(run: Run, tree: Path, tmp_path: Path) -> None:
    image = tmp_path / "static.daxfs"
    daxfs.build(tree, image)
    assert b"mkdaxfs -w" in run("daxfs-branch", "list", "-i", image).stdout
    assert json.loads(run("daxfs-branch", "list", "-i", image, "--json").stdout) == []


def test_diff_content_can_be_applied(on: Branches, run: Run, tree: Path, tmp_path: Path) -> None:
    """What `--content` says of text, another program can make of the old tree."""
    on("create", "b")
    on("put", "-b", "b", "-", "dir/text.txt", input=b"zeroth\nfirst\nsecond\nno end")
    on("put", "-b", "b", "-", "fresh", input=b"a\nb\n")
    on("rm", "-b", "b", "dir/sub/deep")
    diff = on("diff", "b", "--content")
    assert "new regular file mode 100644" in diff
    before = tmp_path / "before"
    before.mkdir()
    for name in ("dir/sub/deep", "dir/text.txt", "hard"):
        (before / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tree / name, before / name)
    subprocess.run(["patch", "-p1", "-s", "-E", "-d", before], input=diff.encode(), check=True)
    assert (before / "dir/text.txt").read_text() == "zeroth\nfirst\nsecond\nno end"
    assert (before / "hard").read_text() == (before / "dir/text.txt").read_text()
    assert (before / "fresh").read_text() == "a\nb\n"
    assert not (before / "dir/sub/deep").exists()


def test_content_that_looks_like_a_header_can_be_applied(on: Branches, tmp_path: Path) -> None:
    on("create", "b")
    on("put", "-b", "b", "-", "file", input=b"x\n--")
    on("create", "c", "-p", "b")
    on("put", "-b", "c", "-", "file", input=b"x\n++")
    (tmp_path / "file").write_bytes(b"x\n--")
    diff = on("diff", "c", "--content").encode()
    subprocess.run(["patch", "-p1", "-s", "-d", tmp_path], input=diff, check=True)
    assert (tmp_path / "file").read_bytes() == b"x\n++"


@pytest.mark.parametrize("tool", ["patch", "git"])
def test_files_of_any_name_can_be_patched(on: Branches, tmp_path: Path, tool: str) -> None:
    names = ["my file", " a  b ", '"q"', "back\\slash", "tab\tbed\x7f", "\u00fc\udcff"]
    command = ["patch", "-p1", "-s"]
    if tool == "git":
        # GNU patch refuses lines in names since version 2.8.
        names += ["x\n--- a/other\n+++ b/other\n@@ -1 +1 @@\n-old\n+wrong\n--- a", "line\nfeed"]
        command = ["git", "apply"]
    on("create", "a")
    with daxfs.open(on.path, writable=True) as image:
        with image.branch("a", keep=True) as branch:
            for name in (*names, "other"):
                branch.makedirs(os.path.dirname(name) or "/", exist_ok=True)
                branch.write_text(name, "old\n")
            branch.extract(tmp_path / "out")
        with image.branch("b", parent="a", keep=True) as branch:
            for name in names:
                branch.write_text(name, "new\n")
    diff = on.output("diff", "b", "--content")
    # Not as part of a repository that the directory may be in.
    env = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path)}
    subprocess.run(command, input=diff, cwd=tmp_path / "out", env=env, check=True)
    found = {name: (tmp_path / "out" / name).read_text() for name in (*names, "other")}
    assert found == {**dict.fromkeys(names, "new\n"), "other": "old\n"}


def test_a_file_too_large_for_lines_is_only_told(on: Branches) -> None:
    with daxfs.open(on.path, writable=True) as image, image.branch("b", keep=True) as branch:
        branch.write_text("sparse", "text")
        branch.truncate("sparse", 1 << 42)
        branch.write_text("text", "small\n")
    lines = on("diff", "b", "--content").splitlines()
    assert "Large files /dev/null and b/sparse differ" in lines
    assert "+small" in lines


def test_forms_of_diff(on: Branches) -> None:
    on("create", "a")
    on("put", "-b", "a", "-", "big", input=b"\0small")
    on("create", "b")
    on("put", "-b", "b", "-", "empty", input=b"full\n")
    assert on("diff", "a", "b", "--name-only").split() == ["/big", "/empty"]
    assert on("diff", "b", "main", "--name-only").split() == ["/empty"]
    assert on("diff", "-b", "a", "--name-only") == on("diff", "a", "--name-only")
    assert "Binary files a/big and b/big differ" in on("diff", "a", "--content")
    stat_lines = on("diff", "a", "--stat").splitlines()
    assert stat_lines[0] == " M /big | 3145728 -> 6 bytes"
    assert stat_lines[1].startswith(" 1 path: 1 changed; 0 bytes more, 3.0 MiB less")
    (change,) = on.json("diff", "b")
    assert (change["path"], change["kind"]) == ("/empty", "changed")
    assert (change["before"]["size"], change["after"]["size"]) == (0, 5)
    on("diff", "a", "a", "--exit-code")
    on._run("daxfs-branch", "diff", "a", "-i", on.path, "--exit-code", status=1)
    assert "made from no branch" in on("diff", "main", status=2)
    assert "no such branch" in on("diff", "nope", status=1)
    for arguments in ((), ("a", "b", "-b", "a"), ("a", "--stat", "--content")):
        on("diff", *arguments, status=2)


def test_log(on: Branches) -> None:
    on("create", "b")
    on("put", "-b", "b", "-", "new", input=b"abc")
    on("rm", "-b", "b", "link")
    assert [entry["kind"] for entry in on.json("log", "b")] == ["mknod", "extent", "delete"]
    lines = on("log", "-b", "b").splitlines()
    assert lines[0].endswith("mknod        /new  (mode 100644, owner 0:0)")
    assert "extent       /new  (3 bytes at 0, in blocks from 0x" in lines[1]
    assert lines[2].endswith("delete       /link")
    assert on("log", "main") == ""


def test_log_of_a_plain_image(run: Run) -> None:
    """It has entries of kinds that are not made any more."""
    done = run("daxfs-branch", "log", "-i", VECTORS / "delta.daxfs", "b1")
    lines = [line.partition("+0000  ")[2] for line in done.stdout.decode().splitlines()]
    assert lines[:3] == [
        "create       /newdir  (mode 40755)",
        "create       /newdir/hello.txt  (mode 100644)",
        "write        /newdir/hello.txt  (6 bytes at 0)",
    ]
    assert "truncate     /cut.txt  (8 bytes)" in lines
    assert "symlink      /newlink  (to newdir/renamed.txt)" in lines


def test_log_names_what_it_was_then(on: Branches) -> None:
    """Of directories that move, files with several names and none, and names that are swapped."""
    on("create", "b")
    with daxfs.open(on.path, writable=True) as image, image.branch("b", keep=True) as branch:
        branch.makedirs("one/deep")
        branch.write_bytes("one/deep/file", b"1")
        branch.rename("one", "two")
        branch.link("two/deep/file", "other")
        branch.unlink("two/deep/file")
        branch.chmod("other", 0o600)
        with branch.open("other", "r+b") as file:
            branch.unlink("other")
            file.write(b"22")
        branch.write_bytes("left", b"3")
        branch.rename("left", "two/left")
        branch.chmod("two/left", 0o640)
        branch.write_bytes("two/over", b"4")
        branch.replace("two/over", "two/left")
        branch.exchange("two", "dir/sub")
        branch.chmod("dir/sub/left", 0o600)
    found = [(event["kind"], event["path"], event["new_path"]) for event in on.json("log", "b")]
    assert found == [
        ("mknod", "/one", None),
        ("mknod", "/one/deep", None),
        ("mknod", "/one/deep/file", None),
        ("extent", "/one/deep/file", None),
        ("rename", "/one", "/two"),
        ("link", "/two/deep/file", "/other"),
        ("delete", "/two/deep/file", None),
        ("setattr", "/other", None),
        ("delete", "/other", None),
        ("extent", None, None),
        ("mknod", "/left", None),
        ("extent", "/left", None),
        ("rename", "/left", "/two/left"),
        # Nothing tells that it is what was replaced later.
        ("setattr", None, None),
        ("mknod", "/two/over", None),
        ("extent", "/two/over", None),
        ("rename", "/two/over", "/two/left"),
        ("exchange", "/two", "/dir/sub"),
        ("setattr", "/dir/sub/left", None),
    ]


def test_copies_are_as_those_of_cp(on: Branches, run: Run, tree: Path, tmp_path: Path) -> None:
    on("create", "b")
    on("put", "-b", "b", "-a", tree, "copy")
    on("commit", "b")
    assert run("daxfs", "diff", on.path, tree, "--path", "copy").stdout == b""
    on("create", "c")
    on("put", "-b", "c", "-r", tree / "dir", tree / "setuid", "copy/empty dir")
    with daxfs.open(on.path, branch="c") as image:
        assert image.read_text("copy/empty dir/dir/sub/deep") == "deep\n"
        assert stat.S_IMODE(image.stat("copy/empty dir/setuid").st_mode) == 0o755
    assert "-r copies it" in on("put", "-b", "c", tree / "dir", "x", status=1)
    on("put", "-b", "c", tree / "empty", tree / "setuid", "nowhere at all", status=2)
    assert "nope" in on("put", "-b", "c", tmp_path / "nope", "x", status=1)
    on("rm", "-b", "c", "-f", "not there")
    assert "not there" in on("rm", "-b", "c", "not there", status=1)
    assert "is a directory" in on("rm", "-b", "c", "copy", status=1)


def test_what_cannot_be_copied_keeps_nothing_else_from_it(on: Branches, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "taken").mkdir(parents=True)
    for name in ("0", "taken/x", "z"):
        (source / name).write_text(name)
    # Names that are longer than an image's are.
    (source / ("a" * 129)).write_text("linked")
    for name in ("b", "c"):
        (source / name).hardlink_to(source / ("a" * 129))
    on("create", "b")
    on("mkdir", "-b", "b", "copy")
    on("put", "-b", "b", "-", "copy/taken")
    said = on("put", "-b", "b", "-a", f"{source}/.", "copy", status=1)
    assert [line.split(": ")[1] for line in said.splitlines()] == [
        "name of 129 bytes, at most 128 are possible",
        "file exists",
    ]
    with daxfs.open(on.path, branch="b") as image:
        assert image.listdir("copy") == ["0", "b", "c", "taken", "z"]
        assert image.read_text("copy/b") == "linked"
        assert image.stat("copy/b").st_ino == image.stat("copy/c").st_ino
        assert image.stat("copy").st_mtime_ns == source.stat().st_mtime_ns


def test_what_is_wrong_with_a_branch_is_said_once(on: Branches, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(9):
        (source / f"{number}").write_bytes(bytes([number]) * 4 * MIB)
    on("create", "b")
    assert on("put", "-b", "b", "-r", source, "copy", status=1).count("\n") == 1


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_what_is_copied_is_allowed_what_cp_allows(
    on: Branches, run: Run, tmp_path: Path, umask: int
) -> None:
    """Nobody's set-user-ID program becomes root's, and what is private stays so."""
    source, there = tmp_path / "source", tmp_path / "there"
    for directory, key in ((source, 0o644), (there, 0o600)):
        (directory / "deep/private").mkdir(parents=True)
        (directory / "deep/private").chmod(0o700 if directory is there else 0o755)
        (directory / "deep/key").write_text(directory.name)
        (directory / "deep/key").chmod(key)
    (source / "deep/new").mkdir(mode=0o777)
    for name, mode in (("deep/new", 0o1777), ("program", 0o6755), ("deep/new/open", 0o666)):
        if not (source / name).exists():
            (source / name).touch()
        (source / name).chmod(mode)
    (there / "into").mkdir()
    (there / "linked").mkdir()
    for directory in (there, there / "linked"):
        (directory / "link").symlink_to("into")
    (source / "linked/link").mkdir(parents=True)
    (source / "linked/link/stray").touch()
    on("create", "b")
    on("put", "-b", "b", "-a", there, "there")
    before = os.umask(umask)
    try:
        for words in (
            ["-r", source / "deep", ""],
            [source / "program", ""],
            [source / "deep/key", "fresh"],
            [source / "deep/key", "deep/key"],
            ["-r", source / "deep/..", "into"],
            ["-r", f"{source}/deep/", "link"],
            # A link is not entered for a directory, and what can be copied is.
            ["-r", source / "linked", ""],
            [tmp_path / "nope", source / "deep/key", "link"],
        ):
            *what, place = words
            done = subprocess.run(
                ["cp", *what, there / str(place)], capture_output=True, check=False
            )
            on("put", "-b", "b", *map(str, what), f"there/{place}", status=done.returncode)
    finally:
        os.umask(before)
    assert (
        run("daxfs", "diff", on.path, there, "-b", "b", "--path", "there", "--ignore-mtime").stdout
        == b""
    )


def test_contents_of_pipes_and_devices_are_copied(on: Branches, tmp_path: Path) -> None:
    """As by cp, which makes them only where it copies whole trees."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    on("create", "b")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(fifo.write_text, "from a pipe")
        on("put", "-b", "b", fifo, "setuid")
    on("put", "-b", "b", "/dev/null", "nothing")
    on("put", "-b", "b", "-r", fifo, "/dev/null", "dir")
    assert "/proc/self/mem" in on("put", "-b", "b", "/proc/self/mem", "x", status=1)
    with daxfs.open(on.path, branch="b") as image:
        assert image.read_text("setuid") == "from a pipe"
        assert image.read_bytes("nothing") == b""
        assert stat.S_ISFIFO(image.stat("dir/fifo").st_mode)
        assert stat.S_ISCHR(image.stat("dir/null").st_mode)


def test_what_fails_of_many_keeps_nothing_from_the_rest(on: Branches) -> None:
    on("create", "b")
    assert "nope" in on("rm", "-b", "b", "nope", "setuid", status=1)
    assert "exists: dir" in on("mkdir", "-b", "b", "dir", "made", status=1)
    with daxfs.open(on.path, branch="b") as image:
        assert not image.exists("setuid")
        assert image.is_dir("made")
    on("create", "c", "-p", "b")
    on("create", "d")
    assert "no such branch: nope" in on("delete", "-r", "b", "nope", "d", status=1)
    assert [branch["name"] for branch in on.json("list")] == ["main"]


def test_what_was_made_of_main_stays_where_main_does(on: Branches) -> None:
    on("create", "a")
    on("create", "b", "-p", "a")
    on("create", "c")
    assert "main cannot be aborted" in on("delete", "-r", "main", "c", status=1)
    assert [branch["name"] for branch in on.json("list")] == ["main", "a", "b"]


@pytest.mark.parametrize("name", ["file", "folder"])
def test_put_follows_nothing_that_takes_the_place_of_what_it_copies(
    on: Branches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source, others = tmp_path / "source", tmp_path / "others"
    for folder in (source, others):
        (folder / "folder").mkdir(parents=True)
        (folder / "folder/inside").write_text(folder.name)
        (folder / "file").write_text(folder.name)
    (source / "a first").touch()
    open_new = _branch_files._open_new

    def swap(branch: daxfs.Branch, path: str, mode: int) -> IO[bytes]:
        if path.endswith("a first"):
            (source / name).rename(tmp_path / "away")
            (source / name).symlink_to(others / name)
        return open_new(branch, path, mode)

    monkeypatch.setattr(_branch_files, "_open_new", swap)
    on("create", "b")
    command = ["-r", "-b", "b", "-i", str(on.path), str(source), "copy"]
    done = CliRunner().invoke(_branch_files.put, command)
    assert done.output.count("was replaced") == 1
    with daxfs.open(on.path, branch="b") as image:
        for copy in ("copy/file", "copy/folder/inside"):
            assert not image.exists(copy) or image.read_text(copy) == "source"


@pytest.mark.parametrize("words", ["put /dev/null {}", "rm a {}", "mkdir -p {}", "mv a {}"])
def test_empty_paths_are_none(on: Branches, words: str) -> None:
    """As of a shell's variable that is not set."""
    on("create", "b")
    name, *operands = words.split()
    operands = [operand.format("") for operand in operands]
    assert "empty path" in on(name, "-b", "b", *operands, status=2)


def test_a_copy_has_the_holes_of_what_was_copied(on: Branches, tmp_path: Path) -> None:
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(1 << 40)
        for place in (5, 1 << 30, (1 << 40) - 3):
            file.seek(place)
            file.write(b"abc")
    on("create", "b")
    on("put", "-b", "b", sparse, "copy")
    (tmp_path / "all hole").touch()
    os.truncate(tmp_path / "all hole", 1 << 30)
    on("put", "-b", "b", tmp_path / "all hole", "copy2")
    with daxfs.open(on.path, branch="b") as image:
        assert image.stat("copy").st_size == 1 << 40
        assert image.stat("copy2").st_size == 1 << 30
        with image.open("copy") as copy:
            for place in (5, 1 << 30, (1 << 40) - 3):
                copy.seek(place - 1)
                assert copy.read(4) == b"\0abc"
        assert list(image.extents("copy2")) == []


def test_comparing_a_changed_file_fills_no_hole_of_the_image(run: Run, tmp_path: Path) -> None:
    """In tmpfs, looking at a hole through a mapping takes memory."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "hole").touch()
    os.truncate(source / "hole", 64 << 20)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as shared:
        image = Path(shared) / "image"
        daxfs.build(source, image, branches=True, delta_size="16M")
        on = Branches(run, image)
        on("create", "b")
        on("rm", "-b", "b", "hole")
        on("put", "-b", "b", source / "hole", "hole")
        on("put", "-b", "b", "-", "other", input=b"x")
        before = image.stat().st_blocks
        assert on("diff", "b").splitlines() == ["M /hole  (mtime)", "A /other"]
        assert image.stat().st_blocks <= before + 1000


def test_losers_are_told(on: Branches) -> None:
    on("create", "a")
    on("create", "b")
    assert "exists" in on("create", "a", status=1)
    with daxfs.open(on.path, writable=True) as image, image.branch("b", keep=True) as branch:
        assert f"process {os.getpid()}" in on("abort", "b", status=1)
        on("commit", "a")
        with pytest.raises(daxfs.errors.BranchStaleError):
            branch.write_text("x", "")


def test_an_empty_name_is_no_default(on: Branches) -> None:
    for arguments in (("log", ""), ("diff", ""), ("diff", "-b", ""), ("create", "x", "-p", "")):
        assert "no such branch" in on(*arguments, status=1)


def test_refused_names_are_shown_as_they_are(on: Branches) -> None:
    for name, shown in (("a\nb", "a\\nb"), ("a\\/b", "a\\/b")):
        assert f'"{shown}" cannot name a branch' in on("create", name, status=1)


def test_usage(run: Run, path: Path) -> None:
    for arguments in (
        ("create",),
        ("create", "x"),
        ("commit", "-i", str(path)),
        ("commit", "a", "-b", "a", "-i", str(path)),
        ("list",),
        ("list", "-i", str(path), "-m", "/mnt"),
        ("put", "-i", str(path), "a", "b"),
        ("nonsense",),
    ):
        done = run("daxfs-branch", *arguments, status=2)
        assert done.stderr.startswith(b"daxfs-branch")
    for option in ("-i", "-m"):
        done = run("daxfs-branch", "list", option, path.parent / "nope", status=1)
        assert b"nope" in done.stderr
    # Not the root of a mount.
    for arguments in (("list",), ("create", "x"), ("commit",), ("abort", "-b", "x"), ("diff",)):
        done = run("daxfs-branch", *arguments, "-m", path.parent, status=1)
        assert b"not the root of a daxfs mount" in done.stderr
    assert run("daxfs-branch", "--version").stdout.startswith(b"daxfs-branch (daxfs) ")
    for name in ("create", "list", "commit", "abort", "delete", "gc", "release", "log", "diff"):
        told = run("daxfs-branch", name, "--help").stdout
        assert b"-i, --image" in told
        assert b"-m, --mount" in told


def test_options_are_told_alike(run: Run) -> None:
    for name in ("put", "rm", "mkdir", "mv"):
        told = run("daxfs-branch", name, "--help").stdout.decode()
        assert re.search(r"--branch NAME +The branch\.", told)
        assert re.search(r"--image IMAGE +The image\.", told)
    for name in ("create", "switch"):
        told = run("daxfs-branch", name, "--help").stdout.decode()
        assert re.search(r"--mount DIRECTORY +Where it is mounted\.", told)


def test_gc_names_who_keeps_what_has_ended(on: Branches) -> None:
    with daxfs.open(on.path, writable=True) as image, image.branch("held", keep=True) as held:
        on("create", "dropped")
        on("abort", "dropped")
        assert f"1 record of ended branches kept: process {os.getpid()} still" in on("gc")
        told = on.json("gc")
        assert (told["kept_records"], told["reader"]) == (1, os.getpid())
        # It moves on.
        held.listdir("/")
        assert "kept" not in on("gc")


class TestRepair:
    def crash(self, path: Path) -> None:
        """Leave what a process leaves that dies while it writes."""
        script = (
            "import os, sys, daxfs\n"
            "image = daxfs.open(sys.argv[1], writable=True)\n"
            "b = image.branch('b')\n"
            "b.write_bytes('kept', b'k' * 100000); b.sync(); b.write_bytes('lost', b'l' * 100000)\n"
            "os._exit(0)\n"
        )
        subprocess.run([sys.executable, "-c", script, path], check=True)

    def test_what_the_dead_left(self, on: Branches, run: Run) -> None:
        self.crash(on.path)
        assert "left by dead process" in on("list")
        assert run("fsck.daxfs", on.path, "-n").stdout.count(b"\n") == 1
        done = run("fsck.daxfs", on.path, "--repair", status=1)
        text = done.stdout.decode()
        assert "cleared away 1 dead process" in text
        assert "released 1 branch" in text
        assert text.splitlines()[-1].startswith(f"{on.path}: sound")
        assert run("fsck.daxfs", on.path, "--repair").stdout.count(b"\n") == 1
        with daxfs.open(on.path, branch="b") as image:
            assert image.read_bytes("kept") == b"k" * 100_000

    def test_json(self, on: Branches, run: Run) -> None:
        self.crash(on.path)
        about = json.loads(run("fsck.daxfs", on.path, "-p", "--json", status=1).stdout)
        assert about["sound"]
        assert about["repaired"]["dead_processes"] == 1
        assert len(about["repairs"]) == 2
        about = json.loads(run("fsck.daxfs", on.path, "-p", "--json").stdout)
        assert about["repairs"] == []

    def test_releasing_by_hand(self, on: Branches) -> None:
        self.crash(on.path)
        on("release", "b")
        assert on("release", "b") == "b: nobody held it\n"
        on("put", "-b", "b", "-", "more", input=b"")

    def test_damage_is_left_alone(self, on: Branches, run: Run) -> None:
        self.crash(on.path)
        image = bytearray(on.path.read_bytes())
        with daxfs.open(on.path, trusted=True) as opened:
            (table,) = (span.offset for span in opened.spans if span.name == "branch table")
        image[table + 116] ^= 1
        on.path.write_bytes(image)
        run("fsck.daxfs", on.path, "--repair", status=4)
        assert on.path.read_bytes() == image

    def test_images_without_branches_need_none(self, run: Run, image_path: Path) -> None:
        before = image_path.read_bytes()
        run("fsck.daxfs", image_path, "--repair")
        assert image_path.read_bytes() == before
        run("fsck.daxfs", image_path, "--repair", "-n", status=16)


class TestCompact:
    def change(self, on: Branches) -> None:
        on("create", "b")
        on("put", "-b", "b", "-", "big", input=b"n" * 5000)
        on("rm", "-b", "b", "-r", "dir")
        on("commit", "b")

    def listing(self, run: Run, path: Path, *more: str) -> bytes:
        done = run("daxfs", "ls", "-lRn", path, *more)
        # The sum of names that a directory's size is stays as it is, too.
        return done.stdout

    def test_in_place(self, on: Branches, run: Run) -> None:
        self.change(on)
        on.path.chmod(0o640)
        with daxfs.open(on.path) as image:
            uuid = image.uuid
        before = self.listing(run, on.path)
        assert run("daxfs", "compact", on.path).stdout.startswith(os.fsencode(on.path))
        assert self.listing(run, on.path) == before
        assert stat.S_IMODE(on.path.stat().st_mode) == 0o640
        assert os.listdir(on.path.parent) == [on.path.name]
        with daxfs.open(on.path) as image:
            assert (image.label, image.uuid) == ("a label", uuid)
            assert [branch.log_size for branch in image.branches] == [0]
            assert image.xattrs("big") == {"user.note": b"\x00value\xff"}
        run("fsck.daxfs", on.path)
        on("create", "again")

    def test_to_a_new_file(self, on: Branches, run: Run, tmp_path: Path) -> None:
        self.change(on)
        on("create", "other")
        on("put", "-b", "other", "-", "only here", input=b"")
        new = tmp_path / "new"
        run("daxfs", "compact", on.path, "-o", new)
        assert self.listing(run, new) == self.listing(run, on.path)
        run("daxfs", "compact", on.path, "-o", new, status=1)
        done = run(
            "daxfs", "compact", on.path, "-b", "other", "-o", new, "--force", "--static", "--json"
        )
        assert json.loads(done.stdout)["output"] == str(new)
        assert self.listing(run, new) == self.listing(run, on.path, "-b", "other")
        with daxfs.open(new) as image:
            assert "branches" not in image.features
        run("daxfs", "compact", new, "-w", "-D", "2M")
        with daxfs.open(new) as image:
            assert [s.size for s in image.spans if s.name == "delta region"] == [2 << 20]

    def test_what_would_be_lost(self, on: Branches, run: Run) -> None:
        on("create", "one")
        on("create", "two")
        done = run("daxfs", "compact", on.path, status=1)
        assert b"would lose one, two" in done.stderr
        done = run("daxfs", "compact", on.path, "-b", "one", status=1)
        assert b"would lose main, two" in done.stderr
        with daxfs.open(on.path, writable=True):
            done = run("daxfs", "compact", on.path, "--force", status=1)
            assert b"has the image open for writing" in done.stderr
        run("daxfs", "compact", on.path, "--force")
        assert [row["name"] for row in on.json("list")] == ["main"]

    def test_plain_images(self, run: Run, tmp_path: Path) -> None:
        for branch in ("b1", "main"):
            new = tmp_path / branch
            run("daxfs", "compact", VECTORS / "delta.daxfs", "-b", branch, "-o", new)
            listing = self.listing(run, VECTORS / "delta.daxfs", "-b", branch)
            assert self.listing(run, new) == listing
            run("daxfs-branch", "create", "x", "-i", new)

    def test_what_cannot_be_replaced(self, run: Run, path: Path) -> None:
        fd = os.memfd_create("image")
        os.write(fd, path.read_bytes())
        with pytest.raises(daxfs.errors.InvalidError, match="in place"):
            daxfs.compact(fd)
        os.close(fd)
        run("daxfs", "compact", path, "--static", "-w", status=2)
