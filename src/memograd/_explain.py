"""Why a call is, or is not, remembered: what its key is made of, and what has been said of the function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from memograd._errors import NoIdentityError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memograd._key import Key
    from memograd._recall import Recall


class Explanation(NamedTuple):
    """What a call depends on. Prints as lines for people.

    Attributes:
        key: the call, as its key prints; why it has none, if it has none.
        remembered: whether its result would come back without computing.
        reads: what the code reads beside its arguments and may change in place.
        effects: what the code changes, which a remembered call does not do again.
        modes: the modes of torch, if they count for this call.
        draws: the random streams that the call draws from.
        said: what was said of the function so far: why calls were not remembered, and the like.
        nearest: of a call that is not remembered, the one that is and differs least; "" if none of the function is.
        differs: in what, by name.
        stored: with a store behind memory, whether it has the result, and if not, why not; "" without.
    """

    key: str
    remembered: bool
    reads: tuple[str, ...]
    effects: tuple[str, ...]
    modes: str
    draws: tuple[str, ...]
    said: tuple[str, ...]
    nearest: str
    differs: tuple[str, ...]
    stored: str

    def __str__(self) -> str:
        lines = [f"{self.key}: {'remembered' if self.remembered else 'not remembered'}"]
        for name in ("reads", "effects", "draws"):
            lines += [f"  {name}: {', '.join(getattr(self, name))}"] if getattr(self, name) else []
        lines += [f"  modes: {self.modes}"] if self.modes else []
        lines += [f"  store: {self.stored}"] if self.stored else []
        lines += [f"  nearest: {self.nearest}, which differs in {', '.join(self.differs)}"] if self.nearest else []
        return "\n".join([*lines, *(f"  said: {reason}" for reason in self.said)])


def explain(recall: Recall, values: Sequence[Any]) -> Explanation:
    """Explain a call from the values of its parameters."""
    subject = recall.subject
    try:
        key, base = recall.key(values), recall.base(values)
        text, modes, draws = repr(key), subject.modes_of(base.function), recall.draws.signposts.get(base, ())
        remembered = recall.holds(values)
        nearest, differs = ("", ()) if remembered else _nearest(recall, key)
        stored = "" if recall.far is None else recall.far.explain(key)
    except NoIdentityError as error:
        text, modes, draws, remembered, nearest, differs, stored = str(error), "", (), False, "", (), ""
    reads = tuple(one.path for one in subject.captured)
    said = tuple(recall.voice.said.values())
    return Explanation(
        text, remembered, reads, tuple(sorted(subject.effects)), modes, draws, said, nearest, differs, stored
    )


def _nearest(recall: Recall, key: Key) -> tuple[str, tuple[str, ...]]:
    """Find the remembered call that differs least, and say in what."""
    texts = key.texts
    own = recall.shelf.keys()
    known = [(repr(other), other.texts) for other in own]
    known += [] if recall.far is None else [(info.about.text, info.about.parts) for info in recall.far.infos()]
    if not known:
        return "", ()
    apart = [(text, tuple(n for n in texts | parts if texts.get(n) != parts.get(n))) for text, parts in known]
    text, differs = min(apart, key=lambda each: len(each[1]))
    # All that is in the key and has no name of its own.
    return text, differs or ("its code, or the modes",)
