"""`memo.rows(model, frozen=True)`: of a partly frozen model the frozen part by rows, and the rest live.

From the second epoch on, a fine-tuning script is a script that trains a head (AutoFreeze, Liu et al. 2021). Where the
model is cut is found by following its forward (`_follow`), and tried: a copy in two parts has to give what a copy gives
as a whole. A forward that cannot be followed runs as it is, with its frozen modules by rows (`_standin`).
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from dataclasses import replace
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from torch import nn

from memograd._ambient._torch import read_modes
from memograd._rows._cut import cut, is_frozen
from memograd._rows._follow import Unfollowed, has_hooks, is_constant
from memograd._rows._receipt import RowsStats
from memograd._rows._rows import is_traced
from memograd._rows._standin import StandIns, frozen_modules
from memograd._rows._structure import Unfit
from memograd._rows._trial import draws_of, stands_apart
from memograd._rows._ways import AsItIs, Asked, InTwo
from memograd.fingerprint._content import identify
from memograd.fingerprint._form import Unidentified

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from memograd._rows._cut import Cut
    from memograd._rows._receipt import Receipt
    from memograd._rows._rows import Rows
    from memograd._rows._ways import Way

T = TypeVar("T")
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


class FrozenRows:
    """A partly frozen model, by rows as far as it is frozen. Made by `memo.rows(model, frozen=True)`.

    Args:
        model: the model.
        make: gives a module by rows.
    """

    def __init__(self, model: nn.Module, make: Callable[[nn.Module], Rows]) -> None:
        self.model, self._make = model, make
        self.whole = make(model)
        self._now: Way | None = None
        self._seen: object = None
        self._read: list[nn.Module] = []
        self._vain: list[Unfollowed] = []
        self._lock = RLock()
        self._known: OrderedDict[object, Way | Unfollowed] = OrderedDict()
        self._standing: OrderedDict[object, Way | str] = OrderedDict()
        self._inner: dict[int, tuple[nn.Module, Rows]] = {}

    def answer(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Answer a call: give what the model gives."""
        if is_traced():
            return self.model(*args, **kwargs)
        self._now = None
        if is_frozen(self.model):
            return self.whole.answer(args, kwargs)
        way, asked = self._asked(args, kwargs)
        if isinstance(way, str):
            return self.whole._plainly(args, kwargs, Unfit(way))  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        self._now = way
        return way.answer(asked)

    def remember(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Receipt | None:
        """Compute and keep the rows of a batch that are not there; the rest of the model is not run."""
        self._now = None
        if is_frozen(self.model):
            return self.whole.remember(args, kwargs)
        way, asked = self._asked(args, kwargs)
        if isinstance(way, str):
            raise ValueError(f"{self.whole.name}.fill(): no row is remembered: {way}")  # noqa: TRY004
        self._now = way
        return way.remember(asked)

    def _asked(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Way | str, Asked]:
        """Give how the model is answered, or why it is called plainly, and what is asked of it."""
        asked = Asked(args, kwargs, self._bound(args, kwargs) or {})
        return (self._way(asked) if asked.bound or not (args or kwargs) else "its arguments do not fit"), asked

    @property
    def frozen_part(self) -> FrozenPart | None:
        """What of the model the last call remembered; None where it was all of it, or nothing."""
        return None if self._now is None else FrozenPart(self._now.modules, self._now.until)

    @property
    def receipt(self) -> Receipt | None:
        """What the last call did, of the part that is frozen."""
        now = self._now
        found = self.whole.receipt if now is None else now.rows.receipt
        return found if now is None or found is None else replace(found, reason=f"{now.said}; {found.reason}")

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
        way, asked = self._asked(args, kwargs)
        return 0 if isinstance(way, str) else way.forget(asked)

    def all(self) -> list[Rows]:
        """List what remembers rows: of the whole model, and of its parts in each of its states."""
        with self._lock:
            ways = [way for way in self._known.values() if not isinstance(way, Unfollowed)]
            inner = [rows for _, rows in self._inner.values()]
            return [self.whole, *(rows for way in ways for rows in way.all()), *inner]

    def _bound(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            bound = inspect.signature(self.model.forward).bind(*args, **kwargs)
        except TypeError:
            return None  # the model says what is wrong, in its own words
        bound.apply_defaults()
        return dict(bound.arguments)

    def _way(self, asked: Asked) -> Way | str:
        """Give how the model as it is now is answered, or why it is called plainly."""
        structure = self._structure()
        try:
            state = self._state(structure, asked.bound)
        except Unidentified as error:
            why = f"{error.path} is {error.reason}, so that nobody sees whether the model is the same"
            return self._as_it_is(structure, asked, why)
        with self._lock:
            found = self._known.get(state)
            if found is None:
                found = self._vain[-1] if len(self._vain) >= _VAIN else self._found(asked)
                self._vain = [*self._vain, found][-_VAIN:] if isinstance(found, Unfollowed) else []
                _keep(self._known, state, found)
            self._known.move_to_end(state)
        return self._as_it_is(structure, asked, str(found)) if isinstance(found, Unfollowed) else found

    def _found(self, asked: Asked) -> Way | Unfollowed:
        """Cut the model, or say why not."""
        try:
            cut(self.model, asked.bound)  # what is not to be followed is not to be tried, either
            parts = cut(self.model, asked.bound, draws=draws_of(self.model, asked.bound))
        except Unfollowed as reason:
            return reason
        if _is_in_name_only(self.model, parts):
            said = f"{self.whole.name}(): rows are remembered up to {parts.modules[-1]}: {parts.until}"
            self.whole.voice.refuse(self.whole.wrapped.subject.face, said, once=parts.until)
        return InTwo(parts, self._make(parts.prefix), tuple(self.model.modules()))

    def _as_it_is(self, structure: object, asked: Asked, why: str) -> Way | str:
        """Give the model as it is, with its frozen modules by rows; or why it is called plainly."""
        with self._lock:
            found = self._standing.get(structure)
            if found is None:
                places = frozen_modules(self.model)
                found = "" if places else why
                if places and (differs := stands_apart(self.model, places, asked)):
                    found = f"{why}, and {differs}"
                if not found:
                    by_rows = {place: self._rows_of(self.model.get_submodule(place)) for place in places}
                    found = AsItIs(StandIns(self.model, places, by_rows), why, tuple(self.model.modules()))
                _keep(self._standing, structure, found)
            self._standing.move_to_end(structure)
        return found

    def _rows_of(self, module: nn.Module) -> Rows:
        """Give the rows of a frozen module, whatever mode the others are in."""
        known = self._inner.get(id(module))
        if known is None or known[0] is not module:
            known = self._inner[id(module)] = module, self._make(module)
        return known[1]

    def _structure(self) -> object:
        """Say what the model is made of."""
        modules = [(id(m), type(m), m.training, has_hooks(m), "forward" in vars(m)) for m in self.model.modules()]
        tensors = [(id(p), p.requires_grad) for p in (*self.model.parameters(), *self.model.buffers())]
        structure = (*modules, *tensors)
        if structure != self._seen:
            self._seen, self._read, self._vain = structure, self._followed(), []
        return structure

    def _state(self, structure: object, bound: Mapping[str, Any]) -> object:
        """Say what it is about the model, and about what it is called with, that decides where it is cut."""
        constants: list[Any] = [(name, type(value), value) for name, value in bound.items() if is_constant(value)]
        # What a forward asks of the moment is answered once, when it is followed.
        modes = read_modes()._replace(grad=False)
        return (modes, structure, *constants, identify([_code(m) for m in self._read]))

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


def _keep(known: OrderedDict[object, T], state: object, found: T) -> None:
    known[state] = found
    while len(known) > _MOST:
        known.popitem(last=False)


def _together(fields: tuple[Any, ...]) -> Any:
    return any(fields) if isinstance(fields[0], bool) else sum(fields)
