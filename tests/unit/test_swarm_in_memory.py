"""Whole swarms of real orchestrators in memory: all complete, nobody is overtaxed, and a seed decides all."""

from __future__ import annotations

import pytest

from orchestra import choker, service
from orchestra import swarm as swarm_module
from orchestra.downloads import Downloads
from orchestra.messages import Ended
from orchestra.orchestrator import Phase
from orchestra.peer import Peer
from orchestra.wire import EXTENSION_PROTOCOL_BIT, FAST_BIT, OUR_EXTENSIONS, BlockSpan
from tests.fakes import content, score_of
from tests.inmemory import PORT, World

DATA = content(2_000_000)
PART_BYTES = 65536


def world(seed: int = 1, *, data: bytes = DATA, part_bytes: int = PART_BYTES) -> World:
    return World(score_of(data, part_bytes), data, seed)


def swarm(made: World, leechers: int = 5) -> None:
    """One seeder, and members that start together."""
    made.join(data=made.data)
    for _ in range(leechers):
        made.join()


def all_complete(made: World) -> bool:
    return all(member.complete for member in made.members.values())


def check_end(made: World) -> None:
    """Every byte is right, and every buffer is back with its pool, once."""
    for member in made.members.values():
        if not member.gone:
            assert member.data == made.data
        assert all(buffer.returns == 1 for buffer in member.lent)


def test_one_seeder_and_five_leechers_complete_and_the_seeder_is_spared() -> None:
    made = world()
    swarm(made)
    made.run(lambda: all_complete(made), limit_s=60)
    check_end(made)
    seeder, *leechers = made.members.values()
    assert len(DATA) <= seeder.uploaded_bytes < 2.5 * len(DATA)
    assert sum(member.uploaded_bytes for member in leechers) > 2 * len(DATA)


def test_the_same_seed_gives_the_same_swarm_and_another_seed_another_one() -> None:
    traces = []
    for seed in (7, 7, 8):
        made = world(seed)
        swarm(made, 3)
        made.run(lambda: all_complete(made))  # noqa: B023 - called within this turn of the loop
        traces.append(made.trace)
    assert traces[0] == traces[1]
    assert traces[0] != traces[2]


@pytest.mark.parametrize(
    ("size_bytes", "part_bytes"),
    [
        (0, 16384),
        (1, 16384),
        (100_000, 1000),
        (16384, 16384),
        (300_001, 20000),
        (500_000, 16384),
        (40_000, 1 << 20),
    ],
)
def test_every_shape_of_composition_gets_through(size_bytes: int, part_bytes: int) -> None:
    made = world(2, data=content(size_bytes), part_bytes=part_bytes)
    swarm(made, 2)
    made.run(lambda: all_complete(made))
    check_end(made)


@pytest.mark.parametrize("seed", range(4))
def test_a_liar_is_banned_and_everybody_completes(seed: int) -> None:
    made = world(seed)
    swarm(made, 3)
    liar = made.join(data=DATA, lies=0.5)
    made.run(lambda: all_complete(made), limit_s=120)
    check_end(made)
    liar_id = liar.orchestrator._task.peer_id
    for member in made.members.values():
        book = member.orchestrator.swarm.doorway.book
        assert book._banned_ids <= {liar_id}
        # The one for which it was banned, and what others had to finish.
        assert len(member.bad_parts) <= 2


def test_the_swarm_completes_although_the_seeder_leaves_after_the_first_copy() -> None:
    made = world(3)
    swarm(made)
    seeder, *leechers = made.members.values()

    def one_copy_is_out() -> bool:
        parts = range(made.score.parts)
        return all(any(i in member.orchestrator.swarm.picker.have for member in leechers) for i in parts)

    made.run(one_copy_is_out)
    assert not any(member.complete for member in leechers)
    seeder.quit()
    made.run(lambda: all(member.complete for member in leechers), limit_s=120)
    assert seeder.ended == Ended("q", complete=True, error=None)
    check_end(made)


def test_members_that_do_not_seed_leave_and_the_others_still_complete() -> None:
    made = world(4)
    made.join(data=DATA)
    for seed in (False, True, False, True):
        made.join(seed=seed)
    made.run(lambda: all_complete(made), limit_s=120)
    made.run(lambda: sum(member.ended is not None for member in made.members.values()) == 2)
    check_end(made)
    assert len(made.conducted) == 3


