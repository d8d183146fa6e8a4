"""Does it pay to remember a function? An account of seconds, and the three levels that follow from it.

NOTE [account] What a call costs beside computing (its key, the look into the store, the put) is taken from the account;
a part of what it computes, and all that a hit saves, is paid in. The account holds so much and no more, so that good
times long ago do not pay for bad ones: Page's cumulative sum (Continuous inspection schemes, Biometrika 1954). So
whatever the calls are like, they cost a part of what they compute, what they save, and a constant.

on:   values are stored. Half the account spent: to the door. So also when nothing was asked for again for very long
      in a store that dies with the process; in one that outlives it, that is no evidence: the next process may ask.
door: the keys alone are noted, and a value is stored when it is computed again. Account spent: off. Back on as soon as
      the second sights would have saved more than the puts of all others would have cost.
off:  the plain call. To the door for a few calls when `wait` calls have passed and the time that they took has
      refilled the account; if nothing is seen again there, off for twice as many.
"""

from __future__ import annotations

from array import array
from time import perf_counter
from typing import TYPE_CHECKING

from memograd._dice import Dice

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Literal, TypeAlias

    Level: TypeAlias = "Literal['on', 'door', 'off']"

SHARE = 0.03  # of the seconds computed: what remembering may cost
GRACE = 0.1  # seconds that may be lost before anything is decided, beside the time of one call
LEAST = 8  # calls before a level is left: a single one may have met anything
PROBE = 16  # calls at the door in which something must be asked for again, or it is shut
WAITS = 32, 8192  # calls between two probes, at first and at most; each probe in vain doubles them
DROUGHT = 100_000  # calls without a hit after which a store that dies with the process keeps keys only
GAP = 15  # calls in a row, fewer than this, that go untimed while the account is full


class Door:
    """Digests that were seen lately, in a table of fixed size: a new one takes the place of whichever stood there."""

    __slots__ = ("slots", "table")

    def __init__(self, slots: int = 1 << 17) -> None:
        self.slots = slots
        self.table: array[int] | None = None  # a megabyte, for functions that come to need it

    def sees(self, digest: int) -> bool:
        """Tell whether a digest was seen before, and note it."""
        if self.table is None:
            self.table = array("Q", bytes(8 * self.slots))
        digest = digest & 0xFFFF_FFFF_FFFF_FFFF or 1
        slot = digest % self.slots
        if self.table[slot] == digest:
            return True
        self.table[slot] = digest
        return False


