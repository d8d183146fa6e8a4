"""The wrapper that stands in a function's place, defined from source with the function's own parameters.

NOTE [hit] A hit on plain arguments takes about as long as reading what must be read for it:

1. Whether code, globals and modes are as they were is written out in the wrapper (`$condition`), with what they are
   compared with as constants of its code. When they change, the wrapper gets other code: in one step, so that no
   thread sees the condition of one version and the results of another.
2. Looking with a plain tuple finds the `Key` that it is equal to; only plain values are ever found so. What is asked
   for often, of integers alone, is found by those in the front of its version.
3. An argument without a hash, and an entry that another thread evicts between two lines, raise: the long way answers.
4. Under the GIL each line is atomic, the count too (no other thread runs within it); without, the lock makes them so.
"""

from __future__ import annotations

import sys
import weakref
from types import BuiltinFunctionType, CodeType
from typing import TYPE_CHECKING, Any, cast

from memograd._copies._kept import Kept
from memograd._events import listeners
from memograd._key import MISSING, Function
from memograd.store._memory import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from memograd._key import Binding
    from memograd._recall import Recall
    from memograd._subject import Telling

_HIT = """\
    {constants}$key = None
    try:
        {guard}
            if {condition} and not $listeners:
                if {integers}:
                    $value = $front({place}, $missing)
                    if $value is not $missing:
                        $counts.hits += 1
                        return $value
                $function = '$function'; $key = {probe}
                $value = $look($key, $missing)
                if $value is not $missing:
                    if $type($value) is not $kept:
                        {touch}
                        $counts.hits += 1
                        if {integers}: $bring($key, $value)
                        return $value
                    $key = None
    except $error: pass
    $values = {values}
    return $answer({call}, $values, $key)
"""
_PLAIN = """\
    $values = {values}
    return $answer({call}, $values)
"""
_ASYNC = """\
    $values = {values}
    return await $answer({call}, $values)
"""
_FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()


def wrapper_of(recall: Recall, binding: Binding) -> Any:
    """Define the wrapper of a function."""
    name, form = recall.subject.name, {"values": binding.values, "call": binding.call}
    if _is_async(recall.f):
        return binding.define(name, _ASYNC.format(**form), "async ", answer=recall.answer_async, nothing={})
    quick = _Quick.of(recall, binding)
    if quick is None:
        return binding.define(name, _PLAIN.format(**form), answer=recall.answer, nothing={})
    made = quick.defined(None)
    recall.subject.listeners.append(quick.renewing(made))
    return made


def _is_async(f: Callable[..., Any]) -> bool:
    import inspect

    return any(inspect.iscoroutinefunction(each) for each in (f, type(f).__call__))


class _Quick:
    """How a wrapper is defined whose hits are looked for in the wrapper itself."""

    def __init__(self, recall: Recall, binding: Binding, look: Callable[..., Any]) -> None:
        self.name = recall.subject.name
        self.binding = binding
        store, touches = recall.store, list[Any]()
        self.bring: Callable[..., None] | None = None
        if isinstance(store, Memory):
            touches.append(store.entries.move_to_end)
            # In front nothing is noted of a hit: it is for functions where nothing has to be.
            if recall.order is None and binding.integers and not _FREE_THREADED:
                self.bring = store.bring_to_front
        if recall.order is not None:
            touches.append(recall.order.move_to_end)
        self.names: dict[str, object] = {
            "look": look,
            "missing": MISSING,
            "kept": Kept,
            "counts": recall.counts,
            "listeners": listeners,
            "lock": recall.lock,
            "bring": self.bring,
            "answer": recall.answer,
            "error": Exception,
            "nothing": {},
            **{f"touch_{index}": touch for index, touch in enumerate(touches)},
        }
        self.form = {
            "call": binding.call,
            "values": binding.values,
            "probe": binding.probe,
            "integers": binding.integers if self.bring else "False",
            "place": binding.place,
            "touch": "; ".join(f"$touch_{index}($key)" for index in range(len(touches))) or "pass",
            "guard": "with $lock:" if _FREE_THREADED else "if True:",
        }

    @classmethod
    def of(cls, recall: Recall, binding: Binding) -> _Quick | None:
        """Make it, if hits can be looked for in one call of C."""
        # Variadic arguments are never plain, and a foreign mapping must see a `Key`: both take the long way at once.
        # To look with a tuple of the arguments asks for their hash, which is what such a function is called for.
        if not binding.probe or recall.subject.name in {"__hash__", "__eq__"}:
            return None
        if recall.options.verify or not recall.options.mode.looks:
            return None
        store = recall.store
        if isinstance(store, Memory):
            return cls(recall, binding, store.entries.get)
        return cls(recall, binding, store.get) if type(cast("object", store)) is dict else None

    def defined(self, telling: Telling | None) -> Any:
        """Define a wrapper for a version, or for none."""
        condition, values, version = "False", (), Function("", ())
        if telling is not None:
            condition, values, version = *_written(telling, self.binding), telling.version
        constants = {**{str(at): value for at, value in enumerate(values)}, "front": version.look, "function": version}
        assigned = "".join(f"${name} = '${name}'; " for name in constants if name != "function")
        body = _HIT.format(constants=assigned, condition=condition, **self.form)
        made = self.binding.define(self.name, body, **self.names)
        made.__code__ = _with(made.__code__, {self.binding.mark + name: value for name, value in constants.items()})
        return made

    def renewing(self, made: Any) -> Callable[[Telling | None], None]:
        """Give what gives a wrapper its code when the version becomes another; it does not keep the wrapper alive."""
        none, held = made.__code__, weakref.ref(made)

        def renew(telling: Telling | None) -> None:
            if telling is not None and telling.code is None:
                telling.code = self.defined(telling).__code__
            one = held()
            if one is not None:
                one.__code__ = none if telling is None else telling.code

        return renew


def _written(telling: Telling, binding: Binding) -> tuple[str, tuple[object, ...]]:
    """Write out the condition for a version, where it reads the same in the wrapper; else as a call."""
    check = telling.check
    own = {name for name in check.names if name in binding.names or name.startswith(binding.mark)}
    at_home = check.home is binding.home or not check.names
    # Code has a hash, of its constants, too.
    if at_home and not own and all(map(_has_hash, check.values)):
        return check.condition, check.values
    return "$0() is not None", (telling.tell,)


def _has_hash(value: object) -> bool:
    kind = type(value)
    return kind in {str, int, float, CodeType, BuiltinFunctionType} or kind.__hash__ is object.__hash__


def _with(code: CodeType, constants: Mapping[str, object]) -> CodeType:
    """Put values in the places of the constants that are named so."""
    held = tuple(constants.get(one, one) if type(one) is str else one for one in code.co_consts)
    return code.replace(co_consts=held)
