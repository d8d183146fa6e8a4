"""A key: which function, and what each of its parameters is, by name. Prints as `square(x=3)`.

A key is a tuple `(function, kind, value, kind, value, …)`: a plain value stands there itself beside its exact type,
so that looking up needs no more than building a tuple, and hashing and comparing are done in C. All else stands as its
`Content`, and so do 0.0, -0.0 and NaN, whose bits `==` does not tell.
"""

from __future__ import annotations

import weakref
from collections import Counter, OrderedDict, defaultdict, deque
from types import FunctionType
from typing import TYPE_CHECKING, Any, cast

from memograd._errors import SOURCE, NoIdentityError
from memograd.fingerprint._content import KEY, REACHED, Content, Identity, Standing, identify
from memograd.fingerprint._digest import hash_of
from memograd.fingerprint._form import PLAIN, Unidentified

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from inspect import Parameter, Signature

    from memograd.fingerprint._form import Writing

# What `==` among values of this exact type tells to the bit; for float, all but zeros and NaN.
_RAW: frozenset[type] = frozenset({int, str, bytes, bool, type(None), float})
BARE: frozenset[object] = frozenset(_RAW - {float})


class _Sentinel:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> str:
        return self.name


# None is a result like any other, so what is not there needs a name of its own.
MISSING: Any = _Sentinel("MISSING")
CONTENT = _Sentinel("CONTENT")


class Function:
    """Whose key a key is: a version of a wrapped function, known by identity, with the names of what keys tell of it.

    `family` is what all versions of a function have in common, `state` what tells one from another, and `base` the
    version that this one is but for states of random streams. `front` has results of calls with integers alone, by
    those, and `look` looks into it: a store puts there what is asked for often, and takes it away with the entry.
    """

    __slots__ = ("__weakref__", "base", "family", "front", "look", "name", "parameters", "state")

    def __init__(
        self,
        name: str,
        parameters: Sequence[str],
        family: object = None,
        base: Function | None = None,
        state: Any = None,
    ) -> None:
        self.name = name
        self.parameters = tuple(parameters)
        self.family = self if family is None else family
        self.base = base
        self.state = state
        self.front: dict[Any, Any] = {}
        self.look = self.front.get

    def __repr__(self) -> str:
        return self.name


class Key(tuple[Any, ...]):
    """The name of one call. Hashable, equal to the key of a call with the same typed arguments and no other."""

    __slots__ = ()

    @property
    def function(self) -> Function:
        """Whose call it is."""
        return self[0]

    @property
    def parts(self) -> dict[str, object]:
        """What each parameter is, by name: a plain value, or the `Content` of any other."""
        return dict(zip(self.function.parameters, self[2::2], strict=True))

    @property
    def texts(self) -> dict[str, str]:
        """What each parameter is, as text that tells two apart: a value, or how it looks and a part of its digest."""
        return {name: _told(part) for name, part in self.parts.items()}

    def __repr__(self) -> str:
        cells = zip(self.function.parameters, self[1::2], self[2::2], strict=True)
        parts = [f"{name}={part if kind is CONTENT else shown(part)}" for name, kind, part in cells]
        return f"{self.function.name}({', '.join(parts)})"

    def __copy__(self) -> Key:
        return self

    def __deepcopy__(self, memo: object) -> Key:
        return self

    def __reduce__(self) -> str:
        raise TypeError(f"{self!r} names a function of this process, so it cannot be pickled; pickle the results alone")

    def describe(self, values: Sequence[object]) -> None:
        """Note how the arguments look, for printing: a key holds no unhashable argument itself."""
        for kind, part, value in zip(self[1::2], self[2::2], values, strict=True):
            if kind is CONTENT:
                part.text = shown(value)


def in_front(cells: tuple[Any, ...]) -> Any:
    """Give the place of a call in the front of its function, if all that its key is made of are integers."""
    return cells[2] if len(cells) == 3 else tuple(cells[2::2])


def key_of(function: Function, values: Sequence[object], writing: Writing = KEY, own: int = 0) -> Key:
    """Make the key of a call from the values of the parameters. Raises `NoIdentityError`, naming the path.

    Args:
        function: the version.
        values: of the parameters.
        writing: how content is written.
        own: how many of the first stand for themselves, and not for their content.
    """
    cells: list[object] = [function]
    quick = writing.quick
    for index, value in enumerate(values):
        if index < own:
            cells += (CONTENT, _itself(function, index, value))
            continue
        kind = type(value)
        if kind in _RAW and (kind is not float or (value == value and value)):  # noqa: PLR0124 - NaN is unlike itself
            cells += (kind, value)
        else:
            # What `identify` does first, without the calls that lead there: a batch is many tensors.
            chunk = quick[kind](value) if kind in quick else None
            cells += (CONTENT, _content(function, index, value, writing) if chunk is None else Content(chunk))
    return Key(cells)


