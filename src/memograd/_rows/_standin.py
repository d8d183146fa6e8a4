"""A partly frozen model whose code cannot be followed: it runs as it is, and its frozen modules are by rows.

For each call the modules that lead to a frozen one are stood in for by others of the same classes and the same state,
which have the frozen one by rows in its place. So whatever the code between modules does (branch on values, take any
arguments, compute a loss), it does; what it sets on the stand-ins is set on the modules.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.utils import _pytree

from memograd._rows._cut import is_frozen
from memograd._rows._follow import has_hooks
from memograd._rows._module import rows_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from memograd._rows._rows import Rows

    Answer = Callable[[str, nn.Module, Sequence[Any], Mapping[str, Any]], Any]


class Enough(BaseException):
    """A call that was made for the sake of one of its modules, and has come to it."""

    def __init__(self, found: Any) -> None:
        super().__init__()
        self.found = found


class StandIns:
    """Makes calls of a model with some of its modules by rows.

    Args:
        model: the model.
        places: of those modules.
        by_rows: what answers their calls, by place.

    Attributes:
        by_rows: as given.
        main: the place of the one that has the most weights.
    """

    def __init__(self, model: nn.Module, places: Sequence[str], by_rows: Mapping[str, Rows] | None = None) -> None:
        self._model, self.by_rows = model, by_rows or {}
        modules = {place: model.get_submodule(place) for place in places}
        self._places = {id(module): place for place, module in modules.items()}
        self.main = max(places, key=lambda place: sum(p.numel() for p in modules[place].parameters()))

    def call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Give what the model gives."""

        def answer(place: str, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
            if torch.is_grad_enabled() and requires_grad((args, kwargs)):
                return module(*args, **kwargs)  # it goes back to what is trained in front of it
            return self.by_rows[place].answer(args, kwargs)

        return self.called(answer, args, kwargs)

    def at_main(self, act: Callable[[Rows, Sequence[Any], Mapping[str, Any]], Any], args: Any, kwargs: Any) -> Any:
        """Call the model up to its greatest frozen module, and do something with what that is called with."""

        def answer(place: str, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
            if place == self.main:
                raise Enough(act(self.by_rows[place], args, kwargs))
            return module(*args, **kwargs)

        try:
            self.called(answer, args, kwargs)
        except Enough as enough:
            return enough.found
        return None

    def called(self, answer: Answer, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call the model; calls of its frozen modules are answered by something else."""
        made: dict[int, tuple[nn.Module, nn.Module]] = {}
        root = self._stand_in(self._model, answer, made)
        before = [(dict(vars(new)), dict(vars(new)["_modules"])) for _, new in made.values()]
        try:
            return root(*args, **kwargs)
        finally:
            for (module, new), (state, modules) in zip(made.values(), before, strict=True):
                _give_back(vars(module), vars(new), state)
                _give_back(vars(module)["_modules"], vars(new)["_modules"], modules)

    def _stand_in(self, module: nn.Module, answer: Answer, made: dict[int, tuple[nn.Module, nn.Module]]) -> nn.Module:
        if id(module) in self._places:
            called = partial(answer, self._places[id(module)])
            return rows_module(module, lambda of: cast("Any", _Answering(partial(called, of))))
        if id(module) in made:
            return made[id(module)][1]
        inner = {name: self._stand_in(each, answer, made) for name, each in _children(module)}
        if all(each is vars(module)["_modules"][name] for name, each in inner.items()):
            return module
        new = object.__new__(type(module))
        vars(new).update(vars(module))
        vars(new)["_modules"] = {**vars(module)["_modules"], **inner}
        made[id(module)] = module, new
        return new


class _Answering:
    def __init__(self, answer: Callable[[Sequence[Any], Mapping[str, Any]], Any]) -> None:
        self.answer = answer


def frozen_modules(model: nn.Module) -> list[str]:
    """List the places of the greatest modules of which no weight is trained, and that are called as such."""
    return list(_frozen_below(model, "", set()))


def _frozen_below(module: nn.Module, place: str, seen: set[int]) -> Iterator[str]:
    for name, child in _children(module):
        at = f"{place}.{name}" if place else name
        if id(child) in seen:
            continue
        seen.add(id(child))
        called = not isinstance(child, (nn.ModuleList, nn.ModuleDict)) and not any(map(has_hooks, child.modules()))
        if called and is_frozen(child) and "forward" not in vars(child):
            if any(True for _ in child.parameters()):
                yield at
        else:
            yield from _frozen_below(child, at, seen)


def _give_back(ours: dict[str, Any], theirs: dict[str, Any], before: dict[str, Any]) -> None:
    """Set in a dictionary what has changed in what stood in for it; others may have changed the rest."""
    for name in before.keys() - theirs.keys():
        ours.pop(name, None)
    ours.update({name: value for name, value in theirs.items() if name not in before or before[name] is not value})


def _children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, child) for name, child in vars(module)["_modules"].items() if child is not None]


def requires_grad(values: Any) -> bool:
    """Tell whether tensors among nested values go back to something."""
    tree: Any = _pytree
    return any(isinstance(value, torch.Tensor) and value.requires_grad for value in tree.tree_leaves(values))
