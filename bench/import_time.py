"""What `import memograd` adds to the start of Python: a decorator library is imported everywhere.

Processes that import it and processes that do nothing run in turns; what is printed is the difference of their medians.
The shared part of the start (site, .venv hooks) is in both and falls out.

    python bench/import_time.py [--rounds 41] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

AT_MOST = 60.0
PROGRAMS = {
    "python -c pass": "pass",
    "import memograd": "import memograd",
    "import memograd, first @memo": "import memograd; memograd.memo(lambda x: x)(1)",
    "import dataclasses": "import dataclasses",
}


def milliseconds(program: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return 1e3 * (time.perf_counter() - began)


def measure(rounds: int) -> dict[str, list[float]]:
    """Time every program once a round, in an order that moves by one, after a round that is not timed."""
    names = list(PROGRAMS)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            times[name].append(milliseconds(PROGRAMS[name]))
    return {name: series[1:] for name, series in times.items()}


def show(times: dict[str, list[float]]) -> dict[str, float]:
    """Print medians, and what each adds to bare Python."""
    medians = {name: statistics.median(series) for name, series in times.items()}
    bare = medians["python -c pass"]
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print(f"{'':<30}{'median':>10}{'above bare':>13}{'at most':>10}")
    for name, median in medians.items():
        asked = f"{AT_MOST:>7.0f} ms {'✓' if median - bare < AT_MOST else '✗'}" if name == "import memograd" else ""
        print(f"{name:<30}{median:>7.1f} ms{median - bare:>10.1f} ms{asked}")
    return {name: median - bare for name, median in medians.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=41, help="processes of each kind (default 41)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    above_bare = show(measure(options.rounds))
    if options.json:
        options.json.write_text(json.dumps({"milliseconds_above_bare": above_bare}, indent=2) + "\n")


if __name__ == "__main__":
    main()
