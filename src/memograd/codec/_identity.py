"""Which class an entry speaks of: by the name under which it would be imported, and by a digest of what it is.

Two programs may each have a class of one name, with other methods or other members: the digest tells them apart.
Looking for a class imports nothing and calls nothing of it.
"""

from __future__ import annotations

import sys

# hashlib's own, without the OpenSSL that hashlib loads for its other algorithms.
from _blake2 import blake2b
from enum import Enum
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from memograd._errors import NoIdentityError
from memograd.codec._base import Refused, Unreadable
from memograd.codec._plain import a
from memograd.fingerprint._origin import MAINS, imported_as

_LENGTH = 32  # hexadecimal digits
_digests: WeakKeyDictionary[type[Any], str] = WeakKeyDictionary()


def name_of(kind: Any) -> str:
    """Give module and qualified name of a class that is found under them."""
    name = f"{imported_as(kind.__module__)}:{kind.__qualname__}"
    try:
        there = loaded(name) is kind
    except Unreadable:
        there = False
    if not there:
        raise Refused(f"{a(kind)}, a class that its module does not hold under its name")
    return name


def loaded(name: str) -> Any:
    """Look a class up among what is loaded, without a call to anything that could load more."""
    module, _, path = name.partition(":")
    kinds: dict[int, Any] = {}
    failed = f"an instance of {name[:100]!r}, of which the module is not loaded"
    for place in _places(module):
        found = _in(place, path)
        if found is None:
            failed = f"an instance of {name[:100]!r}, which is no class of its module"
        else:
            kinds[id(found)] = found
    if len(kinds) > 1:
        failed = f"an instance of {name[:100]!r}, of which there are two here: the program has imported itself"
    if len(kinds) != 1:
        raise Unreadable(failed)
    return next(iter(kinds.values()))


def _places(module: str) -> list[dict[str, Any]]:
    """Give what is in the modules that a name may stand for: the one of that name, and the program itself."""
    names = {name for name in MAINS if imported_as(name) == module}
    if module not in MAINS:
        names.add(module)
    places = [sys.modules.get(name) for name in names]
    return [ModuleType.__getattribute__(each, "__dict__") for each in places if issubclass(type(each), ModuleType)]  # pyright: ignore[reportArgumentType]


def _in(place: Any, path: str) -> Any:
    found: Any = None
    for part in path.split("."):
        found = place.get(part)
        if not issubclass(type(found), type):
            return None
        place = type.__getattribute__(found, "__dict__")
    return found


def inherited(kind: Any, name: str) -> Any:
    """Give what a class holds under a name, or the first of its bases that does, without asking the class."""
    for base in type.__getattribute__(kind, "__mro__"):
        if name in (names := type.__getattribute__(base, "__dict__")):
            return names[name]
    return None


def digest_of(kind: Any) -> str:
    """Digest what a class is: its fields or members, and its code with all of the user's that this reaches.

    What its code reads that may change in place, a registry of instances say, is not what the class is.
    """
    known = _digests.get(kind)
    if known is None:
        known = _digests[kind] = blake2b(_written(kind), digest_size=_LENGTH // 2).hexdigest()
    return known


def check(kind: Any, facts: dict[str, Any]) -> None:
    """Refuse a class that is not the one of which an instance was written."""
    digest = facts.get("digest")
    if type(digest) is not str or len(digest) != _LENGTH or digest != digest_of(kind):
        raise Unreadable(f"an instance of {facts['class'][:100]!r}, which is another class here, or has changed")


def _written(kind: Any) -> bytes:
    # Here, since following code takes longer to import than all of the codec.
    from memograd.fingerprint import fingerprint
    from memograd.fingerprint._callables import reached

    try:
        # What the members of an enumeration stand for may be containers, which only its fingerprint looks into.
        return str(fingerprint(kind)).encode() if issubclass(kind, Enum) else reached(kind).stream
    except NoIdentityError:
        return repr(_face(kind)).encode()


def _face(kind: Any) -> tuple[object, ...]:
    """Say of a class whose code cannot be followed what can be seen of it."""
    names = f"{imported_as(kind.__module__)}:{kind.__qualname__}"
    if issubclass(kind, Enum):
        members: dict[str, Any] = inherited(kind, "_member_map_")
        return names, [(name, _shown(member._value_)) for name, member in members.items()]
    fields: Any = inherited(kind, "__dataclass_fields__")
    return names, [*(inherited(kind, "_fields") if fields is None else fields)]


def _shown(value: Any) -> str:
    """Show a plain value; of others the kind, since their own words may say where in memory they are."""
    return repr(value) if type(value) in {str, bytes, int, float, bool, complex} else type(value).__qualname__
