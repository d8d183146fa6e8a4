"""What a copy of one result takes, written down once: a list of steps over numbered slots, without recursion.

First what is lent from the arguments, and the shallow copies; then what is built of others (views, tuples); at last the
parts are put into the shallow copies. So aliasing and cycles come out as they were: one object has one slot.
"""

from __future__ import annotations

import sys
import weakref
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from memograd._copies._kinds import way_of
from memograd._copies._ways import ATOMS, Built, Fixed, Shallow, same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    from memograd._copies._places import Lent, Places
    from memograd._copies._ways import Way

    Span: TypeAlias = tuple[str, int, int]
    Slots: TypeAlias = list[Any]
    Copy: TypeAlias = Callable[[Any], Any]

ADAPTERS = ("numpy", "torch")


class Unkeepable(Exception):  # noqa: N818 - it never leaves memograd: the call is not remembered, and that is said
    """A result cannot be given back a second time. The message follows "returned"."""


class Plan:
    """The steps. `makes` holds the sources too: at first parts of the result itself, then of the copy that is kept."""

    def __init__(self) -> None:
        self.size = 0
        self.lends: list[tuple[int, Lent]] = []
        self.makes: list[tuple[int, Copy, Any]] = []
        self.builds: list[tuple[int, Callable[[Slots], Any]]] = []
        self.patches: list[tuple[int, Callable[[Any, Any, Any], object], Any, int]] = []

    def run(self, args: Sequence[Any] | None) -> Slots:
        """Make a copy; without arguments, what is lent from them is left out."""
        slots: Slots = [None] * self.size
        if args is not None:
            for slot, lend in self.lends:
                slots[slot] = lend(args)
        for slot, copy, source in self.makes:
            slots[slot] = copy(source)
        for slot, build in self.builds:
            slots[slot] = build(slots)
        for slot, put, at, part in self.patches:
            put(slots[slot], at, slots[part])
        return slots

    def settle(self) -> Slots:
        """Copy from a copy from now on, which nobody else holds."""
        slots = self.run(None)
        self.makes = [(slot, copy, slots[slot]) for slot, copy, _ in self.makes]
        return slots


class Memory(Protocol):
    """What an adapter knows of the values of its library: where they are in memory, how to copy them and view them."""

    def takes(self, kind: type, /) -> bool: ...
    def fixed(self, value: Any, /) -> str: ...
    def extent(self, value: Any, /) -> Span | None: ...
    def copier(self, value: Any, /) -> Copy: ...
    def viewer(self, view: Any, base: Any, /) -> Copy | None: ...
    def leader(self, values: Sequence[Any], /) -> int | None: ...
    def block(self, values: Sequence[Any], /) -> tuple[Any, list[Copy]]: ...
    def mark(self, value: Any, /) -> object: ...


class _Entry:
    """A value inside the result, met once: a container, memory, or lent. `slot` is None for what comes back itself."""

    __slots__ = ("inside", "lent", "memory", "slot", "value", "way")

    def __init__(self, value: Any, way: Way | None = None) -> None:
        self.value = value
        self.way = way
        self.memory: Memory | None = None
        self.lent: Lent | None = None
        self.inside: Sequence[Any] = ()
        self.slot: int | None = None


def drawn(value: object, places: Places) -> tuple[Plan, int | None, list[str]]:
    """Draw the plan of a value: with the slot of the value, None if it comes back itself, and what is not copied.

    Raises `Unkeepable`.
    """
    drawing = _Drawing(places)
    drawing.discover(value)
    drawing.take_slots()
    drawing.memories()
    drawing.containers()
    return drawing.plan, drawing.entries[id(value)].slot, list(drawing.whys)


