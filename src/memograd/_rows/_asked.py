"""Rows in the workers of a `DataLoader`: they ask the process that has begun them, which has the model and the rows.

So there is one model, on one device, and of workers that want the same row one has it computed and the others wait. A
connection is open to children of this process alone (they have its key); values go over it as entries of a store do,
without pickle.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import tempfile
import threading
from contextlib import contextmanager, suppress
from multiprocessing import current_process
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from memograd._ambient._torch import read_modes, under
from memograd.codec import Unencodable, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from memograd._rows._served import ServedRows

# What may be asked, by a name that children know it by.
answering: WeakValueDictionary[str, ServedRows] = WeakValueDictionary()


class Refused(Exception):  # noqa: N818 - control flow: the worker computes itself where it can
    """What cannot be asked for, or was not answered; it says why."""


class Office:
    """Answers what children of this process ask.

    Attributes:
        pid: of the process.
        computing: held by whoever computes; nobody forks meanwhile.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.computing = threading.RLock()
        self._listener: Listener | None = None
        self._folder = ""

    @property
    def is_open(self) -> bool:
        """Whether somebody answers."""
        return self._listener is not None

    def address(self) -> str:
        """Give where to ask; from then on somebody answers there."""
        if self._listener is None:
            self._folder = tempfile.mkdtemp(prefix="memograd-")
            atexit.register(self._close, self.pid)
            self._listener = Listener(str(Path(self._folder) / secrets.token_hex(8)), authkey=current_process().authkey)
            threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()
        return str(self._listener.address)

    def _close(self, pid: int) -> None:
        if os.getpid() == pid and self._listener is not None:
            self._listener.close()  # which takes its own file away, and complains where that is gone
            shutil.rmtree(self._folder, ignore_errors=True)

    def _serve(self, listener: Listener) -> None:
        while True:
            try:
                connection = listener.accept()
            except Exception:  # noqa: BLE001, S112 - whoever has not the key, or has gone; others may come
                continue
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: Connection) -> None:
        with suppress(EOFError, OSError), connection:
            while True:
                name = connection.recv_bytes().decode()
                connection.send_bytes(self._answer(name, connection.recv_bytes()))

    def _answer(self, name: str, question: bytes) -> bytes:
        try:
            rows = answering[name]
            grad, autocast, args, kwargs = decode(question, own=True)
            with self.computing, _modes_like(grad, autocast):
                result = rows.rows.answer(_moved(args, rows.device), _moved(kwargs, rows.device))
            return b"+" + b"".join(encode(_moved(result, torch.device("cpu"))))
        except Exception as error:  # noqa: BLE001 - the worker is told, whatever it is
            return b"-" + f"{type(error).__name__}: {error}".encode("utf-8", "replace")


@contextmanager
def _modes_like(grad: bool, autocast: Sequence[Sequence[str]]) -> Generator[None]:
    """Compute in the modes of whoever asks, as far as they are a thread's own."""
    kinds = tuple((device, getattr(torch, dtype)) for device, dtype in autocast)
    with under(read_modes()._replace(grad=grad, inference=False, autocast=kinds)):
        yield


def _moved(value: Any, device: torch.device | None) -> Any:
    """Put the tensors of a value on a device, in memory of their own; None leaves them where they are."""
    if isinstance(value, Tensor):
        if value.requires_grad:
            raise Refused("what goes from one process to another is no part of a graph, and this requires grad")
        moved = value if device is None else value.to(device)
        return moved.clone() if moved.is_shared() and not moved.is_cuda else moved
    if type(value) is dict:
        return {name: _moved(each, device) for name, each in cast("dict[Any, Any]", value).items()}
    if type(value) in (list, tuple):
        parts = [_moved(each, device) for each in cast("list[Any]", value)]
        return parts if type(value) is list else tuple(parts)
    return value


class Desk:
    """Asks the office of another process, over a connection for each thread.

    Args:
        address: of the office.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._mine = threading.local()

    def ask(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Give what is answered. Raises `Refused`."""
        modes = read_modes()
        autocast = [[device, str(dtype).removeprefix("torch.")] for device, dtype in modes.autocast]
        try:
            question = b"".join(encode((modes.grad, autocast, _moved(tuple(args), None), _moved(dict(kwargs), None))))
            answer = self._said(name, question)
        except (Unencodable, OSError, EOFError) as error:
            raise Refused(f"{type(error).__name__}: {error}") from error
        if answer[:1] != b"+":
            raise Refused(answer[1:].decode("utf-8", "replace"))
        return decode(answer[1:], own=True)

    def _said(self, name: str, question: bytes) -> bytes:
        connection = self._connection()
        connection.send_bytes(name.encode())
        connection.send_bytes(question)
        return connection.recv_bytes()

    def _connection(self) -> Any:
        if getattr(self._mine, "pid", None) != os.getpid():
            self._mine.connection = Client(self.address, authkey=current_process().authkey)
            self._mine.pid = os.getpid()
        return self._mine.connection


office = Office()
# In a forked child: where the process that it was forked of answers.
desk: Desk | None = None


def _before_fork() -> None:
    office.computing.acquire()
    if answering:
        with suppress(OSError):
            office.address()


def _after_fork() -> None:
    office.computing.release()


def _after_fork_in_child() -> None:
    global office, desk  # noqa: PLW0603 - a child has an office of its own, and its parent's to ask
    before, office = office, Office()
    desk = Desk(before.address()) if before.is_open else None


if hasattr(os, "register_at_fork"):
    forking: Callable[..., None] = os.register_at_fork
    forking(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
