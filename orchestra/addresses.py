"""Which addresses that strangers name may be dialled, or handed on.

Pure; any thread. Used for what a conductor tells a member, for what a
conductor tells about its members, and for what members tell of one another.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from netutils import Address, normal_host

_HOSTS = 16_384
"""The answers for so many hosts are kept: the same members are named again and again."""


def can_dial(address: Address) -> bool:
    """Whether a stranger's address is a literal that a TCP connection could go to.

    Not: names, port 0, 0.0.0.0/8, ::, multicast, 255.255.255.255, IPv4 mapped into
    IPv6 (one spelling for each address), link-local IPv6 (its scope is missing).
    Private and loopback addresses are: members share on a LAN and on one machine.
    """
    host, port = address
    return 1 <= port <= 65535 and _can_dial(host)


@lru_cache(maxsize=_HOSTS)
def _can_dial(host: str) -> bool:
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        return False
    if literal.is_multicast or literal.is_unspecified:
        return False
    if isinstance(literal, ipaddress.IPv4Address):
        return literal.packed[0] != 0 and literal.packed != b"\xff\xff\xff\xff"
    return literal.ipv4_mapped is None and not literal.is_link_local


def may_be_conductor(host: str, literal: str, *, own_name: str) -> bool:
    """Whether `literal`, an address that `host` has, may be asked as a conductor.

    A .orch may come from a stranger, who also answers for the names in it. What stands there as a
    literal is asked, but for 0.0.0.0 and the like, multicast and broadcast. No name may turn out to
    mean a link-local address, where clouds keep secrets; none but "localhost", names without a dot and
    the name of this machine (`own_name`) may mean this machine. A private address may have any name:
    that is how a LAN calls its conductor.
    """
    address = ipaddress.ip_address(literal.partition("%")[0])
    nowhere = address.packed[0] in (0, 255) if address.version == 4 else address.is_unspecified
    if nowhere or address.is_multicast:
        return False
    if _is_literal(host):
        return True
    labels = host.lower().rstrip(".").split(".")
    ours = len(labels) == 1 or labels[-1] == "localhost" or labels[0] == own_name.lower().split(".")[0]
    return not address.is_link_local and (ours or not address.is_loopback)


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def within_reach(host: str, address: Address) -> bool:
    """Whether somebody at `host` could dial `address`, a literal, and so may be told of it or name it.

    An address on this machine means nothing elsewhere, one of a private network nothing outside.
    """
    if is_loopback(host):
        return True
    return not is_loopback(address[0]) and (_is_private(host) or not _is_private(address[0]))


@lru_cache(maxsize=_HOSTS)
def _is_private(host: str) -> bool:
    try:
        return ipaddress.ip_address(normal_host(host)).is_private
    except ValueError:
        return False


@lru_cache(maxsize=_HOSTS)
def is_loopback(host: str) -> bool:
    """Whether `host` is a literal that stands for this machine: 127.0.0.0/8 or ::1."""
    try:
        return ipaddress.ip_address(normal_host(host)).is_loopback
    except ValueError:
        return False
