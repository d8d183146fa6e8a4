"""The command line, run as people run it: in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from memograd._cli import cli
from memograd.store import About, Array, Disk, Entry, Memory
from memograd.store._datasets import HEAD, folders

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


class Store(Memory):
    """A store that remains when a command closes it, with entries of a known age."""

    def __init__(self):
        super().__init__("1GiB")
        now = time.time()
        for n in range(6):
            about = About(
                function="lab.embed" if n % 2 else "lab.loss", text=f"call(x={n})", seconds=float(n),
                created=now - 3600, parts={"x": str(n), "mode": "train"}, tags=("draft",) if n == 5 else (),
            )  # fmt: skip
            self.put(bytes([n + 16] * 8), Entry(about, [safetensors(n + 1)]))
        for _ in range(3):
            self.get(bytes([17] * 8))


def safetensors(count):
    header = {
        "__metadata__": {"memograd": "1", "value": '[[1],[["tensor",[0]],["dict",["x",[0]]]]]'},
        "0": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]},
    }
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(4 * count)


@pytest.fixture
def store(monkeypatch):
    made = Store()
    monkeypatch.setattr("memograd.store._open.open_store", lambda *_, **__: made)
    monkeypatch.setenv("MEMOGRAD_STORE", "memory://")
    monkeypatch.setenv("COLUMNS", "160")
    return made


def command(*arguments, answer=None):
    return CliRunner().invoke(cli, arguments, input=answer)


def test_ls_lists_entries_as_asked(store):
    done = command("ls", "--sort", "seconds", "--limit", "2")
    assert (done.exit_code, done.stderr) == (0, "")
    head, *lines = done.stdout.splitlines()
    assert head.split() == ["key", "size", "seconds", "hits", "saved", "used", "text"]
    assert [line.split()[0] for line in lines] == ["151515151515", "141414141414"]
    assert "call(x=5)" in lines[0]


def test_ls_gives_data(store):
    found = json.loads(command("ls", "--json", "--filter", "function~EMBED and hits>0").stdout)
    assert [(entry["key"], entry["hits"], entry["saved"], entry["function"]) for entry in found] == [
        ("11" * 8, 3, 3.0, "lab.embed")
    ]


def test_ls_without_a_limit_lists_all(store):
    assert len(json.loads(command("ls", "--json", "--limit", "0").stdout)) == 6


@pytest.mark.parametrize("sort", ["seconds_saved", "saved", "used", "size", "hits", "seconds", "created"])
def test_every_sort_works_with_and_without_a_filter(store, sort):
    both = [command("ls", "--json", "--sort", sort, *more).stdout for more in ((), ("--filter", "hits>=0"))]
    assert len(json.loads(both[0])) == len(json.loads(both[1])) == 6


def test_a_field_has_one_name_in_tables_in_data_in_filters_and_in_sorts(store):
    (entry,) = json.loads(command("ls", "--json", "--filter", "saved>0").stdout)
    assert {"size", "seconds", "saved", "hits", "used", "created", "function", "text", "tags", "pinned"} <= set(entry)
    assert not {"nbytes", "seconds_saved", "took", "call", "age"} & set(entry)
    assert {"size", "seconds", "saved", "hits", "used", "text"} < set(command("ls").stdout.split())
    assert command("stats").stdout.splitlines()[1].split() == [
        "function",
        "entries",
        "size",
        "hits",
        "seconds",
        "saved",
    ]
    shown = {line.split()[0] for line in command("show", "1111").stdout.splitlines() if line}
    assert {"size", "seconds", "saved", "hits", "used", "created", "function", "text"} < shown
    assert set(json.loads(command("stats", "--json").stdout)) == {
        "store", "entries", "size", "hits", "seconds", "saved", "functions", "arrays"
    }  # fmt: skip


def test_saved_seconds_may_be_called_so_in_full(store):
    both = [
        command("ls", "--json", "--sort", word, "--filter", f"{word}>=0").stdout for word in ("saved", "seconds_saved")
    ]
    assert both[0] == both[1]
    assert json.loads(both[0])[0]["saved"] == 3.0


def test_a_filter_that_cannot_be_read_is_shown_with_where(store):
    done = command("ls", "--filter", "size>1MB and functio~x")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "did you mean function?\n  size>1MB and functio~x\n               ^" in done.stderr


def test_stats_count_by_function(store):
    done = command("stats")
    assert done.exit_code == 0
    assert "6 entries" in done.stdout
    assert "3 hits have saved 3 s; to compute them took 15 s" in done.stdout
    found = json.loads(command("stats", "--json").stdout)
    assert (found["entries"], found["saved"], found["functions"]["lab.loss"]["seconds"]) == (6, 3.0, 6.0)


def test_show_tells_what_is_known_and_what_the_body_holds(store):
    done = command("show", "1313")
    assert done.exit_code == 0
    for expected in ("13" * 8, "lab.embed", "call(x=3)", "x = 3", "safetensors", "result['x']", "tensor F32 (4,)"):
        assert expected in done.stdout
    assert '["tensor"' not in done.stdout
    body = json.loads(command("show", "1313", "--json").stdout)["body"]
    assert body["tensors"] == [{"dtype": "F32", "shape": [4]}]
    assert body["parts"][1] == {"path": "result['x']", "kind": "tensor F32 (4,)"}


@pytest.mark.parametrize(
    ("key", "said"), [("ff", "expected the beginning"), ("1", "keys begin"), ("x y", "expected the")]
)
def test_a_key_that_names_no_entry_is_refused(store, key, said):
    done = command("show", key)
    assert (done.exit_code, done.stdout) == (1, "")
    assert said in done.stderr


def test_explain_shows_the_parts_that_differ_from_the_nearest_call(store):
    store.put(b"near", Entry(About(function="lab.embed", text="near", parts={"x": "3", "mode": "eval"}), [b""]))
    done = command("explain", "1313", "--limit", "1")
    assert done.exit_code == 0
    assert re.search(r"mode +train +eval", done.stdout)
    assert "call(x=1)" not in done.stdout
    (nearest,) = json.loads(command("explain", "1313", "--limit", "1", "--json").stdout)["nearest"]
    assert nearest["differ"] == {"mode": ["train", "eval"]}


def test_what_a_store_says_is_no_command_to_the_terminal(store):
    store.put(
        b"\xee" * 8, Entry(About(function="\x1b[2Jf", text="[red]\x1b]0;title\x07[/]", parts={"\x9b": "\x00"}), [b""])
    )
    for arguments in (("ls",), ("stats",), ("show", "ee"), ("explain", "ee")):
        shown = command(*arguments).stdout
        assert all(each.isprintable() or each == "\n" for each in shown), arguments
    assert "[red]" in command("ls").stdout


def test_prune_says_what_goes_and_asks(store):
    done = command("prune", "--filter", "function=lab.embed", answer="n\n")
    assert done.exit_code == 1
    assert re.search(r"3 entries, [\d.]+ KiB, of lab.embed \(3\); to compute them took 9 s", done.stdout)
    assert "nothing was deleted" in done.stdout
    assert store.count() == 6
    done = command("prune", "--filter", "function=lab.embed", answer="y\n")
    assert (done.exit_code, store.count()) == (0, 3)


def test_without_an_answer_nothing_is_deleted(store):
    done = command("clear")
    assert done.exit_code == 1
    assert "write --yes" in done.stderr
    assert store.count() == 6


def test_yes_deletes_without_a_question(store):
    done = command("clear", "--yes")
    assert (done.exit_code, store.count()) == (0, 0)
    assert "6 entries" in done.stdout
    assert "deleted 6" in done.stdout
    assert command("clear", "--yes").stdout == "nothing to delete\n"


def test_prune_to_a_size_keeps_what_saves_most_per_byte(store):
    command("prune", "--to", "5KB", "--yes")
    assert store.nbytes <= 5000
    assert {info.key[0] - 16 for info in store.infos()} == {1, 3, 4, 5}


def test_prune_to_nothing_leaves_nothing(store):
    assert command("prune", "--to", "0", "--yes").exit_code == 0
    assert store.count() == 0


def test_what_is_pinned_is_pruned_only_when_asked(store):
    assert command("pin", "1010", "1515").stdout == "pinned 2\n"
    assert [entry["pinned"] for entry in json.loads(command("ls", "--json", "--filter", "pinned").stdout)] == [
        True,
        True,
    ]
    command("prune", "--filter", "hits>=0", "--yes")
    assert {info.key[0] for info in store.infos()} == {0x10, 0x15}
    assert command("pin", "--filter", "tag=draft", "--undo").stdout == "unpinned 1\n"
    command("prune", "--filter", "hits>=0", "--pinned", "--yes")
    assert store.count() == 0


@pytest.mark.parametrize(
    "arguments", [("prune",), ("prune", "--to", "1GB", "--filter", "pinned"), ("pin",), ("prune", "--to", "x")]
)
def test_what_makes_no_sense_is_refused_with_an_example(store, arguments):
    done = command(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "for example" in done.stderr


def test_check_reads_every_entry(store):
    assert command("check").stdout == "6 entries were read, 0 are damaged\n"


def test_check_finds_and_removes_what_is_damaged(store, monkeypatch):
    whole = store.get
    monkeypatch.setattr(store, "get", lambda key: None if key[0] == 0x12 else whole(key))
    done = command("check")
    assert (done.exit_code, done.stdout) == (1, "6 entries were read, 1 are damaged\n")
    done = command("check", "--fix")
    assert (done.exit_code, done.stdout) == (0, "6 entries were read, 1 are damaged; removed\n")
    assert store.count() == 5


@pytest.mark.parametrize("raised", [OSError("the cable is out"), ValueError("no such place")])
def test_a_store_that_fails_is_a_line_and_not_a_traceback(store, monkeypatch, raised):
    def fail():
        raise raised

    monkeypatch.setattr(store, "infos", fail)
    done = command("ls")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == f"Error: {type(raised).__name__}: {raised}\n"


LOOKING = (("stats",), ("stats", "--json"), ("ls",), ("ls", "--json"), ("show", "10"), ("explain", "10"), ("check",))
DELETING = (("clear", "--yes"), ("prune", "--to", "1GB", "--yes"), ("prune", "--filter", "hits>0", "--yes"),
            ("pin", "--filter", "hits>0"))  # fmt: skip


def assert_fails(said, *arguments):
    """Run a command in a process of its own, where warnings are as people have them."""
    done = memograd(*arguments, cwd="/")
    assert (done.returncode, done.stdout) == (1, ""), (arguments, done)
    assert re.fullmatch(f"Error: .*{said}.*\n", done.stderr), (arguments, done.stderr)


@pytest.mark.parametrize("arguments", [("stats",), ("ls", "--json"), ("check",), ("clear", "--yes")])
def test_a_server_that_nobody_reaches_is_a_failure(arguments):
    assert_fails("is away", *arguments, "--store", "redis://me:secret@localhost:1/0")


@pytest.mark.parametrize("arguments", [("stats",), ("ls", "--json"), ("show", "10")])
def test_an_index_that_cannot_be_read_is_a_failure(arguments, tmp_path):
    with Disk(tmp_path / "store") as disk:
        disk.put(b"\x10" * 8, Entry(About(), [b"body"]))
    for left in (tmp_path / "store").glob("index.sqlite-*"):
        left.unlink()
    (tmp_path / "store" / "index.sqlite").write_bytes(b"no index of anything " * 500)
    assert_fails("cannot be used", *arguments, "--store", str(tmp_path / "store"))


@pytest.mark.parametrize("arguments", [*LOOKING, *DELETING])
def test_a_file_or_an_array_in_place_of_a_store_is_refused(arguments, tmp_path):
    (tmp_path / "file").write_text("hello")
    Array(tmp_path / "table", shape=10, dtype="int64")
    before = sorted(tmp_path.rglob("*"))
    for name, said in (("file", "a file, expected a directory"), ("table", "is an Array; it has no facts")):
        done = command(*arguments, "--store", str(tmp_path / name))
        assert (done.exit_code, done.stdout) == (1, "")
        assert said in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("arguments", [*LOOKING, *DELETING])
@pytest.mark.parametrize("name", ["project", "none"])
def test_a_folder_that_is_no_store_is_not_made_one(arguments, name, tmp_path):
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "train.py").write_text("import torch")
    done = command(*arguments, "--store", str(tmp_path / name))
    assert f"nothing is stored at {tmp_path / name}\n" in done.stderr
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "project", tmp_path / "project" / "train.py"]


def test_a_name_that_can_only_be_a_slip_is_refused():
    for name in ("redis:/host", "2GiB", "localhost:6379"):
        done = command("ls", "--store", name)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "a store's name got" in done.stderr


def test_ctrl_c_ends_a_command_with_130(store, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "infos", interrupted)
    assert command("ls").exit_code == 130


@pytest.mark.parametrize("name", ["dir", "stats", "ls", "show", "explain", "check", "prune", "clear", "pin"])
def test_every_command_explains_itself(name):
    done = command(name, "--help")
    assert done.exit_code == 0
    assert "MEMOGRAD_STORE" in done.stdout
    if "--filter" in done.stdout:
        assert "size>1MB and function~embed" in done.stdout


def test_dir_prints_where_the_store_is(tmp_path, monkeypatch):
    monkeypatch.delenv("MEMOGRAD_STORE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert command("dir").stdout.startswith(str(tmp_path))
    assert command("dir", "--store", "redis://me:secret@host/0").stdout == "redis://me:…@host/0\n"


def test_to_look_at_a_directory_that_is_not_there_makes_none(tmp_path):
    for name in ("stats", "ls", "check", "clear"):
        done = command(name, "--store", str(tmp_path / "none"))
        assert done.exit_code == 0
    assert list(tmp_path.iterdir()) == []


def test_commands_work_on_a_directory(tmp_path):
    place = tmp_path / "store"
    with Disk(place) as disk:
        for n in range(3):
            disk.put(
                bytes([n + 16] * 8), Entry(About(function="f", text=f"f({n})", seconds=float(n)), [safetensors(1)])
            )
    done = memograd("ls", "--store", place, "--sort", "seconds", "--limit", "1", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "f(2)" in done.stdout
    assert memograd("check", "--store", place, cwd=tmp_path).returncode == 0
    assert memograd("prune", "--store", place, "--filter", "seconds>1s", "--yes", cwd=tmp_path).returncode == 0
    with Disk(place) as disk:
        assert {info.key[0] for info in disk.infos()} == {16, 17}


def test_to_show_an_entry_is_no_use_of_it(tmp_path):
    with Disk(tmp_path / "store") as disk:
        disk.put(b"\x10" * 8, Entry(About(), [safetensors(1)]))
    command("show", "10", "--store", str(tmp_path / "store"))
    with Disk(tmp_path / "store") as disk:
        assert [info.hits for info in disk.infos()] == [0]


def test_rows_by_index_are_counted_and_cleared(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMOGRAD_STORE", str(tmp_path))
    Disk(tmp_path).put(b"key", Entry(About(seconds=1.0), [b"body"]))
    for name in ("d/train/00", "d/train/01", "other/02"):
        folder = tmp_path / "arrays" / name
        folder.mkdir(parents=True)
        (folder / HEAD).write_bytes(bytes(1000))
    said = "rows by index of d/train, other: 3 states of a model, "
    assert said in command("stats").stdout
    assert [each["dataset"] for each in json.loads(command("stats", "--json").stdout)["arrays"]].count("d/train") == 2
    assert said in command("clear", answer="n").stdout
    assert len(folders(tmp_path / "arrays")) == 3
    assert "deleted 4" in command("clear", "--yes").stdout
    assert folders(tmp_path / "arrays") == []
    assert "nothing to delete" in command("clear", "--yes").stdout
