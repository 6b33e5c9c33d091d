# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects pickling and copying: records are values, images are opened again, the rest says why."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
from collections.abc import Iterator
from operator import methodcaller
from pathlib import Path
from typing import Any

import fsspec
import pytest

import daxfs
from daxfs import _daxfs, errors


def records(branch: daxfs.Branch, out: Path) -> Iterator[Any]:
    """Make one record of each kind, at least."""
    branch.write_bytes("new", b"1")
    branch.unlink("empty")
    branch.sync()
    image = branch.image
    yield branch.stat("dir/text.txt")
    yield from branch.extents("big")
    yield from image.spans
    yield from image.branches
    yield from branch.diff()
    yield from _daxfs.log(image, branch.name)
    yield image.maintain()
    with daxfs.open(image.name, writable=True) as other:
        yield from other.openers
    yield image.extract(out / "x", "dir")
    (out / "x/more").touch()
    yield from image.compare(out / "x", "dir")
    (out / ("n" * 200)).touch()
    yield daxfs.build(out, out / "x.daxfs", skip_errors=True)
    damaged = bytearray((out / "x.daxfs").read_bytes())
    damaged[4096 + 8] ^= 1
    (out / "damaged").write_bytes(damaged)
    report = daxfs.validate(out / "damaged")
    yield report
    yield from report.findings


def content(value: Any) -> Any:
    """Return all that a record says, and what is in it."""
    if isinstance(value, list):
        return [content(one) for one in value]
    if type(value).__module__ != "daxfs._daxfs":
        return value
    names = [name for name in dir(value) if not name.startswith("_")]
    fields = {name: getattr(value, name) for name in names}
    return {name: content(field) for name, field in fields.items() if not callable(field)}


def test_records_are_copied_and_pickled(branch: daxfs.Branch, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    kinds = set()
    for record in records(branch, tmp_path / "out"):
        kinds.add(type(record).__name__)
        for again in (copy.copy(record), copy.deepcopy(record), pickle.loads(pickle.dumps(record))):
            assert content(again) == content(record)
            assert again == record
            assert hash(again) == hash(record)
            assert str(again) == str(record)
        assert type(record).__name__ in repr(record)
    assert kinds == {
        "BranchStatus",
        "BuildResult",
        "Difference",
        "Extent",
        "ExtractResult",
        "Finding",
        "LogEntry",
        "Maintained",
        "Opener",
        "PathChange",
        "Report",
        "Span",
        "Stat",
    }


def test_other_processes_open_the_image_again(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = fsspec.filesystem("daxfs", image=path.name)
    with daxfs.open(path.name) as image, daxfs.open(os.fsencode(path.name)) as other:
        monkeypatch.chdir("/")
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            stat = pool.apply(methodcaller("stat", "big"), (image,))
            assert stat == image.stat("big")
            for opened in (image, other):
                text = pool.apply(methodcaller("read_bytes", "dir/sub/deep"), (opened,))
                assert text == b"deep\n"
            assert pool.apply(methodcaller("read_text"), (image / "dir/sub/deep",)) == "deep\n"
            assert pool.apply(methodcaller("cat", "dir/sub/deep"), (files,)) == b"deep\n"


def test_options_go_along(path: Path) -> None:
    with daxfs.open(path, writable=True) as image:
        image.branch("b").close()
        with daxfs.open(path, branch="b", writable=True, trusted=True) as opened:
            with opened.branch("b", keep=True) as branch:
                branch.write_bytes("new", b"1")
            again = pickle.loads(pickle.dumps(opened))
            assert again.writable
            assert again.read_bytes("new") == b"1"
            again.close()
        with copy.copy(image) as again:
            assert not again.exists("new")
        assert not image.closed


def test_what_means_nothing_elsewhere_is_not_pickled(
    path: Path, branch: daxfs.Branch, image: daxfs.Image
) -> None:
    with path.open("rb") as file:
        for source in (file.fileno(), f"fd:{file.fileno()}"):
            with (
                daxfs.open(source) as opened,
                pytest.raises(TypeError, match="open the image by a path"),
            ):
                pickle.dumps(opened)
            files = fsspec.filesystem("daxfs", image=source)
            with pytest.raises(TypeError, match="open the image by a path"):
                pickle.dumps(files)
    for other in (branch, image.scandir()[0], image.open("big"), image.view("big")):
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(other)
    image.close()
    with pytest.raises(errors.InvalidError, match="closed"):
        pickle.dumps(image)
