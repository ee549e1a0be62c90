"""The pool: never more than its count, made when needed, used again, and waited for."""

from __future__ import annotations

import threading

import pytest

from orchestra.buffers import Pool
from tests.fakes import PATIENCE_S


class Thing:
    """Something that a pool may lend."""

    def __init__(self, pool: Pool[Thing]) -> None:
        self.pool = pool


def test_things_are_made_when_they_are_first_needed_and_used_again() -> None:
    made: list[Thing] = []

    def make(pool: Pool[Thing]) -> Thing:
        made.append(Thing(pool))
        return made[-1]

    pool = Pool(3, make)
    assert made == []
    first = pool.take()
    assert first.pool is pool
    pool.put(first)
    assert pool.take() is first
    second, third = pool.take(), pool.take()
    assert made == [first, second, third]
    pool.put(second)
    pool.put(third)
    assert [pool.take(), pool.take()] == [second, third]
    assert len(made) == 3


def test_while_all_are_lent_it_blocks_until_one_comes_back() -> None:
    pool = Pool(1, Thing)
    only, got = pool.take(), list[Thing]()
    waiting = threading.Thread(target=lambda: got.append(pool.take()))
    waiting.start()
    pool.put(only)
    waiting.join(PATIENCE_S)
    assert got == [only]


def test_many_threads_never_get_more_than_there_are() -> None:
    pool: Pool[Thing] = Pool(3, Thing)
    seen: set[Thing] = set()
    held: list[Thing] = []
    most = 0

    def work() -> None:
        nonlocal most
        for _ in range(200):
            thing = pool.take()
            held.append(thing)
            most = max(most, len(held))
            seen.add(thing)
            held.remove(thing)
            pool.put(thing)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert 1 <= len(seen) <= 3
    assert most <= 3


def test_what_could_not_be_made_can_be_made_later() -> None:
    failures = [OSError("no memory")]

    def make(pool: Pool[Thing]) -> Thing:
        if failures:
            raise failures.pop()
        return Thing(pool)

    pool = Pool(1, make)
    with pytest.raises(OSError, match="no memory"):
        pool.take()
    assert isinstance(pool.take(), Thing)
