"""Rows by the index of a sample in a dataset: one contiguous mapped file for each column of the result.

An index says where a row is and not what it is: beside each stands the digest of the sample that it was computed of,
and each sample at hand is digested, so that one that was edited, or is another since the dataset was shuffled, is a
miss. (Spot checks of some samples have let stale rows through.)
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import partial
from threading import Lock, local
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from memograd._rows._seam import Found
from memograd._rows._structure import Parsed, Unfit, parse
from memograd.store import Array
from memograd.store._datasets import HEAD, make_room, remove, use
from memograd.store._units import show_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from memograd._rows._seam import Places
    from memograd._voice import Voice

_LOOKS = 5  # at rows that others write meanwhile; after so many they are misses
_MARK = 8  # bytes


class Moment(local):
    """What the call of this thread is made for.

    Attributes:
        at: (rows,) int64, the indices of the batch's samples; None where none were given.
        names: digests of the samples that were looked for last.
        changed: samples of which another one was known under their index.
    """

    def __init__(self) -> None:
        self.at: Any = None
        self.names: Sequence[bytes] = ()
        self.changed = 0

    @contextmanager
    def of(self, at: Any) -> Generator[None]:
        """Make a call for samples at these indices."""
        before, self.at, self.changed = self.at, at, 0
        try:
            yield
        finally:
            self.at, self.names = before, ()


class Dataset(NamedTuple):
    """The samples that rows belong to.

    Attributes:
        name: of the dataset, which is a path below the store's.
        size: how many samples there are.
    """

    name: str
    size: int


class Home(NamedTuple):
    """Where the rows of one context are.

    Attributes:
        root: the directory below which folders of all datasets are; None for memory that forked children share.
        dataset: the samples.
        context: the digest of what all rows have in common.
        dim: where results have their rows.
        max_bytes: the most that may be in memory, or in all of the root's folders.
    """

    root: Path | None
    dataset: Dataset
    context: bytes
    dim: int
    max_bytes: int

    @property
    def folder(self) -> Path | None:
        """Where the files are."""
        return None if self.root is None else self.root / self.dataset.name / self.context.hex()

    def array(self, name: str, row: tuple[int, ...], dtype: Any) -> Array:
        """Open an array of a row for each sample, or make it."""
        path = None if self.folder is None else self.folder / name
        return Array(path, shape=(self.dataset.size, *row), dtype=dtype, fingerprint=self.context.hex())

    def make_room(self, nbytes: int) -> str:
        """See to it that there is room for so many bytes; say what had to go. Raises `MemoryError`."""
        if self.root is None or self.folder is None:
            if nbytes > self.max_bytes:
                raise MemoryError(f"{show_bytes(nbytes)} are more than max_bytes; write Memo('~/.cache/lab').rows(...)")
            return ""
        gone = make_room(self.root, nbytes, self.max_bytes, self.folder)
        took = show_bytes(sum(folder.nbytes for folder in gone))
        return f"{len(gone)} folders of rows by index went, {took}, for want of room" if gone else ""


class ByIndex:
    """The rows of one context at the indices of a dataset; of calls that name none, those of other places.

    Args:
        inner: places for calls without indices.
        home: where the rows are.
        moment: has the indices of the call.
        voice: says what goes wrong.

    Attributes:
        frame: how results are put together; None before the first.
        anchor: of the class of sizes that rows were computed in; None where there are none.
        lasting: whether rows outlive the process.
    """

    def __init__(self, inner: Places, home: Home, moment: Moment, voice: Voice) -> None:
        self._inner, self._home, self._folder = inner, home, home.folder
        self._moment, self._voice = moment, voice
        self.lasting = inner.lasting or home.folder is not None
        self._lock = Lock()
        self._columns: list[Array] = []
        self._names: Array | None = None
        self.anchor: int | None = inner.anchor
        self.frame: Parsed | None = inner.frame
        self._tried("open", self._open)

    # What places do:

    def settle(self, anchor: int) -> None:
        """Say in which class rows are computed."""
        self._inner.settle(anchor)
        if self.anchor not in (None, anchor):
            self._forget()
        self.anchor = anchor

    def find(self, names: Sequence[bytes]) -> Found:
        """Look rows up: in their places, if they are of the samples at hand."""
        at = self._moment.at
        self._moment.names = names
        if at is None or len(at) != len(names):  # what a module within is called with may be other rows than samples
            found = self._inner.find(names)
            self.frame = self.frame or self._inner.frame
            return found
        found = self._tried("look into", lambda: self._found(at, names))
        return Found(np.zeros(len(names), bool), list) if found is None else found

    def put(self, names: Sequence[bytes], leaves: Sequence[Tensor], seconds: float = 0.0) -> int:
        """Keep rows in the places of their samples; count those that are there."""
        self._inner.frame = self.frame
        if self._moment.at is None or len(self._moment.at) != len(self._moment.names):
            return self._inner.put(names, leaves, seconds)
        with self._lock:
            if self._names is None:
                self._tried("make", self._make)
        if self._names is None or not names:
            return 0
        self._tried("put into", lambda: self._put(names, leaves))
        return len(names)  # whether they are there is seen when they are looked for

    def drop(self, name: bytes) -> bool:
        """Forget a row; tell whether it was there."""
        at = self._moment.at
        if at is None or self._names is None:
            return self._inner.drop(name)
        there = at[self._names.present(at)]
        mine = (self._names.rows(there)[:, : len(name)] == np.frombuffer(name, np.uint8)).all(1)
        return bool(self._names.delete_rows(there[mine].tolist()))

    def clear(self) -> None:
        """Forget all rows."""
        self._inner.clear()
        self._forget()

    def __len__(self) -> int:
        return len(self._inner) + (0 if self._names is None else len(self._names))

    @property
    def nbytes(self) -> int:
        """Bytes that rows take in memory; of mapped files, none."""
        in_memory = sum(a.nbytes for a in self._columns) if self._folder is None else 0
        return self._inner.nbytes + in_memory

    # How:

    def _found(self, at: Any, names: Sequence[bytes]) -> Found | None:
        # What there is now: another thread may forget it meanwhile.
        frame, columns, samples = self.frame, self._columns, self._names
        if samples is None or frame is None or len(columns) != len(frame.columns):
            return None
        wanted = np.frombuffer(b"".join(names), np.uint8).reshape(len(names), -1)
        for _ in range(_LOOKS):
            try:
                here, marks = self._here(at, wanted, columns, samples)
                rows: list[Any] = [column.rows(at[here]) for column in columns] if here.any() else []
            except KeyError:  # another thread, or process, writes one of them just now
                continue
            pairs = zip(columns, marks, strict=True)
            if all((column.marks(at[here]) == mark[here]).all() for column, mark in pairs):
                return Found(here, partial(_placed, rows, frame))
        return None

    def _here(self, at: Any, wanted: Any, columns: Sequence[Array], samples: Array) -> tuple[Any, list[Any]]:
        """Tell which samples' rows are there, and under which marks."""
        there = samples.present(at)
        for column in columns:
            there &= column.present(at)
        said = np.zeros((len(at), self._width(wanted.shape[1], len(columns))), np.uint8)
        said[there] = samples.rows(at[there])
        same = (said[:, : wanted.shape[1]] == wanted).all(1)
        self._note_changed(int((there & ~same).sum()))
        marks = [column.marks(at) for column in columns]
        noted = np.ascontiguousarray(said[:, wanted.shape[1] :]).view(np.uint64)
        for k, mark in enumerate(marks):
            same &= noted[:, k] == mark
        return there & same, marks

    def _note_changed(self, changed: int) -> None:
        self._moment.changed = max(changed, self._moment.changed)  # what is computed is looked for again
        if changed:
            said = f"of {changed} samples another was known under their index: the dataset was edited or shuffled"
            self._voice.refuse(self._voice.face, f"{said}, or samples are augmented; they are computed", once="changed")

    def _put(self, names: Sequence[bytes], leaves: Sequence[Tensor]) -> None:
        columns, samples = self._columns, self._names
        if samples is None or len(columns) != len(leaves):  # another thread has forgotten all
            return
        order = {name: k for k, name in enumerate(names)}
        pairs = sorted(
            (int(at), order[n]) for at, n in zip(self._moment.at, self._moment.names, strict=True) if n in order
        )
        at = np.array([index for index, _ in pairs], np.int64)
        rows = [k for _, k in pairs]
        digests = np.frombuffer(b"".join(names[k] for k in rows), np.uint8).reshape(len(rows), -1)
        taken = [leaf.detach()[rows].cpu() for leaf in leaves]
        marks = [column.put_marked(at, leaf) for column, leaf in zip(columns, taken, strict=True)]
        noted = np.stack(marks, axis=1).view(np.uint8)
        samples.put_rows(at, np.concatenate([digests, noted], axis=1))

    @staticmethod
    def _width(digest: int, columns: int) -> int:
        return digest + _MARK * columns

    def _make(self) -> None:
        """Make the files, once it is known what results look like."""
        from memograd.codec import encode

        assert self.frame is not None
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            laid_out = [[column.array, column.dim, list(column.order)] for column in self.frame.columns]
            value = self.frame.value(self.frame.columns)
            header = {"anchor": self.anchor, "columns": laid_out, "frame": value}
            new = self._folder / f"frame.{os.getpid()}"
            new.write_bytes(b"".join(encode(header)))
            new.replace(self._folder / HEAD)
        self._arrays(new=True)

    def _open(self) -> None:
        """Take up the files that there are."""
        from memograd.codec import decode

        path = None if self._folder is None else self._folder / HEAD
        if path is None or not path.exists():
            return
        use(path.parent)
        header = decode(path.read_bytes(), own=True)
        frame = parse(header["frame"], self._home.dim)
        pairs = zip(frame.columns, header["columns"], strict=True)
        columns = [c._replace(array=bool(a), dim=int(d), order=tuple(map(int, order))) for c, (a, d, order) in pairs]
        self.frame, self.anchor = frame._replace(columns=columns).frame, int(header["anchor"])
        self._arrays(new=False)

    def _arrays(self, *, new: bool) -> None:
        assert self.frame is not None
        columns = [column.data for column in self.frame.columns]
        if not all(isinstance(data, Tensor) and data[:0].numel() == 0 and 0 not in data.shape[1:] for data in columns):
            raise Unfit("its results have rows of no size")
        kinds = [(tuple(data.shape[1:]), data.dtype) for data in columns if isinstance(data, Tensor)]
        width = self._width(len(self._home.context), len(kinds))
        row_bytes = width + sum(torch.Size(row).numel() * dtype.itemsize for row, dtype in kinds)
        if new and (said := self._home.make_room(self._home.dataset.size * row_bytes)):
            self._voice.tell(self._voice.face, said)
        made = [self._home.array(f"{k}", row, dtype) for k, (row, dtype) in enumerate(kinds)]
        self._names = self._home.array("samples", (width,), "uint8")
        self._columns = made

    def _forget(self) -> None:
        for array in (*self._columns, self._names):
            if array is not None:
                array.close()
        self._columns, self._names, self.frame = [], None, None
        if self._folder is not None:
            remove(self._folder)

    def _tried(self, doing: str, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except Exception as error:  # noqa: BLE001 - whatever a disk raises costs a computation
            said = f"could not {doing} the rows by index at {self._folder}: {error!r}"
            self._voice.refuse(self._voice.face, said, once=f"index {doing}")
            return None


def _placed(rows: Sequence[Tensor], frame: Parsed) -> list[Tensor]:
    """Give rows where the function gives them."""
    pairs = zip(rows, (column.data for column in frame.columns), strict=False)
    return [row.to(one.device) if isinstance(one, Tensor) else row for row, one in pairs]