def _itself(function: Function, index: int, value: object) -> Content:
    try:
        weakref.ref(value)
    except TypeError:
        path, kind = f"args.{function.parameters[index]}", type(value).__qualname__
        reason = f"of type {kind}, which cannot be referred to weakly; add '__weakref__' to its __slots__"
        raise NoIdentityError(f"{function.name}(): {path} is {reason}, or leave per='instance' out") from None
    return Standing.of(b"itself", (Identity(value),))


def cells_of(name: str, reads: Sequence[tuple[str, object]], writing: Writing = REACHED) -> tuple[object, ...]:
    """Make the cells of values that code reads: a lock, a file, a socket stand for themselves, in this process.

    Args:
        name: of the function.
        reads: the way to each value, and the value.
        writing: how content is written.
    """
    return tuple(cell for path, value in reads for cell in (CONTENT, _read(name, path, value, writing)))


_CONTAINERS: frozenset[type] = frozenset(
    {list, tuple, dict, set, frozenset, bytearray, Counter, OrderedDict, defaultdict, deque}
)


def is_log(value: Any, depth: int = 8) -> bool:
    """Tell whether a value is a container of plain values and of such containers: a log, a counter, a table."""
    if type(value) not in _CONTAINERS or not depth:
        return False
    parts: list[Any] = [*value.keys(), *value.values()] if isinstance(value, dict) else list(value)
    return PLAIN.issuperset(map(type, parts)) or all(type(p) in PLAIN or is_log(p, depth - 1) for p in parts)


def _read(name: str, path: str, value: object, writing: Writing) -> object:
    try:
        return identify(value, writing)
    except Unidentified as error:
        message = f"{name}(): {path}{error.path}, which it reads, is {error.reason}"
        raise NoIdentityError(message) from error.__cause__


def _content(function: Function, index: int, value: object, writing: Writing) -> object:
    try:
        return identify(value, writing)
    except Unidentified as error:
        path = f"args.{function.parameters[index]}{error.path}"
        raise NoIdentityError(f"{function.name}(): {path} is {error.reason}") from error.__cause__


# The kinds of parameters that are passed by position come first: alone, or by keyword as well.
_BY_POSITION = 1


class Binding:
    """How calls of `f` are bound, as source: f's own parameter list, so that Python binds keywords and defaults.

    parameters: `(x, y=_y)`; call: what to call f with; values: one for each name; probe: the key if all are plain;
    integers: whether all are integers; place: their place in the front of the function, then; has_first: whether there
    is a first parameter, by position.
    """

    __slots__ = (
        "call",
        "defaults",
        "has_first",
        "home",
        "integers",
        "mark",
        "names",
        "parameters",
        "place",
        "probe",
        "values",
    )

    def __init__(self, f: Callable[..., Any]) -> None:
        # Tools such as doctest ask a function's globals which module it is from.
        self.home: dict[str, Any] = getattr(f, "__globals__", {"__name__": __name__})
        signature = _signature(f)
        kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
        self.names = tuple(kinds)
        # In front of every name that is not f's own: no parameter begins with it.
        self.mark = "_0"
        while any(name.startswith(self.mark) for name in self.names):
            self.mark += "_"
        self.defaults: dict[str, Any] = {}
        self.parameters = str(signature.replace(parameters=[*map(self._bare, signature.parameters.values())]))
        positional = [f"*{n}" if k == k.VAR_POSITIONAL else n for n, k in kinds.items() if k <= k.VAR_POSITIONAL]
        keywords = [f"**{n}" if k == k.VAR_KEYWORD else f"{n!r}: {n}" for n, k in kinds.items() if k > k.VAR_POSITIONAL]
        self.values = _tuple(self.names)
        # Where f takes nothing by keyword alone, its values are what to call it with: one tuple serves for both.
        plain = _tuple(positional) == self.values
        self.call = "$values, $nothing" if plain else f"{_tuple(positional)}, {{{', '.join(keywords)}}}"
        self.has_first = bool(kinds) and min(kinds.values()) <= _BY_POSITION
        variadic = any(kind in {kind.VAR_POSITIONAL, kind.VAR_KEYWORD} for kind in kinds.values())
        cells = [f"{self.mark}type({name}), {name}" for name in self.names]
        self.integers = " and ".join(f"{self.mark}type({name}) is {self.mark}int" for name in self.names)
        self.place = self.names[0] if len(self.names) == 1 else self.values
        self.probe = "" if variadic else _tuple([f"{self.mark}function", *cells])

    def _bare(self, parameter: Parameter) -> Parameter:
        """Take the annotation from a parameter and put a name in place of its default."""
        if parameter.default is not parameter.empty:
            name = f"{self.mark}default_{parameter.name}"
            self.defaults[name] = parameter.default
            parameter = parameter.replace(default=_Sentinel(name))
        return parameter.replace(annotation=parameter.empty)

    def define(self, name: str, body: str, prefix: str = "", /, **names: object) -> Any:
        """Define a function with f's parameters, in f's module. What begins with `$` in `body` is one of `names`.

        `prefix` stands in front of its `def`: "async ".
        """
        names = {self.mark + key: value for key, value in {**names, "type": type, "int": int}.items()} | self.defaults
        lines = f"{prefix}def call{self.parameters}:\n{body.replace('$', self.mark)}".splitlines()
        inner = "\n".join(f"    {line}" for line in lines)
        source = f"def define({', '.join(names)}):\n{inner}\n    return call"
        space: dict[str, Any] = {}
        exec(compile(source, SOURCE, "exec"), space)  # noqa: S102 - the source holds names of parameters only
        made = space["define"](**names)
        function = FunctionType(
            made.__code__.replace(co_name=name), self.home, name, made.__defaults__, made.__closure__
        )
        function.__kwdefaults__, function.__qualname__ = made.__kwdefaults__, name
        return function


