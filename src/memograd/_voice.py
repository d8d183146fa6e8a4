"""What is said of one function: why something is not remembered, once a kind as a warning, each time as an event."""

from __future__ import annotations

from memograd._errors import warn
from memograd._events import Refuse, listeners, tell


class Voice:
    """Speaks of one function.

    Args:
        face: stands for the function in events.

    Attributes:
        said: what was said so far, by its kind.
    """

    def __init__(self, face: object) -> None:
        self.face = face
        self.said: dict[str, str] = {}

    def refuse(self, key: object, reason: str, once: str = "") -> None:
        """Say why something is not remembered."""
        self.tell(key, reason)
        self.say(once or type(key).__name__, reason)

    def tell(self, key: object, reason: str) -> None:
        """Tell of something that is not remembered, as an event alone."""
        if reason and listeners:
            tell(Refuse(key, reason))

    def say(self, kind: str, reason: str) -> None:
        """Warn once a kind, if there is anything to say."""
        if reason and kind not in self.said:
            self.said[kind] = reason
            warn(reason)
