"""Whether a store pays for one function, and how long to wait for others: by what computing and reading took."""

from __future__ import annotations

# Seconds to wait at most for another process, or host, that computes: of a function that was not computed here yet, and
# of any other, of which it is ten times as long as its longest call if that is more.
PATIENCE_AT_FIRST = 600.0
PATIENCE = 60.0
_LOOK_AGAIN = 32  # calls of a function that is computed sooner than it is read, until one is looked for again


class Worth:
    """Whether to ask a store, and to give to it, by what computing and reading took of late.

    Attributes:
        reading: seconds that a look takes.
    """

    __slots__ = ("_computing", "_longest", "_passed", "reading")

    def __init__(self) -> None:
        self._computing: float | None = None
        self._longest = 0.0
        self.reading = 20e-6
        self._passed = 0

    @property
    def pays(self) -> bool:
        """Whether computing takes longer than reading."""
        return self._computing is None or self._computing > self.reading

    @property
    def patience(self) -> float:
        """Seconds to wait at most for another who computes."""
        return max(PATIENCE, 10 * self._longest) if self._longest else PATIENCE_AT_FIRST

    def looks(self) -> bool:
        """Tell whether to look for a result: where computing takes longer, and else now and then."""
        if self.pays:
            return True
        self._passed += 1
        return self._passed % _LOOK_AGAIN == 0

    def note_computed(self, seconds: float) -> None:
        """Note what a result took to compute."""
        self._longest = max(self._longest, seconds)
        self._computing = seconds if self._computing is None else 0.9 * self._computing + 0.1 * seconds

    def note_read(self, seconds: float) -> None:
        """Note what a look took."""
        # The first opens files and imports what it needs.
        self.reading = 0.9 * self.reading + 0.1 * min(seconds, 10 * self.reading)

    def takes(self, seconds: float) -> bool:
        """Tell whether to store what took so long to compute."""
        return seconds > self.reading
