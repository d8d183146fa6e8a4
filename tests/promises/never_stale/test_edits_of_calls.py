"""One edit of how a call is written, where the function can see it, or of a file that is passed: another call."""

from __future__ import annotations

import pytest

from memograd import File, Memo, fingerprint

FILES = {
    "a byte": lambda file: file.write_bytes(b"word"),
    "a byte at the end": lambda file: file.write_bytes(b"work\n"),
    "another file in its place": lambda file: (
        file.with_name("other").write_bytes(b"w"),
        file.with_name("other").replace(file),
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_an_edit_of_what_is_in_a_file_is_another_call(name, tmp_path):
    remembered = Memo(strict=True)(lambda x: x)
    file = tmp_path / "text"
    file.write_bytes(b"work")
    key, digest = remembered.cache_key(File(file)), fingerprint(File(file))
    assert (remembered.cache_key(File(file)), fingerprint(File(file))) == (key, digest)
    FILES[name](file)
    assert remembered.cache_key(File(file)) != key
    assert fingerprint(File(file)) != digest


CALLS = {
    "the order of what is passed by free keywords": (lambda f: f(1, b=2, c=3), lambda f: f(1, c=3, b=2)),
    "the name of a free keyword": (lambda f: f(1, b=2), lambda f: f(1, c=2)),
    "an argument more": (lambda f: f(1, 2), lambda f: f(1, 2, 2)),
    "one argument that becomes two": (lambda f: f((1, 2)), lambda f: f(1, 2)),
    "a keyword that becomes an argument": (lambda f: f(1, b=2), lambda f: f(1, 2)),
    "a free keyword that becomes a dictionary": (lambda f: f(1, b=2), lambda f: f(1, {"b": 2})),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_edit_of_how_a_call_is_written_is_another_call_where_the_function_can_see_it(name):
    before, after = CALLS[name]
    variadic = Memo(strict=True)(lambda a, *args, **kwargs: (a, args, kwargs))
    assert before(variadic.cache_key) == before(variadic.cache_key) != after(variadic.cache_key)
    assert repr(before(variadic)) != repr(after(variadic))
