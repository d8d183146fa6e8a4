"""What `import memograd` loads, and what the plain core does without any library."""

from __future__ import annotations

import pkgutil
import resource
import subprocess
import sys

import pytest

import memograd

LIBRARIES = ("torch", "numpy", "redis")
NEEDS_A_LIBRARY = ("_share", "_module", "_scan", "_replay", "_demo", "_cli", "__main__", "_torch", "_numpy", "_redis")


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)


def without_libraries(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program where `import torch`, `import numpy` and `import redis` raise ModuleNotFoundError."""
    return run(f"import sys\nsys.modules.update(dict.fromkeys({LIBRARIES}))\n{program}")


def plain_core() -> list[str]:
    names = [module.name for module in pkgutil.walk_packages(memograd.__path__, "memograd.")]
    # The array's rows are plain; those of batches are not.
    plain = [name for name in names if not set(name.split(".")) & set(NEEDS_A_LIBRARY)]
    return [name for name in plain if not f"{name}.".startswith("memograd._rows.")]


def test_every_module_of_the_plain_core_imports_without_torch_numpy_and_redis():
    done = without_libraries("\n".join(f"import {name}" for name in plain_core()))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_module_that_imports_a_blocked_library_is_noticed(library):
    done = without_libraries(f"import memograd\nimport {library}")
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def test_the_torch_part_is_not_taken_for_plain_core():
    done = without_libraries("import memograd._share._shared")
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def test_memo_works_without_torch_numpy_and_redis():
    done = without_libraries(
        "from memograd import memo\n"
        "calls = []\n"
        "@memo\n"
        "def square(x):\n"
        "    calls.append(x)\n"
        "    return x * x\n"
        "assert (square(3), square(3), calls) == (9, 9, [3])\n"
    )
    assert done.returncode == 0, done.stderr


def loaded(program: str) -> set[str]:
    done = run(f"{program}\nimport sys\nprint(*sys.modules)")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


HEAVY = {*LIBRARIES, "click", "rich", "matplotlib", "asyncio", "importlib.metadata"}


def test_import_memograd_loads_nothing_heavy():
    assert loaded("import memograd") & HEAVY == set()


def test_reaching_for_shared_is_what_loads_torch():
    assert "torch" in loaded("import memograd; memograd.Shared")


def milliseconds(program: str) -> float:
    """Give the processor time that a program takes, which other programs disturb less than the time on the wall."""
    # `os.times` tells it in steps of 10 ms.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1e3 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def test_import_memograd_takes_less_than_60_ms_above_bare_python():
    pairs = [(milliseconds("pass"), milliseconds("import memograd")) for _ in range(9)]
    bare, ours = map(min, zip(*pairs, strict=True))
    assert ours - bare < 60