@pytest.mark.parametrize("seed", range(3))
def test_members_that_are_killed_are_survived(seed: int) -> None:
    made = world(seed)
    swarm(made, 4)
    made.join(data=DATA)
    first, *others = made.members.values()
    made.run(lambda: made.now_s > 1.0)
    first.kill()
    others[0].kill()
    left = others[1:]
    made.run(lambda: all(member.complete for member in left), limit_s=120)
    check_end(made)


def test_without_a_conductor_a_member_named_by_hand_is_enough() -> None:
    made = world(5)
    made.conductor_answers = False
    seeder = made.join(data=DATA)
    made.join(members=((seeder.host, PORT),))
    made.run(lambda: all_complete(made), limit_s=60)
    check_end(made)


@pytest.mark.parametrize("seed", range(3))
def test_members_that_speak_less_and_more_complete_together(seed: int) -> None:
    made = world(seed)
    made.join(data=DATA)
    for extensions in (0, OUR_EXTENSIONS, EXTENSION_PROTOCOL_BIT, FAST_BIT, 0, OUR_EXTENSIONS):
        made.join(extensions=extensions)
    made.run(lambda: all_complete(made), limit_s=60)
    check_end(made)


@pytest.mark.parametrize("seed", range(3))
def test_a_swarm_of_few_slots_in_which_chokes_break_off_parts_completes(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swarm_module, "UPLOAD_SLOTS", 1)
    monkeypatch.setattr(service, "ROUND_S", 1.0)
    monkeypatch.setattr(choker, "OPTIMISTIC_ROUNDS", 1)
    rejected = []
    take_back = Downloads.rejected

    def counted(downloads: Downloads, peer: Peer, blocks: list[BlockSpan], now_s: float) -> None:
        rejected.extend(blocks)
        take_back(downloads, peer, blocks, now_s)

    monkeypatch.setattr(Downloads, "rejected", counted)
    made = world(seed)
    swarm(made, 4)
    made.join(data=DATA)
    made.run(lambda: all_complete(made), limit_s=300)
    check_end(made)
    assert rejected


def test_members_that_know_one_another_by_hearsay_alone_find_one_another() -> None:
    made = world(9)
    made.conductor_answers = False
    hub = made.join()
    one, two = (made.join(members=((hub.host, PORT),)) for _ in range(2))
    # So slow that it is still at it when they hear of one another.
    seeder = made.join(data=DATA, members=((hub.host, PORT),), uplink_bytes_s=100_000.0)
    everybody = list(made.members.values())
    made.run(lambda: all(len(member.orchestrator.swarm.peers) == 3 for member in everybody), limit_s=10)
    hub.kill()
    made.run(lambda: one.complete and two.complete, limit_s=120)
    assert seeder.uploaded_bytes > len(DATA) / 2
    check_end(made)


def test_a_seeder_that_comes_late_is_found() -> None:
    made = world(6)
    made.join()
    made.join()
    made.run(lambda: made.now_s > 30)
    made.join(data=DATA)
    made.run(lambda: all_complete(made), limit_s=60)
    check_end(made)


def test_partial_members_complete_one_another() -> None:
    made = world(7)
    members = [made.join(), made.join()]
    for number, member in enumerate(members):
        for index in range(number, made.score.parts, 2):
            begin = index * PART_BYTES
            member.data[begin : begin + PART_BYTES] = DATA[begin : begin + PART_BYTES]
            member.orchestrator.swarm.picker.mark_have(index)
    made.run(lambda: all_complete(made), limit_s=60)
    check_end(made)


def test_complete_members_do_not_hold_on_to_one_another() -> None:
    made = world(8)
    swarm(made, 2)
    made.run(lambda: all_complete(made))
    ready_s = made.now_s
    made.run(lambda: made.now_s > ready_s + 60)
    for member in made.members.values():
        assert member.orchestrator.swarm.doorway.connections == 0


def test_all_stop_when_they_are_told_to_and_the_conductor_knows() -> None:
    made = world(9)
    swarm(made, 3)
    made.run(lambda: made.now_s > 1.0)
    assert len(made.conducted) == 4
    for member in made.members.values():
        member.quit()
    asked_s = made.now_s
    made.run(lambda: all(member.ended for member in made.members.values()), limit_s=5)
    assert made.now_s - asked_s < 0.5
    assert made.conducted == {}
    assert all(member.orchestrator.phase is Phase.ENDED for member in made.members.values())
