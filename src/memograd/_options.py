"""How one function is remembered: what may be asked for, and what is said of what cannot be."""

from __future__ import annotations

from os import environ
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypedDict, cast

from memograd._mode import MODES, Mode, mode_of

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence
    from os import PathLike

    from memograd.store import Store

    Named: TypeAlias = "MutableMapping[Any, Any] | Store | str | PathLike[str]"

RNG = ("replay", "freeze", "refuse")
TRUST = (None, "versions")
PER = (None, "instance")


class How(TypedDict, total=False):
    """What may be asked for, by keyword. `Memo.__call__` says what each is."""

    store: Named | None
    max_entries: int | None
    max_bytes: int | str | None
    strict: bool
    version: str | None
    rng: str
    copy: bool
    mode: str
    always: bool
    verify: float
    live: int | str | None
    trust: str | None
    per: str | None
    salt: str
    ttl: float | str | None
    tags: str | Sequence[str]


class Along(TypedDict, total=False):
    """What may be asked of a scan, by keyword. `Memo.scan` says what each is."""

    engine: str
    budget: int | str | None
    window: int | None
    batch_first: bool
    remember: bool
    exact: str
    salt: str
    spill: bool | str | PathLike[str]


class Options(NamedTuple):
    """What was asked for, checked."""

    max_entries: int | None = None
    strict: bool = False
    version: str | None = None
    rng: str = "replay"
    copy: bool = True
    mode: Mode = MODES["use"]
    always: bool = False
    verify: float = 0.0
    live: int = 0
    trust: str | None = None
    per: str | None = None
    salt: str = ""
    ttl: float | None = None
    tags: tuple[str, ...] = ()


def options_of(how: Mapping[str, Any], max_entries: int | None, *, strict: bool, salt: str = "") -> Options:
    """Check what is asked for of a function; the rest are what the `Memo` says.

    Raises:
        TypeError, ValueError: an option is not what it should be; the message says what to write.
    """
    unknown = sorted(how.keys() - How.__annotations__.keys())
    if unknown:
        known = ", ".join(How.__annotations__)
        raise TypeError(f"memo() got {unknown[0]}={how[unknown[0]]!r}, expected one of the options {known}")
    check_bounds("memo", how.get("max_entries"), how.get("max_bytes"))
    version = how.get("version")
    if version is not None and not isinstance(version, str):
        raise TypeError(f"memo() got version={version!r}, expected a str; write version={str(version)!r}")
    for name, words in (("rng", RNG), ("trust", TRUST), ("per", PER)):
        if how.get(name, words[0]) not in words:
            raise ValueError(f"memo() got {name}={how[name]!r}, expected one of {', '.join(map(repr, words))}")
    given: dict[str, Any] = {"max_entries": max_entries, "strict": strict, "salt": salt}
    given |= {name: value for name, value in how.items() if name in Options._fields}
    given["mode"] = mode_of(how.get("mode", "use"), environ)
    given["live"] = bytes_of("memo", "live", how.get("live") or 0)
    given["verify"] = _part(how.get("verify", 0.0))
    if not isinstance(given["salt"], str):
        raise TypeError(f"memo() got salt={given['salt']!r}, expected a str; write salt='team-a'")
    given["ttl"] = _seconds(how.get("ttl"))
    given["tags"] = _tags(how.get("tags", ()))
    return Options(**given)


def _part(verify: object) -> float:
    if not isinstance(verify, (int, float)):
        raise TypeError(f"memo() got verify={verify!r}, expected a part of the hits, from 0 to 1; write verify=0.01")
    if not 0 <= verify <= 1:
        raise ValueError(f"memo() got verify={verify!r}, expected a part of the hits, from 0 to 1; write verify=0.01")
    return float(verify)


def _seconds(ttl: object) -> float | None:
    """Read a length of time: seconds, or text such as "7d"."""
    if ttl is None:
        return None
    from memograd.store._units import parse_seconds  # with regular expressions, which few programs ask for

    return parse_seconds(ttl, "ttl", who="memo")


def _tags(tags: object) -> tuple[str, ...]:
    listed: list[object] | None = [tags] if isinstance(tags, str) else None
    if isinstance(tags, (list, tuple, set, frozenset)):
        listed = list(cast("Any", tags))
    if listed is None or not all(isinstance(tag, str) for tag in listed):
        raise TypeError(f"memo() got tags={tags!r}, expected words; write tags=('baseline', 'v2')")
    return tuple(cast("list[str]", listed))


def check_bounds(who: str, max_entries: object, max_bytes: object) -> None:
    """Check how many results are kept. Raises as `options_of`."""
    if max_bytes is not None:
        bytes_of(who, "max_bytes", max_bytes)
    if max_entries is not None and (not isinstance(max_entries, int) or isinstance(max_entries, bool)):
        raise TypeError(f"{who}() got max_entries={max_entries!r}, expected an int or None; write max_entries=1000")
    if max_entries is not None and max_entries < 0:
        raise ValueError(f"{who}() got max_entries={max_entries}, expected 0 or more; write max_entries=None")


def bytes_of(who: str, name: str, size: object) -> int:
    """Read a number of bytes: an int from 0 on, or text such as "64MiB". Raises `TypeError`, `ValueError`."""
    if type(size) is int and size >= 0:
        return size
    from memograd.store._units import parse_bytes  # as above

    return parse_bytes(size, name, who=who, at_least=0)
