"""The pages: their links lead somewhere, their programs run, and the one that must be short is short."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
BUDGETS = {"docs/all-of-it.md": 200}
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def named(page):
    return str(page.relative_to(ROOT))


def links(text):
    """Links to files of this repository and to headings; what stands in a fence is no link."""
    return [link for link in LINK.findall(FENCE.sub("", text)) if not re.match(r"[a-z]+:", link)]


def anchors(text):
    """The anchors that a forge makes of headings: lower case, no punctuation, blanks as hyphens."""
    headings = re.findall(r"^#+ +(.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page, text):
    """Links of a page that lead nowhere."""
    for link in links(text):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text("utf-8"))):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_to_a_file_or_heading_leads_there(page):
    assert list(broken(page, page.read_text("utf-8"))) == []


def test_a_link_that_leads_nowhere_is_noticed():
    page = ROOT / "README.md"
    text = (
        "[a](LICENSE) [b](nowhere.md) [c](CONTRIBUTING.md#tests) [d](CONTRIBUTING.md#no-such-heading) [e](https://x.y)"
    )
    assert list(broken(page, text)) == ["nowhere.md", "CONTRIBUTING.md#no-such-heading"]


@pytest.mark.parametrize("page", BUDGETS)
def test_a_short_page_is_short(page):
    assert len((ROOT / page).read_text("utf-8").splitlines()) < BUDGETS[page]


def programs(text):
    """The Python fences of a page, one program from top to bottom."""
    return [code for language, code in FENCE.findall(text) if language == "python"]


@pytest.mark.parametrize("page", [page for page in PAGES if programs(page.read_text("utf-8"))], ids=named)
def test_the_python_on_a_page_runs_from_top_to_bottom(page, tmp_path):
    program = tmp_path / "page.py"
    program.write_text("\n".join(programs(page.read_text("utf-8"))), "utf-8")
    run = [sys.executable, "-W", "error", program]
    home = os.environ | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(run, cwd=tmp_path, env=home, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
