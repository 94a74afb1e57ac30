"""Objects whose properties are there at once and go to the server by themselves: the ways in which they are typed.

A class names its properties by what they hold; what is set is checked here, so that nothing is sent that the server
would refuse. Values are kept in a message of :mod:`farframe.protocol.appearance`, as they are on the wire.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, Generic, Literal, TypeVar, cast

import msgspec
from numpy.typing import ArrayLike

from farframe.protocol.messages import Message

C = TypeVar("C", bound=str)
S = TypeVar("S", bound="Live")
MAX_NUMBER = 1e6


class Live:
    """Something with properties. ``_values`` holds them; ``_changed`` sends the members that differ, by their names on
    the wire."""

    _values: Message
    _properties: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._properties = tuple(
            name for kind in reversed(cls.__mro__) for name in vars(kind) if _is_property(kind, name)
        )

    def _changed(self, changes: dict[str, Any]) -> None:
        raise NotImplementedError

    def _require(self) -> None:
        """Raises RequestError (InvalidId) for what is no more."""

    def set(self, **values: Any) -> None:
        """Set several properties at once: all of them, or, with an error, none."""
        self._require()
        after = msgspec.structs.replace(self._values)
        for name, value in values.items():
            if name not in self._properties:
                raise TypeError(f"{type(self).__name__} has no property {name!r}")
            getattr(type(self), name).put(self, after, value)
        self._check(after)
        changes = {
            field.encode_name: getattr(after, field.name)
            for field in msgspec.structs.fields(type(after))
            if getattr(after, field.name) != getattr(self._values, field.name)
        }
        if changes:
            self._values = after
            self._changed(changes)

    @contextlib.contextmanager
    def overridden(self: S, **values: Any) -> Iterator[S]:
        """Set properties for as long as the block lasts; then these are again what they were."""
        before = {name: getattr(self, name) for name in values if name in self._properties}
        self.set(**values)
        try:
            yield self
        finally:
            self.set(**before)

    def _check(self, values: Message) -> None:
        """Raises ValueError for values that do not go together."""

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._properties)
        return f"{type(self).__name__}({told})"


def _is_property(kind: type, name: str) -> bool:
    return isinstance(vars(kind)[name], Property)


class Property:
    """A property that is kept as one member of the values; ``member`` if that has another name."""

    def __init__(self, doc: str, *, member: str = "") -> None:
        self.__doc__ = doc
        self._member = member

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self._member = self._member or name

    def _read(self, owner: Live) -> Any:
        return getattr(owner._values, self._member)

    def _write(self, owner: Live, value: Any) -> None:
        owner.set(**{self.name: value})

    def put(self, owner: Live, values: Message, value: Any) -> None:
        """Keep ``value`` in ``values``. Raises ValueError or TypeError."""
        setattr(values, self._member, self._checked(value))

    def _checked(self, value: Any) -> Any:
        return value


class Number(Property):
    """A finite number in a range."""

    def __init__(self, doc: str, low: float = -MAX_NUMBER, high: float = MAX_NUMBER, *, member: str = "") -> None:
        super().__init__(doc, member=member)
        self._low, self._high = low, high

    def __get__(self, owner: Live | None, kind: type | None = None) -> float:
        return cast("float", self if owner is None else self._read(owner))

    def __set__(self, owner: Live, value: float) -> None:
        self._write(owner, value)

    def _checked(self, value: Any) -> float:
        number = float(value)
        if not self._low <= number <= self._high:
            raise ValueError(f"{self.name} is a number from {self._low:g} to {self._high:g}")
        return number


class Mask(Property):
    """An integer from 0 to 255."""

    def __get__(self, owner: Live | None, kind: type | None = None) -> int:
        return cast("int", self if owner is None else self._read(owner))

    def __set__(self, owner: Live, value: int) -> None:
        self._write(owner, value)

    def _checked(self, value: Any) -> int:
        if isinstance(value, bool) or not 0 <= value <= 255:
            raise ValueError(f"{self.name} is an integer from 0 to 255")
        return int(value)


class Text(Property):
    """A name."""

    def __get__(self, owner: Live | None, kind: type | None = None) -> str:
        return cast("str", self if owner is None else self._read(owner))

    def __set__(self, owner: Live, value: str) -> None:
        self._write(owner, value)

    def _checked(self, value: Any) -> str:
        if not isinstance(value, str) or len(value) > 1024:
            raise ValueError(f"{self.name} is a text of at most 1,024 characters")
        return value


class Switch(Property):
    """Yes or no."""

    def __get__(self, owner: Live | None, kind: type | None = None) -> bool:
        return cast("bool", self if owner is None else self._read(owner))

    def __set__(self, owner: Live, value: bool) -> None:
        self._write(owner, value)

    def _checked(self, value: Any) -> bool:
        return bool(value)


class FlagBit(Property):
    """Yes or no, kept as a bit of a member."""

    def __init__(self, doc: str, bit: int, *, member: str = "flags") -> None:
        super().__init__(doc, member=member)
        self._bit = bit

    def __get__(self, owner: Live | None, kind: type | None = None) -> bool:
        return cast("bool", self if owner is None else bool(self._read(owner) & self._bit))

    def __set__(self, owner: Live, value: bool) -> None:
        self._write(owner, value)

    def put(self, owner: Live, values: Message, value: Any) -> None:
        """As of any property."""
        flags = getattr(values, self._member)
        setattr(values, self._member, flags | self._bit if value else flags & ~self._bit)


class Numbers(Property):
    """So many finite numbers, each in a range: colours, pairs, positions."""

    def __init__(self, doc: str, count: int, low: float = -MAX_NUMBER, high: float = MAX_NUMBER) -> None:
        super().__init__(doc)
        self._count, self._low, self._high = count, low, high

    def __get__(self, owner: Live | None, kind: type | None = None) -> tuple[float, ...]:
        return cast("tuple[float, ...]", self if owner is None else self._read(owner))

    def __set__(self, owner: Live, value: ArrayLike) -> None:
        self._write(owner, value)

    def _checked(self, value: Any) -> tuple[float, ...]:
        numbers = tuple(float(number) for number in value)
        if len(numbers) != self._count or not all(self._low <= number <= self._high for number in numbers):
            raise ValueError(f"{self.name} has {self._count} numbers from {self._low:g} to {self._high:g}")
        return numbers


class Rotation(Numbers):
    """A unit quaternion x, y, z, w; any length but zero may be set."""

    def __init__(self, doc: str) -> None:
        super().__init__(doc, 4, -1e9, 1e9)

    def _checked(self, value: Any) -> tuple[float, ...]:
        numbers = super()._checked(value)
        length = math.hypot(*numbers)
        if length < 1e-6:
            raise ValueError(f"{self.name} is a quaternion of any length but zero")
        return tuple(number / length for number in numbers)


class Choice(Property, Generic[C]):
    """One of some words."""

    def __init__(self, doc: str, words: Sequence[C]) -> None:
        super().__init__(doc)
        self._words = tuple(words)

    def __get__(self, owner: Live | None, kind: type | None = None) -> C:
        return cast("C", self if owner is None else self._read(owner))

    def __set__(self, owner: Live, value: C) -> None:
        self._write(owner, value)

    def _checked(self, value: Any) -> Any:
        if value not in self._words:
            raise ValueError(f"{self.name} is one of {', '.join(map(repr, self._words))}")
        return value


Axis = Literal["x", "y", "z", "negativeX", "negativeY", "negativeZ"]
