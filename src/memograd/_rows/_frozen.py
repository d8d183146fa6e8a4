"""`memo.rows(model, frozen=True)`: of a partly frozen model the frozen part by rows, and the rest live.

From the second epoch on, a fine-tuning script is a script that trains a head (AutoFreeze, Liu et al. 2021). Where the
model is cut is found by following its forward, and tried: a copy in two parts has to give what a copy gives as a whole.
"""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict
from dataclasses import replace
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import nn
from torch.utils import _pytree

from memograd._ambient._streams import read_streams, set_streams
from memograd._ambient._torch import read_modes
from memograd._rows._cut import cut, is_frozen
from memograd._rows._follow import Unfollowed, has_hooks, is_constant
from memograd._rows._receipt import RowsStats
from memograd._rows._rows import is_traced
from memograd._rows._structure import Unfit
from memograd.fingerprint._content import identify
from memograd.fingerprint._form import Unidentified

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from memograd._rows._cut import Cut
    from memograd._rows._receipt import Receipt
    from memograd._rows._rows import Rows

_MOST = 4  # states of a model whose parts are held: in train and in eval mode, with and without a mask
_VAIN = 3  # states in a row in which there was no part: of a model that is another in each call nothing is tried
_OWN = frozenset(vars(nn.Module())) - {"training"}


class FrozenPart(NamedTuple):
    """What of a model is remembered.

    Attributes:
        modules: places of its modules, in the order in which they are called.
        until: what is the first that is not, and why.
    """

    modules: tuple[str, ...]
    until: str


class _Parts(NamedTuple):
    """A model that is cut.

    Attributes:
        cut: the parts.
        rows: the frozen one, by rows.
        alive: modules that were looked at; while they are held no other has the number of one of them.
    """

    cut: Cut
    rows: Rows
    alive: tuple[nn.Module, ...]


