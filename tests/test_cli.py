"""The command line, run as people run it: in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import pytest

TINY = ("--words", "400", "--hidden", "8", "--batch", "200", "--epochs", "2")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}


def memograd(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "memograd", *arguments],
        capture_output=True, text=True, timeout=120, check=False, cwd=cwd, env=ENVIRONMENT,
    )  # fmt: skip


def without(library, cwd):
    program = f"import sys; sys.modules['{library}'] = None; from memograd.__main__ import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, "demo"],
        capture_output=True, text=True, timeout=120, check=False, cwd=cwd, env=ENVIRONMENT,
    )  # fmt: skip


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shown")
    return folder, memograd("demo", *TINY, cwd=folder)


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    done = memograd("demo", *TINY, "--json", "--sorted", "--seed", "7", cwd=tmp_path_factory.mktemp("figures"))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_demo_ends_well_and_says_nothing_on_stderr(shown):
    _, done = shown
    assert (done.returncode, done.stderr) == (0, "")


def test_the_demo_shows_the_fibonacci_table(shown):
    _, done = shown
    assert re.search(r"^ *30 +832,040 +2,692,537 ", done.stdout, re.MULTILINE)


def test_the_demo_shows_losses_costs_and_where_the_speed_up_comes_from(shown):
    _, done = shown
    for expected in (
        "largest difference",
        "sequence steps in the data",
        "steps computed",
        "time per training step",
        "x engine",
    ):
        assert expected in done.stdout


def test_the_path_of_the_picture_is_printed_and_leads_to_it(shown):
    folder, done = shown
    picture = re.search(r"loss against time: (.+\.png)", done.stdout)[1]
    assert picture == str(folder / "memograd-demo.png")
    assert (folder / "memograd-demo.png").read_bytes().startswith(b"\x89PNG")


def test_json_has_the_figures_and_nothing_else_is_on_stdout(figures):
    model = figures["model"]
    assert figures["interrupted"] is False
    assert figures["options"] == {
        "words": 400, "hidden": 8, "batch": 200, "epochs": 2, "seed": 7, "order": "sorted"
    }  # fmt: skip
    assert [epoch["epoch"] for epoch in model["epochs"]] == [1, 2]
    assert model["largest_difference"] < 1e-5
    assert model["plain"]["computed"] >= model["steps"] > model["memoized"]["computed"]
    assert model["ideal"] == pytest.approx(model["steps"] / model["memoized"]["computed"])
    assert model["speed_up"] == pytest.approx(model["sharing"] * model["engine"])


def test_json_has_the_calls_of_the_three_fibonaccis(figures):
    by_n = {row["n"]: row for row in figures["fibonacci"]}
    assert by_n[10]["value"] == 55
    assert (by_n[10]["naive"], by_n[10]["dictionary"], by_n[10]["memo"]) == (177, 19, 11)
    assert by_n[50] == {"n": 50, "value": 12586269025, "naive": None, "dictionary": 99, "memo": 51}


REFUSED = {
    "--words": ("0", "200000", "many", "1.5", ""),
    "--batch": ("0", "-3"),
    "--epochs": ("0",),
    "--hidden": ("0",),
    "--seed": ("-1",),
}


@pytest.mark.parametrize(("option", "value"), [(option, value) for option in REFUSED for value in REFUSED[option]])
def test_a_bad_number_is_refused_with_what_was_got_and_what_is_expected(option, value, tmp_path):
    done = memograd("demo", option, value, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    message = " ".join(done.stderr.split())
    assert f"got '{value}', expected a whole number from " in message
    assert f"for example {option} " in message


@pytest.mark.parametrize("path", ["loss.pdf", "nowhere/loss.png", "folder.png"])
def test_a_picture_that_could_not_be_written_is_refused_before_training(path, tmp_path):
    (tmp_path / "folder.png").mkdir()
    done = memograd("demo", "--plot", path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"got '{path}', expected a file" in " ".join(done.stderr.split())


def test_numbers_may_have_separators(tmp_path):
    done = memograd(
        "demo", "--words", "1,0", "--batch", "1_0", "--hidden", "4", "--epochs", "1", "--json", cwd=tmp_path
    )
    options = json.loads(done.stdout)["options"]
    assert (options["words"], options["batch"]) == (10, 10)


def test_help_teaches_and_names_every_option(tmp_path):
    done = memograd("demo", "--help", cwd=tmp_path)
    assert done.returncode == 0
    for expected in ("--words", "--hidden", "--batch", "--epochs", "--json", "--seed", "--plot", "--sorted", "Ctrl-C"):
        assert expected in done.stdout


def test_the_version_is_that_of_the_package(tmp_path):
    from memograd import __version__

    assert memograd("--version", cwd=tmp_path).stdout == f"memograd {__version__}\n"


@pytest.mark.parametrize("library", ["click", "torch", "numpy", "rich", "matplotlib"])
def test_a_missing_library_is_named_with_what_to_write(library, tmp_path):
    done = without(library, tmp_path)
    assert done.returncode == 1
    assert f" needs {library}, missing here; write: pip install {library}\n" in done.stderr
    assert "Traceback" not in done.stderr


def interrupt_after(sign, *arguments, cwd):
    """Start the demo, send SIGINT when a line of the output shows `sign`, and give status, stdout and stderr."""
    with subprocess.Popen(
        [sys.executable, "-m", "memograd", "demo", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd, env=ENVIRONMENT,
    ) as process:  # fmt: skip
        watched = process.stderr if "--json" in arguments else process.stdout
        before = ""
        for line in watched:
            before += line
            if sign in line:
                process.send_signal(signal.SIGINT)
                break
        stdout, stderr = process.communicate(timeout=60)
        outputs = (stdout, before + stderr) if "--json" in arguments else (before + stdout, stderr)
        return process.returncode, *outputs


ENDLESS = (*TINY[:-1], "100000")


def test_ctrl_c_ends_with_130_and_the_table_of_what_there_is(tmp_path):
    status, stdout, stderr = interrupt_after("epoch 2/", *ENDLESS, cwd=tmp_path)
    assert (status, stderr) == (130, "")
    assert "Interrupted. What there is:" in stdout
    assert re.search(r"^1 +\d\.\d{4} +\d\.\d{4} ", stdout, re.MULTILINE)
    assert (tmp_path / "memograd-demo.png").exists()


def test_ctrl_c_leaves_valid_json(tmp_path):
    status, stdout, stderr = interrupt_after("epoch 2/", *ENDLESS, "--json", cwd=tmp_path)
    figures = json.loads(stdout)
    assert status == 130
    assert figures["interrupted"] is True
    assert len(figures["model"]["epochs"]) >= 1
    assert "Traceback" not in stderr


def test_ctrl_c_before_the_training_ends_with_130_and_without_a_table(tmp_path):
    status, stdout, stderr = interrupt_after("1. Fibonacci", *ENDLESS, cwd=tmp_path)
    assert (status, stderr) == (130, "")
    assert "Nothing was trained yet." in stdout
    assert "steps computed" not in stdout
