"""Where a partly frozen model can be cut: what depends on its arguments and frozen weights alone, and the rest.

The frozen part of a step in training is the same in each epoch (AutoFreeze, Liu et al. 2021). It ends at the first
weight that is trained, at what is no function of its arguments (dropout, statistics of the batch), and at what nobody
can look into; where, and why, is said.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.conv import _ConvNd  # pyright: ignore[reportPrivateUsage]

from memograd._rows._follow import Unfollowed, followed, has_hooks
from memograd._rows._judge import may_write, why_not
from memograd._rows._part import Part, Step, Value, writes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from memograd._rows._follow import Course

_SHAPE_METHODS = frozenset({"size", "dim", "numel", "ndimension", "is_floating_point", "stride"})
_SHAPE_NAMES = frozenset({"shape", "dtype", "device", "ndim", "is_cuda"})
# What these give is new memory, which nobody else reads unless he is given it.
_NEW = (nn.Linear, _ConvNd, _NormBase)


class Cut(NamedTuple):
    """A model in two parts.

    Attributes:
        prefix: what is frozen; it gives what the rest takes first, one after the other where that is more than one.
        rest: what is live: it takes that, then those arguments of the model that it needs.
        takes: names of the arguments that the prefix takes.
        needs: names of the arguments that the rest takes.
        crosses: how many values go from one to the other.
        modules: places of the modules of the prefix, in order.
        until: what ends it, and why.
        inner: modules whose code was followed: what that reads, the parts have read.
    """

    prefix: Part
    rest: Part
    takes: tuple[str, ...]
    needs: tuple[str, ...]
    crosses: int
    modules: tuple[str, ...]
    until: str
    inner: tuple[nn.Module, ...]


def cut(model: nn.Module, bound: Mapping[str, Any], draws: Collection[str] = ()) -> Cut:
    """Cut a model behind the longest part that is frozen.

    Args:
        model: the model.
        bound: what it is called with, by the names of its parameters.
        draws: places of modules that draw random numbers.

    Raises:
        Unfollowed: there is no such part; the message says why.
    """
    if has_hooks(model):
        raise Unfollowed(f"{type(model).__name__} has hooks, which see it called as a whole")
    course = followed(model, bound, _is_whole)
    colours = _Colours(model, course, draws)
    prefix, rest, crossing = _sides(course, colours)
    modules = tuple(step.target for step in prefix if step.op == "module")
    if not modules:
        raise Unfollowed(f"no part of {type(model).__name__} is frozen: {colours.until or 'nothing is computed'}")
    gives = Value(crossing[0]) if len(crossing) == 1 else tuple(map(Value, crossing))
    takes = tuple(name for name in course.takes if name in _used(prefix))
    needs = tuple(name for name in course.takes if name in {*_used(rest), *_values(course.gives)})
    try:
        parts = Part(model, takes, prefix, gives), Part(model, (*crossing, *needs), rest, course.gives)
    except AttributeError as error:
        raise Unfollowed(f"{error} is a tensor and no buffer; write self.register_buffer(...)") from error
    return Cut(
        *parts,
        takes,
        needs,
        len(crossing),
        modules,
        colours.until,
        course.inner,
    )


def is_frozen(module: nn.Module) -> bool:
    """Tell whether none of a module's weights is trained."""
    return not any(p.requires_grad for p in module.parameters())


def _is_whole(module: nn.Module) -> bool:
    """Tell whether a module is one step: not one in which something is frozen and something is not."""
    trained = {p.requires_grad for p in module.parameters()}
    if len(trained) > 1:
        return False
    # What is frozen up to a dropout in train mode, say, is frozen that far; of others' code as little is followed as
    # can be.
    return type(module).forward is not nn.Sequential.forward or bool(True in trained) or not why_not([module])


