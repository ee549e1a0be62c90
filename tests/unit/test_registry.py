"""The registry with a given clock: who is told about whom, for how long, and within which bounds."""

from __future__ import annotations

import random
import socket
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netutils import Address, unpack_peers
from orchestra.announce import AnnounceProblem, AnnounceQuery
from orchestra.announcereply import Answer, Counts
from orchestra.registry import Limits, Registry, RegistryFull, Sample, Sighting
from orchestra.tracker import Tracker

SWARM = bytes(20)
OTHER_SWARM = bytes(range(20))
LIFETIME_S = 240.0
SLOW_LIFETIME_S = 360.0
ALL = 10_000


def peer_id(address: Address) -> bytes:
    return f"{address[0]}:{address[1]}".encode().ljust(20, b"-")[-20:]


def addresses(found: Sample | Answer) -> list[Address]:
    return unpack_peers(found.v4, socket.AF_INET) + unpack_peers(found.v6, socket.AF_INET6)


class Swarms:
    """A registry with a seeded chance and a clock that stands still unless it is moved."""

    def __init__(self, limits: Limits | None = None, *, slow_lifetime_s: float | None = None) -> None:
        self.registry = Registry(
            LIFETIME_S, slow_lifetime_s=slow_lifetime_s, limits=limits, rng=random.Random(1)
        )
        self.now_s = 1000.0

    def announce(
        self,
        address: Address,
        event: str = "",
        *,
        seed: bool = False,
        wanted: int = ALL,
        swarm: bytes = SWARM,
        **more: Any,
    ) -> list[Address]:
        return addresses(self.sample(address, event, seed=seed, wanted=wanted, swarm=swarm, **more))

    def sample(
        self,
        address: Address,
        event: str = "",
        *,
        seed: bool = False,
        wanted: int = ALL,
        swarm: bytes = SWARM,
        listed: bool = True,
        who: bytes | None = None,
        slow: bool = False,
    ) -> Sample:
        sighting = Sighting(swarm, who or peer_id(address), address, seed, event, wanted, listed, slow)
        return self.registry.announce(sighting, self.now_s, with_ids=True)

    def counts(self, swarm: bytes = SWARM) -> Counts:
        return self.registry.scrape((swarm,), self.now_s)[swarm]


def v4(number: int, port: int = 6881) -> Address:
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", port


def v6(number: int, port: int = 6881) -> Address:
    return f"2001:db8::{number:x}", port


# Who is told about whom


def test_members_of_a_swarm_are_told_about_each_other_and_never_about_themselves() -> None:
    swarms = Swarms()
    assert swarms.announce(v4(1), "started") == []
    assert swarms.announce(v4(2), "started") == [v4(1)]
    assert sorted(swarms.announce(v4(3), "started")) == [v4(1), v4(2)]
    assert sorted(swarms.announce(v4(1))) == [v4(2), v4(3)]


def test_swarms_know_nothing_of_each_other() -> None:
    swarms = Swarms()
    swarms.announce(v4(1), swarm=SWARM)
    assert swarms.announce(v4(2), swarm=OTHER_SWARM) == []


def test_two_members_of_one_host_are_two_members() -> None:
    swarms = Swarms()
    swarms.announce(v4(1, 6881))
    assert swarms.announce(v4(1, 6882)) == [v4(1, 6881)]


def test_seeds_are_not_told_about_seeds() -> None:
    swarms = Swarms()
    swarms.announce(v4(1), seed=True)
    assert swarms.announce(v4(2), seed=True) == []
    assert sorted(swarms.announce(v4(3))) == [v4(1), v4(2)]
    assert swarms.announce(v4(1), seed=True) == [v4(3)]


def test_a_member_that_completes_becomes_a_seed() -> None:
    swarms = Swarms()
    swarms.announce(v4(1))
    swarms.announce(v4(2), seed=True)
    assert swarms.announce(v4(1), "completed", seed=True) == []
    assert swarms.counts() == Counts(complete=2, incomplete=0, downloaded=1)


