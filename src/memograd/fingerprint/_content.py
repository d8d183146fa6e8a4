"""Write down what a value is: `identify(value)` gives its `Content`, equal for equal typed content and for no other.

NOTE [stream] A value is written as bytes, without recursion, so that depth and cycles are no danger:

1. `.` and the marshalled value, for a plain leaf (`int`, `float`, `str`, …): exact in type and bits.
2. `(` and the tag, the data, the aspect (in keys) and every part of the value's `Form`, each with its length in front.
   `*` in its place when all parts are plain leaves: they are marshalled in one go. `-` when there are none.
3. `@` and a number, for a value that stands for itself: the n-th of those *held* beside the stream.
4. `^` and a number, for a container met before, counted in the order of meeting. Only values that contain themselves
   are written so; in all others a container that is met twice is written twice (and walked once).
5. A stream of more than 48 bytes stands as `#` and its digest; for data, see `_digest.digested`.

Each rule depends on the content alone, and lengths in front make the concatenation uniquely readable: two values write
the same stream and hold the same values only if they are the same (up to a collision of 128 bits).
"""

from __future__ import annotations

import weakref
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, cast

from memograd.fingerprint._digest import LONGEST, digested, hash_of
from memograd.fingerprint._dispatch import writer_of
from memograd.fingerprint._form import PLAIN, Form, Opaque, Reached, Unidentified, Unordered, Writing, marshalled
from memograd.fingerprint._trust import FROZEN, Trust, frozen
from memograd.fingerprint._values import BY_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

_FLAT: frozenset[type] = frozenset({tuple, list, dict})


class Content(bytes):
    """What a value is, in at most 49 bytes. `text` is for people and is not compared."""

    text = ""

    @property
    def stream(self) -> bytes:
        """What is written down, as bytes that are nothing else."""
        return bytes(self)

    @property
    def held(self) -> tuple[Hashable, ...]:
        """What stands for itself beside the stream."""
        return ()

    def __repr__(self) -> str:
        return self.text or "<content>"

    def __str__(self) -> str:
        return repr(self)


class Standing(Content):
    """Content of which a part stands for itself, in this process."""

    _held: tuple[Hashable, ...]

    @classmethod
    def of(cls, stream: bytes, held: tuple[Hashable, ...]) -> Standing:
        """Put what stands for itself beside a stream."""
        made = cls(stream)
        made._held = held
        return made

    @property
    def held(self) -> tuple[Hashable, ...]:
        """What stands for itself beside the stream."""
        return self._held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Standing) and bytes.__eq__(self, other) and self._held == other._held

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((bytes.__hash__(self), self._held))


class Identity:
    """An object as itself, held weakly where that can be: a key keeps no model and no `self` alive."""

    __slots__ = ("get", "number")

    get: Callable[[], object]

    def __init__(self, value: object) -> None:
        self.number = id(value)
        try:
            self.get = weakref.ref(value)
        except TypeError:
            self.get = lambda: value

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        # A number is the next object's when this one is gone.
        value = self.get()
        return isinstance(other, Identity) and value is not None and value is other.get()

    def __hash__(self) -> int:
        return self.number


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


@cache
def plainly(digest: str) -> Writing:
    """Give how fingerprints are written: content alone."""
    return Writing(hash_of(digest), aspects=False, holds=False)


# Of keys: what is an argument, and what code reads.
KEY = Writing(hash_of("xxh3"), aspects=True, holds=False, trust=FROZEN)
REACHED = Writing(hash_of("xxh3"), aspects=True, holds=True, trust=FROZEN)


@cache
def writings_of_keys(digest: str = "xxh3", *, trust: bool = False) -> tuple[Writing, Writing]:
    """Give the two writings of keys: of what is an argument, and of what code reads.

    Args:
        digest: how bytes are digested.
        trust: whether all tensors are trusted, and not only those that are frozen.
    """
    if digest == "xxh3" and not trust:
        return KEY, REACHED
    own, by = Trust(all=True) if trust else frozen(digest), hash_of(digest)
    return Writing(by, aspects=True, holds=False, trust=own), Writing(by, aspects=True, holds=True, trust=own)


