# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects the errors: the engine's, Python's and the documented ones are the same set."""

from __future__ import annotations

import copy
import errno
import io
import os
import pickle
import re
from pathlib import Path

import pytest

import daxfs
from daxfs import _daxfs, errors
from support.small import VECTORS

DOCUMENT = Path(__file__).parents[2] / "docs" / "errors.md"


def test_every_error_of_the_engine_has_a_class() -> None:
    assert errors.CLASSES.keys() == set(_daxfs.ERROR_NAMES)


def test_every_class_is_exported_and_made_from_some_error() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.DaxfsError)
    }
    assert defined | {"InputProblem"} == set(errors.__all__)
    made = {*errors.CLASSES.values(), *errors._SYSTEM_CLASSES.values()}
    assert {cls.__name__ for cls in made} | {"DaxfsError"} == defined


def test_the_document_lists_every_class_with_its_builtin() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| ([^|]*) \|", DOCUMENT.read_text(), re.M)
    documented = {name: (builtin.strip("` "), variants) for name, builtin, variants in rows}
    assert documented.keys() == set(errors.__all__) - {"DaxfsError", "InputProblem"}
    for name, (builtin, variants) in documented.items():
        cls = getattr(errors, name)
        bases = [base.__name__ for base in cls.__bases__ if base is not errors.DaxfsError]
        assert ([builtin] if builtin != "OSError" else []) == bases, name
        engine = {key for key, value in errors.CLASSES.items() if value is cls}
        assert set(re.findall(r"`(\w+)`", variants)) - {"Io"} == engine - {"Io"}, name


@pytest.mark.parametrize("name", _daxfs.ERROR_NAMES)
def test_errors_can_be_copied(name: str) -> None:
    details = {"problems": [("a", "b")]} if name == "Input" else {"offset": 1}
    error = errors.from_engine(name, errno.EIO, "a message", "a file", details)
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is type(error)
        assert (str(again), again.errno, again.filename) == ("a message", errno.EIO, "a file")
        assert vars(again) == vars(error)


def test_not_found(image: daxfs.Image) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        image.read_bytes("dir/nope\udcff")
    error = caught.value
    assert isinstance(error, errors.NotFoundError)
    assert (error.errno, error.filename) == (errno.ENOENT, "dir/nope\udcff")
    assert str(error) == "no such file or directory: dir/nope\\xff"


def test_wrong_kinds_of_file(image: daxfs.Image) -> None:
    with pytest.raises(NotADirectoryError):
        image.stat("big/x")
    with pytest.raises(NotADirectoryError):
        image.listdir("big")
    with pytest.raises(IsADirectoryError):
        image.read_bytes("dir")
    with pytest.raises(errors.InvalidError, match="not a regular file: fifo") as caught:
        image.view("fifo")
    assert (caught.value.errno, caught.value.filename) == (errno.EINVAL, "fifo")
    with pytest.raises(errors.InvalidError, match="not a symbolic link: big") as caught:
        image.readlink("big")
    assert (caught.value.errno, caught.value.filename) == (errno.EINVAL, "big")


def test_images_are_only_read(image: daxfs.Image) -> None:
    for write in (
        lambda: image.open("/big", "wb"),
        lambda: image.open(b"/big", "r+"),
        lambda: (image / "big").open("a"),
        lambda: (image / "big").write_text(""),
        lambda: (image / "big").unlink(),
    ):
        with pytest.raises(io.UnsupportedOperation, match="open a branch") as caught:
            write()
        assert isinstance(caught.value, errors.UnsupportedError)
        assert (caught.value.errno, caught.value.filename) == (errno.EOPNOTSUPP, "/big")


def test_files_of_the_host(tmp_path: Path, image_path: Path) -> None:
    with pytest.raises(errors.NotFoundError) as missing:
        daxfs.open(tmp_path / "nope")
    assert missing.value.filename == str(tmp_path / "nope")
    with pytest.raises(errors.IsDirectoryError):
        daxfs.open(tmp_path)
    with pytest.raises(errors.ExistsError):
        daxfs.build(tmp_path, image_path)
    with pytest.raises(errors.NotFoundError):
        daxfs.build(tmp_path / "nope", tmp_path / "out")
    with pytest.raises(errors.SystemCallError) as bad:
        daxfs.open(999_999)
    assert bad.value.errno == errno.EBADF


def test_corruption_says_where(tmp_path: Path) -> None:
    damaged = bytearray((VECTORS / "static.daxfs").read_bytes())
    damaged[0] ^= 0xFF
    (tmp_path / "x").write_bytes(damaged)
    with pytest.raises(errors.CorruptImageError) as caught:
        daxfs.open(tmp_path / "x")
    error = caught.value
    assert (error.errno, error.offset, error.expected) == (errno.EUCLEAN, 0, "0x64617833")
    assert error.what in str(error)
    assert error.found in str(error)


def test_unknown_features_are_unsupported(tmp_path: Path) -> None:
    image = bytearray((VECTORS / "static.daxfs").read_bytes())
    image[8:12] = (1 << 30).to_bytes(4, "little")
    (tmp_path / "x").write_bytes(image)
    with pytest.raises(io.UnsupportedOperation, match="30") as caught:
        daxfs.open(tmp_path / "x")
    assert isinstance(caught.value, errors.UnsupportedError)
    assert caught.value.errno == errno.EOPNOTSUPP


def test_problems_of_the_input_are_listed(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for letter in "ab":
        (source / (letter * 129)).touch()
    with pytest.raises(errors.InputError) as caught:
        daxfs.build(source, tmp_path / "out")
    assert [problem.path for problem in caught.value.problems] == ["a" * 129, "b" * 129]
    assert all("129 bytes" in problem.reason for problem in caught.value.problems)
    assert str(caught.value).count("\n") == 1
    result = daxfs.build(source, tmp_path / "out", skip_errors=True)
    assert [path for path, _ in result.skipped] == ["a" * 129, "b" * 129]


def test_no_space(tmp_path: Path, tree: Path) -> None:
    with pytest.raises(errors.NoSpaceError) as caught:
        daxfs.build(tree, tmp_path / "out", size="1M")
    error = caught.value
    assert (error.errno, error.available) == (errno.ENOSPC, 1 << 20)
    assert error.needed is not None
    assert error.needed > 3 << 20
    assert os.listdir(tmp_path) == []


def test_what_the_machine_lacks_comes_with_advice(tree: Path) -> None:
    with pytest.raises(errors.BackingError) as caught:
        daxfs.build(tree, "heap:no-such-heap")
    assert caught.value.advice
    assert caught.value.advice in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"uuid": "x"}, "not a UUID"),
        ({"size": "1Q"}, "not a size"),
        ({"label": "x" * 64}, "at most 63"),
        ({"exclude": ["[z-a]"]}, "exclude pattern"),
        ({"delta_size": "1M"}, "needs branches"),
    ],
)
def test_arguments_that_make_no_sense(
    tmp_path: Path, arguments: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        daxfs.build(tmp_path, tmp_path / "out", **arguments)  # type: ignore[arg-type]
    assert isinstance(caught.value, errors.InvalidError)
    assert caught.value.errno == errno.EINVAL