class _Drawing:
    def __init__(self, places: Places) -> None:
        self.places = places
        self.plan = Plan()
        self.entries: dict[int, _Entry] = {}
        self.hashed: dict[int, object] = {}
        self.whys: dict[str, None] = {}

    def discover(self, root: object) -> None:
        """Meet every value once."""
        waiting = [root]
        while waiting:
            value = waiting.pop()
            if type(value) not in ATOMS and id(value) not in self.entries:
                entry = self.entries[id(value)] = self.entry(value)
                waiting += [part[2] for part in entry.inside] if isinstance(entry.way, Shallow) else entry.inside
        for name, value in self.hashed.items():
            if name in self.entries:
                self.entries[name] = _Entry(value, Fixed())

    def entry(self, value: object) -> _Entry:
        """Find how a value is copied; what cannot be changed is never lent, since it does not matter whose it is."""
        memory = adapter_of(type(value))
        entry = _Entry(value, way_of(value) if memory is None else None)
        if not _unchanging(entry):
            entry.lent = self.places.find(value)
        if entry.lent is not None:
            entry.way = None
        elif memory is not None:
            self.remember(entry, memory)
        elif isinstance(entry.way, (Shallow, Built)):
            entry.inside = entry.way.parts(value)
            self.note_hashed(entry.way.hashed(value))
        elif entry.way is not None and entry.way.why:
            self.whys[entry.way.why] = None
        return entry

    def remember(self, entry: _Entry, memory: Memory) -> None:
        why = memory.fixed(entry.value)
        if why:
            entry.way = Fixed(why)
            self.whys[why] = None
        else:
            entry.memory = memory

    def note_hashed(self, values: Iterable[Any]) -> None:
        """Note what comes back itself since it is a key or an element of a set."""
        waiting = [value for value in values if type(value) not in ATOMS]
        while waiting:
            value: object = waiting.pop()
            way = way_of(value)
            if isinstance(way, Built):
                inside = [*way.parts(value), *way.hashed(value)]
                waiting += [part for part in inside if type(part) not in ATOMS]
            elif not isinstance(way, Fixed) or way.why:
                self.hashed[id(value)] = value
                self.whys[same(type(value)).why] = None

    def take_slots(self) -> None:
        """Number what is copied: all but what comes back itself, and what is built of nothing else."""
        for entry in self.entries.values():
            if not isinstance(entry.way, (Fixed, Built)):
                self.take_slot(entry)
        for entry, _ in self.built():
            if any(self.slot_of(part) is not None for part in entry.inside):
                self.take_slot(entry)

    def built(self) -> list[tuple[_Entry, Built]]:
        """Order what is built, the inner before the outer."""
        built = {name: (each, each.way) for name, each in self.entries.items() if isinstance(each.way, Built)}
        if not built:
            return []
        from graphlib import TopologicalSorter

        inner = {name: [id(part) for part in each.inside if id(part) in built] for name, (each, _) in built.items()}
        return [built[name] for name in TopologicalSorter(inner).static_order()]

    def take_slot(self, entry: _Entry) -> int:
        entry.slot = self.plan.size
        self.plan.size += 1
        return entry.slot

    def slot_of(self, value: object) -> int | None:
        entry = self.entries.get(id(value))
        return None if entry is None else entry.slot

    # -- memory --------------------------------------------------------------------------------------------------------

    def memories(self) -> None:
        """Copy arrays and tensors: those that share memory together, and those that view an argument not at all."""
        spans: list[tuple[Span, _Entry, Memory]] = []
        lending = lenders(self.places) if any(entry.memory for entry in self.entries.values()) else []
        for entry in self.entries.values():
            if entry.memory is not None:
                span = entry.memory.extent(entry.value)
                if span is None:
                    self.make(entry, entry.memory.copier(entry.value))
                elif not self.lend(entry, entry.memory, [base for base in lending if overlap(base[0], span)]):
                    spans.append((span, entry, entry.memory))
        for group in _overlapping(spans):
            self.group([entry for _, entry, _ in group], [memory for _, _, memory in group])

    def lend(self, entry: _Entry, memory: Memory, bases: list[tuple[Span, Any, Memory]]) -> bool:
        """Make an array or tensor a view of the argument that it is a view of. Raises `Unkeepable` if it cannot be."""
        for _, base, of_base in bases:
            view = memory.viewer(entry.value, base) if of_base is memory else None
            entry.lent = None if view is None else self.places.find(base)
            if entry.lent is not None:
                entry.lent.view = view
                return True
        if bases:
            raise Unkeepable("what shares the memory of an argument and is no plain view of it; return a copy")
        return False

    def group(self, group: list[_Entry], memories: list[Memory]) -> None:
        """Copy what shares memory: the whole of it, and make each a view of the copy."""
        memory, values = memories[0], [entry.value for entry in group]
        if any(other is not memory for other in memories):
            raise Unkeepable("a tensor and an array that share memory; return one of them")
        leader = 0 if len(group) == 1 else memory.leader(values)
        if leader is None:
            self.block(group, memory)
            return
        self.make(group[leader], memory.copier(group[leader].value))
        for entry in group:
            if entry is not group[leader]:
                self.view(entry, memory.viewer(entry.value, group[leader].value), group[leader])

    def block(self, group: list[_Entry], memory: Memory) -> None:
        shared, views = memory.block([entry.value for entry in group])
        block = _Entry(shared)
        self.take_slot(block)
        self.make(block, memory.copier(shared))
        for entry, view in zip(group, views, strict=True):
            self.view(entry, view, block)

    def make(self, entry: _Entry, copy: Copy) -> None:
        assert entry.slot is not None
        self.plan.makes.append((entry.slot, copy, entry.value))

    def view(self, entry: _Entry, view: Copy | None, base: _Entry) -> None:
        assert view is not None
        assert entry.slot is not None
        assert base.slot is not None
        self.plan.builds.append((entry.slot, _of_slot(view, base.slot)))

    # -- containers ----------------------------------------------------------------------------------------------------

    def containers(self) -> None:
        """Copy what holds others, and put into the copies what was copied."""
        for entry, way in self.built():
            if entry.slot is not None:
                self.plan.builds.append((entry.slot, self.builder(entry, way)))
        for entry in self.entries.values():
            if entry.lent is not None and entry.slot is not None:
                self.plan.lends.append((entry.slot, entry.lent))
            elif isinstance(entry.way, Shallow):
                self.make(entry, entry.way.copy)
                self.patch(entry)

    def builder(self, entry: _Entry, way: Built) -> Callable[[Slots], Any]:
        slots = [(at, self.slot_of(part)) for at, part in enumerate(entry.inside)]
        copied = [(at, slot) for at, slot in slots if slot is not None]
        rest = [part if self.slot_of(part) is None else None for part in entry.inside]
        return _of_parts(way.maker(entry.value), rest, copied)

    def patch(self, entry: _Entry) -> None:
        for put, at, part in entry.inside:
            slot = self.slot_of(part)
            if slot is not None and entry.slot is not None:
                self.plan.patches.append((entry.slot, put, at, slot))


