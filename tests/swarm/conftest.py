"""The compositions that whole swarms share. Made once a test process: 300 MiB take a second."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.compositions import MIB, Composition, compose


@pytest.fixture(scope="session")
def long_piece(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    """300 MiB in parts of 1 MiB."""
    folder = tmp_path_factory.mktemp("long")
    yield compose(folder / "source", 300 * MIB, MIB, name="long.bin")
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def piece(tmp_path_factory: pytest.TempPathFactory) -> Composition:
    """32 MiB and a bit in parts of 64 KiB."""
    return compose(tmp_path_factory.mktemp("piece") / "source", 32 * MIB + 12345, 65536)