def _tuple(names: Sequence[str]) -> str:
    return f"({', '.join(names)},)" if names else "()"


def _signature(f: Callable[..., Any]) -> Signature:
    """Read what f itself takes. What it wraps may take something else, and so may a signature that it pretends."""
    import inspect

    try:
        signature = inspect.signature(_anything if hasattr(f, "__signature__") else f, follow_wrapped=False)
    except (ValueError, TypeError):
        signature = inspect.signature(_anything)
    return signature.replace(return_annotation=signature.empty)


def _anything(*args: Any, **kwargs: Any) -> None:
    """Lend its signature to what has none that can be read."""


def _told(part: object) -> str:
    return f"{part!r} {hash_of('xxh3')(part)[:4].hex()}" if isinstance(part, Content) else shown(part)


def shown(value: object) -> str:
    """Show a value in at most a line, calling no code of the user's."""
    return _clipped(_shown(value, 3), 100)


def _shown(value: object, depth: int) -> str:
    kind = type(value)
    if kind in _SHOWN:
        return _clipped(_SHOWN[kind](value), 60)
    if kind in _BRACKETS:
        return _BRACKETS[kind].format(_items(value, depth))
    return f"<{kind.__name__}{_shape(value)}>"


def _clipped(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 15]}...{text[-12:]}"


def _int(value: int) -> str:
    # Python refuses to print integers of more than 4,300 digits.
    return repr(value) if value.bit_length() < 200 else f"<int of {value.bit_length()} bits>"


_SHOWN: dict[type, Callable[[Any], str]] = {
    int: _int,
    float: repr,
    complex: repr,
    bool: repr,
    type(None): repr,
    str: lambda value: repr(value if len(value) <= 60 else value[:60] + value[-20:]),
    bytes: lambda value: repr(value if len(value) <= 60 else value[:60] + value[-20:]),
    range: repr,
}

_BRACKETS: dict[type, str] = {
    list: "[{}]",
    tuple: "({})",
    dict: "{{{}}}",
    set: "{{{}}}",
    frozenset: "frozenset({{{}}})",
}


def _items(value: Any, depth: int) -> str:
    from itertools import islice

    kind = cast("type[Any]", type(value))
    if depth == 0:
        return "..." if len(value) else ""
    texts = [_shown(item, depth - 1) for item in islice(value, 4)]
    if kind is dict:
        texts = [f"{text}: {_shown(item, depth - 1)}" for text, item in zip(texts, value.values(), strict=False)]
    more = [f"... {len(value) - 4} more"] if len(value) > 4 else []
    return ", ".join(texts + more) + ("," if kind is tuple and len(value) == 1 else "")


def _shape(value: object) -> str:
    shape = getattr(value, "shape", None) if hasattr(type(value), "dtype") else None
    return f" {tuple(shape)}" if shape is not None else ""