def _unchanging(entry: _Entry) -> bool:
    return isinstance(entry.way, Built) or (isinstance(entry.way, Fixed) and not entry.way.why)


def _of_slot(view: Copy, slot: int) -> Callable[[Slots], Any]:
    return lambda slots: view(slots[slot])


def _of_parts(
    maker: Callable[[Sequence[Any]], Any], rest: list[Any], copied: list[tuple[int, int]]
) -> Callable[[Slots], Any]:
    def build(slots: Slots) -> Any:
        parts = rest.copy()
        for at, slot in copied:
            parts[at] = slots[slot]
        return maker(parts)

    return build


def lenders(places: Places) -> list[tuple[Span, Any, Memory]]:
    """List the arrays and tensors of the arguments, with their memory."""
    held = [(adapter_of(type(value)), value) for value in places.values]
    spans = [(memory.extent(value), value, memory) for memory, value in held if memory is not None]
    return [(span, value, memory) for span, value, memory in spans if span is not None]


def overlap(one: Span, other: Span) -> bool:
    """Tell whether two stretches of memory have a byte in common."""
    return one[0] == other[0] and one[1] < other[2] and other[1] < one[2]


def _overlapping(spans: list[tuple[Span, _Entry, Memory]]) -> list[list[tuple[Span, _Entry, Memory]]]:
    """Group what overlaps in memory."""
    groups: list[list[tuple[Span, _Entry, Memory]]] = []
    last: Span = "", 0, 0
    for each in sorted(spans, key=lambda each: each[0]):
        span = each[0]
        if groups and overlap(last, span):
            groups[-1].append(each)
            last = last[0], last[1], max(last[2], span[2])
        else:
            groups.append([each])
            last = span
    return groups


_adapters: weakref.WeakKeyDictionary[type, Memory | None] = weakref.WeakKeyDictionary()


def adapter_of(kind: type) -> Memory | None:
    """Find the module that copies the memory of values of a type; None if they are no arrays and no tensors."""
    try:
        return _adapters[kind]
    except KeyError:
        _adapters[kind] = found = _found(kind)
        return found


def _found(kind: type) -> Memory | None:
    roots = {str(base.__module__).partition(".")[0] for base in kind.__mro__}
    for library in ADAPTERS:
        if library in roots and library in sys.modules:
            adapter: Any = import_module(f"memograd._copies._{library}")
            if adapter.takes(kind):
                return adapter
    return None
