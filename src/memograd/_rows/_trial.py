"""Copies of a model that is to be answered otherwise than as a whole, against copies that are called as a whole."""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree

from memograd._ambient._streams import read_streams, set_streams, streams_put_back
from memograd._rows._cut import cut, is_frozen
from memograd._rows._follow import Unfollowed
from memograd._rows._judge import is_users, on_the_side
from memograd._rows._standin import StandIns, requires_grad
from memograd.fingerprint._content import identify
from memograd.fingerprint._form import Unidentified

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from memograd._rows._cut import Cut
    from memograd._rows._ways import Asked


def draws_of(model: nn.Module, bound: Mapping[str, Any]) -> frozenset[str]:
    """Try a copy of the model in two parts against one as a whole; give the places of modules that draw numbers.

    Raises:
        Unfollowed: the parts give something else, or there are none.
    """
    draws: set[str] = set()
    with streams_put_back() as streams, torch.no_grad():
        whole = _copied(model)(**_fresh(bound))
        while True:
            set_streams(streams)
            other = _copied(model)
            parts = cut(other, bound, draws=frozenset(draws))
            place = _drawing(parts, _fresh(bound))
            if not place:
                break
            draws.add(place)
        set_streams(streams)
        _compare(model, whole, parts, _fresh(bound))
    return frozenset(draws)


def _fresh(bound: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the tensors of a call: a model that writes into them is not to do so in a trial."""
    tree: Any = _pytree

    def copied(value: Any) -> Any:
        return value.detach().clone() if isinstance(value, torch.Tensor) else value

    return tree.tree_map(copied, dict(bound))


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise Unfollowed(f"it cannot be copied to be tried: {error}") from error


def _drawing(parts: Cut, bound: Mapping[str, Any]) -> str:
    """Give the place of the first module of the frozen part that draws random numbers."""
    return parts.prefix.first_that([bound[name] for name in parts.takes], _moves_streams)


def _moves_streams(call: Callable[[], Any]) -> tuple[Any, bool]:
    before = read_streams()
    result = call()
    return result, read_streams() != before


def _compare(model: nn.Module, whole: Any, parts: Cut, bound: Mapping[str, Any]) -> None:
    middle = parts.prefix(*(bound[name] for name in parts.takes))
    crossing = (middle,) if parts.crosses == 1 else middle
    memory = [t.untyped_storage().data_ptr() for t in crossing if isinstance(t, torch.Tensor) and t.numel()]
    if len(set(memory)) < len(memory):
        raise Unfollowed("parts of what is frozen share memory, and the rest may write to one of them")
    result = parts.rest(*crossing, *(bound[name] for name in parts.needs))
    try:
        same = identify(result) == identify(whole)
    except Unidentified as error:
        raise Unfollowed(f"its result cannot be compared: {error}") from error
    if not same:
        raise Unfollowed(f"{type(model).__name__} in two parts gives other results than as a whole")


def stands_apart(model: nn.Module, places: Sequence[str], asked: Asked) -> str:
    """Say what a model does otherwise where others stand in for modules that lead to some; nothing if it is all one."""
    live = [each for each in model.modules() if not is_frozen(each)]
    if any(is_users(type(each)) and on_the_side(type(each).forward) for each in live):
        return ""  # in a trial that would be done, too
    reached: list[str] = []
    try:
        with streams_put_back() as streams:
            whole, tried = _copied(model), _copied(model)
            args, kwargs = _given(asked)
            expected = identify(whole(*args, **kwargs)), identify(whole), read_streams()
            set_streams(streams)
            found = StandIns(tried, places).called(partial(_as_ever, reached, streams), *_given(asked))
            same = (identify(found), identify(tried), read_streams()) == expected
    except Unfollowed as reason:
        return str(reason)
    except Unidentified as error:
        return f"what it does cannot be compared: {error}"
    except Exception as error:  # noqa: BLE001 - what a trial raises, the user's call may not
        return f"it cannot be tried: {type(error).__name__}: {error}"
    if not reached:
        return f"{places[0]} is called with what is drawn, or trained, and another each time"
    return "" if same else "it does something else when others stand in for its modules"


def _given(asked: Asked) -> tuple[Any, Any]:
    given = _fresh({"args": tuple(asked.args), "kwargs": dict(asked.kwargs)})
    return given["args"], given["kwargs"]


def _as_ever(reached: list[str], streams: object, place: str, module: nn.Module, args: Any, kwargs: Any) -> Any:
    """Call a module as the plain model does, and note whether what it is called with may be there again."""
    if read_streams() == streams and not requires_grad((args, kwargs)):
        reached.append(place)
    return module(*args, **kwargs)