class FrozenRows:
    """A partly frozen model, by rows as far as it is frozen. Made by `memo.rows(model, frozen=True)`.

    Args:
        model: the model.
        make: gives a module by rows.
    """

    def __init__(self, model: nn.Module, make: Callable[[nn.Module], Rows]) -> None:
        self.model, self._make = model, make
        self.whole = make(model)
        self._now: _Parts | None = None
        self._seen: object = None
        self._read: list[nn.Module] = []
        self._vain: list[str] = []
        self._lock = RLock()
        self._known: OrderedDict[object, _Parts | str] = OrderedDict()

    def answer(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Answer a call: give what the model gives."""
        if is_traced():
            return self.model(*args, **kwargs)
        self._now = None
        if is_frozen(self.model):
            return self.whole.answer(args, kwargs)
        parts, bound = self._asked(args, kwargs)
        if isinstance(parts, str):
            return self.whole._plainly(args, kwargs, Unfit(parts))  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        self._now = parts
        middle = parts.rows.answer([bound[name] for name in parts.cut.takes], {})
        crossing = (middle,) if parts.cut.crosses == 1 else middle
        return parts.cut.rest(*crossing, *(bound[name] for name in parts.cut.needs))

    def remember(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Receipt | None:
        """Compute and keep the rows of a batch that are not there; the rest of the model is not run."""
        self._now = None
        if is_frozen(self.model):
            return self.whole.remember(args, kwargs)
        parts, bound = self._asked(args, kwargs)
        if isinstance(parts, str):
            raise ValueError(f"{self.whole.name}.fill(): no row is remembered: {parts}")  # noqa: TRY004
        self._now = parts
        return parts.rows.remember([bound[name] for name in parts.cut.takes], {})

    def _asked(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[_Parts | str, dict[str, Any]]:
        """Give the parts of the model, or why there are none, and what is asked of it."""
        bound = self._bound(args, kwargs)
        return ("its arguments do not fit", {}) if bound is None else (self._parts(bound), bound)

    @property
    def frozen_part(self) -> FrozenPart | None:
        """What of the model the last call remembered; None where it was all of it, or nothing."""
        return None if self._now is None else FrozenPart(self._now.cut.modules, self._now.cut.until)

    @property
    def receipt(self) -> Receipt | None:
        """What the last call did, of the part that is frozen."""
        now = self._now
        found = self.whole.receipt if now is None else now.rows.receipt
        if now is None or found is None:
            return found
        modules = now.cut.modules
        part = f"{modules[0]} to {modules[-1]} are frozen, then {now.cut.until}"
        return replace(found, reason=f"{part}; {found.reason}")

    def stats(self) -> RowsStats:
        """Count what all calls did."""
        return RowsStats(*map(_together, zip(*(rows.stats() for rows in self.all()), strict=True)))

    def cache_clear(self) -> None:
        """Forget every row and begin to count anew."""
        for rows in self.all():
            rows.cache_clear()

    def forget(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
        """Forget the rows of a batch, for the model as it is now; count those that were there."""
        if is_frozen(self.model):
            return self.whole.forget(args, kwargs)
        parts, bound = self._asked(args, kwargs)
        if isinstance(parts, str):
            return 0
        return parts.rows.forget([bound[name] for name in parts.cut.takes], {})

    def all(self) -> list[Rows]:
        """List what remembers rows: of the whole model, and of its parts in each of its states."""
        with self._lock:
            return [self.whole, *(parts.rows for parts in self._known.values() if not isinstance(parts, str))]

    def _bound(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            bound = inspect.signature(self.model.forward).bind(*args, **kwargs)
        except TypeError:
            return None  # the model says what is wrong, in its own words
        bound.apply_defaults()
        return dict(bound.arguments)

    def _parts(self, bound: Mapping[str, Any]) -> _Parts | str:
        """Give the parts of the model as it is, or why there are none."""
        try:
            state = self._state(bound)
        except Unidentified as error:
            return f"{error.path} is {error.reason}, so that nobody sees whether the model is the same"
        with self._lock:
            found = self._known.get(state)
            if found is None:
                found = self._known[state] = self._vain[-1] if len(self._vain) >= _VAIN else self._found(bound)
                self._vain = [*self._vain, found][-_VAIN:] if isinstance(found, str) else []
                while len(self._known) > _MOST:
                    self._known.popitem(last=False)
            self._known.move_to_end(state)
        return found

    def _found(self, bound: Mapping[str, Any]) -> _Parts | str:
        try:
            cut(self.model, bound)  # what is not to be followed is not to be tried, either
            parts = cut(self.model, bound, draws=_tried(self.model, bound))
        except Unfollowed as reason:
            return str(reason)
        if _is_in_name_only(self.model, parts):
            said = f"{self.whole.name}(): rows are remembered up to {parts.modules[-1]}: {parts.until}"
            self.whole.voice.refuse(self.whole.wrapped.subject.face, said, once=parts.until)
        return _Parts(parts, self._make(parts.prefix), tuple(self.model.modules()))

    def _state(self, bound: Mapping[str, Any]) -> object:
        """Say what it is about the model, and about what it is called with, that decides where it is cut."""
        modules = [(id(m), type(m), m.training, has_hooks(m), "forward" in vars(m)) for m in self.model.modules()]
        tensors = [(id(p), p.requires_grad) for p in (*self.model.parameters(), *self.model.buffers())]
        if (modules, tensors) != self._seen:
            self._seen, self._read, self._vain = (modules, tensors), self._followed(), []
        constants: list[Any] = [(name, type(value), value) for name, value in bound.items() if is_constant(value)]
        # What a forward asks of the moment is answered once, when it is followed.
        modes = read_modes()._replace(grad=False)
        return (modes, *modules, *tensors, *constants, identify([_code(m) for m in self._read]))

    def _followed(self) -> list[nn.Module]:
        """List the modules whose code may have been followed: what that has read is in the parts."""
        return [m for m in self.model.modules() if type(m).forward is not nn.Sequential.forward and not _is_plain(m)]


def _is_in_name_only(model: nn.Module, parts: Cut) -> bool:
    """Tell whether something that is frozen is run live, for another reason than a weight that is trained before it."""
    if parts.until.endswith("is trained"):
        return False
    place = parts.until.split(":")[0].split(" ")[0]
    around = [place.rsplit(".", k)[0] for k in range(place.count(".") + 1)]
    modules = cast("dict[str, nn.Module]", dict(cast("Any", model).named_modules()))
    live = [str(step.target) for step in parts.rest.steps if step.op == "module"]
    asked = [modules[name] for name in (*live, *around) if name in modules]
    return place not in modules or any(is_frozen(m) and any(True for _ in m.parameters()) for m in asked)


def _is_plain(module: nn.Module) -> bool:
    """Tell whether all of a module's weights are trained, or none: it was not looked into, unless it is the model."""
    return len({p.requires_grad for p in module.parameters()}) < 2


def _code(module: nn.Module) -> tuple[Any, ...]:
    own = {name: value for name, value in vars(module).items() if name not in _OWN}
    return type(module), own


def _tried(model: nn.Module, bound: Mapping[str, Any]) -> frozenset[str]:
    """Try a copy of the model in two parts against one as a whole; give the places of modules that draw numbers.

    Raises:
        Unfollowed: the parts give something else, or there are none.
    """
    streams = read_streams()
    try:
        with torch.no_grad():
            whole = _copied(model)(**_fresh(bound))
            draws: set[str] = set()
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
    finally:
        set_streams(streams)
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


def _together(fields: tuple[Any, ...]) -> Any:
    return any(fields) if isinstance(fields[0], bool) else sum(fields)
