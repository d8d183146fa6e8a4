"""A connection that may be away: then every question is answered at once, by nothing, while a thread tries again.

It knows of no library: what a client is, and how one is made, it is told.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet, ref

from memograd._errors import warn
from memograd.store._lock import new_lock

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# Seconds between attempts to reconnect: from, to.
SOONEST, LATEST = 0.1, 5.0


class Link:
    """One server, or cluster of them, as one process sees it.

    Args:
        connect: makes a client; has `ping()` and `close()`.
        explain: says of an error what is wrong and what to write.
        lost: what is raised when the server is away.
    """

    def __init__(
        self, connect: Callable[[], Any], explain: Callable[[Exception], str], lost: tuple[type[Exception], ...]
    ) -> None:
        self._connect = connect
        self._lost = lost
        self._explain = explain
        self._lock = new_lock()
        self._said: set[str] = set()
        self._client: Any = None
        self.begin_anew()
        _links.add(self)

    def begin_anew(self) -> None:
        """Forget the connections, which in a forked child are the parent's."""
        if self._client is not None:
            # Not let go of: what it would do when it is collected takes locks that a thread of the parent may hold.
            _parents.append(self._client)
        self._client = None
        self.away = False
        self._unsaid: list[str] = []
        self._wake = threading.Event()

    @property
    def client(self) -> Any:
        """Give the client; it connects when it is first used."""
        client = self._client
        if client is None:
            with self._lock:
                if self._client is None:
                    self._client = self._connect()
                client = self._client
        return client

    def ask(self, question: Callable[[], T], otherwise: T, *, aloud: bool = True) -> T:
        """Answer a question that is put to the server; while that is away, or if it fails, `otherwise`.

        Args:
            question: talks to the server.
            otherwise: what is true of no server.
            aloud: warn of what is wrong; False for threads in which nobody would hear it.
        """
        answer = otherwise
        if not self.away:
            try:
                answer = question()
            except self._lost as error:
                self._lose(error)
        if aloud and self._unsaid:
            self._say()
        return answer

    def note(self, topic: str, message: str) -> None:
        """Warn once of what does not end the connection, at the end of the question."""
        if topic not in self._said:
            self._said.add(topic)
            self._unsaid.append(message)

    def close(self) -> None:
        """Let go of the connections."""
        with self._lock:
            client, self._client = self._client, None
            self.away = False
            self._wake.set()
            self._wake = threading.Event()
        if client is not None:
            client.close()

    def _say(self) -> None:
        with self._lock:
            messages, self._unsaid = self._unsaid, []
        for message in messages:
            warn(message)

    def _lose(self, error: Exception) -> None:
        with self._lock:
            if self.away:
                return
            self.away = True
            self._unsaid.append(self._explain(error))
            threading.Thread(
                target=_find_again, args=(ref(self), self._wake), name="memograd-reconnect", daemon=True
            ).start()


def _find_again(where: ref[Link], wake: threading.Event) -> None:
    """Try to reach the server, less and less often, as long as anybody wants it."""
    wait = SOONEST
    while not wake.wait(wait):
        link = where()
        if link is None:
            return
        try:
            link.client.ping()
        except Exception:  # noqa: BLE001 - a hostile server makes its client raise anything
            wait = min(2 * wait, LATEST)
        else:
            link.away = False
            return
        del link


_links: WeakSet[Link] = WeakSet()
_parents: list[Any] = []


def _in_the_child() -> None:
    for link in list(_links):
        link.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_the_child)
