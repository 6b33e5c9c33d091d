# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects what fsspec's own suite asks of every file system that is written to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fsspec.tests import abstract

import daxfs
from daxfs.fsspec import DaxfsFileSystem


class Fixtures(abstract.AbstractFixtures):  # type: ignore[misc]
    @pytest.fixture
    def fs(self, tmp_path: Path) -> DaxfsFileSystem:
        (tmp_path / "empty").mkdir()
        image = tmp_path / "image"
        daxfs.build(tmp_path / "empty", image, branches=True, delta_size="8M")
        return DaxfsFileSystem(image, branch="b", parent="main", auto_mkdir=True)

    @pytest.fixture
    def fs_path(self) -> str:
        return "top"

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return lambda *names: "/".join(names)


class TestCopy(abstract.AbstractCopyTests, Fixtures):  # type: ignore[misc]
    pass


class TestGet(abstract.AbstractGetTests, Fixtures):  # type: ignore[misc]
    pass


class TestPut(abstract.AbstractPutTests, Fixtures):  # type: ignore[misc]
    pass


class TestPipe(abstract.AbstractPipeTests, Fixtures):  # type: ignore[misc]
    pass


class TestOpen(abstract.AbstractOpenTests, Fixtures):  # type: ignore[misc]
    pass
