"""What a wrapped function is at this moment: its code and all that it reaches, and the modes that it depends on.

A *version* stands for one state of all that; keys name a version. What changes seldom (code, globals, modes) makes a
version, and a hit looks only whether it is still the current one. What changes in place (a list, a module that the
code reads) is looked at at every call, as if it were an argument.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

from memograd._ambient._surroundings import modes_now
from memograd._errors import NoIdentityError
from memograd._key import Function, Key, cells_of, is_log, key_of
from memograd.fingerprint._content import writings_of_keys
from memograd.fingerprint._form import PLAIN
from memograd.fingerprint._origin import imported_as

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import CodeType

    from memograd.fingerprint._code import Reach
    from memograd.fingerprint._guards import Check
    from memograd.fingerprint._walk import Captured
    from memograd.store import Store


_MOST = 1000  # versions


class Telling:
    """What tells that a version is the current one.

    Attributes:
        check: in source.
        tell: as a function. It gives the version itself, or None, and not whether it is current: between asking and
            reading it, another thread, in which other modes are in force, might have put another one in its place.
        code: of the wrapper for this version, once it is made.
    """

    __slots__ = ("check", "code", "tell", "version")

    def __init__(self, version: Function, check: Check) -> None:
        self.version = version
        self.check = check
        self.tell: Callable[[], Function | None] = check.built(version)
        self.code: CodeType | None = None


class Subject:
    """A wrapped function in all its versions.

    Args:
        f: the function.
        name: as keys print it.
        parameters: names of its parameters.
        version: what the user says the code is; None to look at the code.
        trust: whether tensors are taken for unchanged while their version counters are.
        own: how many of the first arguments stand for themselves.
        digest: how bytes are digested.

    Attributes:
        writings: how arguments are written, and what the code reads.
        current: how the version for plain arguments is told quickly; None where it cannot be.
        face: stands for the function in events, where no version can be told.
        captured: values that the code reads and that may change in place.
        open: whether the code may reach anything, random streams among it.
        draws: whether the code may reach a random stream.
        peeks: whether the code may look at a random stream that it leaves where it was.
        effects: names that are no inputs, since the code itself changes what they stand for.
        listeners: called with ``current`` when it has become another.
    """

    def __init__(
        self,
        f: Callable[..., Any],
        name: str,
        parameters: Sequence[str],
        version: str | None = None,
        *,
        trust: bool = False,
        own: int = 0,
        digest: str = "xxh3",
    ) -> None:
        self.f = f
        self.writings = writings_of_keys(digest, trust=trust)
        self.own = own
        self.name = name
        self.parameters = tuple(parameters)
        self.stated = version
        self.face = Function(name, self.parameters, self)
        self.effects: frozenset[str] = frozenset()
        self.captured: tuple[Captured, ...] = ()
        self.open = True
        self.draws = True
        self.peeks = False
        self.current: Telling | None = None
        self.listeners: list[Callable[[Telling | None], None]] = []
        self._versions: dict[tuple[bytes, Any], Function] = {}
        self._state = b""
        self._reach: Reach | None = None
        self._same: Callable[[], bool | None] = _never
        # What tells the version while nothing has changed: where all arguments are plain, and where not.
        self._tells: dict[bool, Callable[[], Function | None]] = {True: _unknown, False: _unknown}
        self._known: dict[tuple[Function, bool], Telling] = {}
        self._written: dict[Function, bytes] = {}

    def key(self, values: Sequence[Any], reads: dict[object, Any] | None = None) -> Key:
        """Make the key of a call from the values of the parameters. Raises `NoIdentityError`, naming the path.

        Args:
            values: of the parameters.
            reads: where a recursion of this function, and of none besides, keeps what it reads. What it changes of
                containers of plain values itself is an effect, and no input: they are looked at once.
        """
        function = self.settle(plain=PLAIN.issuperset(map(type, values)))
        key = key_of(function, values, self.writings[0], self.own)
        return Key(key + self._read(reads)) if self.captured else key

    def _read(self, reads: dict[object, Any] | None) -> tuple[Any, ...]:
        captured = self.captured
        kept = None if reads is None else reads.get(self)
        if kept is None or kept[0] is not captured:
            cells = self.cells()
        elif kept[2]:
            return kept[1]
        else:
            fresh = [(one.path, one.value) for one in captured]
            cells = tuple(
                cell
                for at, read in enumerate(fresh)
                for cell in (kept[1][2 * at : 2 * at + 2] if is_log(read[1]) else self._cells([read]))
            )
        if reads is not None:
            self.keep(reads, cells)
        return cells

    def reads(self) -> list[Any]:
        """List the values that the code reads beside its arguments."""
        return [one.value for one in self.captured]

    def keep(self, reads: dict[object, Any], cells: tuple[Any, ...]) -> None:
        """Keep what is read for a recursion; where all of it is containers of plain values, as it is."""
        reads[self] = self.captured, cells, all(is_log(one.value) for one in self.captured)

    def is_kept(self, reads: Mapping[object, Any]) -> bool:
        """Tell whether all that is read is kept for a recursion."""
        return self in reads and reads[self][2]

    def cells(self) -> tuple[Any, ...]:
        """Make the cells of a key for what the code reads."""
        return self._cells([(one.path, one.value) for one in self.captured])

    def _cells(self, reads: Sequence[tuple[str, object]]) -> tuple[Any, ...]:
        return cells_of(self.name, reads, self.writings[1])

    def settle(self, *, plain: bool) -> Function:
        """Give the current version; code that has changed is followed anew.

        Args:
            plain: whether all arguments are plain; others may be tensors, and then modes count whatever the code is.
        """
        told = self._tells[plain]()
        if told is not None:
            return told
        if not self._same():
            self._follow()
        watched = self.open or not plain
        modes = _modes() if watched else None
        version = self._version(modes)
        telling = self._known.get((version, watched))
        if telling is None:
            telling = self._known[version, watched] = _telling(self._reach, version, modes, watched=watched)
        self._tells[plain] = telling.tell
        if plain and not self.captured:
            self._becomes(telling)
        return version

    def _forget(self) -> None:
        self._known = {}
        self._tells = {True: _unknown, False: _unknown}
        self._becomes(None)

    def _becomes(self, current: Telling | None) -> None:
        self.current = current
        for tell in self.listeners:
            tell(current)

    def code(self) -> bytes:
        """Say what the code is by now: running it may have imported more of it."""
        if not self._same():
            self._follow()
        return self._state

    def modes_of(self, version: Function) -> str:
        """Show the modes of torch that a version is for; nothing where they do not count."""
        modes = next((modes for (_, modes), each in self._versions.items() if each is version), None)
        return "" if modes is None else ", ".join(f"{name} {value}" for name, value in modes._asdict().items())

    @property
    def has_name(self) -> bool:
        """Whether other processes know the function: by its code, or, where its user says that, by a name of its own.

        What is made within a function, a lambda and an object that is called share their names with others.
        """
        return self.stated is None or (type(self.f) is FunctionType and "<" not in self.f.__qualname__)

    def written(self, version: Function) -> bytes:
        """Write down what a version is, the same in every process and on every machine that computes alike."""
        known = self._written.get(version)
        if known is None:
            known = self._written[version] = self._write(version)
        return known

    def _write(self, version: Function) -> bytes:
        if version.base is not None:
            return b"streams " + self.written(version.base)
        state, modes = version.state
        # What the user says the code is, is said of one function.
        home = b"" if self.stated is None else f"{full_name(self.f)} {script_of(self.f)}".encode()
        return joined([FORMAT, home, state, repr(self.parameters).encode(), machine(modes).encode()])

    def ignore(self, paths: Iterable[str]) -> None:
        """Take values that the code itself changes for effects: they are no inputs from now on."""
        self.effects |= frozenset(paths)
        self._same = _never
        self._forget()

    def _follow(self) -> None:
        from memograd.fingerprint._code import reach  # reading bytecode takes longer to import than all the rest

        found = reach(self.f, self.effects) if self.stated is None else None
        self._state = (self.stated or "").encode() if found is None else found.stream
        self.captured = () if found is None else found.captured
        self.effects |= frozenset(() if found is None else found.effects)
        self.open = found is None or found.open
        self.draws = found is None or found.draws
        self.peeks = found is not None and found.peeks
        self._reach = found
        self._same = _always if found is None else found.guard
        self._forget()

    def _version(self, modes: Any) -> Function:
        state = self._state, modes
        found = self._versions.get(state)
        if found is None:
            while len(self._versions) >= _MOST:  # of a global that counts, say: its old values come no more
                self._versions.pop(next(iter(self._versions)), None)
                self._known.clear()
                self._written.clear()
            names = (*self.parameters, *(one.path for one in self.captured))
            found = self._versions.setdefault(state, Function(self.name, names, self, state=state))
        return found


def digest_for(store: Store | None) -> str:
    """Name the digest for keys in a store: where others write, too, one for which nobody finds two equal."""
    return "blake3" if store is not None and store.shared else "xxh3"


# Of keys that outlive the process: docs/formats/key.md.
FORMAT = b"memograd key 1"


def joined(chunks: Iterable[bytes]) -> bytes:
    """Put bytes behind each other so that they can be told apart again: each behind its length."""
    return b"".join(len(chunk).to_bytes(8, "little") + chunk for chunk in chunks)


def machine(modes: Any) -> str:
    """Say on what a function computes, by all that can change what it gives; `modes` are torch's, or None."""
    python = f"{sys.implementation.cache_tag} {sys.byteorder}"
    if modes is None:
        return python
    from memograd._ambient._torch import build

    return f"{python}; {build(cuda=bool(modes.cuda))}; {modes!r}"


