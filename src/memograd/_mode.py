"""How a remembered function is used: whether results are looked for, and whether they are stored.

| mode | looks | stores | a call |
|---|---|---|---|
| `use` | yes | yes | is looked for, else computed and stored |
| `refresh` | no | yes | is computed and stored in place of what was there |
| `read` | yes | no | is looked for, else computed |
| `off` | no | no | is the plain call: no key is made, nothing counted, nothing warned of |

`MEMOGRAD` in the environment names a mode, too, read when a function is wrapped. Both must allow what is done, so
`MEMOGRAD=off` turns all off, `MEMOGRAD=read` lets nothing be stored, and `read` with `refresh` is `off`.

`refresh` is about what was remembered before: what the outermost call in progress has itself computed is new, and is
found again, else a refreshed recursion would take exponential time. So is what another thread is just computing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from memograd._errors import warn

if TYPE_CHECKING:
    from collections.abc import Mapping


class Mode(NamedTuple):
    """What may be done for a call."""

    looks: bool
    stores: bool

    @property
    def name(self) -> str:
        """The name by which it is asked for."""
        return _NAMES[self]

    @property
    def off(self) -> bool:
        """Whether nothing is to be done."""
        return not (self.looks or self.stores)

    def within(self, other: Mode) -> Mode:
        """Allow what both allow."""
        return Mode(self.looks and other.looks, self.stores and other.stores)


MODES = {
    "use": Mode(looks=True, stores=True),
    "refresh": Mode(looks=False, stores=True),
    "read": Mode(looks=True, stores=False),
    "off": Mode(looks=False, stores=False),
}
_NAMES = {mode: name for name, mode in MODES.items()}
VARIABLE = "MEMOGRAD"


def mode_of(asked: object, environ: Mapping[str, str]) -> Mode:
    """Find the mode that a function is wrapped with. Raises `ValueError` for one that there is not."""
    if not isinstance(asked, str) or asked not in MODES:
        raise ValueError(f"memo() got mode={asked!r}, expected one of {_LIST}; write mode='use', or leave it out")
    return MODES[asked].within(_environment(environ))


def _environment(environ: Mapping[str, str]) -> Mode:
    named = environ.get(VARIABLE, "").strip().lower() or "use"
    if named in MODES:
        return MODES[named]
    # Whoever sets it wants less than what is done without it.
    warn(f"the environment has {VARIABLE}={named!r}, expected one of {_LIST}; nothing is remembered")
    return MODES["off"]


_LIST = ", ".join(map(repr, MODES))