def test_no_more_than_wanted_are_named_each_once_and_all_in_time() -> None:
    swarms = Swarms()
    everyone = [v4(number) for number in range(100)]
    for address in everyone:
        swarms.announce(address, seed=address[0].endswith("7"))
    seen: set[Address] = set()
    for _ in range(60):
        named = swarms.announce(v4(50), wanted=20)
        assert len(named) == len(set(named)) == 20
        seen |= set(named)
    assert seen == set(everyone) - {v4(50)}
    assert swarms.announce(v4(50), wanted=0) == []


def test_every_other_member_is_named_about_equally_often() -> None:
    swarms = Swarms()
    for number in range(200):
        swarms.announce(v4(number), seed=number % 10 == 0)
    answers = [swarms.announce(v4(5), event="started", wanted=50) for _ in range(2000)]
    named = Counter(address for answer in answers for address in answer)
    # 50 of 199 in each of 2,000 replies: 502 expected.
    assert len(named) == 199
    assert 350 < min(named.values()) <= max(named.values()) < 670


def test_who_asks_again_hears_of_seeds_first() -> None:
    swarms = Swarms()
    for number in range(200):
        swarms.announce(v4(number), seed=number in (3, 70))
    for _ in range(20):
        named = swarms.announce(v4(5), wanted=10)
        assert set(named[:2]) == {v4(3), v4(70)}
        assert len(set(named)) == 10
    for number in range(100, 200):
        swarms.announce(v4(number), seed=True)
    assert sum(int(address[0].split(".")[3]) >= 100 for address in swarms.announce(v4(5), wanted=9)) >= 4
    assert len(set(swarms.announce(v4(5), wanted=200))) == 199


def test_neighbours_in_a_reply_are_not_those_who_came_together() -> None:
    swarms = Swarms()
    for number in range(1000):
        swarms.announce(v4(number))
    numbers = sorted(int(host.split(".")[2]) * 256 + int(host.split(".")[3])
                     for host, _ in swarms.announce(v4(0), wanted=50))  # fmt: skip
    assert numbers[-1] - numbers[0] > 500


def test_the_other_family_has_a_quarter_and_what_the_own_one_leaves() -> None:
    swarms = Swarms()
    for number in range(100):
        swarms.announce(v4(number))
        swarms.announce(v6(number))
    for asker, own in ((v4(200), "."), (v6(200), ":")):
        named = swarms.announce(asker, wanted=40)
        assert Counter(own in host for host, _ in named) == {True: 30, False: 10}
    few = Swarms()
    few.announce(v4(1))
    for number in range(100):
        few.announce(v6(number))
    assert Counter("." in host for host, _ in few.announce(v4(2), wanted=40)) == {True: 1, False: 39}
    assert len(few.announce(v6(200), wanted=40)) == 40


def test_members_on_this_machine_are_for_askers_on_this_machine() -> None:
    swarms = Swarms()
    swarms.announce(("127.0.0.1", 6881))
    swarms.announce(("::1", 6881))
    swarms.announce(v4(1))
    assert swarms.announce(v4(2)) == [v4(1)]
    assert sorted(swarms.announce(v6(2))) == [v4(1), v4(2)]
    assert set(swarms.announce(("127.0.0.1", 6882))) == {
        ("127.0.0.1", 6881), ("::1", 6881), v4(1), v4(2), v6(2),
    }  # fmt: skip
    assert swarms.counts() == Counts(incomplete=6)


def test_peer_ids_stand_in_the_order_of_the_addresses() -> None:
    swarms = Swarms()
    for number in range(20):
        swarms.announce(v4(number))
        swarms.announce(v6(number))
    sample = swarms.sample(v4(100), wanted=30)
    assert list(sample.peer_ids) == [peer_id(address) for address in addresses(sample)]


def test_who_is_not_listed_gets_others_and_is_named_to_nobody() -> None:
    swarms = Swarms()
    assert swarms.announce(v4(1), listed=False) == []
    assert swarms.counts() == Counts()
    swarms.announce(v4(2))
    assert swarms.announce(v4(1), listed=False) == [v4(2)]
    assert swarms.announce(v4(2)) == []


# For how long


def test_after_its_lifetime_in_silence_a_member_is_forgotten() -> None:
    swarms = Swarms()
    swarms.announce(v4(1))
    swarms.now_s += LIFETIME_S
    assert swarms.announce(v4(2)) == [v4(1)]
    swarms.now_s += 0.001
    assert swarms.announce(v4(2)) == []
    assert swarms.counts() == Counts(incomplete=1)


