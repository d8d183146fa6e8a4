"""A function in front of its recordings, as `memo` uses them, with the key left to the test."""

from __future__ import annotations

from typing import Any

from memograd._replay import GONE, Lives, Recording, connected, inside, record, why_not


class Replayed:
    """Answer calls from recordings; `key` says which calls are equal. `calls` counts how often `f` runs.

    With `trial` each call whose arguments have a graph of their own is tried, and nothing of it is held.
    """

    def __init__(
        self,
        f: Any,
        captured: tuple[Any, ...] = (),
        max_bytes: int = 0,
        key: Any = lambda *_, **__: 0,
        *,
        trial: bool = False,
    ) -> None:
        self.f = f
        self.trial = trial
        self.captured = captured
        self.key = key
        self.lives = Lives(max_bytes)
        self.calls = 0
        self.reasons: list[str] = []
        self.last: Recording | None = None

    def run(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return self.f(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        key = self.key(*args, **kwargs)
        scope = inside()
        if scope is not None:
            if (self, key) not in scope.known:
                scope.known[self, key] = self.run(*args, **kwargs)
            return connected(scope.known[self, key])
        reason = why_not(args, kwargs, self.captured)
        if reason is not None:
            self.reasons.append(reason)
            return self.run(*args, **kwargs)
        recording = self.lives.get(key)
        output = GONE if recording is None else recording.again(args, kwargs, self.captured)
        return self.anew(key, args, kwargs) if output is GONE else output

    def anew(self, key: Any, args: Any, kwargs: Any) -> Any:
        self.lives.sweep()
        output, recording, reason = record(self.run, args, kwargs, self.captured, trial=self.trial)
        self.reasons += [reason] if reason else []
        if recording is not None and recording.graph is not None:
            self.lives.put(key, recording)
            self.last = recording
        return output
