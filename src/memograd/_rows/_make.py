"""What may be asked for of `memo.rows`, checked, and the wrappers that are made so."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict, cast

from torch import nn

from memograd._far import Far
from memograd._options import Options, bytes_of
from memograd._place import place
from memograd._rows._frozen import FrozenRows
from memograd._rows._indexed import IndexedRows, dataset_of
from memograd._rows._module import RowsFunction, RowsModule, rows_module
from memograd._rows._rows import Rows, RowsOptions
from memograd._rows._served import ServedRows
from memograd._rows._stored import Stored
from memograd._rows._text import TextRows
from memograd._subject import digest_for
from memograd.store._datasets import root_of
from memograd.store._limit import memory_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from threading import RLock

    from memograd._key import Key
    from memograd._options import Named
    from memograd._rows._index import Dataset
    from memograd._rows._indexed import Front
    from memograd._rows._seam import Places
    from memograd._rows._subject import Wrapped
    from memograd._rows._table import Table
    from memograd.store import Store

EXACT = ("bits", "rounding")


class HowRows(TypedDict, total=False):
    """What may be asked for, by keyword. `Memo.rows` says what each is."""

    dim: int
    static: str | int | Sequence[str | int]
    exact: str
    store: Named | None
    name: str | None
    max_bytes: int | str | None
    always: bool
    strict: bool
    version: str | None
    frozen: bool
    dataset: str | None
    count: int | None
    per_worker: bool
    tokenizer: Any
    max_length: int | None


def maker(
    how: Mapping[str, Any], results: Any, lock: RLock, *, strict: bool, salt: str
) -> Callable[[Any], RowsModule | RowsFunction]:
    """Give what wraps functions and modules. Raises `TypeError` and `ValueError`, saying what to write."""
    store = how.get("store")
    named = results if store is None else place("memo.rows", store, None, lock)
    behind = getattr(named, "behind", None)
    options = options_of(how, strict=strict, salt=salt)._replace(digest=digest_for(behind))
    made = partial(_frozen if how.get("frozen") else _made, options, how.get("name") or "", behind)
    if how.get("tokenizer") is not None:
        made = partial(_by_text, made, *_tokenizer_of(how))
    dataset = dataset_of(how.get("dataset"), how.get("count"))
    if dataset is not None:
        made = partial(_indexed, made, dataset, root_of(behind), options)
    return partial(_wrapped, partial(_served, made, how.get("name") or "", bool(how.get("per_worker"))))


def options_of(how: Mapping[str, Any], *, strict: bool, salt: str) -> RowsOptions:
    """Check what is asked for. Raises as `maker`."""
    unknown = sorted(how.keys() - HowRows.__annotations__.keys())
    if unknown:
        known = ", ".join(HowRows.__annotations__)
        raise TypeError(f"memo.rows() got {unknown[0]}={how[unknown[0]]!r}, expected one of the options {known}")
    exact, dim, version = how.get("exact", "bits"), how.get("dim", 0), how.get("version")
    if exact not in EXACT:
        raise ValueError(f"memo.rows() got exact={exact!r}, expected 'bits' or 'rounding'")
    if type(dim) is not int or dim < 0:
        raise ValueError(f"memo.rows() got dim={dim!r}, expected the dimension of the rows, from 0 on; write dim=1")
    if version is not None and not isinstance(version, str):
        raise TypeError(f"memo.rows() got version={version!r}, expected a str; write version={str(version)!r}")
    most = how.get("max_bytes")
    most = memory_limit() // 8 if most is None else bytes_of("memo.rows", "max_bytes", most)
    always, strict = bool(how.get("always", False)), bool(how.get("strict", strict))
    static = _static(how.get("static", ()))
    return RowsOptions(dim, static, exact, always, strict=strict, max_bytes=most, version=version, salt=salt)


def _static(static: object) -> tuple[str | int, ...]:
    listed = [static] if isinstance(static, (str, int)) else static
    if isinstance(listed, Sequence) and all(isinstance(one, (str, int)) for one in cast("Sequence[object]", listed)):
        return tuple(cast("Sequence[str | int]", listed))
    raise TypeError(f"memo.rows() got static={static!r}, expected names or places of arguments; write static=('mask',)")


def _made(
    options: RowsOptions, name: str, store: Store | None, f: Any, front: Front | None = None, *, again: bool = False
) -> Rows:
    """Make rows; `again` says that samples will come again, so that an epoch without a hit is no reason to stop."""
    behind = None if store is None and front is None else partial(_behind, store, options, front)
    again = again or front is not None or (store is not None and store.lasting)
    return Rows(f, options._replace(patient=again), name, behind)


def _behind(
    store: Store | None, options: RowsOptions, front: Front | None, wrapped: Wrapped, key: Key, table: Table
) -> Places:
    """Put a store behind the rows of a context, unless its key is one of this process alone; and what is in front."""
    places, digest = (table, None) if store is None else _stored(store, options, wrapped, key, table)
    return places if front is None else front(wrapped, digest, places)


def _stored(
    store: Store, options: RowsOptions, wrapped: Wrapped, key: Key, table: Table
) -> tuple[Places, bytes | None]:
    far = Far(wrapped.subject, store, Options(salt=options.salt), wrapped.voice)
    digest = far.digest(key)
    if digest is None:
        far.say_unkeyed(key)
        return table, None
    return Stored(table, store, digest, wrapped, options.dim, always=options.always), digest


def _frozen(options: RowsOptions, name: str, behind: Any, f: Any, front: Front | None = None) -> FrozenRows:
    if isinstance(f, nn.Module):
        return FrozenRows(f, partial(_made, options, name or type(f).__name__, behind, front=front, again=True))
    raise TypeError(f"memo.rows() got frozen=True for {f!r}, which is no module; write memo.rows(model, frozen=True)")


def _tokenizer_of(how: Mapping[str, Any]) -> tuple[Any, int | None]:
    tokenizer, most = how["tokenizer"], how.get("max_length")
    if not callable(tokenizer) or not hasattr(tokenizer, "pad"):
        raise TypeError(
            f"memo.rows() got tokenizer={tokenizer!r}, expected one of transformers; write "
            "tokenizer=AutoTokenizer.from_pretrained(...)"
        )
    if most is not None and (type(most) is not int or most < 1):
        raise ValueError(f"memo.rows() got max_length={most!r}, expected the most tokens; write max_length=128")
    for name in ("frozen", "dataset"):
        if how.get(name):
            raise TypeError(f"memo.rows() got tokenizer= and {name}=; leave one out, or give the model token ids")
    return tokenizer, most


def _by_text(make: Callable[[Any], Rows], tokenizer: Any, most: int | None, f: Any) -> TextRows:
    return TextRows(make(f), tokenizer, most)


def _indexed(
    make: Callable[..., Any], dataset: Dataset, root: tuple[Path, int] | None, options: RowsOptions, f: Any
) -> IndexedRows:
    return IndexedRows(lambda front: make(f, front=front), dataset, root, options.dim, options.max_bytes)


def _served(make: Callable[[Any], Any], name: str, apart: bool, f: Any) -> ServedRows:
    name = name or getattr(f, "__name__", type(f).__name__)
    return ServedRows(make(f), name, f if isinstance(f, nn.Module) else None, apart=apart)


def _wrapped(make: Callable[[Any], Any], f: Any) -> RowsModule | RowsFunction:
    if isinstance(f, (RowsModule, RowsFunction)):
        f = f.__wrapped__
    if isinstance(f, nn.Module):
        return rows_module(f, make)
    if not callable(f) or isinstance(f, type):
        raise TypeError(f"memo.rows() got {f!r}, expected a module or function of batches; write memo.rows(model)")
    return RowsFunction(f, make)
