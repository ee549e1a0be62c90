"""The announce and its reply, by exact bytes, both ways, and against anything that a stranger may send."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra import bencode
from orchestra.addresses import can_dial, is_loopback
from orchestra.announce import AnnounceProblem, AnnounceQuery, format_announce, parse_announce, parse_scrape
from orchestra.announcereply import (
    MAX_REPLY_BYTES,
    MAX_REPLY_MEMBERS,
    Answer,
    Counts,
    Reply,
    ReplyProblem,
    format_answer,
    format_failure,
    format_scrape,
    parse_reply,
)
from orchestra.orchestrator import WANTED_MEMBERS

INFO_HASH = bytes(range(20))
PEER_ID = b"-OR0100-abcdefghijkl"
QUERY = AnnounceQuery(
    info_hash=INFO_HASH, peer_id=PEER_ID, port=6881, uploaded_bytes=1, downloaded_bytes=2, left_bytes=3
)
HASH_TEXT = "%00%01%02%03%04%05%06%07%08%09%0A%0B%0C%0D%0E%0F%10%11%12%13"
MINIMAL = (
    f"info_hash={HASH_TEXT}&peer_id=-OR0100-abcdefghijkl&port=6881&uploaded=1&downloaded=2&left=3".encode()
)


# The question


def test_the_query_has_these_bytes() -> None:
    query = QUERY._replace(event="started", wanted=50)
    assert format_announce(query).encode() == MINIMAL + b"&compact=1&event=started&numwant=50"


def test_the_smallest_announce_is_understood() -> None:
    assert parse_announce(MINIMAL) == QUERY


@pytest.mark.parametrize(("addition", "expected"), [
    (b"&event=started", QUERY._replace(event="started")),
    (b"&event=", QUERY),
    (b"&event=empty", QUERY),
    (b"&event=paused", QUERY),
    (b"&numwant=0", QUERY._replace(wanted=0)),
    (b"&numwant=999999999", QUERY._replace(wanted=999999999)),
    (b"&numwant=-1", QUERY),
    (b"&compact=0", QUERY._replace(compact=False)),
    (b"&compact=0&no_peer_id=1", QUERY._replace(compact=False, with_ids=False)),
    (b"&ip=192.0.2.1&ipv6=2001:db8::1&key=%FF&trackerid=x&supportcrypto=1&ip=10.0.0.1", QUERY),
    (b"&&=&==&novalue&", QUERY),
])  # fmt: skip
def test_what_else_an_announce_may_say(addition: bytes, expected: AnnounceQuery) -> None:
    assert parse_announce(MINIMAL + addition) == expected


def test_a_hash_may_come_raw_escaped_in_either_case_and_with_a_plus_that_is_a_plus() -> None:
    for text in (b"+++++abcde%2b%2B%fF%Ff\x80\xff&", b"%2B" * 5 + b"abcde%2b%2B%fF%Ff\x80\xff&"):
        query = MINIMAL.replace(HASH_TEXT.encode() + b"&", text.replace(b"&", b"%26%3D%25%00&"))
        expected = b"+++++abcde++\xff\xff\x80\xff&=%\x00"
        assert parse_announce(query).info_hash == expected


@pytest.mark.parametrize(("broken", "reason"), [
    (b"", "info_hash is missing"),
    (MINIMAL.replace(b"info_hash", b"infohash"), "info_hash is missing"),
    (MINIMAL.replace(b"&port=6881", b""), "port is missing"),
    (MINIMAL.replace(b"&left=3", b""), "left is missing"),
    (MINIMAL.replace(b"%13&", b"&"), "info_hash has 19 bytes instead of 20"),
    (MINIMAL.replace(b"%13&", b"%13%14&"), "info_hash has 21 bytes instead of 20"),
    (MINIMAL.replace(b"ijkl", b"ijk"), "peer_id has 19 bytes instead of 20"),
    (MINIMAL.replace(b"%13&", b"%1&"), "a percent sign without two hexadecimal digits"),
    (MINIMAL.replace(b"%13&", b"%&"), "a percent sign without two hexadecimal digits"),
    (MINIMAL.replace(b"%13&", b"%zz&"), "a percent sign without two hexadecimal digits"),
    (MINIMAL + b"&port=6882", "port is given more than once"),
    (MINIMAL + b"&info_hash=" + HASH_TEXT.encode(), "info_hash is given more than once"),
    (MINIMAL + b"&event=finished", "unknown event: finished"),
    (MINIMAL + b"&event=%1B[31m%0A", "unknown event: \\x1b[31m\\x0a"),
    (MINIMAL + b"&numwant=many", "numwant is not a number"),
    (MINIMAL + b"&numwant=-2", "numwant is not a number"),
    (MINIMAL + b"&compact=yes", "compact is neither 0 nor 1"),
    (MINIMAL + b"&x=" + b"x" * 4096, "the query is longer than 4096 bytes"),
])  # fmt: skip
def test_a_broken_announce_is_refused_and_told_why(broken: bytes, reason: str) -> None:
    with pytest.raises(AnnounceProblem) as raised:
        parse_announce(broken)
    assert str(raised.value) == reason
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    "port", [b"0", b"65536", b"-1", b"", b"6881 ", b"+1", b"1_0", b"0x1", b"\xef\xbc\x91", b"9" * 3900]
)
def test_a_port_is_a_number_from_1_to_65535(port: bytes) -> None:
    with pytest.raises(AnnounceProblem, match="port is not a number"):
        parse_announce(MINIMAL.replace(b"port=6881", b"port=" + port))


@pytest.mark.parametrize("name", [b"uploaded=1", b"downloaded=2", b"left=3"])
@pytest.mark.parametrize("amount", [b"-1", b"", b"1.5", b"1e9", b"+1", b"%201", b"%D9%A1", b"9" * 20])
def test_an_amount_is_a_number_of_at_most_19_digits(name: bytes, amount: bytes) -> None:
    with pytest.raises(AnnounceProblem, match="is not a number of bytes"):
        parse_announce(MINIMAL.replace(name, name.partition(b"=")[0] + b"=" + amount))


queries = st.builds(
    AnnounceQuery,
    info_hash=st.binary(min_size=20, max_size=20),
    peer_id=st.binary(min_size=20, max_size=20),
    port=st.integers(1, 65535),
    uploaded_bytes=st.integers(0, 10**19 - 1),
    downloaded_bytes=st.integers(0, 10**19 - 1),
    left_bytes=st.integers(0, 10**19 - 1),
    event=st.sampled_from(["", "started", "completed", "stopped"]),
    wanted=st.none() | st.integers(0, 10**9 - 1),
    compact=st.booleans(),
    with_ids=st.booleans(),
)


@given(queries)
def test_what_is_written_is_read_back(query: AnnounceQuery) -> None:
    text = format_announce(query)
    assert parse_announce(text.encode("ascii")) == query
    assert text.isprintable()
    assert " " not in text


def problem_of(parse: Callable[[bytes], object], query: bytes) -> str:
    try:
        parse(query)
    except AnnounceProblem as problem:
        return str(problem)
    return ""


mutations = st.tuples(st.integers(0, len(MINIMAL)), st.integers(0, 4), st.binary(max_size=6))


@given(st.binary() | mutations.map(lambda cut: MINIMAL[: cut[0]] + cut[2] + MINIMAL[cut[0] + cut[1] :]))
@example(b"info_hash=%" + b"%" * 100)
def test_no_query_raises_anything_but_the_documented_error(query: bytes) -> None:
    for parse in (parse_announce, parse_scrape):
        problem = problem_of(parse, query)
        assert problem.isprintable()
        assert bencode.decode(format_failure(problem)) == {b"failure reason": problem.encode()}


def test_a_scrape_may_name_several_swarms_once_or_twice() -> None:
    other = "%61" * 20
    query = f"info_hash={HASH_TEXT}&x=y&info_hash={other}&info_hash={HASH_TEXT}".encode()
    assert parse_scrape(query) == (INFO_HASH, b"a" * 20)


@pytest.mark.parametrize(("broken", "reason"), [
    (b"", "info_hash is missing"),
    (b"info_hash=abc", "info_hash has 3 bytes instead of 20"),
    (b"info_hash=" + b"a" * 20 + b"&info_hash=", "info_hash has 0 bytes instead of 20"),
    (b"&".join([b"info_hash=" + b"a" * 20] * 51), "more than 50 info_hash at once"),
])  # fmt: skip
def test_a_broken_scrape_is_refused_and_told_why(broken: bytes, reason: str) -> None:
    with pytest.raises(AnnounceProblem) as raised:
        parse_scrape(broken)
    assert str(raised.value) == reason


# The answer, as the conductor writes it

V4 = b"\x0a\x00\x00\x01\x1a\xe1\x0a\x00\x00\x02\x1a\xe2"
V6 = bytes.fromhex("20010db8000000000000000000000001") + b"\x1a\xe3"
ANSWER = Answer(120, 10, Counts(complete=1, incomplete=2, downloaded=7), V4, V6)
HEAD = b"d8:completei1e10:incompletei2e8:intervali120e12:min intervali10e5:peers"


def test_a_compact_answer_has_these_bytes() -> None:
    assert format_answer(ANSWER, compact=True) == HEAD + b"12:" + V4 + b"6:peers618:" + V6 + b"e"


def test_peers6_is_left_out_when_there_are_none_and_peers_never() -> None:
    assert format_answer(ANSWER._replace(v4=b"", v6=b""), compact=True) == HEAD + b"0:e"


def test_an_answer_in_dictionaries_has_both_families_and_the_peer_ids_if_asked_for() -> None:
    ids = tuple(bytes([letter]) * 20 for letter in b"abc")
    answer = ANSWER._replace(peer_ids=ids)
    assert format_answer(answer, compact=False) == (
        HEAD + b"l"
        b"d2:ip8:10.0.0.17:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti6881ee"
        b"d2:ip8:10.0.0.27:peer id20:bbbbbbbbbbbbbbbbbbbb4:porti6882ee"
        b"d2:ip11:2001:db8::17:peer id20:cccccccccccccccccccc4:porti6883ee"
        b"ee"
    )
    assert b"peer id" not in format_answer(answer, compact=False, with_ids=False)


def test_a_warning_goes_with_the_answer() -> None:
    body = format_answer(ANSWER._replace(v4=b"", v6=b"", warning="mind"), compact=True)
    assert body == HEAD + b"0:15:warning message4:minde"


def test_a_failure_has_these_bytes() -> None:
    assert format_failure("port is missing") == b"d14:failure reason15:port is missinge"


def test_a_scrape_is_answered_with_these_bytes() -> None:
    other = b"\xff" * 20
    body = format_scrape({other: Counts(), INFO_HASH: Counts(5, 10, 50)})
    assert body == (
        b"d5:filesd"
        b"20:" + INFO_HASH + b"d8:completei5e10:downloadedi50e10:incompletei10ee"
        b"20:" + other + b"d8:completei0e10:downloadedi0e10:incompletei0ee"
        b"ee"
    )


# The answer, as the member reads it


def reply_to(**fields: object) -> Reply:
    body = bencode.encode({name.replace("_", " "): value for name, value in fields.items()})
    return parse_reply(body, loopback=False)


def test_what_the_conductor_writes_the_member_reads() -> None:
    members = (("10.0.0.1", 6881), ("10.0.0.2", 6882), ("2001:db8::1", 6883))
    answer = ANSWER._replace(peer_ids=(PEER_ID,) * 3, warning="mind")
    for compact in (True, False):
        reply = parse_reply(format_answer(answer, compact=compact), loopback=False)
        assert reply == Reply(members, 120.0, 10.0, seeders=1, leechers=2, warning="mind")


def test_what_is_missing_in_a_reply_has_defaults() -> None:
    assert parse_reply(b"de", loopback=False) == Reply((), 1800.0, 60.0, seeders=-1, leechers=-1, warning="")


@pytest.mark.parametrize("interval", [0, -5, b"120", [], 10**19])
def test_an_interval_that_makes_no_sense_is_replaced(interval: object) -> None:
    reply = reply_to(interval=interval, min_interval=interval, complete=interval, incomplete=interval)
    assert 0 < reply.interval_s <= 86400
    assert 0 < reply.min_interval_s <= 86400
    assert -1 <= reply.seeders <= 10**19


def test_a_short_interval_is_kept_and_the_least_one_not_above_it() -> None:
    reply = reply_to(interval=2)
    assert (reply.interval_s, reply.min_interval_s) == (2.0, 2.0)


UNDIALLABLE = [
    ("10.0.0.1", 0), ("0.0.0.0", 6881), ("0.1.2.3", 6881), ("255.255.255.255", 6881), ("224.0.0.1", 6881),
    ("239.255.255.250", 1900), ("::", 6881), ("ff02::1", 6881), ("fe80::1", 6881), ("fe80::1%1", 6881),
    ("example.org", 80), ("localhost", 80), ("10.0.0.1\n", 80), ("", 80),
    ("10.0.0.1", 65536), ("10.0.0.1", -1), ("1.2.3", 80), ("2130706433", 80), ("/etc/passwd", 80),
    ("x" * 46, 80), ("\xff", 80),
]  # fmt: skip


@pytest.mark.parametrize("address", UNDIALLABLE)
def test_an_address_that_cannot_be_dialled_is_dropped_and_the_others_stay(address: tuple[str, int]) -> None:
    peers = [{"ip": host.encode("latin-1"), "port": port} for host, port in (address, ("10.0.0.9", 1))]
    assert reply_to(peers=peers).members == (("10.0.0.9", 1),)


@pytest.mark.fault("T3")
def test_compact_addresses_that_cannot_be_dialled_are_dropped() -> None:
    peers = b"\x0a\x00\x00\x01\x00\x00" + bytes(4) + b"\x1a\xe1" + b"\xff\xff\xff\xff\x1a\xe1" + V4[:6]
    peers6 = bytes(16) + b"\x1a\xe1" + b"\xff\x02" + bytes(14) + b"\x1a\xe1" + V6
    assert reply_to(peers=peers, peers6=peers6).members == (("10.0.0.1", 6881), ("2001:db8::1", 6883))


def test_a_mapped_address_is_the_ipv4_one_and_none_is_named_twice() -> None:
    mapped = bytes(10) + b"\xff\xff" + V4[:6]
    assert reply_to(peers=V4[:6] * 2, peers6=mapped).members == (("10.0.0.1", 6881),)


def test_only_a_conductor_on_this_machine_may_name_members_on_it() -> None:
    body = bencode.encode({"peers": b"\x7f\x00\x00\x01\x1a\xe1", "peers6": bytes(15) + b"\x01\x1a\xe1"})
    assert parse_reply(body, loopback=False).members == ()
    assert parse_reply(body, loopback=True).members == (("127.0.0.1", 6881), ("::1", 6881))


@pytest.mark.fault("T3")
def test_of_ten_thousand_members_as_many_are_taken_as_were_asked_for() -> None:
    peers = b"".join(b"\x0a" + index.to_bytes(3, "big") + b"\x1a\xe1" for index in range(10_000))
    assert len(reply_to(peers=peers).members) == MAX_REPLY_MEMBERS == WANTED_MEMBERS


@pytest.mark.parametrize("oddity", [1, b"text", [], {"ip": 5, "port": 5}, {"ip": b"10.0.0.1"},
                                    {"ip": b"10.0.0.1", "port": b"80"}])  # fmt: skip
def test_what_is_no_member_in_a_list_is_dropped(oddity: object) -> None:
    assert reply_to(peers=[oddity, {"ip": b"10.0.0.9", "port": 1}]).members == (("10.0.0.9", 1),)


@pytest.mark.parametrize(("body", "reason"), [
    (b"", "the reply is not bencode: it ends too early"),
    (b"<html>", "the reply is not bencode: byte 0 begins nothing that could stand there"),
    (b"l" * 1000, "the reply is not bencode that we read: nested deeper than 100"),
    (b"i1e", "the reply is not a dictionary"),
    (b"d5:peers5:aaaaae", "the list of members is broken: 5 bytes are no list of 6-byte addresses"),
    (b"d6:peers65:aaaaae", "the list of members is broken: 5 bytes are no list of 18-byte addresses"),
    (b"d5:peersi1ee", "the list of members is broken"),
    (b"d14:failure reason2:noe", "refused: no"),
    (b"d14:failure reason0:e", "refused: no reason given"),
    (b"d14:failure reasoni1ee", "refused: no reason given"),
    (b"d14:failure reason9:\x1b]0;bad\x07\xffe", "refused: \\x1b]0;bad\\x07\\xff"),
    (b"d1:x262144:" + bytes(MAX_REPLY_BYTES), "the reply is longer than 262144 bytes"),
])  # fmt: skip
def test_what_is_no_answer_is_refused_in_words_safe_to_print(body: bytes, reason: str) -> None:
    with pytest.raises(ReplyProblem) as raised:
        parse_reply(body, loopback=False)
    assert str(raised.value) == reason


def test_a_long_reason_is_cut() -> None:
    with pytest.raises(ReplyProblem) as raised:
        parse_reply(bencode.encode({"failure reason": b"a" * 100_000}), loopback=False)
    assert len(str(raised.value)) < 300


values = st.recursive(
    st.integers(-(10**19), 10**19) | st.binary(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([b"peers", b"peers6", b"interval", b"ip", b"port", b"failure reason", b"x"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(values.map(bencode.encode) | st.binary())
def test_no_reply_raises_anything_but_the_documented_error(body: bytes) -> None:
    with contextlib.suppress(ReplyProblem):
        reply = parse_reply(body, loopback=True)
        assert all(can_dial(address) for address in reply.members)
        assert reply.warning.isprintable()


def test_loopback_is_told_from_the_rest() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"))
    assert not any(
        is_loopback(host) for host in ("10.0.0.1", "::", "localhost.example", "", "128.0.0.1", "fe80::1%eth0")
    )
