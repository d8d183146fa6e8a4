"""The door: `keep(value, args)` at a miss gives what the store holds, `Kept.give(args)` at a hit what the caller gets.

What cannot be changed is held and given itself. Of all else the store holds a copy that nobody else has, and each hit
gives another; the first caller has what the function returned, which may be something that the function holds as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from memograd._copies._keepable import unkeepable
from memograd._copies._kept import Kept
from memograd._copies._places import Places
from memograd._copies._plan import Plan, Unkeepable, adapter_of, drawn, lenders, overlap
from memograd._copies._ways import ATOMS
from memograd._key import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_FLAT: frozenset[Any] = frozenset({tuple, list, dict, set})

__all__ = ["Kept", "Unkeepable", "keep"]


def keep(value: Any, args: Sequence[Any], *, copy: bool = True) -> Any:
    """Make of a result what is to be stored: itself if it cannot be changed, else a `Kept`.

    Args:
        value: what the function returned.
        args: the values of its parameters, bound, and whatever else it may have returned parts of.
        copy: False for callers who promise to change nothing: the value itself.

    Raises:
        Unkeepable: it cannot be given back a second time.
    """
    if type(value) in ATOMS:
        return value
    places = Places(args)
    try:
        if not copy:
            _check(value, places)
            return value
        kept = _at_once(value, places)
        return _kept(value, places) if kept is MISSING else kept
    except Exception as error:
        if isinstance(error, Unkeepable):
            raise
        return Kept(value, lambda _: value, f"a {type(value).__name__}, of which a copy failed ({error!r})", None)


def lends(value: Any, args: Sequence[Any]) -> bool:
    """Tell whether a part of a result is a part of the arguments."""
    if type(value) in ATOMS:
        return False
    plan, _, _ = drawn(value, Places(args))
    return bool(plan.lends)


def _at_once(value: Any, places: Places) -> Any:
    """Keep what needs no plan: flat containers of plain values, and a tensor or array alone; else give MISSING."""
    kind = cast("type[Any]", type(value))
    if kind in _FLAT and ATOMS.issuperset(map(type, value)):
        if kind is tuple:
            return value
        if kind is not dict or ATOMS.issuperset(map(type, value.values())):
            return _kept_alone(value, cast("Any", kind).copy) if places.find(value) is None else MISSING
    memory = adapter_of(kind)
    if memory is None or getattr(value, "requires_grad", False) or memory.fixed(value) or places.find(value):
        return MISSING
    span = memory.extent(value)
    if span is None or any(overlap(span, lent) for lent, _, _ in lenders(places)):
        return MISSING
    return _kept_alone(value, memory.copier(value))


def _kept_alone(value: Any, copy: Callable[[Any], Any]) -> Kept:
    source = copy(value)
    return Kept(source, _alone(copy, source), "", None)


def _kept(value: Any, places: Places) -> Any:
    _check(value, places)
    plan, slot, whys = drawn(value, places)
    same = "; ".join(whys)
    if slot is None:
        return Kept(value, lambda _: value, same, None) if same else value
    kept = plan.settle()[slot]
    return Kept(kept, _giver(plan, slot), same, plan)


def _check(value: object, places: Places) -> None:
    """Refuse iterators and graphs. What is the argument itself will be the argument of the hit."""
    reason = "" if places.find(value) else unkeepable(value)
    if reason:
        raise Unkeepable(reason)


def _giver(plan: Plan, slot: int) -> Callable[[Sequence[Any]], Any]:
    if plan.size == 1 and plan.makes:
        ((_, copy, source),) = plan.makes
        return _alone(copy, source)

    def give(args: Sequence[Any]) -> Any:
        try:
            return plan.run(args)[slot]
        except Exception:  # noqa: BLE001 - whatever a way into other arguments, or memory that is full, raises
            return MISSING

    return give


def _alone(copy: Callable[[Any], Any], source: Any) -> Callable[[Sequence[Any]], Any]:
    def give(_: Sequence[Any]) -> Any:
        try:
            return copy(source)
        except Exception:  # noqa: BLE001 - as above
            return MISSING

    return give