def identify(value: object, writing: Writing = KEY) -> Content:
    """Write down what `value` is. Raises `Unidentified` with the path to the part that has no identity."""
    kind = type(value)
    if kind in writing.quick:
        chunk = writing.quick[kind](value)
        if chunk is not None:
            return Content(chunk)
    elif kind in _FLAT:
        # Most arguments that are not plain are short lists and tuples of what is, or of tensors: no walk is needed.
        chunk = _flat(BY_TYPE[kind](value), writing)
        if chunk is not None:
            return Content(chunk)
    try:
        return _Walk(writing, cyclic=False).content(value)
    except _Cyclic:
        return _Walk(writing, cyclic=True).content(value)


class _Walk:
    def __init__(self, writing: Writing, *, cyclic: bool) -> None:
        self.writing = writing
        self.cyclic = cyclic
        self.stack: list[_Open] = []
        self.met: dict[int, int] = {}
        # The values stay beside their chunks: an id is a name only as long as its value lives.
        self.written: dict[int, tuple[object, bytes]] = {}
        self.alive: list[object] = []
        self.held: dict[Hashable, int] = {}

    def content(self, value: object) -> Content:
        try:
            stream = self.write(value)
            return Standing.of(stream, tuple(self.held)) if self.held else Content(stream)
        except Unidentified as error:
            raise Unidentified(error.reason, self.path() + error.path, stands=error.stands) from error.__cause__
        except RecursionError as error:
            raise Unidentified("nested too deeply, or contains itself through a set", self.path()) from error
        except (ValueError, OverflowError) as error:
            raise Unidentified("longer than 2 GiB", self.path()) from error

    def write(self, root: object) -> bytes:
        chunk = self.enter(root)
        while self.stack:
            top = self.stack[-1]
            if chunk is not None:
                top.chunks.append(chunk)
            chunk = self.enter(top.form.parts[top.at - 1]) if self.advance(top) else self.close(top)
        assert chunk is not None
        return chunk

    def advance(self, top: _Open) -> bool:
        """Write the parts that are written at once, up to one that is not, behind which `at` then stands."""
        parts, writing, quick, add = top.form.parts, self.writing, self.writing.quick, top.chunks.append
        for place in range(top.at, len(parts)):
            part = parts[place]
            kind = type(part)
            chunk = _leaf(part, writing) if kind in PLAIN else quick[kind](part) if kind in quick else None
            if chunk is None:
                top.at = place + 1
                return True
            add(chunk)
        return False

    def enter(self, value: object) -> bytes | None:
        """Give the chunk of a value that is written at once, or open it and give None."""
        if type(value) in PLAIN:
            return _leaf(value, self.writing)
        trust = self.writing.trust
        if trust is not None and trust.covers(value):
            chunk = trust.chunk_of(value)
            if chunk is not None:
                return chunk
        if id(value) in self.met:
            return self.again(value)
        if id(value) in self.written:
            return self.written[id(value)][1]
        return self.open(value, self.form(value))

    def form(self, value: object) -> Form | Opaque:
        try:
            form = _taken_apart(value)
        except Unidentified as error:
            if error.stands and self.may_hold():
                return Opaque(Identity(value))
            raise
        return self.of_elements(form) if type(form) is Unordered else form

    def open(self, value: object, form: Form | Opaque) -> bytes | None:
        if isinstance(form, Opaque):
            return self.hold(value, form.value)
        self.met[id(value)] = len(self.met)
        if PLAIN.issuperset(map(type, form.parts)):
            return self.finish(value, (_run if form.parts else _bare)(form, self.writing))
        self.stack.append(_Open(value, form))
        return None

    def close(self, top: _Open) -> bytes:
        self.stack.pop()
        return self.finish(top.value, _compound(top.form, top.chunks, self.writing))

    def finish(self, value: object, chunk: bytes) -> bytes:
        trust = self.writing.trust
        if trust is not None and trust.covers(value):
            trust.keep(value, chunk)
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

    def hold(self, value: object, standing: Hashable) -> bytes:
        if not self.writing.aspects:
            raise Unidentified(f"of type {type(value).__qualname__}, which is itself and nothing else; {ADVICE}")
        return b"@" + _number(self.held.setdefault(standing, len(self.held)))

    def may_hold(self) -> bool:
        return self.writing.holds or (self.writing.aspects and any(type(top.form) is Reached for top in self.stack))

    def of_elements(self, form: Form) -> Form | Opaque:
        """Write each element of a set on its own, then sort them by what was written."""
        if PLAIN.issuperset(map(type, form.parts)):
            return Form(form.tag, parts=sorted(_leaf(element, self.writing) for element in form.parts))
        writing = REACHED if self.may_hold() else self.writing
        try:
            contents = [identify(element, writing) for element in form.parts]
        except Unidentified as error:
            raise Unidentified(error.reason, "{...}" + error.path, stands=error.stands) from error.__cause__
        if any(content.held for content in contents):
            return Opaque((form.tag, frozenset(contents)))
        return Form(form.tag, parts=sorted(content.stream for content in contents))

    def path(self) -> str:
        return "".join(top.form.label(top.at - 1) for top in self.stack)


