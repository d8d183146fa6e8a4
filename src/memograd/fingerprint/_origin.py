"""Whose code something is: the user's, which is looked into, or a library's, which is known by name and version."""

from __future__ import annotations

import sys
import sysconfig

# hashlib's own, without the OpenSSL that hashlib loads for its other algorithms.
from _blake2 import blake2b
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

_PYTHON = f"python {sys.version_info[0]}.{sys.version_info[1]}"
_STDLIB: frozenset[str] = getattr(sys, "stdlib_module_names", frozenset())
_OURS = __name__.partition(".")[0]
MAINS = ("__main__", "__mp_main__")  # the program itself; in processes that multiprocessing starts, under both
# Modules of the standard library that bring in code of whoever runs the program.
_NOBODYS = frozenset({*MAINS, ""})
_LOOSE = frozenset(
    "_ctypes _pickle builtins code codeop concurrent copyreg ctypes gc importlib inspect marshal multiprocessing "  # noqa: SIM905 - so it reads
    "pickle pkgutil pydoc random runpy shelve sys types unittest zipimport".split()
)
_libraries: dict[str, str | None] = {}


def library_of(module: object) -> str | None:
    """Name the library and version that a module belongs to; None for a user's module."""
    root = _root(module)
    if root not in _libraries:
        found = _library(root)
        if root not in sys.modules:
            return found  # what it is when it is there, that will tell
        _libraries[root] = found
    return _libraries[root]


def is_stdlib(module: object) -> bool:
    """Tell whether a module is of the standard library."""
    return library_of(module) == _PYTHON


def reaches_itself_only(module: object) -> bool:
    """Tell whether a module is of the standard library and runs no code but its own and what it is given."""
    return is_stdlib(module) and _root(module) not in _LOOSE


def imported_as(module: str) -> str:
    """Name a module; the program itself by the name under which it would be imported, where it has one."""
    if module not in MAINS:
        return module
    main = _space(sys.modules.get(module))
    spec, file = main.get("__spec__"), main.get("__file__")
    return (str(spec.name) if spec is not None else _stem(str(file or ""))) or MAINS[0]


@cache
def _stem(file: str) -> str:
    return Path(file).name.removesuffix(".py")


@cache
def binary_of(module: object) -> str:
    """Say what a user's compiled module is, which has no code to look into: what its file holds when first met."""
    file = str(_space(sys.modules.get(str(module))).get("__file__") or "")
    if not file.endswith(tuple(EXTENSION_SUFFIXES)):
        return ""
    try:
        return blake2b(Path(file).read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return ""


def _root(module: object) -> str:
    return module.partition(".")[0] if isinstance(module, str) else ""


def _library(root: str) -> str | None:
    if root in _NOBODYS:
        return None
    if root in _STDLIB and not _is_shadowed(root):
        return _PYTHON
    if root == _OURS or _is_installed(root):
        return f"{root} {_version(root)}"
    return None


def _is_shadowed(root: str) -> bool:
    """Tell whether a file of the user's has the name of a module of the standard library, such as `code.py`."""
    file = _file(root)
    return file not in {None, "built-in", "frozen"} and _places().isdisjoint(Path(str(file)).resolve().parents)


def _is_installed(root: str) -> bool:
    file = _file(root)
    if file is None:
        return root in sys.builtin_module_names
    return not _places().isdisjoint(Path(file).resolve().parents)


def _file(root: str) -> str | None:
    """Find where a module lies, or will be found; a namespace package lies where its first part does."""
    module = sys.modules.get(root)
    if module is None:
        return _origin(root)
    space = _space(module)
    return space.get("__file__") or next(iter(space.get("__path__") or ()), None)


def _space(module: object) -> dict[str, Any]:
    """Give what a module holds; to ask the module would run the `__getattr__` that it may define."""
    try:
        return object.__getattribute__(module, "__dict__")
    except AttributeError:
        return {}


def _origin(root: str) -> str | None:
    from importlib.util import find_spec

    try:
        spec = find_spec(root)
    except (ImportError, ValueError):
        return None
    return None if spec is None else spec.origin or next(iter(spec.submodule_search_locations or ()), None)


@cache
def _places() -> frozenset[Path]:
    names = ("purelib", "platlib", "stdlib", "platstdlib")
    found = {Path(sysconfig.get_path(name)).resolve() for name in names}
    found |= {Path(entry).resolve() for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))}
    return frozenset(found)


@cache
def _version(root: str) -> str:
    from importlib.metadata import PackageNotFoundError, packages_distributions, version

    try:
        return version(root)
    except PackageNotFoundError:
        names = packages_distributions().get(root, ())
    if names:
        return ", ".join(f"{name} {version(name)}" for name in sorted(set(names)))
    return str(getattr(sys.modules.get(root), "__version__", ""))