def script_of(f: Any) -> str:
    """Say where the script is in which a function is defined; "" for one of a module, which has a name of its own."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return str(Path(file).resolve()) if file and getattr(f, "__module__", "") == "__main__" else ""


def full_name(f: Any) -> str:
    """Name a function with its module; a script is named as it would be if it were imported."""
    module = imported_as(str(getattr(f, "__module__", "")))
    return f"{module}.{getattr(f, '__qualname__', type(f).__qualname__)}"


def _unknown() -> Function | None:
    return None


def _never() -> bool:
    return False


def _always() -> bool:
    return True


def _modes() -> Any:
    """Read the modes of torch, None while it is not loaded. Raises `NoIdentityError` in any that may change all."""
    modes = modes_now()
    if modes is not None:
        from memograd._ambient._torch import unusual

        reason = unusual()
        if reason:
            raise NoIdentityError(f"{reason}, which may change what any operation gives")
    return modes


def _telling(found: Reach | None, version: Function, modes: Any, *, watched: bool) -> Telling:
    """Make what tells the version while code and modes are as they are now."""
    from memograd.fingerprint._guards import Guards

    terms: list[tuple[str, tuple[object, ...]]] = []
    if watched and modes is None:
        terms.append(("{}('torch') is None", (sys.modules.get,)))
    elif watched:
        from memograd._ambient._torch import terms_of

        terms = terms_of(modes)
    check = (Guards({}) if found is None else found.guards).check(terms)
    return Telling(version, check)