def test_whoever_speaks_again_is_kept() -> None:
    swarms = Swarms()
    swarms.announce(v4(1))
    for _ in range(10):
        swarms.now_s += LIFETIME_S / 2
        swarms.announce(v4(1))
    assert swarms.announce(v4(2)) == [v4(1)]


def test_a_slow_member_is_forgotten_later_and_holds_up_nobody() -> None:
    swarms = Swarms(slow_lifetime_s=SLOW_LIFETIME_S)
    swarms.announce(v4(1), slow=True)
    swarms.announce(v4(2))
    swarms.now_s += LIFETIME_S + 1
    assert swarms.announce(v4(3), listed=False) == [v4(1)]
    assert swarms.counts() == Counts(incomplete=1)
    swarms.now_s = 1000.0 + SLOW_LIFETIME_S
    assert swarms.announce(v4(3), listed=False) == [v4(1)]
    swarms.now_s += 0.001
    assert swarms.announce(v4(3), listed=False) == []


def test_a_swarm_lasts_as_long_as_a_slow_member_of_it() -> None:
    swarms = Swarms(slow_lifetime_s=SLOW_LIFETIME_S)
    swarms.announce(v4(1), slow=True)
    for _ in range(3):
        swarms.now_s += SLOW_LIFETIME_S - 1
        swarms.announce(v4(9), swarm=OTHER_SWARM)
        assert swarms.announce(v4(1), slow=True) == []
        assert swarms.announce(v4(2), listed=False) == [v4(1)]


def test_another_client_at_the_same_address_has_the_lifetime_of_its_kind() -> None:
    swarms = Swarms(slow_lifetime_s=SLOW_LIFETIME_S)
    swarms.sample(v4(1), who=b"a" * 20, slow=True)
    swarms.sample(v4(1), who=b"b" * 20, slow=False)
    swarms.now_s += LIFETIME_S + 1
    assert swarms.announce(v4(2), listed=False) == []
    assert len(swarms.registry) == 0


def test_among_those_who_speak_the_silent_are_found() -> None:
    swarms = Swarms()
    for number in (1, 2, 3):
        swarms.announce(v4(number))
    swarms.now_s += LIFETIME_S
    swarms.announce(v4(1))
    swarms.now_s += 1
    assert swarms.announce(v4(3)) == [v4(1)]


def test_among_swarms_that_are_announced_the_silent_are_found() -> None:
    swarms = Swarms()
    for number in range(5):
        swarms.announce(v4(1), swarm=SWARM)
        swarms.announce(v4(number), swarm=OTHER_SWARM)
    swarms.now_s += LIFETIME_S
    swarms.announce(v4(1), swarm=SWARM)
    assert len(swarms.registry) == 6
    swarms.now_s += 1
    swarms.announce(v4(1), swarm=SWARM)
    assert len(swarms.registry) == 1


def test_a_swarm_of_the_silent_is_forgotten_by_announces_of_others_and_not_shown_by_a_scrape() -> None:
    swarms = Swarms()
    for number in range(50):
        swarms.announce(v4(number), "completed", seed=True)
    swarms.now_s += LIFETIME_S + 1
    assert swarms.counts() == Counts(downloaded=50)
    swarms.announce(v4(1), swarm=OTHER_SWARM)
    assert len(swarms.registry) == 1
    assert swarms.counts() == Counts()


def test_stopped_removes_the_member_and_names_nobody() -> None:
    swarms = Swarms()
    swarms.announce(v4(1))
    swarms.announce(v4(2))
    assert swarms.announce(v4(1), "stopped") == []
    assert swarms.announce(v4(2)) == []
    assert swarms.announce(v4(3), "stopped") == []  # never seen
    assert swarms.announce(v4(4), "stopped", swarm=OTHER_SWARM) == []
    assert swarms.counts() == Counts(incomplete=1)


@pytest.mark.fault("C3")
@pytest.mark.parametrize(("address", "who"), [(v4(1), b"x" * 20), (v4(1, 6882), peer_id(v4(1))),
                                              (v4(2), peer_id(v4(1)))])  # fmt: skip
