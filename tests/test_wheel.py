"""What users install: the wheel has the code, the word list and the licences, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        return set(opened.namelist())


@pytest.mark.slow
def test_the_wheel_has_every_file_of_the_package(names):
    package = ROOT / "src"
    files = {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()}
    assert {name for name in files if "__pycache__" not in name} <= names
    assert {"memograd/py.typed", "memograd/data/words.txt", "memograd/data/words.LICENSE"} <= names


@pytest.mark.slow
def test_the_wheel_has_both_licences_and_nothing_outside_the_package(names):
    (info,) = {name.split("/")[0] for name in names} - {"memograd"}
    assert info.endswith(".dist-info")
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/src/memograd/data/words.LICENSE"} <= names