ADVICE = "pass plain data in its place, or say what it is made of: fingerprint.register(its type, a function)"


def _taken_apart(value: object) -> Form | Opaque:
    try:
        return writer_of(type(value))(value)
    except (Unidentified, RecursionError):
        raise
    except Exception as error:
        raise Unidentified(f"of type {type(value).__qualname__}, which could not be read: {error}") from error


def _flat(form: Form | Opaque, writing: Writing) -> bytes | None:
    """Write a container of plain values, or of one type that is written at once, as a walk does; None for any other."""
    if not isinstance(form, Form) or not form.parts:
        return None
    kinds = set(map(type, form.parts))
    if kinds <= PLAIN:
        return _run(form, writing)
    write = writing.quick.get(kinds.pop())
    if write is None or kinds:
        return None
    chunks = [write(part) for part in form.parts]
    return None if None in chunks else _compound(form, cast("list[bytes]", chunks), writing)


def _compound(form: Form, chunks: list[bytes], writing: Writing) -> bytes:
    return _sealed(b"(" + _joined(_head(form, writing)) + _joined(chunks), writing)


def _leaf(value: object, writing: Writing) -> bytes:
    return _sealed(b"." + marshalled(value), writing)


def _run(form: Form, writing: Writing) -> bytes:
    return _sealed(b"*" + _joined([*_head(form, writing), marshalled(tuple(form.parts))]), writing)


def _bare(form: Form, writing: Writing) -> bytes:
    return _sealed(b"-" + _joined(_head(form, writing)), writing)


def _head(form: Form, writing: Writing) -> list[bytes]:
    data = digested(form.data, writing.hash)
    return [form.tag, data, form.aspect] if writing.aspects else [form.tag, data]


def _joined(chunks: list[bytes]) -> bytes:
    lengths = set(map(len, chunks))
    if len(lengths) == 1:  # as of many small tensors
        mark = _length(lengths.pop())
        return mark + mark.join(chunks)
    return b"".join(chain.from_iterable(zip(map(_length, map(len, chunks)), chunks, strict=True)))


def _number(number: int) -> bytes:
    return number.to_bytes(4, "little")


class _Lengths(dict[int, bytes]):
    def __missing__(self, length: int) -> bytes:
        return _number(length)


_length = _Lengths({length: _number(length) for length in range(64)}).__getitem__


def _sealed(stream: bytes, writing: Writing) -> bytes:
    return stream if len(stream) <= LONGEST else b"#" + writing.hash(stream)
