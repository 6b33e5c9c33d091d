# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects building from Python: what options do, what they refuse, and who watches."""

from __future__ import annotations

import contextlib
import os
import tarfile
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest

import daxfs
from daxfs import errors
from support.small import MIB, WHEN


def test_build_is_reproducible_and_says_what_it_built(tree: Path, tmp_path: Path) -> None:
    first = daxfs.build(tree, tmp_path / "a")
    second = daxfs.build(os.fsencode(tree), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert first.uuid == second.uuid
    assert first.size == (tmp_path / "a").stat().st_size
    assert (first.files, first.directories, first.symlinks) == (6, 4, 5)
    assert (first.specials, first.hard_links, first.skipped, first.fd) == (1, 1, [], None)
    assert daxfs.validate(tmp_path / "a").errors == 0


def test_build_options(tree: Path, tmp_path: Path) -> None:
    identity = "01234567-89ab-cdef-0123-456789abcdef"
    output = tmp_path / "x"
    result = daxfs.build(
        tree,
        output,
        branches=True,
        delta_size="4M",
        uuid=identity,
        label="named",
        exclude=["*.txt", "/dir/sub"],
        owner=12,
        group=34,
        clamp_mtime=WHEN - 10**9,
        data_checksums=True,
    )
    assert result.uuid == identity
    assert daxfs.validate(output, data=True).errors == 0
    with daxfs.open(output) as image:
        assert (image.uuid, image.label) == (identity, "named")
        assert {"branches", "data-checksums"} <= set(image.features)
        assert [one.name for one in image.branches] == ["main"]
        assert image.listdir("dir") == []
        info = image.stat("big")
        assert (info.st_uid, info.st_gid) == (12, 34)
        assert info.st_mtime_ns == WHEN - 10**9


@pytest.mark.parametrize("exclude", ["*.txt", b"*.txt", Path("*.txt"), [b"*.txt", "no such"]])
def test_patterns_have_the_forms_of_paths(tree: Path, tmp_path: Path, exclude: Any) -> None:
    daxfs.build(tree, tmp_path / "x", exclude=exclude)
    with daxfs.open(tmp_path / "x") as image:
        assert image.listdir("dir") == ["sub"]
        assert image.exists("big")


@pytest.mark.parametrize("kind", ["directory", "archive"])
def test_a_pattern_that_ends_in_a_slash_is_for_directories(tmp_path: Path, kind: str) -> None:
    tree = tmp_path / "tree"
    for name in ("build/inner", "a/build", "b/build/inner", "b/out/inner"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    excluded = ["build/", "/b/out/"]
    if kind == "archive":
        with tarfile.open(tmp_path / "tar", "w") as archive:
            archive.add(tree, ".")
        daxfs.build(tmp_path / "tar", tmp_path / "x", tar=True, exclude=excluded)
    else:
        daxfs.build(tree, tmp_path / "x", exclude=excluded)
    with daxfs.open(tmp_path / "x") as image:
        assert image.listdir("/") == ["a", "b"]
        assert image.listdir("a") == ["build"]
        assert image.listdir("b") == []


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"exclude": b"\xff*"}, ValueError, "not UTF-8"),
        ({"exclude": [1]}, TypeError, "os.PathLike"),
        ({"label": "a\0b"}, ValueError, "NUL"),
        ({"label": "x" * 64}, ValueError, "64 bytes"),
        ({"label": None}, TypeError, "label must be str"),
        ({"size": -1}, ValueError, "size: -1"),
        ({"delta_size": 1 << 64, "branches": True}, ValueError, "delta_size"),
        ({"owner": "root"}, TypeError, "owner must be int, not str"),
        ({"group": -1}, ValueError, "group: -1"),
        ({"clamp_mtime": 10**30}, ValueError, "clamp_mtime"),
        ({"uuid": "12"}, ValueError, "not a UUID"),
        ({"uuid": 12}, TypeError, "uuid must be str"),
        ({"source": 12}, TypeError, "os.PathLike"),
        ({"output": "fd:-1"}, ValueError, "not a file descriptor"),
    ],
)
def test_build_says_what_is_wrong_with_an_option(
    tree: Path, tmp_path: Path, options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        daxfs.build(**{"source": tree, "output": tmp_path / "x", **options})
    assert not list(tmp_path.iterdir())


def test_identities_may_be_objects(tree: Path, tmp_path: Path) -> None:
    identity = uuid.uuid4()
    assert daxfs.build(tree, tmp_path / "x", uuid=identity).uuid == str(identity)


def test_dry_run_writes_nothing(tree: Path, tmp_path: Path) -> None:
    plan = daxfs.build(tree, None, dry_run=True)
    assert plan.size == daxfs.build(tree, tmp_path / "x").size
    with pytest.raises(errors.InvalidError):
        daxfs.build(tree, None)


def test_build_into_memory(tree: Path) -> None:
    fd = os.memfd_create("target")
    try:
        os.truncate(fd, 64 * MIB)
        for output in (fd, f"fd:{fd}"):
            daxfs.build(tree, output, size="64M", force=True)
            with daxfs.open(fd) as image:
                assert image.size == 64 * MIB
                assert image.read_bytes("dir/sub/deep") == b"deep\n"
    finally:
        os.close(fd)


def test_a_watcher_sees_progress_and_can_stop_the_build(tmp_path: Path) -> None:
    """The source is an archive without an end, so the build is at work until it is stopped."""
    source = tmp_path / "endless.tar"
    os.mkfifo(source)
    header = tarfile.TarInfo("file")
    header.size = 1 << 40

    def feed() -> None:
        with contextlib.suppress(BrokenPipeError), source.open("wb") as pipe:
            pipe.write(header.tobuf())
            while True:
                pipe.write(bytes(MIB))

    def cancel(progress: daxfs.Progress) -> None:
        assert progress.files >= 0
        progress.cancel()

    def interrupt(progress: daxfs.Progress) -> None:
        raise KeyboardInterrupt

    for watcher, error in ((cancel, errors.CancelledError), (interrupt, KeyboardInterrupt)):
        feeder = threading.Thread(target=feed)
        feeder.start()
        with pytest.raises(error):
            daxfs.build(source, tmp_path / "out", tar=True, progress=watcher)
        feeder.join()
    assert os.listdir(tmp_path) == ["endless.tar"]
