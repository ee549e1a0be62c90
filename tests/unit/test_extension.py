"""The extension handshake (BEP 10), both ways."""

from __future__ import annotations

import pytest

from orchestra import __version__, bencode
from orchestra.errors import RemoteProtocolError
from orchestra.extension import (
    MOST_REQQ,
    ExtensionHandshake,
    decode_extension_handshake,
    encode_extension_handshake,
)


def test_we_say_who_we_are_what_we_take_and_how_we_see_the_peer() -> None:
    version = f"Orchestra {__version__}".encode()
    assert encode_extension_handshake(port=6881, max_requests=500, your_host="10.0.0.7") == (
        b"d1:md11:lt_donthavei3e11:upload_onlyi2e6:ut_pexi1ee1:pi6881e4:reqqi500e1:v%d:%s6:yourip4:\x0a\x00\x00\x07e"
        % (len(version), version)
    )


def test_that_we_want_nothing_is_said_when_it_is_so() -> None:
    for complete in (True, False):
        payload = encode_extension_handshake(
            port=6881, max_requests=500, your_host="10.0.0.7", upload_only=complete
        )
        said = bencode.decode(payload)
        assert isinstance(said, dict)
        assert said.get(b"upload_only") == (1 if complete else None)


def test_an_ipv6_peer_is_told_its_16_bytes_and_a_name_nothing() -> None:
    said = bencode.decode(encode_extension_handshake(port=1, max_requests=1, your_host="2001:db8::1"))
    assert isinstance(said, dict)
    assert said[b"yourip"] == bytes.fromhex("20010db8000000000000000000000001")
    said = bencode.decode(encode_extension_handshake(port=1, max_requests=1, your_host="peer.example"))
    assert isinstance(said, dict)
    assert b"yourip" not in said


def test_what_we_say_is_understood_by_ourselves() -> None:
    said = encode_extension_handshake(port=6881, max_requests=500, your_host="10.0.0.7")
    expected = ExtensionHandshake(
        f"Orchestra {__version__}", 6881, 500, our_host="10.0.0.7", pex_id=1, dont_have_id=3
    )
    assert decode_extension_handshake(said) == expected


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"de", ExtensionHandshake()),
        (
            b"d1:md11:ut_metadatai3ee13:metadata_sizei31235e1:pi6881e1:v4:Teste",
            ExtensionHandshake("Test", 6881),
        ),
        (b"d4:reqqi2000ee", ExtensionHandshake(max_requests=2000)),
        (b"d4:reqqi99999999999999999999ee", ExtensionHandshake(max_requests=MOST_REQQ)),
        (b"d4:reqqi-5ee", ExtensionHandshake(max_requests=1)),
        (b"d4:reqqi0ee", ExtensionHandshake(max_requests=1)),
        (b"d4:reqq3:500e", ExtensionHandshake()),
        (b"d1:pi65536ee", ExtensionHandshake()),
        (b"d1:pi-1ee", ExtensionHandshake()),
        (b"d1:p4:6881e", ExtensionHandshake()),
        (b"d1:vi5ee", ExtensionHandshake()),
        (b"d1:v3:\xff\x00ae", ExtensionHandshake("\ufffd\x00a")),
        (b"d1:mi5ee", ExtensionHandshake()),
        (b"d11:upload_onlyi1ee", ExtensionHandshake(upload_only=True)),
        (b"d11:upload_onlyi0ee", ExtensionHandshake(upload_only=False)),
        (b"d11:upload_only1:1e", ExtensionHandshake()),
        (b"d6:yourip4:\x0a\x00\x00\x07e", ExtensionHandshake(our_host="10.0.0.7")),
        (
            b"d6:yourip16:" + bytes(10) + b"\xff\xff\x0a\x00\x00\x07e",
            ExtensionHandshake(our_host="10.0.0.7"),
        ),
        (
            b"d6:yourip16:\x20\x01\x0d\xb8" + bytes(11) + b"\x01e",
            ExtensionHandshake(our_host="2001:db8::1"),
        ),
        (b"d6:yourip5:12345e", ExtensionHandshake()),
        (b"d1:md6:ut_pexi7eee", ExtensionHandshake(pex_id=7)),
        (b"d1:md6:ut_pexi0eee", ExtensionHandshake(pex_id=0)),
        (b"d1:md6:ut_pexi256eee", ExtensionHandshake()),
        (b"d1:md6:ut_pexi-1eee", ExtensionHandshake()),
        (b"d1:md6:ut_pex1:1ee", ExtensionHandshake()),
        (b"d6:youripi5ee", ExtensionHandshake()),
    ],
)
def test_odd_values_are_ignored_or_bounded(payload: bytes, expected: ExtensionHandshake) -> None:
    assert decode_extension_handshake(payload) == expected


@pytest.mark.parametrize(
    "payload", [b"", b"i5e", b"le", b"d", b"4:spam", b"de rest", b"d1:vi5e", b"l" * 5000]
)
def test_what_is_no_dictionary_breaks_the_protocol(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="extension handshake"):
        decode_extension_handshake(payload)