class _Colours:
    """Which steps are frozen: what they depend on is the arguments, frozen modules and frozen weights.

    Attributes:
        frozen: names of steps that depend on modules or weights.
        shared: names of steps that both sides may take: what shape something has, and what is made of the arguments
            without a module (a mask in another type), which is no result that would be worth keeping.
        until: the first step that is not frozen, and why.
    """

    def __init__(self, model: nn.Module, course: Course, draws: Collection[str]) -> None:
        self.model, self.course, self.draws = model, course, draws
        self.frozen: set[str] = set()
        self.shared: set[str] = set(course.takes)
        self.until = ""
        self._memory: dict[str, set[str]] = {name: {name} for name in course.takes}  # who may look at one memory
        self._written: set[str] = set()
        self._made_by = {step.name: step for step in course.steps}
        self._uses = list(_values([(step.args, step.kwargs) for step in course.steps])) + list(_values(course.gives))
        for step in course.steps:
            self._see(step)

    def _see(self, step: Step) -> None:
        inputs = set(_values((step.args, step.kwargs)))
        self._look_at(step, inputs)
        if not inputs <= self.frozen | self.shared:
            return self._note_written(step, inputs)
        reason = self._why_not(step)
        if not reason and inputs & self._written:
            reason = f"{self._named(step)} reads what a live module was given, which may write to it"
        if reason:
            self.until = self.until or reason
            self._note_written(step, inputs)
        elif step.op != "module" and inputs and (inputs <= self.shared or _asks_shape(step)):
            self.shared.add(step.name)
        else:
            self.frozen.add(step.name)
        return None

    def _look_at(self, step: Step, inputs: set[str]) -> None:
        """Note what may look at the memory of what."""
        group = {step.name}
        if not self._is_new(step):
            group.update(*(self._memory[name] for name in inputs))
        for name in group:
            self._memory[name] = group

    def _note_written(self, step: Step, inputs: set[str]) -> None:
        """Note what a live step may write to: those that read it afterwards have to run after it."""
        if step.op == "module" and may_write(self.model.get_submodule(step.target)):
            self._written.update(*(self._memory[name] for name in inputs))

    def _why_not(self, step: Step) -> str:
        """Say why a step is not frozen although all that it takes is."""
        if step.name in self.draws or (step.op == "module" and step.target in self.draws):
            return f"{self._named(step)} draws random numbers, so that its results differ each time"
        if step.op == "module":
            return self._why_not_module(step)
        if step.op == "tensor":
            tensor = operator.attrgetter(step.target)(self.model)
            return f"{step.target} is trained" if tensor.requires_grad else ""
        return self._why_not_in_place(step) if writes(step) else ""

    def _why_not_module(self, step: Step) -> str:
        module = self.model.get_submodule(step.target)
        if step.target in self.course.unfollowed and not is_frozen(module):
            return self.course.unfollowed[step.target]
        trained = next((name for name, p in module.named_parameters() if p.requires_grad), "")
        if trained:
            return f"{step.target}.{trained} is trained"
        reason = why_not([module])
        if reason:
            # What is said of an inner module begins with its place within this one.
            return f"{step.target}{'.' if reason[0].islower() or reason[0].isdigit() else ': '}{reason}"
        return self._why_not_in_place(step) if getattr(module, "inplace", False) else ""

    def _named(self, step: Step) -> str:
        return (
            f"{step.target}: {type(self.model.get_submodule(step.target)).__name__}"
            if step.op == "module"
            else step.name
        )

    def _why_not_in_place(self, step: Step) -> str:
        """Say why what is written to may be something else that is read: it is new, and read here alone, or so."""
        into = next(_values(step.args), "")
        made = self._made_by.get(into)
        if made is not None and self._uses.count(into) == 1 and self._is_new(made):
            return ""
        if made is None or made.op == "tensor" or self._uses.count(into) > 1:
            # Who else reads it may be frozen, and would be run before it is written to.
            name = step.target if isinstance(step.target, str) else step.name
            raise Unfollowed(f"{name} writes into what others read, or the caller has given")
        return f"{step.target if isinstance(step.target, str) else step.name} writes into what it is given"

    def _is_new(self, made: Step) -> bool:
        if made.op == "module":
            return isinstance(self.model.get_submodule(made.target), _NEW)
        return made.op == "function" and made.target in (operator.add, operator.mul, operator.iadd, torch.add)


def _asks_shape(step: Step) -> bool:
    """Tell whether a step asks a tensor for what it is but for its numbers."""
    return step.target in _SHAPE_METHODS or (step.target is getattr and step.args[1] in _SHAPE_NAMES)


def _sides(course: Course, colours: _Colours) -> tuple[list[Step], list[Step], list[str]]:
    """Give the steps of the frozen side, those of the other, and what goes from one to the other."""
    live = [step for step in course.steps if step.name not in colours.frozen | colours.shared]
    wanted = {*_used(live), *_values(course.gives)}
    for step in reversed(course.steps):
        if step.name in wanted and step.name in colours.shared:
            wanted |= _used([step])
    rest = [step for step in course.steps if step in live or step.name in wanted & colours.shared]
    crossing = [step.name for step in course.steps if step.name in wanted & colours.frozen]
    return _leading_to(course, set(crossing)), rest, crossing


def _leading_to(course: Course, wanted: set[str]) -> list[Step]:
    needed = set(wanted)
    for step in reversed(course.steps):
        if step.name in needed:
            needed |= set(_used([step]))
    return [step for step in course.steps if step.name in needed]


def _used(steps: Iterable[Step]) -> set[str]:
    return {name for step in steps for name in _values((step.args, step.kwargs))}


def _values(pattern: Any) -> Iterator[str]:
    """Go through what a pattern has places for."""
    if type(pattern) is Value:
        yield pattern.name
    elif isinstance(pattern, slice):
        yield from _values((pattern.start, pattern.stop, pattern.step))
    elif isinstance(pattern, dict):
        yield from _values(list(cast("dict[Any, Any]", pattern).values()))
    elif isinstance(pattern, (tuple, list)):
        for each in cast("list[Any]", pattern):
            yield from _values(each)
