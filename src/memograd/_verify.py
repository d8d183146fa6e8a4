"""Is what was remembered what computing gives? `compare(remembered, fresh)` names the first place where it is not.

Compared is what a caller can see: exact types, structure and order, dtype, shape, strides, device and grad status, and
elements by their bits, so that NaN is NaN and 0.0 is not -0.0. What cannot be taken apart and has no equality of its
own (a handle, a lock) is passed over: two computations give two of them, and neither is wrong.
"""

from __future__ import annotations

import sys
from collections import deque
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from memograd._key import shown
from memograd.fingerprint._form import PLAIN, marshalled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias


class Pair(NamedTuple):
    """Two values that should be alike, how they are reached from those that hold them, and those."""

    step: str
    remembered: Any
    fresh: Any
    holder: Pair | None = None

    @property
    def path(self) -> str:
        """How they are reached from the result; of a long way, its end."""
        steps: list[str] = []
        pair: Pair | None = self
        while pair is not None and sum(map(len, steps)) < 200:
            steps.append(pair.step)
            pair = pair.holder
        return ("..." if pair else "") + "".join(reversed(steps)) or "the result"


class Different(Exception):  # noqa: N818 - control flow: the first difference ends the walk
    """Two values differ; says how, after the path."""


if TYPE_CHECKING:
    Rule: TypeAlias = Callable[[Any, Any], Iterable[Pair]]


def compare(remembered: object, fresh: object) -> str | None:
    """Say where two results first differ, and how; None where they do not.

    Example:
        >>> compare({"loss": [1.0, 2.0]}, {"loss": [1.0, 2.5]})
        "['loss'][1] is 2.0, computed again 2.5"
    """
    pairs = [Pair("", remembered, fresh)]
    met: dict[tuple[int, int], Pair] = {}
    while pairs:
        pair = pairs.pop()
        if pair.remembered is pair.fresh or (id(pair.remembered), id(pair.fresh)) in met:
            continue
        # Held until the end: the name of an object that is gone may be given to the next one.
        met[id(pair.remembered), id(pair.fresh)] = pair
        try:
            parts = [part._replace(holder=pair) for part in _parts(pair.remembered, pair.fresh)]
        except Different as difference:
            return f"{pair.path} {difference}"
        except Exception as error:  # noqa: BLE001 - the user's own code for `==` and attributes
            return f"{pair.path} could not be compared: {error!r}"
        pairs += reversed(parts)
    return None


def _parts(remembered: Any, fresh: Any) -> Iterable[Pair]:
    """Compare two values themselves and give the pairs inside them. Raises `Different`."""
    _same("of type {}", *(type(value).__qualname__ for value in (remembered, fresh)))
    if type(remembered) is not type(fresh):
        raise Different(f"is of a type {type(remembered).__qualname__} that has been defined anew")
    return _rule(cast("type[Any]", type(remembered)))(remembered, fresh)


def _same(what: str, remembered: object, fresh: object) -> None:
    if remembered != fresh:
        raise Different(f"is {what.format(remembered)}, computed again {what.format(fresh)}")


def _rule(kind: type) -> Rule:
    if kind in PLAIN:
        return _plain
    libraries = {str(base.__module__).partition(".")[0] for base in kind.__mro__} & _ADAPTERS.keys()
    for library in libraries & sys.modules.keys():
        rule = _ADAPTERS[library](sys.modules[library], kind)
        if rule is not None:
            return rule
    return next((rule for base, rule in _RULES if issubclass(kind, base)), _object)


def _plain(remembered: Any, fresh: Any) -> Iterable[Pair]:
    if marshalled(remembered) == marshalled(fresh):
        return ()
    if isinstance(remembered, (str, bytes)) and max(len(remembered), len(fresh)) > 60:
        at = next((i for i, both in enumerate(zip(remembered, fresh, strict=False)) if both[0] != both[1]), None)
        at = min(len(remembered), len(fresh)) if at is None else at
        raise Different(f"has {remembered[at : at + 20]!r} at {at}, computed again {fresh[at : at + 20]!r}")
    raise _unlike(remembered, fresh)


def _unlike(remembered: object, fresh: object, more: str = "", at: str = "") -> Different:
    return Different(f"{at}is {shown(remembered)}, computed again {shown(fresh)}{more}")


