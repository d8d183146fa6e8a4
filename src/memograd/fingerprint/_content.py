"""Write down what a value is: `identify(value)` gives its `Content`, equal for equal typed content and for no other.

NOTE [stream] A value is written as bytes, without recursion, so that depth and cycles are no danger:

1. `.` and the marshalled value, for a plain leaf (`int`, `float`, `str`, …): exact in type and bits.
2. `(` and the tag, the data and every part of the value's `Form`, each with its length in front.
   `*` in its place when all parts are plain leaves: they are marshalled in one go.
3. `@` and a number, for a value that stands for itself: the n-th of those *held* beside the stream.
4. `^` and a number, for a container met before, counted in the order of meeting. Only values that contain themselves
   are written so; in all others a container that is met twice is written twice (and walked once).
5. A stream or data of more than 48 bytes stands as `#` and its digest; shorter data have `=` in front.

Each rule depends on the content alone, and lengths in front make the concatenation uniquely readable: two values write
the same stream and hold the same values only if they are the same (up to a collision of 128-bit BLAKE2b).
"""

from __future__ import annotations

import threading
import weakref

# hashlib's own blake2b, without the OpenSSL that hashlib loads for its other algorithms.
from _blake2 import blake2b
from typing import TYPE_CHECKING

from memograd._errors import warn
from memograd.fingerprint._dispatch import writer_of
from memograd.fingerprint._form import PLAIN, Form, Opaque, Unidentified, marshalled
from memograd.fingerprint._values import Held

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memograd.fingerprint._form import Buffer

LONGEST = 48
_FLAT: frozenset[type] = frozenset({tuple, list, dict})


class Content:
    """What a value is: its stream and the values held beside it. `text` is for people and is not compared."""

    __slots__ = ("_hash", "held", "stream", "text")

    def __init__(self, stream: bytes, held: tuple[tuple[type, object], ...]) -> None:
        self.stream = stream
        self.held = held
        self.text = ""
        self._hash = hash((stream, held))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Content) or self.stream != other.stream:
            return False
        return _same(self.held, other.held) if self.held or other.held else True

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return self.text or "<content>"


class _Asking(threading.local):
    def __init__(self) -> None:
        self.values: set[int] = set()
        self.comparing = False


# Whose hash, or whose equality, is being asked for: the user's code for that may call memoized functions itself.
_asking = _Asking()
_raising: weakref.WeakSet[type] = weakref.WeakSet()


def _same(held: Sequence[tuple[type, object]], others: Sequence[tuple[type, object]]) -> bool:
    try:
        return len(held) == len(others) and all(
            kind is other_kind and (value is other or _equal(kind, value, other))
            for (kind, value), (other_kind, other) in zip(held, others, strict=True)
        )
    except Exception as error:  # noqa: BLE001 - keys are compared where nobody expects that to raise
        _say(held, error)
        return False


def _equal(kind: type, value: object, other: object) -> bool:
    if kind is Held:
        return value == other
    if _asking.comparing:
        return False
    _asking.comparing = True
    try:
        return bool(value == other)
    finally:
        _asking.comparing = False


def _say(held: Sequence[tuple[type, object]], error: Exception) -> None:
    kinds = {kind for kind, _ in held} - set(_raising)
    if kinds:
        _raising.update(kinds)
        names = ", ".join(sorted(kind.__qualname__ for kind in kinds))
        warn(f"comparing arguments ({names}) raised {error!r}; they are taken for different")


class _Cyclic(Exception):  # noqa: N818 - control flow: the value contains itself, rule 4 is needed
    pass


class _Open:
    """A container that is being written."""

    __slots__ = ("at", "chunks", "form", "value")

    def __init__(self, value: object, form: Form) -> None:
        self.value = value
        self.form = form
        self.chunks: list[bytes] = []
        self.at = 0


def identify(value: object) -> Content:
    """Write down what `value` is. Raises `Unidentified` with the path to the part that has no identity."""
    if type(value) in _FLAT:
        # Most arguments that are not plain are short lists and tuples of what is: no walk is needed.
        form = writer_of(type(value))(value)
        if isinstance(form, Form) and PLAIN.issuperset(map(type, form.parts)):
            return Content(_sealed(_run(form)), ())
    try:
        return _Walk(cyclic=False).content(value)
    except _Cyclic:
        return _Walk(cyclic=True).content(value)


