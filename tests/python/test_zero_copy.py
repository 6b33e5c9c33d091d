# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects the promise that `Image.view` copies nothing and outlives the image it came from."""

from __future__ import annotations

import ctypes
import gc
import os
import weakref
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import safetensors.numpy

import daxfs
from support.small import VECTORS


def address_of(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).__array_interface__["data"][0])


def mapping_of(path: Path) -> list[tuple[int, int, int]]:
    """Return the ranges of memory, with their file offsets, that are mapped from a file."""
    status = path.stat()
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, _, inode, *_ = line.split(maxsplit=5)
        if int(inode) == status.st_ino and line.endswith(str(path)):
            start, end = (int(part, 16) for part in span.split("-"))
            found.append((start, end, int(offset, 16)))
    return found


def test_a_view_lies_in_the_mapping_of_the_image(image: daxfs.Image, image_path: Path) -> None:
    view = image.view("big")
    (extent,) = image.extents("big")
    ((start, end, offset),) = mapping_of(image_path)
    assert start <= address_of(view) < address_of(view) + len(view) <= end
    assert address_of(view) == start - offset + extent.image_offset


def test_every_view_of_a_file_is_at_the_same_address(image: daxfs.Image) -> None:
    assert address_of(image.view("big")) == address_of(image.view("/big"))


def test_a_view_is_read_only_bytes(image: daxfs.Image) -> None:
    view = image.view("big")
    assert (view.readonly, view.format, view.itemsize, view.ndim) == (True, "B", 1, 1)
    with pytest.raises(TypeError):
        view[0] = 1
    with pytest.raises(TypeError):
        ctypes.c_char.from_buffer(view)
    assert image.view("empty").nbytes == 0


def test_views_outlive_the_image(image_path: Path, tree: Path) -> None:
    image = daxfs.open(image_path)
    view = image.view("big")
    array = np.frombuffer(view, "<u4")
    gone = weakref.ref(image)
    image.close()
    del image
    gc.collect()
    assert gone() is None
    assert view == (tree / "big").read_bytes()
    del view
    gc.collect()
    assert array.tobytes() == (tree / "big").read_bytes()


def test_the_mapping_goes_with_the_last_view(tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.daxfs"
    daxfs.build(tree, path)
    image = daxfs.open(path)
    view = image.view("big")
    image.close()
    assert mapping_of(path)
    del view
    gc.collect()
    assert not mapping_of(path)


def test_numpy_and_arrow_use_the_bytes_in_place(image: daxfs.Image) -> None:
    view = image.view("big")
    array = np.frombuffer(view, np.uint16)
    assert not array.flags.writeable
    assert not array.flags.owndata
    assert array[1:].__array_interface__["data"][0] == address_of(view) + 2
    assert pa.py_buffer(view).address == address_of(view)


def test_arrow_reads_a_table_in_place(tmp_path: Path) -> None:
    table = pa.table({"numbers": pa.array(range(100_000), pa.int64())})
    (tmp_path / "in").mkdir()
    with (
        pa.OSFile(str(tmp_path / "in/t.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    daxfs.build(tmp_path / "in", tmp_path / "x")
    with daxfs.open(tmp_path / "x") as image:
        view = image.view("t.arrow")
    loaded = pa.ipc.open_file(pa.py_buffer(view)).read_all()
    assert loaded == table
    values = loaded["numbers"].chunk(0).buffers()[1]
    assert address_of(view) <= values.address < address_of(view) + len(view)


def test_safetensors_load_from_a_view(tmp_path: Path) -> None:
    weights = {"w": np.arange(12, dtype=np.float32).reshape(3, 4)}
    (tmp_path / "in").mkdir()
    safetensors.numpy.save_file(weights, tmp_path / "in/w.safetensors")
    daxfs.build(tmp_path / "in", tmp_path / "x")
    with daxfs.open(tmp_path / "x") as image:
        view = image.view("w.safetensors")
    # The format: length of the header, header, tensors; the last tensor ends the file.
    tensor = np.frombuffer(view[-48:], np.float32).reshape(3, 4)
    assert (tensor == weights["w"]).all()
    assert tensor.__array_interface__["data"][0] == address_of(view) + len(view) - 48
    assert (safetensors.numpy.load(bytes(view))["w"] == weights["w"]).all()


def test_a_file_in_pieces_cannot_be_viewed_and_says_so() -> None:
    with daxfs.open(VECTORS / "delta.daxfs", branch="b1") as image:
        files = [path for path in image.glob("**") if image.is_file(path)]
        pieces = {path: image.extents(path) for path in files}
        several = [path for path, extents in pieces.items() if len(extents) > 1]
        assert several
        for path in several:
            with pytest.raises(daxfs.errors.UnsupportedError, match="read_bytes"):
                image.view(path)
            assert len(image.read_bytes(path)) == image.stat(path).st_size
        for path in set(files) - set(several):
            size = image.stat(path).st_size
            if sum(extent.length for extent in pieces[path]) == size:
                assert image.view(path) == image.read_bytes(path)


def test_what_a_branch_changed_is_viewed_where_somebody_keeps_it(
    tmp_path: Path, tree: Path
) -> None:
    path = tmp_path / "x"
    daxfs.build(tree, path, branches=True)
    with daxfs.open(path, writable=True) as image:
        with image.branch("b") as branch:
            branch.write_bytes("dir/sub/deep", b"changed")
        assert bytes(image.view("dir/sub/deep")) == b"changed"
    with daxfs.open(path) as image:
        with pytest.raises(daxfs.errors.UnsupportedError, match="open it for writing"):
            image.view("dir/sub/deep")
        assert image.view("big") == (tree / "big").read_bytes()


def test_a_view_of_memory_sees_what_others_store(tmp_path: Path, tree: Path) -> None:
    """No copy, so a peer's store shows at once."""
    path = tmp_path / "x"
    daxfs.build(tree, path)
    with daxfs.open(path) as image:
        view = image.view("dir/sub/deep")
        (extent,) = image.extents("dir/sub/deep")
        fd = os.open(path, os.O_WRONLY)
        os.pwrite(fd, b"DEEP", extent.image_offset)
        os.close(fd)
        assert bytes(view) == b"DEEP\n"
