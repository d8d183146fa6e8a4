"""The wrapper that stands in a function's place, defined from source with the function's own parameters.

NOTE [hit] A hit on plain arguments takes little more than reading what must be read for it:

1. Whether code, globals and modes are as they were is written out in the wrapper, with what they are compared with in
   one constant of its code, `$held`. When they change, the wrapper gets other code: in one step, so that no thread sees
   the condition of one version and the results of another.
2. Looking with a plain tuple finds the `Key` that it is equal to; only plain values are ever found so. What is asked
   for often, of integers alone, is found by those in the front of its version.
3. An argument without a hash, and an entry that another thread evicts between two lines, raise: the long way answers.
4. Under the GIL each line is atomic, the count too (no other thread runs within it); without, the lock makes them so.
5. A wrapper may be pickled by value, by cloudpickle, for a process that cannot import it. All that it holds can be:
   what is of this process (`Held`, `Hit`) is made anew there, and there all calls go the long way.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any, cast

from memograd._copies._kept import Kept
from memograd._events import listeners
from memograd._key import MISSING
from memograd.store._results import Results

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

    from memograd._key import Binding
    from memograd._recall import Recall
    from memograd._subject import Telling

_HIT = """\
    $held = '$held'; $key = None
    try:
        {guard}
            if {condition} and not $hit.listeners:
                if {integers}:
                    $value = $held.front({place}, $missing)
                    if $value is not $missing:
                        $hit.counts.hits += 1
                        return $value
                $function = $held.function; $key = {probe}
                $value = $hit.look($key, $missing)
                if $value is not $missing:
                    if $type($value) is not $kept:
                        {touch}
                        $hit.counts.hits += 1
                        if {integers}: $hit.bring($key, $value)
                        return $value
                    $key = None
    except $error: pass
    $values = {values}
    return $hit.answer({call}, $values, $key)
"""
_PLAIN = """\
    $values = {values}
    return $hit.answer({call}, $values)
"""
_ASYNC = """\
    $values = {values}
    return await $hit.answer_async({call}, $values)
"""
_FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()


class Held:
    """What the code of a wrapper compares with, for one version of its function; none of it in another process."""

    function: object
    front: Callable[..., Any]

    def __reduce__(self) -> tuple[Any, ...]:
        return Held, ()


class Hit:
    """What a wrapper asks on its way."""

    # Each is read at every hit: no method, no property.
    __slots__ = ("answer", "answer_async", "bring", "counts", "listeners", "lock", "look", "recall", "touch", "use")

    def __init__(self, recall: Recall) -> None:
        shelf = recall.shelf
        self.recall = recall
        self.listeners = listeners
        self.counts = shelf.counts
        self.lock = shelf.lock
        self.answer = recall.answer
        self.answer_async = recall.answer_async
        memory = shelf.store if isinstance(shelf.store, Results) else None
        self.look: Callable[..., Any] = shelf.store.get if memory is None else memory.entries.get
        self.touch: Callable[..., None] | None = None if memory is None else memory.entries.move_to_end
        self.use: Callable[..., None] | None = None if shelf.order is None else shelf.order.move_to_end
        self.bring: Callable[..., None] | None = None if memory is None else memory.bring_to_front

    def __reduce__(self) -> tuple[Any, ...]:
        return Hit, (self.recall,)


def wrapper_of(recall: Recall, binding: Binding) -> Any:
    """Define the wrapper of a function."""
    form = {"call": binding.call, "values": binding.values, "probe": binding.probe, "place": binding.place}
    names: dict[str, Any] = {"hit": Hit(recall), "missing": MISSING, "kept": Kept, "error": Exception, "nothing": {}}
    name = recall.subject.name
    if _is_async(recall.f):
        made = binding.define(name, _ASYNC.format(**form), "async ", **names)
    elif not _is_quick(recall, binding):
        made = binding.define(name, _PLAIN.format(**form), **names)
    else:
        made = _made_quick(recall, binding, form | _noted(recall, binding), names)
    _leave_uncompiled(made.__code__)
    # The compiler of torch asks for this name before it looks into a function that is called.
    made.__dict__["_torchdynamo_disable"] = True
    return made


def _made_quick(recall: Recall, binding: Binding, form: dict[str, str], names: dict[str, Any]) -> Any:
    """Define a wrapper that gets other code when the version becomes another; nothing of this keeps it alive."""

    def defined(telling: Telling | None) -> Any:
        held = Held()
        condition = "False" if telling is None else _written(telling, binding, held)
        made = binding.define(recall.subject.name, _HIT.format(condition=condition, **form), **names)
        mark, constants = f"{binding.mark}held", made.__code__.co_consts
        made.__code__ = made.__code__.replace(co_consts=tuple(held if one == mark else one for one in constants))
        return made

    def renew(telling: Telling | None) -> None:
        code = none if telling is None else telling.code
        if code is None:
            code = defined(telling).__code__
            _leave_uncompiled(code)
        if telling is not None:
            telling.code = code
        wrapper = reference()
        if wrapper is not None:
            wrapper.__code__ = code

    made = defined(None)
    none, reference = made.__code__, weakref.ref(made)
    recall.subject.listeners.append(renew)
    return made


def _leave_uncompiled(code: CodeType) -> None:
    if hasattr(sys.modules.get("torch"), "get_default_dtype"):
        from memograd._ambient._torch import leave_uncompiled

        leave_uncompiled(code)


def _is_async(f: Callable[..., Any]) -> bool:
    import inspect

    return any(inspect.iscoroutinefunction(each) for each in (f, type(f).__call__))


def _is_quick(recall: Recall, binding: Binding) -> bool:
    """Tell whether hits can be looked for in the wrapper, in one call of C."""
    # Variadic arguments are never plain, and a foreign mapping must see a `Key`: both take the long way at once.
    # To look with a tuple of the arguments asks for their hash, which is what such a function is called for.
    if not binding.probe or recall.subject.name in {"__hash__", "__eq__"}:
        return False
    if recall.options.verify or not recall.options.mode.looks:
        return False
    store: object = recall.shelf.store
    return isinstance(store, Results) or type(store) is dict


def _noted(recall: Recall, binding: Binding) -> dict[str, str]:
    """Say in source what is to be noted of a hit. Where it is nothing but the count, there is a front."""
    memory, ordered = isinstance(recall.shelf.store, Results), recall.shelf.order is not None
    touches = ["$hit.touch($key)"] * memory + ["$hit.use($key)"] * ordered
    fronted = memory and not ordered and not _FREE_THREADED and binding.integers
    return {
        "touch": "; ".join(touches) or "pass",
        "integers": cast("str", fronted) or "False",
        "guard": "with $hit.lock:" if _FREE_THREADED else "if True:",
    }


def _written(telling: Telling, binding: Binding, held: Held) -> str:
    """Write out the condition for a version, where it reads the same in the wrapper; else as a call."""
    held.function, held.front = telling.version, telling.version.look
    check = telling.check
    own = {name for name in check.names if name in binding.names or name.startswith(binding.mark)}
    at_home = check.home is binding.home or not check.names
    condition, values = (check.condition, check.values) if at_home and not own else ("$0()", (telling.tell,))
    for at, value in reversed([*enumerate(values)]):  # `$1` begins `$12`
        setattr(held, f"at_{at}", value)
        condition = condition.replace(f"${at}", f"$held.at_{at}")
    return condition
