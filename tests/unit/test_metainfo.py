from __future__ import annotations

import hashlib
import random

import pytest

from netutils import Address
from orchestra import __version__, bencode
from orchestra.metainfo import (
    CLIENT_PART_LIMIT_BYTES,
    EmptyCompositionError,
    client_problem,
    info_dict_bytes,
    torrent_bytes,
)
from orchestra.score import Score, part_count

lt = pytest.importorskip("libtorrent", reason="the independent check of the info hash")

ONE: tuple[Address, ...] = (("localhost", 9999),)


def compose(
    size_bytes: int, part_size_bytes: int, conductors: tuple[Address, ...] = ONE, name: str = "n"
) -> Score:
    data = random.Random(size_bytes).randbytes(size_bytes)
    part_sha1s = b"".join(
        hashlib.sha1(data[begin : begin + part_size_bytes]).digest()
        for begin in range(0, size_bytes, part_size_bytes)
    )
    return Score(conductors, name, hashlib.sha1(data).digest(), size_bytes, part_size_bytes, part_sha1s)


def test_a_torrent_is_these_bytes_and_no_others() -> None:
    score = compose(3, 2)
    created_by = f"Orchestra/{__version__}".encode()
    expected = (
        b"d8:announce30:http://localhost:9999/announce",
        b"10:created by%d:%s" % (len(created_by), created_by),
        b"4:infod6:lengthi3e4:name1:n12:piece lengthi2e6:pieces40:%see" % score.part_sha1s,
    )
    assert torrent_bytes(score) == b"".join(expected)


def test_the_info_hash_is_the_sha1_of_the_info_dictionary() -> None:
    score = compose(100_000, 16384)
    assert hashlib.sha1(info_dict_bytes(score)).digest() == score.info_hash
    assert info_dict_bytes(score) in torrent_bytes(score)


def test_several_conductors_are_one_tier_in_their_order() -> None:
    conductors = (("10.0.0.1", 9999), ("2001:db8::1", 80), ("fe80::1%eth0", 9999))
    content = bencode.decode(torrent_bytes(compose(1, 1, conductors)))
    assert isinstance(content, dict)
    assert content[b"announce"] == b"http://10.0.0.1:9999/announce"
    assert content[b"announce-list"] == [
        [
            b"http://10.0.0.1:9999/announce",
            b"http://[2001:db8::1]:80/announce",
            b"http://[fe80::1%25eth0]:9999/announce",
        ]
    ]


def test_the_conductors_are_not_part_of_the_identity() -> None:
    here, there = compose(50, 10), compose(50, 10, (("elsewhere.example", 1),))
    assert here.info_hash == there.info_hash
    assert compose(50, 10, name="m").info_hash != here.info_hash


def test_an_empty_composition_cannot_be_a_torrent() -> None:
    with pytest.raises(EmptyCompositionError, match="empty file"):
        torrent_bytes(compose(0, 16384))


@pytest.mark.parametrize("part_size_bytes", [1, 1000, 16384, 20000, 1024 * 1024, CLIENT_PART_LIMIT_BYTES])
@pytest.mark.parametrize("size_bytes", [1, 2, 1000, 16384, 16385, 32768, 40000, 40001])
def test_libtorrent_computes_the_same_info_hash(size_bytes: int, part_size_bytes: int) -> None:
    score = compose(size_bytes, part_size_bytes, (("10.0.0.1", 9999), ("::1", 80)), "Grüße 名前.bin")
    params = lt.load_torrent_buffer(torrent_bytes(score))
    assert params.ti.info_hashes().v1.to_bytes() == score.info_hash
    assert params.ti.num_pieces() == score.parts
    assert params.ti.piece_length() == part_size_bytes
    assert params.ti.total_size() == size_bytes
    assert params.ti.name() == "Grüße 名前.bin"
    assert params.trackers == ["http://10.0.0.1:9999/announce", "http://[::1]:80/announce"]
    assert client_problem(score) is None


@pytest.mark.parametrize("size_bytes", [3 * 1024 * 1024, 3_000_001])
def test_libtorrent_computes_the_same_info_hash_for_large_parts(size_bytes: int) -> None:
    score = compose(size_bytes, 1024 * 1024)
    assert lt.load_torrent_buffer(torrent_bytes(score)).ti.info_hashes().v1.to_bytes() == score.info_hash


def test_parts_that_libtorrent_refuses_are_warned_of() -> None:
    score = compose(10, CLIENT_PART_LIMIT_BYTES + 1)
    with pytest.raises(RuntimeError, match="piece length"):
        lt.load_torrent_buffer(torrent_bytes(score))
    assert "smaller part size" in (client_problem(score) or "")


def test_metadata_that_libtorrent_refuses_is_warned_of(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("torrents") / "x.torrent"
    for parts, refused in ((499_000, False), (501_000, True)):
        score = Score(ONE, "n", bytes(20), parts, 1, bytes(20 * parts))
        assert part_count(parts, 1) == parts
        file.write_bytes(torrent_bytes(score))
        if refused:
            with pytest.raises(RuntimeError, match="too large"):
                lt.load_torrent_file(str(file))
        else:
            lt.load_torrent_file(str(file))
        assert ("larger part size" in (client_problem(score) or "")) is refused
