"""A result as memory keeps it, and as a store has it: plain data with a word in front that says which form it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memograd._ambient._streams import are_streams
from memograd._copies._keep import keep
from memograd._copies._kept import Kept, Once
from memograd._draws import Drawn, Signpost
from memograd._gradients import Graded

if TYPE_CHECKING:
    from collections.abc import Sequence


def as_data(stored: Any) -> tuple[Any, ...] | None:
    """Make of what is kept in memory what a codec takes; None for what is a part of the arguments."""
    drawn = stored if type(stored) is Drawn else None
    held = stored if drawn is None else drawn.value
    rest: tuple[Any, ...] = () if drawn is None else (drawn.after, drawn.generators)
    if type(held) is Graded:
        return "graded", held.value, tuple(held.plan), *rest
    if type(held) is Kept:
        return None if held.lends else ("value", held.value, *rest)
    return "value", held, *rest


def as_kept(form: str, value: Any, rest: Sequence[Any], maps: bool, *, copy: bool) -> Any:
    """Make of what was read what is kept in memory. Raises `TypeError`, `ValueError` for what is none of ours."""
    if form == "signpost":
        (effects,) = rest
        if not are_streams(value) or not all(isinstance(path, str) for path in effects):
            raise ValueError("a signpost that leads nowhere")
        return Signpost(tuple(value), tuple(effects))
    made: Any
    if form == "graded":
        from memograd._replay import Plan

        plan, *rest = rest
        made = Graded(value, Plan(*plan))
    elif form == "value":
        made = Once(value) if maps else keep(value, [], copy=copy)
    else:
        raise ValueError(f"a form that is not known: {form!r}")
    if not rest:
        return made
    after, generators = rest
    return Drawn(made, dict(after), dict(generators), sound=False)
