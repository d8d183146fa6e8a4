"""Before a call is run a second time: what it was given is put back to what it was, as far as Python shows it."""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict, defaultdict, deque
from typing import TYPE_CHECKING, Any, cast

from memograd._ambient._streams import read_generators, set_generators
from memograd._replay._signature import attributes

if TYPE_CHECKING:
    from memograd._replay._trees import Seen

_LISTS: frozenset[type] = frozenset({list, deque})
_LOGS = _LISTS | {dict, set, OrderedDict, defaultdict, Counter}


class Undo:
    """How containers, generators, and the attributes of objects and modules are before a call.

    Args:
        seen: what the call is given, and reads.
    """

    __slots__ = ("_attributes", "_generators", "_logs", "_others")

    def __init__(self, seen: Seen) -> None:
        modules = [part for module in seen.modules for part in module.modules()]
        owners = [owner for owner in (*modules, *seen.others, *seen.containers) if hasattr(owner, "__dict__")]
        self._attributes: list[tuple[Any, dict[str, Any]]] = [(owner, dict(attributes(owner))) for owner in owners]
        parts = [part for _, named in self._attributes for part in named.values()]
        logs: list[Any] = [log for log in (*seen.containers, *parts) if type(log) in _LOGS]
        self._logs = [(log, copy.copy(log)) for log in logs]
        self._others = seen.others
        self._generators = read_generators(self._others)

    def put_back(self) -> None:
        """Put back what is no longer what it was."""
        for log, before in self._logs:
            if len(log) != len(before) or any(a is not b for a, b in zip(_told(log), _told(before), strict=True)):
                _refill(log, before)
        for owner, before in self._attributes:
            now = dict(attributes(owner))
            for name in now.keys() - before.keys():
                del vars(owner)[name]
            vars(owner).update({name: part for name, part in before.items() if now.get(name, owner) is not part})
        set_generators(self._others, self._generators)


def _told(log: Any) -> list[Any]:
    return [*log, *(cast("dict[Any, Any]", log).values() if isinstance(log, dict) else ())]


def _refill(log: Any, before: Any) -> None:
    log.clear()
    (log.extend if type(log) in _LISTS else log.update)(before)
