"""`fingerprint(x)`: the digest of what a value is, and `fingerprint.register(type)` for types that hide it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from memograd._errors import NoIdentityError
from memograd.fingerprint._content import identify, plainly
from memograd.fingerprint._digest import Digest
from memograd.fingerprint._dispatch import enroll
from memograd.fingerprint._form import Unidentified

if TYPE_CHECKING:
    from collections.abc import Callable

    F = TypeVar("F", bound=Callable[[Any], object])


class Fingerprint:
    """Digest what a value is: type and content, the same in every process and on every machine.

    Plain values and containers (typed, to the bit; dictionaries in their order), arrays and tensors (content, dtype and
    shape, on whatever device, in whatever layout), modules, optimizers and generators by their state, functions and
    classes by their code and all of the user's that it reaches, objects by class and attributes, `File(path)` by what
    is in the file.

    Args:
        value: anything.
        digest: `"xxh3"`, as fast as memory is read; `"blake3"`, where others may choose the values; or `"blake2b"`.

    Returns:
        The `Digest`.

    Raises:
        NoIdentityError: for what has no content (a lock, an open file, a generator), with the path to it.
        ValueError: for another `digest`.

    Example:
        >>> from memograd.fingerprint import fingerprint
        >>> fingerprint([1, 2]) == fingerprint([1, 2]), fingerprint([1, 2]) == fingerprint([1, 2.0])
        (True, False)
    """

    def __call__(self, value: object, digest: str = "xxh3") -> Digest:
        writing = plainly(digest)
        try:
            return Digest(digest, writing.hash(identify(value, writing)))
        except Unidentified as error:
            raise NoIdentityError(f"fingerprint(): x{error.path} is {error.reason}") from error.__cause__

    @overload
    def register(self, kind: type) -> Callable[[F], F]: ...
    @overload
    def register(self, kind: type, parts: F) -> F: ...
    def register(self, kind: type, parts: Any = None) -> Any:
        """Say what values of exactly this type are made of.

        Args:
            kind: the type.
            parts: a function that gives all that tells two values apart, as plain data. Without it, a decorator.

        Returns:
            The function.

        Example:
            >>> import threading
            >>> from memograd import fingerprint
            >>> @fingerprint.register(threading.Semaphore)
            ... def _(semaphore):
            ...     return semaphore._value
            >>> fingerprint(threading.Semaphore(3)) == fingerprint(threading.Semaphore(3))
            True
        """
        if parts is None:

            def decorate(function: F) -> F:
                return self.register(kind, function)

            return decorate
        enroll(kind, parts)
        return parts


fingerprint = Fingerprint()
register = fingerprint.register
