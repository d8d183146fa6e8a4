"""Does it pay? An account of seconds for one of the two things that are done with rows; see `memograd._pays`.

What finding and keeping rows costs is taken from it, what that saves is paid in, and a small part of all that is
computed. It holds so much and no more (Page's cumulative sum). Once it is spent, calls are plain, but for a few after
every so many: if those save something, they are the first of many again, and if not, the wait doubles.

Where rows will come again (the next epoch, the next process) an account is patient: an epoch without a hit is no
evidence, but for what takes longer to find than to compute, which would not pay if all were hits.
"""

from __future__ import annotations

SHARE = 0.01  # of the seconds computed: what finding may cost
GRACE = 0.1  # seconds that may be lost at first
PATIENCE = 60.0  # the same where rows will come again
LOOKS = 8  # calls that are looked at after a wait
WAITS = 32, 4096


class Account:
    """The account of one thing.

    Args:
        always: never step aside.
        patient: rows will come again.

    Attributes:
        saved, spent: seconds in all.
        row: what computing a row takes, of late; 0 while nobody knows.
    """

    def __init__(self, *, always: bool = False, patient: bool = False) -> None:
        self.always, self._patient = always, patient
        self.reset()

    def reset(self) -> None:
        """Begin anew, with a full account."""
        self.saved = self.spent = self.row = 0.0
        self._credit = self._full = self._grace
        self._vain = 0.0  # seconds that would be lost if all that was computed had been found
        self._looks = self._rest = 0
        self._wait = WAITS[0]
        self.on = self._first = True

    @property
    def _grace(self) -> float:
        return max(PATIENCE, GRACE) if self._patient else GRACE

    def skips(self) -> bool:
        """Tell whether to leave a call alone."""
        if self.on or self.always:
            return False
        self._rest -= 1
        if self._rest > 0:
            return True
        self.on, self._looks, self._credit = True, LOOKS, GRACE / 4
        return False

    def computed(self, seconds: float, rows: int) -> None:
        """Note what rows took to compute."""
        if rows:
            row = seconds / rows
            self.row = row if not self.row else self.row + (row - self.row) / 8
            self._full = self._grace + seconds

    def tell(self, spent: float, computed: float, spared: int) -> bool:
        """Tell of a call.

        Args:
            spent: seconds for finding and keeping.
            computed: seconds in the function.
            spared: rows that were not computed.

        Returns:
            Whether this was one too many.
        """
        # A row that nobody has computed here yet is taken for worth what it costs.
        saved = spared * self.row if self.row else spent * (spared > 0)
        if self._first:  # imports what it needs
            self._first = False
            spent = 0.0
        self.saved += saved
        self.spent += spent
        self._credit = min(self._credit + saved + SHARE * computed - spent, self._full)
        self._vain = max(0.0, self._vain + spent - computed - saved)
        if self.always or not self.on:
            return False
        if self._looks:
            self._looks -= 1
            if saved > spent:
                self._looks, self._wait, self._credit = 0, WAITS[0], self._full
            elif not self._looks:
                return self._aside()
        return (self._credit < 0 or self._vain > GRACE) and self._aside()

    def _aside(self) -> bool:
        self.on, self._rest, self._looks, self._vain = False, self._wait, 0, 0.0
        self._wait = min(2 * self._wait, WAITS[1])
        return True
