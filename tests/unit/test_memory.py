"""Memory to receive into and to send from, with and without large pages."""

from __future__ import annotations

import mmap

import pytest

from orchestra import memory


@pytest.mark.parametrize("length_bytes", [1, 4096, (2 << 20) + 5])
def test_it_has_its_length_and_may_be_written(length_bytes: int) -> None:
    view = memory.fresh(length_bytes)
    assert len(view) == length_bytes
    assert not any(view[:100])
    view[-1] = 7
    assert view[-1] == 7


def test_a_system_without_large_pages_has_memory_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 12345, raising=False)
    assert len(memory.fresh(4096)) == 4096
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE")
    assert len(memory.fresh(4096)) == 4096