def _sequence(remembered: Any, fresh: Any) -> Iterable[Pair]:
    _same("of length {}", len(remembered), len(fresh))
    if not _alike(remembered, fresh):
        yield from (Pair(f"[{i}]", *both) for i, both in enumerate(zip(remembered, fresh, strict=True)))
    yield from _attributes(remembered, fresh)


def _alike(remembered: Any, fresh: Any) -> bool:
    """Tell whether items are plain and the same, in C: a list of a million numbers needs no million pairs."""
    flat = all(PLAIN.issuperset(map(type, items)) for items in (remembered, fresh))
    return flat and marshalled(tuple(remembered)) == marshalled(tuple(fresh))


def _mapping(remembered: Any, fresh: Any) -> Iterable[Pair]:
    _same("of length {}", len(remembered), len(fresh))
    # Their order, too: a caller can see it.
    for key, other in zip(remembered, fresh, strict=True):
        if compare(key, other) is not None:
            raise Different(f"has key {shown(key)}, computed again {shown(other)} in its place")
        yield Pair(f"[{shown(key)}]", remembered[key], fresh[other])
    yield from _attributes(remembered, fresh)


def _set(remembered: Any, fresh: Any) -> Iterable[Pair]:
    for has, lacks, when in ((remembered, fresh, "remembered"), (fresh, remembered, "computed again")):
        typed: set[tuple[Any, Any]] = {(type(item), item) for item in lacks}
        for item in has:
            if (type(item), item) not in typed and type(item).__eq__ is not object.__eq__:
                raise Different(f"holds {shown(item)} only as {when}")
    yield from _attributes(remembered, fresh)


def _bytearray(remembered: Any, fresh: Any) -> Iterable[Pair]:
    yield Pair("", bytes(remembered), bytes(fresh))
    yield from _attributes(remembered, fresh)


def _named(remembered: Any, fresh: Any) -> Iterable[Pair]:
    # What code does is not looked into: its name has to do.
    yield Pair(".__qualname__", remembered.__qualname__, fresh.__qualname__)


def _object(remembered: Any, fresh: Any) -> Iterable[Pair]:
    kind = cast("type[Any]", type(remembered))
    parts = list(_attributes(remembered, fresh))
    if hasattr(kind, "__dataclass_fields__") or kind.__eq__ is object.__eq__:
        return parts
    if isinstance(remembered, tuple(base for base in PLAIN if base is not type(None))):
        base = next(base for base in kind.__mro__ if base in PLAIN)
        return [Pair("", base(remembered), base(fresh)), *parts]
    if remembered == fresh:
        return []
    # What shows its address is told apart by that alone.
    if not parts and repr(remembered) != repr(fresh) and " at 0x" not in repr(fresh):
        raise _unlike(repr(remembered), repr(fresh))
    return parts


def _attributes(remembered: Any, fresh: Any) -> Iterable[Pair]:
    ours, theirs = _state(remembered), _state(fresh)
    for name in ours | theirs:
        if (name in ours) is not (name in theirs):
            raise Different(f"has .{name} only {'as remembered' if name in ours else 'when computed again'}")
        yield Pair(f".{name}", ours[name], theirs[name])


def _state(value: object) -> dict[str, object]:
    slots = [name for base in type(value).__mro__ for name in _slots(base)]
    state: dict[str, object] = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return {**state, **getattr(value, "__dict__", {})}


def _slots(kind: type) -> Sequence[str]:
    named: Any = kind.__dict__.get("__slots__", ())
    names = [named] if isinstance(named, str) else cast("Sequence[str]", tuple(named))
    own = f"_{kind.__name__.lstrip('_')}"
    mangled = [own + name if name.startswith("__") and not name.endswith("__") else name for name in names]
    return [name for name in mangled if name not in {"__dict__", "__weakref__"}]


def _numpy(numpy: Any, kind: type) -> Rule | None:
    if issubclass(kind, numpy.ndarray):
        return _array
    return _scalar if issubclass(kind, numpy.generic) else None


