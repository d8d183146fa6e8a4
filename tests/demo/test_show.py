"""What a person sees: bars in a terminal, lines in a file, a picture."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from memograd._demo import _show
from memograd._demo._plot import plot
from memograd._demo._race import Options, Tick
from memograd._demo._summary import summarize

OPTIONS = Options(words=20, hidden=1, batch=10, epochs=1, seed=0)
TICKS = [
    Tick("plain", 1, 0, 2.5, 4.0, 10, 100, 100),
    Tick("memoized", 1, 0, 2.5, 1.0, 10, 100, 50),
    Tick("unshared", 1, 0, 2.5, 1.6, 10, 100, 100),
    Tick("memoized", 1, 1, 2.25, 1.0, 10, 100, 50),
    Tick("plain", 1, 1, 2.25, 4.0, 10, 100, 100),
]


def seen(*, terminal):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120)
    with _show.progress(console, OPTIONS) as show:
        for tick in TICKS:
            show(tick)
    return console.file.getvalue()


def printed(thing):
    console = Console(file=io.StringIO(), width=120)
    console.print(thing)
    return console.file.getvalue()


def test_without_a_terminal_each_batch_is_a_plain_line_with_both_losses_and_speeds():
    lines = seen(terminal=False).splitlines()
    assert len(lines) == 2
    assert lines[1].split() == (
        "epoch 1/1 plain loss 2.250 2 words/s memoized loss 2.250 10 words/s".split()  # noqa: SIM905 - as it is read
    )
    assert "\x1b" not in "".join(lines)


def test_in_a_terminal_both_have_a_bar_with_loss_speed_and_their_own_clock():
    text = seen(terminal=True)
    assert "\x1b[" in text
    for expected in ("plain", "memoized", "━", "2.250", "10 words/s", "8 s", "2 s"):
        assert expected in text


def test_an_epoch_that_was_cut_short_says_how_far_it_came():
    at = [(1, 0), (1, 1), (2, 0)]
    pairs = [Tick(who, *place, 1.0, 1.0, 10, 100, 100) for place in at for who in ("plain", "memoized")]
    text = printed(_show.losses(summarize(pairs)))
    assert "2 (cut short: 1 of 2 batches)" in text


@pytest.mark.parametrize(("epochs", "rows"), [(15, 15), (16, 16), (100, 16)])
def test_of_many_epochs_the_first_and_the_last_are_shown(epochs, rows):
    ticks = [Tick(who, n, 0, 1.0, 1.0, 10, 100, 100) for n in range(1, epochs + 1) for who in ("plain", "memoized")]
    shown = [line.split()[0] for line in printed(_show.losses(summarize(ticks))).splitlines() if line.strip()][2:]
    assert len(shown) == rows
    assert (shown[0], shown[-1], "..." in shown) == ("1", str(epochs), epochs > 15)


def test_the_costs_stand_side_by_side():
    text = printed(_show.costs(summarize(TICKS), "packed"))
    for expected in ("plain, packed", "engine, unshared", "200", "100", "4 s", "1.6 s", "1 s", "2.50x", "4.00x"):
        assert expected in text


def test_the_verdict_splits_the_speed_up_into_sharing_and_engine():
    text = " ".join(printed(_show.verdict(summarize(TICKS))).split())
    assert "4.0 times as fast = 1.60x sharing, each prefix once; the ideal is 2.00x" in text
    assert "x 2.50x engine" in text


def test_a_slow_down_is_called_one():
    assert _show.in_words(0.5) == "2.0 times slower"


def test_the_picture_is_a_png_of_some_size(tmp_path):
    plot(TICKS, "title", "subtitle", tmp_path / "loss.png")
    data = (tmp_path / "loss.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) > 10_000