class Pays:
    """The account of one wrapped function.

    Told of outermost calls only, not of those whose keys are a few plain values, nor of those that waited for
    another's lease. Threads may race: that loses a number, never a call.

    Args:
        always: stay on, whatever it costs.
        lasting: the store outlives the process.

    Attributes:
        off, door: the level, as the wrapper tests it; both False when on.
        key, lookup, put, compute, saved: seconds in all, for statistics; those of untimed calls by estimate.
        typical, putting: what a call computes, and what a put takes, of late.
        wish: by how much second sights at the door outweigh the puts that it spares.
        aside: it was said that the function is called plainly, and nothing else since.
    """

    __slots__ = (
        *("off", "door", "always", "lasting", "aside", "probing"),
        *("key", "lookup", "put", "compute", "saved"),
        *("credit", "wish", "typical", "putting"),
        *("told", "sights", "dry", "stay", "gap", "untimed", "rest", "wait", "since"),
        *("seen", "dice", "within"),
    )

    def __init__(self, *, always: bool = False, lasting: bool = False) -> None:
        self.always = always
        self.lasting = lasting
        self.dice = Dice()
        # The threads or tasks in which the function runs plainly: met again in one of them, it calls itself.
        self.within: set[object] = set()
        self.reset()

    def reset(self) -> None:
        """Begin anew, with a full account."""
        self.key = self.lookup = self.put = self.compute = self.saved = 0.0
        self.credit = GRACE
        self.wish = self.typical = self.putting = 0.0
        self.told = self.sights = self.dry = self.stay = self.gap = self.untimed = self.rest = 0
        self.wait = WAITS[0]
        self.since: float | None = None
        self.off = self.door = self.aside = self.probing = False
        self.seen = Door()

    @property
    def level(self) -> Level:
        """What is done at present."""
        return "off" if self.off else "door" if self.door else "on"

    def keep_on(self) -> None:
        """Stay on from now on: of a function that calls itself, most hits are within a call that misses."""
        self.always = True
        self.off = self.door = self.aside = self.probing = False

    # While off, before anything else is done for a call.

    def skips(self, clock: Callable[[], float], who: object) -> bool:
        """Tell whether an outermost call is to be made plainly. If so, `left(who)` when it has ended.

        Args:
            clock: gives seconds; read once in many calls.
            who: the thread or task that calls.
        """
        if who in self.within:
            self.keep_on()
            return False
        self.rest -= 1
        if self.rest < 0 and self._looks_again(clock()):
            return False
        self.within.add(who)
        return True

    def left(self, who: object) -> None:
        """Note the end of a plain call."""
        self.within.discard(who)

    def _looks_again(self, now: float) -> bool:
        since, self.since = self.since, now
        if since is None:
            self.rest = self.wait - 1
            return False
        self.credit = min(self.credit + SHARE * (now - since), GRACE / 2)
        if self.credit < 0:
            self.rest = WAITS[0] - 1
            return False
        self._enter("door")
        self.probing = True
        return True

    # Around a call that is not skipped.

    def timed(self) -> bool:
        """Tell whether to time and tell this call: each one, until the account is full; then one in eight."""
        if self.gap > 0:
            self.gap -= 1
            self.untimed += 1
            return False
        return True

    def sees(self, digest: int) -> bool:
        """Tell, at the door, whether a call was seen before: only then is its value stored."""
        return self.seen.sees(digest)

    def missed(self, key: float, lookup: float, put: float, compute: float, *, again: bool = False) -> str:
        """Tell of a call that was computed, or that raised, in seconds.

        Args:
            again: what `sees` said.

        Returns:
            What has changed thereby, as words for the user; empty where nothing has.
        """
        calls = self._counted(key, lookup)
        self.put += calls * put
        self.compute += calls * compute
        self.dry += calls
        self._learn(put, compute)
        # Had the value been stored at first sight, a second would have been a hit.
        earned, wish = (compute, compute) if again else (SHARE * compute, -self.putting)
        return self._judge(calls * (earned - key - lookup - put), wish, again)

    def hit(self, key: float, lookup: float, saved: float | None = None) -> str:
        """Tell of a hit, in seconds, and of the computation that it saved, if that is known. Returns as `missed`.

        Where nothing has been computed yet and the entry does not say, a hit is taken for worth what it costs.
        """
        calls = self._counted(key, lookup)
        if saved is None:
            saved = self.typical or key + lookup
        self.saved += calls * saved
        self.dry = 0
        return self._judge(calls * (saved - key - lookup), 0.0, sight=True)

    def _counted(self, key: float, lookup: float) -> int:
        calls, self.untimed = 1 + self.untimed, 0
        self.key += calls * key
        self.lookup += calls * lookup
        self.stay += calls
        return calls

    def _learn(self, put: float, compute: float) -> None:
        if not self.typical:
            self.typical = compute
            self.credit += compute
        self.typical += (compute - self.typical) / LEAST
        if put:
            self.putting += (put - self.putting) / LEAST

    def _judge(self, earned: float, wish: float, sight: bool) -> str:
        self.told += 1
        self.sights += sight
        self.wish = max(0.0, self.wish + wish)
        self.credit += earned
        # One call's time besides: else a hit in a hundred could not keep a function of seconds on.
        full = GRACE + self.typical
        if self.credit >= full:
            self.credit = full
            self.gap = 0 if self.door else int(self.dice.below(GAP))
        if self.always or self.off or self.told < LEAST:
            return ""
        return self._at_the_door(full) if self.door else self._on()

    def _on(self) -> str:
        if self.credit < GRACE / 2:
            return self._enter("door", f"{self._price()}; from now on a result is stored when it is computed again")
        if self.dry >= DROUGHT and not self.lasting:
            reason = f"none of {self.dry:,} results was asked for; from now on one is stored when it is computed again"
            return self._enter("door", reason)
        return ""

    def _at_the_door(self, full: float) -> str:
        over = self.probing and self.told >= PROBE
        if self.credit < 0 or (over and not self.sights):
            return self._step_aside()
        self.probing = self.probing and not over
        if self.wish >= GRACE:
            return self._enter("on", "calls repeat; from now on every result is stored")
        if self.aside and self.credit >= full:
            self.aside = False
            return "remembering pays again; from now on a result is stored when it is computed again"
        return ""

    def _step_aside(self) -> str:
        # A stay that has outlasted the wait before it was worth the look.
        worth = not self.aside or self.stay > self.wait
        self.wait = WAITS[0] if worth else min(2 * self.wait, WAITS[1])
        said, self.aside = self.aside, True
        return self._enter(
            "off", "" if said else f"{self._price()}; from now on it is called plainly, most of the time"
        )

    def _price(self) -> str:
        share = (self.key + self.lookup + self.put) / max(self.compute, 1e-9)
        return f"keys and store cost {share:.0%} of what was computed, and hits did not save as much"

    def _enter(self, level: Level, reason: str = "") -> str:
        self.off, self.door = level == "off", level == "door"
        self.told = self.sights = self.gap = self.untimed = 0
        self.wish = 0.0
        self.probing = False
        if level == "off":
            self.since, self.rest, self.stay = None, 0, 0
        if level == "on":
            self.aside, self.dry = False, 0
        return reason


class Watch:
    """The seconds that one outermost call takes, for the account of its function."""

    __slots__ = ("_began", "_begun", "_computed", "_keyed", "_looked", "_pays", "_preparing", "again")

    def __init__(self, pays: Pays) -> None:
        self._pays = pays
        self._began = self._keyed = self._looked = self._begun = self._computed = perf_counter()
        self._preparing = 0.0
        self.again = False

    def sees(self, key: Hashable) -> bool:
        """Tell whether a call was seen before."""
        self.again = self._pays.sees(hash(key))
        return self.again

    def keyed(self) -> None:
        """Note that the key is made."""
        self._keyed = perf_counter()

    def looked(self) -> None:
        """Note that the store has been looked into."""
        self._looked = self._begun = self._computed = perf_counter()

    def prepared(self, since: float, begun: float) -> None:
        """Note that since a moment it was noted what the call may change, and when the function begins."""
        self._preparing, self._begun = begun - since, begun

    def computed(self) -> None:
        """Note that the function has returned."""
        self._computed = perf_counter()

    def hit(self) -> str:
        """Tell of a hit; give what has changed thereby."""
        return self._pays.hit(self._keyed - self._began, self._looked - self._keyed)

    def missed(self) -> str:
        """Tell of a call that was computed and is remembered by now; give what has changed thereby."""
        # What others have kept it waiting, between the look and the preparing, is nobody's account.
        key, lookup = self._keyed - self._began, self._looked - self._keyed + self._preparing
        put, compute = perf_counter() - self._computed, self._computed - self._begun
        return self._pays.missed(key, lookup, put, compute, again=self.again)