def _array(remembered: Any, fresh: Any) -> Iterable[Pair]:
    numpy: Any = sys.modules["numpy"]
    for name in ("dtype", "shape"):
        _same(f"of {name} {{}}", getattr(remembered, name), getattr(fresh, name))
    _same("of strides {}", *(_steps(value.shape, value.strides) for value in (remembered, fresh)))
    yield from _attributes(remembered, fresh)
    # As plain arrays: a subclass may compare in its own way, a masked one without its mask.
    ours, theirs = (numpy.ascontiguousarray(value).view(numpy.ndarray) for value in (remembered, fresh))
    ours, theirs = ours.reshape(-1), theirs.reshape(-1)
    if remembered.dtype.hasobject or remembered.dtype.kind == "T":
        items = enumerate(zip(ours.tolist(), theirs.tolist(), strict=True))
        yield from (Pair(_place(i, remembered.shape), *both) for i, both in items)
    elif ours.nbytes:
        rows = [value.view(numpy.uint8).reshape(len(value), -1) for value in (ours, theirs)]
        at = numpy.flatnonzero((rows[0] != rows[1]).any(1))
        _elements(at, remembered.shape, ours, theirs)


def _scalar(remembered: Any, fresh: Any) -> Iterable[Pair]:
    _same("of dtype {}", remembered.dtype, fresh.dtype)
    if remembered.tobytes() != fresh.tobytes():
        raise Different(f"is {remembered!r}, computed again {fresh!r}")
    return ()


def _torch(torch: Any, kind: type) -> Rule | None:
    return _tensor if issubclass(kind, torch.Tensor) else None


def _tensor(remembered: Any, fresh: Any) -> Iterable[Pair]:
    torch: Any = sys.modules["torch"]
    for name in ("dtype", "shape", "device", "layout", "requires_grad"):
        _same(f"of {name} {{}}", *(_readable(getattr(value, name)) for value in (remembered, fresh)))
    ours, theirs = remembered.detach(), fresh.detach()
    if ours.device.type == "meta":
        return []
    if ours.layout is torch.sparse_coo:
        return [Pair(f".{name}()", getattr(ours, name)(), getattr(theirs, name)()) for name in _COO]
    if ours.layout is not torch.strided:
        return [Pair(".to_dense()", ours.to_dense(), theirs.to_dense())]
    if ours.is_quantized:
        return [Pair(".dequantize()", ours.dequantize(), theirs.dequantize())]
    _same("of strides {}", *(_steps(value.shape, value.stride()) for value in (ours, theirs)))
    ours, theirs = (value.resolve_conj().resolve_neg().cpu().contiguous().reshape(-1) for value in (ours, theirs))
    rows = [value.view(torch.uint8).reshape(len(value), -1) for value in (ours, theirs)] if len(ours) else []
    if rows and not torch.equal(*rows):
        at = (rows[0] != rows[1]).any(1).nonzero().reshape(-1)
        _elements(at, tuple(remembered.shape), ours, theirs)
    return []


_COO = ("is_coalesced", "_indices", "_values")


def _readable(value: object) -> object:
    return tuple(cast("Iterable[int]", value)) if isinstance(value, tuple) else value


def _steps(shape: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    # A dimension of one element has none that could be seen, and an empty array has no steps at all.
    return tuple(step for size, step in zip(shape, strides, strict=True) if size != 1) if 0 not in shape else ()


def _elements(at: Any, shape: Sequence[int], remembered: Any, fresh: Any) -> None:
    """Raise `Different` for the first of the elements that differ, whose positions are given."""
    if len(at):
        first = int(at[0])
        ours, theirs = remembered[first].item(), fresh[first].item()
        bits = "" if shown(ours) != shown(theirs) else " of other bits"
        more = f"{bits} ({len(at):,} of {len(remembered):,} elements differ)"
        raise _unlike(ours, theirs, more, f"at {_place(first, shape)} ")


def _place(position: int, shape: Sequence[int]) -> str:
    index: list[str] = []
    for size in reversed(shape):
        position, here = divmod(position, size)
        index.append(str(here))
    return f"[{', '.join(reversed(index)) or '()'}]"


def _pandas(pandas: Any, kind: type) -> Rule | None:
    return _frame if issubclass(kind, (pandas.DataFrame, pandas.Series, pandas.Index)) else None


def _frame(remembered: Any, fresh: Any) -> Iterable[Pair]:
    if not remembered.equals(fresh):
        raise _unlike(str(remembered), str(fresh))
    return ()


_ADAPTERS: dict[str, Callable[[Any, type], Rule | None]] = {"numpy": _numpy, "torch": _torch, "pandas": _pandas}
_RULES: tuple[tuple[Any, Rule], ...] = (
    ((list, tuple, deque), _sequence),
    (dict, _mapping),
    ((set, frozenset), _set),
    (bytearray, _bytearray),
    ((type, FunctionType, BuiltinFunctionType, MethodType), _named),
)