def test_nobody_can_stop_another(address: Address, who: bytes) -> None:
    swarms = Swarms()
    swarms.announce(v4(1))
    swarms.sample(address, "stopped", who=who)
    assert swarms.announce(v4(3)) == [v4(1)]


def test_a_member_that_restarts_at_its_address_replaces_itself() -> None:
    swarms = Swarms()
    swarms.sample(v4(1), "completed", seed=True, who=b"a" * 20)
    swarms.sample(v4(1), "started", who=b"b" * 20)
    assert swarms.counts() == Counts(incomplete=1, downloaded=1)
    swarms.sample(v4(1), "stopped", who=b"a" * 20)  # a late word of the old one
    assert swarms.counts() == Counts(incomplete=1, downloaded=1)


def test_completed_counts_once_a_member() -> None:
    swarms = Swarms()
    for _ in range(3):
        swarms.announce(v4(1), "completed", seed=True)
    swarms.announce(v4(1), seed=False)
    swarms.announce(v4(1), "completed", seed=True)
    swarms.announce(v4(2), "completed", seed=True)
    swarms.announce(v4(3), "started", seed=True)  # had it all along
    assert swarms.counts() == Counts(complete=3, downloaded=2)


def test_a_swarm_that_all_have_left_still_knows_how_often_it_was_completed() -> None:
    swarms = Swarms()
    swarms.announce(v4(1), "completed", seed=True)
    swarms.announce(v4(1), "stopped", seed=True)
    swarms.announce(v4(2))
    assert swarms.counts() == Counts(incomplete=1, downloaded=1)


def test_a_scrape_of_the_unknown_gives_zeros_and_costs_nothing() -> None:
    swarms = Swarms()
    swarms.announce(v4(1))
    hashes = (SWARM, OTHER_SWARM)
    assert swarms.registry.scrape(hashes, 1000.0) == {SWARM: Counts(incomplete=1), OTHER_SWARM: Counts()}
    assert len(swarms.registry) == 1


# Within which bounds


@pytest.mark.fault("C6")
def test_a_host_has_at_most_20_members_in_a_swarm_and_pushes_out_only_its_own() -> None:
    swarms = Swarms()
    swarms.announce(v4(2))
    for port in range(2000, 2100):
        swarms.announce(v4(1, port))
    named = swarms.announce(v4(3))
    assert Counter(host for host, _ in named) == {v4(1)[0]: 20, v4(2)[0]: 1}
    assert v4(1, 2099) in named  # the newest is there
    assert len(swarms.registry) == 22


def test_a_host_may_have_20_members_in_each_of_many_swarms() -> None:
    swarms = Swarms()
    for number in range(30):
        swarms.announce(v4(1), swarm=bytes([number]) * 20)
    assert len(swarms.registry) == 30


def test_this_machine_may_have_any_number_of_members() -> None:
    swarms = Swarms()
    for port in range(2000, 2100):
        swarms.announce(("127.0.0.1", port))
        swarms.announce(("::1", port))
    assert swarms.counts() == Counts(incomplete=200)


@pytest.mark.fault("C6")
def test_a_full_swarm_makes_room_of_the_same_host_first_else_of_anyone() -> None:
    swarms = Swarms(Limits(members_a_swarm=10))
    for number in range(9):
        swarms.announce(v4(number))
    swarms.announce(v4(100, 2000))
    for port in range(2001, 2050):
        swarms.announce(v4(100, port))
    named = swarms.announce(v4(200), listed=False)
    assert sorted(named) == sorted([*(v4(number) for number in range(9)), v4(100, 2049)])
    swarms.announce(v4(200))
    named = swarms.announce(v4(201), listed=False)
    assert len(named) == 10
    assert v4(200) in named


@pytest.mark.fault("C6")
def test_a_full_table_of_swarms_makes_room_of_the_same_host_and_of_nobody_else() -> None:
    swarms = Swarms(Limits(swarms=5))
    for number in range(4):
        swarms.announce(v4(number), swarm=bytes([number]) * 20)
    for number in range(100, 150):
        swarms.announce(v4(99), swarm=bytes([number]) * 20)
    for number in range(4):
        assert swarms.counts(bytes([number]) * 20) == Counts(incomplete=1)
    assert swarms.counts(bytes([149]) * 20) == Counts(incomplete=1)
    with pytest.raises(RegistryFull, match="no room for another composition"):
        swarms.announce(v4(50), swarm=b"n" * 20)
    swarms.announce(v4(50), swarm=bytes([0]) * 20)  # one that is known is open to all


