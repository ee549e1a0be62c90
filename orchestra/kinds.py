"""What makes a NamedTuple a message: it equals its own kind only, and is never false.

Pure. A message is a NamedTuple because it is quickly made, as is its class: a program
makes all the classes each time that it starts. But tuples are equal when their fields
are, whatever they are called, and without fields they are false.
"""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def kind(message: type[T]) -> type[T]:
    """Decorate a NamedTuple: `Choke() != Unchoke()`, and `bool(Choke())`. Its hash stays the tuple's."""
    for name, method in _METHODS:
        setattr(message, name, method)
    return message


def _equal(self: tuple[object, ...], other: object) -> bool:
    return type(self) is type(other) and tuple.__eq__(self, other)


# object's __ne__ asks __eq__; the tuple's own does not.
_METHODS = (("__eq__", _equal), ("__ne__", object.__ne__), ("__bool__", lambda _: True))
