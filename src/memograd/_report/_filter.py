"""Which entries: `size>1MB and function~embed`, read by hand into a function of an entry, so that nothing is run.

choice  = every ("or" every)*
every   = one ("and" one)*
one     = "not" one | "(" choice ")" | "pinned" | field operator value
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from memograd.store._fields import ALIASES
from memograd.store._units import SIZES, TIMES, read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from memograd.store import Info

Test: TypeAlias = "Callable[[Info, float], bool]"

_TOKEN = re.compile(
    r"\s*(?:(?P<mark>[()]|[<>!]=|[<>=~])|\"(?P<quoted>[^\"]*)\"|'(?P<single>[^']*)'|(?P<word>[^\s()<>=~!\"']+))"
)
_DEEP = 50

# Numbers of an entry, at a time: how they are found, and the units that they may have.
NUMBERS: Mapping[str, tuple[Callable[[Info, float], float], Mapping[str, float]]] = {
    "size": (lambda info, _: info.nbytes, SIZES),
    "seconds": (lambda info, _: info.about.seconds, TIMES),
    "saved": (lambda info, _: info.saved, TIMES),
    "hits": (lambda info, _: info.hits, {"": 1}),
    "created": (lambda info, now: now - info.about.created, TIMES),
    "used": (lambda info, now: now - info.used, TIMES),
}
TEXTS: Mapping[str, Callable[[Info], tuple[str, ...]]] = {
    "function": lambda info: (info.about.function,),
    "text": lambda info: (info.about.text,),
    "tags": lambda info: info.about.tags,
}
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">": lambda a, b: a > b, "<": lambda a, b: a < b, ">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b,
    "=": lambda a, b: a == b, "!=": lambda a, b: a != b,
}  # fmt: skip
FIELDS = (*NUMBERS, *TEXTS, "pinned")


class FilterError(ValueError):
    """A filter that cannot be read; the message shows where."""

    def __init__(self, text: str, at: int, said: str) -> None:
        super().__init__(f"{said}\n  {text}\n  {' ' * at}^")


class Token(NamedTuple):
    """A word or a mark, and where it is."""

    text: str
    at: int
    kind: str


def parse(text: str) -> Test:
    """Read a filter.

    Raises:
        FilterError: it cannot be read.

    Example:
        >>> from memograd.store import About, Info
        >>> large = parse("size > 1MB and not function ~ embed")
        >>> large(Info(b"key", About(function="loss"), nbytes=2_000_000), 0.0)
        True
    """
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(tokens(text))
        self.at = 0
        self.deep = 0

    def whole(self) -> Test:
        test = self.choice()
        if self.next.kind != "end":
            raise self.error(f"got {self.next.text!r}, expected `and`, `or` or the end")
        return test

    @property
    def next(self) -> Token:
        return self.tokens[self.at]

    def take(self, *texts: str) -> Token | None:
        token = self.next
        if token.kind in {"word", "mark"} and token.text.lower() in texts:
            self.at += 1
            return token
        return None

    def error(self, said: str, at: int | None = None) -> FilterError:
        return FilterError(self.text, self.next.at if at is None else at, said)

    def choice(self) -> Test:
        tests = [self.every()]
        while self.take("or"):
            tests.append(self.every())
        return tests[0] if len(tests) == 1 else lambda info, now: any(test(info, now) for test in tests)

    def every(self) -> Test:
        tests = [self.one()]
        while self.take("and"):
            tests.append(self.one())
        return tests[0] if len(tests) == 1 else lambda info, now: all(test(info, now) for test in tests)

    def one(self) -> Test:
        self.deep += 1
        if self.deep > _DEEP:
            raise self.error(f"it is nested more than {_DEEP} deep")
        try:
            return self._one()
        finally:
            self.deep -= 1

    def _one(self) -> Test:
        if self.take("not"):
            test = self.one()
            return lambda info, now: not test(info, now)
        if self.take("("):
            test = self.choice()
            if not self.take(")"):
                raise self.error("a `(` is not closed; expected `)`")
            return test
        return self.comparison()

    def comparison(self) -> Test:
        field = self.next
        name = ALIASES.get(field.text.lower(), field.text.lower())
        if field.kind != "word" or name not in FIELDS:
            near = get_close_matches(name, FIELDS, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise self.error(f"got {field.text or 'nothing'!r}, expected one of {', '.join(FIELDS)}{hint}")
        self.at += 1
        if name == "pinned":
            return lambda info, _: info.about.pinned
        operator = self.take(*_COMPARE, "~")
        if operator is None:
            raise self.error(f"got {self.next.text or 'nothing'!r}, expected > < >= <= = != or ~ after {name}")
        value = self.next
        if value.kind not in {"word", "text"}:
            raise self.error(f"got {value.text or 'nothing'!r}, expected a value after {name} {operator.text}")
        self.at += 1
        return self.of_text(name, operator, value) if name in TEXTS else self.of_number(name, operator, value)

    def of_text(self, name: str, operator: Token, value: Token) -> Test:
        texts, wanted = TEXTS[name], value.text
        if operator.text == "~":
            return lambda info, _: any(wanted.lower() in text.lower() for text in texts(info))
        if operator.text == "=":
            return lambda info, _: wanted in texts(info)
        if operator.text == "!=":
            return lambda info, _: wanted not in texts(info)
        raise self.error(f"{name} is text: got {operator.text!r}, expected = != or ~ (contains)", operator.at)

    def of_number(self, name: str, operator: Token, value: Token) -> Test:
        number, units = NUMBERS[name]
        limit = read(value.text, units)
        if operator.text == "~":
            raise self.error(f"{name} is a number: got '~', expected > < >= <= = or !=", operator.at)
        if limit is None:
            example = {"size": "1.5MB or 2GiB", "hits": "10"}.get(name, "0.5s, 10m, 2h or 7d")
            raise self.error(f"got {value.text!r}, expected a number for {name}, such as {example}", value.at)
        compare = _COMPARE[operator.text]
        return lambda info, now: compare(number(info, now), limit)


def tokens(text: str) -> list[Token]:
    """Cut a filter into words and marks."""
    found: list[Token] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise FilterError(text, at, f"got {text[at]!r}, which is no part of a filter")
        kind = match.lastgroup or ""
        found.append(Token(match[kind], match.start(kind), kind if kind in {"mark", "word"} else "text"))
        at = match.end()
    return [*found, Token("", len(text), "end")]