def test_a_swarm_that_others_have_joined_is_not_given_up_for_its_founder() -> None:
    swarms = Swarms(Limits(swarms=1))
    swarms.announce(v4(1))
    swarms.announce(v4(2))
    with pytest.raises(RegistryFull):
        swarms.announce(v4(1), swarm=OTHER_SWARM)
    assert swarms.counts() == Counts(incomplete=2)


def test_a_full_table_of_swarms_has_room_again_once_they_fall_silent() -> None:
    swarms = Swarms(Limits(swarms=1))
    swarms.announce(v4(1))
    swarms.now_s += LIFETIME_S + 1
    assert swarms.announce(v4(2), swarm=OTHER_SWARM) == []


@pytest.mark.fault("C6")
def test_a_full_registry_takes_no_more_members_but_keeps_those_it_has() -> None:
    swarms = Swarms(Limits(members=3))
    for number in range(3):
        swarms.announce(v4(number))
    with pytest.raises(RegistryFull, match="no room for another member"):
        swarms.announce(v4(3), swarm=OTHER_SWARM)
    with pytest.raises(RegistryFull):
        swarms.announce(v4(3))
    assert len(swarms.announce(v4(1))) == 2
    swarms.announce(v4(1, 7000))  # in place of its own
    assert swarms.counts() == Counts(incomplete=3)
    swarms.announce(v4(0), "stopped")
    swarms.announce(v4(3))
    assert len(swarms.registry) == 3