class _Walk:
    def __init__(self, *, cyclic: bool) -> None:
        self.cyclic = cyclic
        self.stack: list[_Open] = []
        self.met: dict[int, int] = {}
        # The values stay beside their chunks: an id is a name only as long as its value lives.
        self.written: dict[int, tuple[object, bytes]] = {}
        self.alive: list[object] = []
        self.held: dict[tuple[type, object], int] = {}

    def content(self, value: object) -> Content:
        try:
            stream = self.write(value)
            return Content(stream, tuple(self.held))
        except Unidentified as error:
            raise Unidentified(error.reason, self.path() + error.path) from error.__cause__
        except RecursionError as error:
            raise Unidentified("nested too deeply, or contains itself through a set", self.path()) from error
        except ValueError as error:
            raise Unidentified("longer than 2 GiB", self.path()) from error

    def write(self, root: object) -> bytes:
        chunk = self.enter(root)
        while self.stack:
            top = self.stack[-1]
            if chunk is not None:
                top.chunks.append(chunk)
            if top.at < len(top.form.parts):
                top.at += 1
                chunk = self.enter(top.form.parts[top.at - 1])
            else:
                chunk = self.close(top)
        assert chunk is not None
        return chunk

    def enter(self, value: object) -> bytes | None:
        """Give the chunk of a value that is written at once, or open it and give None."""
        if type(value) in PLAIN:
            return leaf(value)
        if id(value) in self.met:
            return self.again(value)
        if id(value) in self.written:
            return self.written[id(value)][1]
        form = _taken_apart(value)
        if isinstance(form, Opaque):
            return self.hold(value, form.value)
        self.met[id(value)] = len(self.met)
        if PLAIN.issuperset(map(type, form.parts)):
            return self.finish(value, _run(form))
        self.stack.append(_Open(value, form))
        return None

    def close(self, top: _Open) -> bytes:
        self.stack.pop()
        return self.finish(top.value, b"(" + _joined([top.form.tag, _data(top.form.data), *top.chunks]))

    def finish(self, value: object, stream: bytes) -> bytes:
        chunk = _sealed(stream)
        if self.cyclic:
            self.alive.append(value)
        else:
            del self.met[id(value)]
            self.written[id(value)] = (value, chunk)
        return chunk

    def again(self, value: object) -> bytes:
        if not self.cyclic:
            raise _Cyclic
        return b"^" + _number(self.met[id(value)])

    def hold(self, value: object, standing: object) -> bytes:
        if id(standing) in _asking.values:
            raise Unidentified(f"{_named(value)}, whose __hash__ or __eq__ asks for its own key")
        _asking.values.add(id(standing))
        try:
            number = self.held.setdefault((type(value), _weakly(standing)), len(self.held))
        except Exception as error:
            raise Unidentified(f"{_named(value)}, whose __hash__ or __eq__ raised {type(error).__name__}") from error
        finally:
            _asking.values.discard(id(standing))
        return b"@" + _number(number)

    def path(self) -> str:
        return "".join(top.form.label(top.at - 1) for top in self.stack)


def _taken_apart(value: object) -> Form | Opaque:
    try:
        return writer_of(type(value))(value)
    except (Unidentified, RecursionError):
        raise
    except Exception as error:
        raise Unidentified(f"{_named(value)}, which could not be read: {error}") from error


def _named(value: object) -> str:
    return f"of type {type(value).__qualname__}"


def leaf(value: object) -> bytes:
    """Write a plain leaf."""
    return _sealed(b"." + marshalled(value))


def _run(form: Form) -> bytes:
    return b"*" + _joined([form.tag, _data(form.data), marshalled(tuple(form.parts))])


def _joined(chunks: list[bytes]) -> bytes:
    return b"".join([piece for chunk in chunks for piece in (_number(len(chunk)), chunk)])


def _number(number: int) -> bytes:
    return number.to_bytes(8, "little")


def _sealed(stream: bytes) -> bytes:
    return stream if len(stream) <= LONGEST else b"#" + digest(stream)


def _data(data: Buffer) -> bytes:
    return b"=" + data if len(data) <= LONGEST else b"#" + digest(data)


def digest(data: Buffer) -> bytes:
    """Digest bytes to 128 bits."""
    return blake2b(data, digest_size=16).digest()


def _weakly(value: object) -> object:
    """Hold a value that is compared by identity weakly: a key keeps no model and no `self` alive."""
    kind = type(value)
    if kind.__hash__ is object.__hash__ and kind.__eq__ is object.__eq__:
        try:
            return weakref.ref(value)
        except TypeError:
            return value
    return value
