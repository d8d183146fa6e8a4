"""How the containers of the language are copied, and how an instance of a subclass is filled with what they hold."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from functools import partial
from types import FunctionType, MethodType, SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from memograd._copies._ways import ATOMS, Built, ByValue, Fixed, Shallow, same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from memograd._copies._ways import Part, Way

# Their methods are called on instances of subclasses too, whatever those have overridden.
_list: Any = list
_dict: Any = dict
_set: Any = set
_deque: Any = deque
_tuple: Any = tuple
_ordered: Any = OrderedDict
_defaults: Any = defaultdict


def _items(base: Any) -> Callable[[Any], Sequence[Part]]:
    def parts(value: Any) -> Sequence[Part]:
        if ATOMS.issuperset(map(type, base.__iter__(value))):
            return ()
        return [(base.__setitem__, at, part) for at, part in enumerate(base.__iter__(value)) if type(part) not in ATOMS]

    return parts


def _entries(value: Any) -> Sequence[Part]:
    if ATOMS.issuperset(map(type, _dict.values(value))):
        return ()
    return [(_dict.__setitem__, key, part) for key, part in _dict.items(value) if type(part) not in ATOMS]


def _elements(base: Any) -> Callable[[Any], Iterable[object]]:
    return base.__iter__


def tuple_maker(value: Any) -> Callable[[Sequence[Any]], Any]:
    return partial(_tuple.__new__, type(value))


def struct_maker(value: Any) -> Callable[[Sequence[Any]], Any]:
    # What C makes of named fields (torch.return_types) is made by its own type only.
    return cast("type[Any]", type(value))


def _method_maker(value: Any) -> Callable[[Sequence[Any]], Any]:
    function = value.__func__
    return lambda parts: MethodType(function, parts[0])


def whole(value: Any) -> Sequence[object]:
    return () if ATOMS.issuperset(map(type, _tuple.__iter__(value))) else list(_tuple.__iter__(value))


def _function(value: Any) -> Fixed:
    plain = ATOMS | {FunctionType}
    return Fixed() if plain.issuperset(map(type, _closed_over(value))) else same(FunctionType)


def _closed_over(value: Any) -> list[Any]:
    cells: list[Any] = []
    for cell in value.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # noqa: PERF203 - a cell that is not filled yet
            continue
    return cells


_TUPLE = Built(tuple_maker, whole)
BY_TYPE: dict[type, Way | ByValue] = {
    list: Shallow(_list.copy, _items(list)),
    deque: Shallow(_deque.copy, _items(deque)),
    dict: Shallow(_dict.copy, _entries, _elements(dict)),
    OrderedDict: Shallow(_ordered.copy, _entries, _elements(dict)),
    defaultdict: Shallow(_defaults.copy, _entries, _elements(dict)),
    set: Shallow(_set.copy, hashed=_elements(set)),
    bytearray: Shallow(bytearray.copy),
    tuple: _TUPLE,
    frozenset: Built(tuple_maker, hashed=_elements(frozenset)),
    MethodType: Built(_method_maker, lambda value: (value.__self__,)),
    FunctionType: ByValue(_function),
}


def _fill_dict(new: Any, value: Any) -> None:
    _dict.update(new, _dict.copy(value))


def _fill_ordered(new: Any, value: Any) -> None:
    # The order is known to OrderedDict alone, and a subclass may have changed what [] gives.
    for key in _ordered.__iter__(value):
        _ordered.__setitem__(new, key, _dict.__getitem__(value, key))


def _fill_defaults(new: Any, value: Any) -> None:
    _defaults.__init__(new, value.default_factory)
    _fill_dict(new, value)


def _fill_deque(new: Any, value: Any) -> None:
    _deque.__init__(new, _deque.__iter__(value), value.maxlen)


def _fill_nothing(new: object, value: object) -> None:
    pass


# How an instance that is a builtin as well is filled with what it holds as that.
FILL: dict[type, Callable[[Any, Any], object]] = {
    OrderedDict: _fill_ordered,
    defaultdict: _fill_defaults,
    dict: _fill_dict,
    list: lambda new, value: _list.extend(new, _list.__iter__(value)),
    set: lambda new, value: _set.update(new, _set.__iter__(value)),
    deque: _fill_deque,
    bytearray: lambda new, value: bytearray.extend(new, bytearray.__iter__(value)),
    SimpleNamespace: _fill_nothing,
    object: _fill_nothing,
}