NETWORKS = {
    "one IPv4 address": lambda number: v4(1, 2000 + number % 60_000),
    "one IPv6 network of 64 bits": lambda number: v6(1 + number),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_no_network_can_fill_the_table_of_swarms_against_the_others(network: str) -> None:
    swarms = Swarms(Limits(swarms=20, swarms_a_network=5))
    for number in range(100):
        swarms.announce(NETWORKS[network](number), swarm=bytes([number]) * 20)
    assert len(swarms.registry) == 5
    assert swarms.counts(bytes([99]) * 20) == Counts(incomplete=1)
    swarms.announce(v4(2), swarm=b"n" * 20)


@pytest.mark.parametrize("network", NETWORKS)
def test_no_network_can_fill_the_table_of_members_against_the_others(network: str) -> None:
    swarms = Swarms(Limits(members=100, members_of_a_network=30))
    refused = 0
    for number in range(300):
        try:
            swarms.announce(NETWORKS[network](number), swarm=bytes([number % 10]) * 20)
        except RegistryFull:
            refused += 1
    assert len(swarms.registry) == 30
    swarms.announce(v4(2), swarm=b"n" * 20)
    swarms.announce(v4(3), swarm=bytes(20))
    swarms.now_s += LIFETIME_S + 1  # what is forgotten counts no more
    swarms.announce(v4(2), swarm=b"n" * 20)
    assert len(swarms.registry) == 1
    for number in range(30):
        swarms.announce(NETWORKS[network](number), swarm=bytes([number % 10]) * 20)
    assert len(swarms.registry) == 31


def test_a_network_of_64_bits_has_at_most_100_members_in_a_swarm() -> None:
    swarms = Swarms()
    swarms.announce(("2001:db8:0:1::1", 6881))
    for number in range(300):
        swarms.announce(v6(number))
    assert swarms.counts() == Counts(incomplete=101)


def test_this_machine_may_fill_a_table() -> None:
    swarms = Swarms(Limits(swarms=20, swarms_a_network=2, members=20, members_of_a_network=2))
    for number in range(20):
        swarms.announce(("127.0.0.1", 2000 + number), swarm=bytes([number]) * 20)
    assert len(swarms.registry) == 20


@pytest.mark.fault("C6")
def test_many_announces_of_random_swarms_stay_within_the_bounds() -> None:
    swarms = Swarms(Limits(swarms=100, members=150))
    chance = random.Random(2)
    for _ in range(20_000):
        try:
            swarms.announce(v4(chance.randrange(8), chance.randrange(1024, 65536)),
                            swarm=chance.randbytes(1) * 20, wanted=5)  # fmt: skip
        except RegistryFull:
            continue
    assert len(swarms.registry) <= 150


# All of it against a plain model

steps = st.lists(
    st.tuples(
        st.integers(0, 2),  # swarm
        st.sampled_from([v4(1), v4(2), v4(3), v4(3, 7000), v6(1), v6(2), ("127.0.0.1", 6881), ("::1", 6881)]),
        st.booleans(),  # seed
        st.sampled_from(["", "", "started", "completed", "stopped"]),
        st.integers(0, 1),  # which peer id
        st.booleans(),  # slow
        st.sampled_from([0.0, 1.0, 50.0, LIFETIME_S]),  # time that passes before
        st.integers(0, 9),  # wanted
    ),
    max_size=60,
)


@settings(deadline=None)
@given(steps)
def test_the_registry_agrees_with_a_plain_model(
    history: list[tuple[int, Address, bool, str, int, bool, float, int]],
) -> None:
    swarms = Swarms(slow_lifetime_s=SLOW_LIFETIME_S)
    model: dict[int, dict[Address, tuple[bytes, bool, float]]] = {0: {}, 1: {}, 2: {}}
    for number, address, seed, event, who_number, slow, passed_s, wanted in history:
        swarms.now_s += passed_s
        who, swarm, now_s = bytes([who_number]) * 20, bytes([number]) * 20, swarms.now_s
        sample = swarms.sample(address, event, seed=seed, swarm=swarm, who=who, wanted=wanted, slow=slow)
        for known in model.values():
            silent = [old for old, (_, _, until_s) in known.items() if until_s < now_s]
            for old in silent:
                del known[old]
        known = model[number]
        if event == "stopped":
            if address in known and known[address][0] == who:
                del known[address]
        else:
            known[address] = (who, seed, now_s + (SLOW_LIFETIME_S if slow else LIFETIME_S))
        seeds = sum(is_seed for _, is_seed, _ in known.values())
        assert (sample.counts.complete, sample.counts.incomplete) == (seeds, len(known) - seeds)
        local = address[0] in ("127.0.0.1", "::1")
        others = {
            other for other, (_, is_seed, _) in known.items()
            if other != address and not (seed and is_seed) and (local or other[0] not in ("127.0.0.1", "::1"))
        }  # fmt: skip
        named = addresses(sample)
        assert len(named) == (0 if event == "stopped" else min(wanted, len(others)))
        assert set(named) <= others
        assert len(set(named)) == len(named)
        assert list(sample.peer_ids) == [known[other][0] for other in named]


# The rules on top of it


def query(**changes: object) -> AnnounceQuery:
    fields = {"info_hash": SWARM, "peer_id": b"p" * 20, "port": 6881, "left_bytes": 1, **changes}
    return AnnounceQuery(uploaded_bytes=0, downloaded_bytes=0, **fields)  # type: ignore[arg-type]


@pytest.mark.fault("N1")
def test_the_tracker_lists_where_a_member_speaks_from() -> None:
    tracker = Tracker(120)
    tracker.announce(query(), "10.0.0.1")
    tracker.announce(query(port=6882), "::ffff:10.0.0.2")
    answer = tracker.announce(query(port=6883), "2001:DB8::1")
    assert sorted(addresses(answer)) == [("10.0.0.1", 6881), ("10.0.0.2", 6882)]
    assert (answer.interval_s, answer.min_interval_s, answer.warning) == (120, 10, "")
    assert answer.counts == Counts(incomplete=3)


@pytest.mark.parametrize(("interval_s", "min_interval_s"), [(1, 1), (2, 1), (24, 2), (120, 10), (1800, 150)])
def test_the_least_interval_is_a_twelfth(interval_s: int, min_interval_s: int) -> None:
    assert Tracker(interval_s).announce(query(), "10.0.0.1").min_interval_s == min_interval_s


@pytest.mark.fault("N1")
@pytest.mark.fault("C3")
@pytest.mark.parametrize(("host", "port"), [
    ("10.0.0.1", 22), ("10.0.0.1", 1023), ("fe80::1", 6881), ("fe80::1%2", 6881), ("0.0.0.0", 6881),
    ("ff02::1", 6881),
])  # fmt: skip
def test_who_could_not_or_should_not_be_dialled_is_warned_and_not_listed(host: str, port: int) -> None:
    tracker = Tracker(120)
    assert tracker.announce(query(port=port), host).warning.startswith("you are not listed: ")
    answer = tracker.announce(query(), "10.0.0.9")
    assert addresses(answer) == []
    assert answer.counts == Counts(incomplete=1)
    assert addresses(tracker.announce(query(port=port), host)) == [("10.0.0.9", 6881)]


@pytest.mark.parametrize(("wanted", "named"), [(None, 50), (0, 0), (30, 30), (200, 200), (10**9 - 1, 200)])
def test_a_member_gets_50_others_unless_it_says_otherwise_and_never_more_than_200(
    wanted: int | None, named: int
) -> None:
    tracker = Tracker(120)
    for port in range(2000, 2300):
        tracker.announce(query(port=port), "127.0.0.1")
    assert len(addresses(tracker.announce(query(wanted=wanted), "127.0.0.1"))) == named


def test_after_two_silent_intervals_a_member_is_forgotten() -> None:
    clock = iter([0.0, 240.0, 480.5])
    tracker = Tracker(120, clock=lambda: next(clock))
    ours = query(peer_id=b"-OR0100-abcdefghijkl")
    tracker.announce(ours, "10.0.0.1")
    assert addresses(tracker.announce(ours, "10.0.0.2")) == [("10.0.0.1", 6881)]
    assert addresses(tracker.announce(ours, "10.0.0.3")) == []


@pytest.mark.parametrize(
    ("who", "interval_s", "lifetime_s"),
    [
        (b"-OR0100-abcdefghijkl", 120, 240),
        (b"-OR0999-abcdefghijkl", 120, 240),
        (b"-qB5050-abcdefghijkl", 120, 360),
        (b"-lt0D60-abcdefghijkl", 120, 360),
        (b"-OR0100-abcdefghijkl", 900, 1800),
        (b"-qB5050-abcdefghijkl", 900, 1800),
        (b"-OR0100-abcdefghijkl", 30, 60),
        (b"-qB5050-abcdefghijkl", 30, 360),
        (b"-OR0100-abcdefghijkl", 10, 20),
        (b"-qB5050-abcdefghijkl", 10, 20),
    ],
)
def test_clients_that_announce_every_300_s_whatever_they_are_asked_stay_listed(
    who: bytes, interval_s: int, lifetime_s: int
) -> None:
    now_s = 1000.0
    tracker = Tracker(interval_s, clock=lambda: now_s)
    tracker.announce(query(peer_id=who), "10.0.0.1")
    now_s += lifetime_s
    assert addresses(tracker.announce(query(event="stopped"), "10.0.0.2")) == []
    assert tracker.scrape((SWARM,)) == {SWARM: Counts(incomplete=1)}
    now_s += 0.001
    assert tracker.scrape((SWARM,)) == {SWARM: Counts()}


def test_peer_ids_are_looked_up_only_for_dictionaries_with_ids() -> None:
    tracker = Tracker(120)
    tracker.announce(query(), "10.0.0.1")
    for changes, ids in (
        ({}, ()),
        ({"compact": False}, (b"p" * 20,)),
        ({"compact": False, "with_ids": False}, ()),
    ):
        assert tracker.announce(query(**changes), "10.0.0.2").peer_ids == ids


def test_a_full_conductor_says_so_and_logs_it_once(caplog: pytest.LogCaptureFixture) -> None:
    tracker = Tracker(120, registry=Registry(240, limits=Limits(members=1)))
    tracker.announce(query(), "10.0.0.1")
    for _ in range(3):
        with pytest.raises(
            AnnounceProblem, match=r"^this conductor has no room for another member: try again"
        ):
            tracker.announce(query(), "10.0.0.2")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert tracker.scrape((SWARM,)) == {SWARM: Counts(incomplete=1)}
