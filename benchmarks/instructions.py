"""How many instructions does a member take? `python -m benchmarks.instructions [--update]`.

Seconds vary by half on a shared machine; instructions repeat. One process runs under valgrind's
callgrind, and for each case a batch of N members and one of 2 N: the difference is N members, what
comes once for a batch cancels out. The same for direct calls; what is budgeted is the difference of
both, the overhead. Between the runs the process calls `os.getpgid`, at which callgrind writes what
it has counted so far.

The budget is `instructions.json`, with a column for the pure build and one for the compiled. A case
that changed by more than 3 % is named, and one that costs more than 3 % above its budget makes the
exit status 1; `--update` writes the column anew. The budget holds for one build of Python and one
machine's libc: on another, compare two runs of your own.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from . import apps, goals, package
from .table import Row, Table
from .timing import Spread

N = 50
CHANGED = 0.03
BUDGET = Path(__file__).with_name("instructions.json")

REQUESTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "GET": lambda n: {"method": "get", "uri": f"/items/{n}"},
    "GET with args": lambda n: {
        "method": "get",
        "uri": f"/items/{n}",
        "args": {"fields": "name,price", "page": n, "tag": ["new", "blue"]},
    },
    "POST with JSON": lambda n: {
        "method": "post",
        "uri": f"/items/{n}",
        "body": {"sku": f"A{n}", "n": 2, "note": "by the door, please"},
    },
}
DIRECT = "direct"
Counts = dict[str, int]


def cases() -> Iterator[tuple[str, Callable[[int], Callable[[], object]]]]:
    """All cases by name; each makes a call of so many members."""
    copies = package.copies()
    for app_name, app in (("trivial", apps.trivial(2 * N)), ("Flask", apps.flask_app())):
        for request_name, request in REQUESTS.items():
            for name in (DIRECT, *copies):

                def call(
                    count: int, name: str = name, app: Any = app, request: Any = request
                ) -> Callable[[], object]:
                    members = [request(n) for n in range(count)]
                    if name == DIRECT:
                        return _direct(app, members)
                    copy = copies[name]
                    limits = copy.Limits(max_requests=2 * N)
                    wrapped = copy.BatchMiddleware(app, limits=limits)
                    return apps.batch(wrapped, apps.document(members))

                yield f"{app_name}, {request_name}, {name}", call


def _direct(app: apps.App, members: list[dict[str, Any]]) -> Callable[[], None]:
    """The same requests as direct calls, each in a copy of its environ with an input of its own."""
    bodies = [
        json.dumps(member["body"]).encode() if "body" in member else b"" for member in members
    ]
    environs = [
        apps.outer(
            member["method"].upper(),
            member["uri"],
            body,
            QUERY_STRING=urlencode(member.get("args", {}), doseq=True),
        )
        for member, body in zip(members, bodies, strict=True)
    ]

    def call() -> None:
        for environ, body in zip(environs, bodies, strict=True):
            environ = environ.copy()
            environ["wsgi.input"] = io.BytesIO(body)
            for _ in app(environ, apps.start_response):
                pass

    return call


# --- In valgrind -------------------------------------------------------------------------------


def run_all() -> None:
    """Run every case with N and 2 N members, and name them; each has run before, to fill caches."""
    for name, case in cases():
        print(name)
        for call in (case(N), case(2 * N)):
            call()
            gc.collect()
            gc.disable()  # when it would run depends on all that ran before
            os.getpgid(0)
            call()
            os.getpgid(0)
            gc.enable()


# --- Outside -----------------------------------------------------------------------------------


def counted() -> Counts:
    """Instructions for each member, by case."""
    with tempfile.TemporaryDirectory(prefix="batchwsgi-") as folder:
        output = f"--callgrind-out-file={folder}/out"
        valgrind = ["valgrind", "--tool=callgrind", "--dump-before=getpgid", output]
        run = subprocess.run(
            [*valgrind, sys.executable, "-m", "benchmarks.instructions", "--run"],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
        names = run.stdout.splitlines()
        # Dump 1 ends with the first mark; the even ones are what was between two marks of a run.
        dumps = [Path(folder, f"out.{2 * run}") for run in range(1, 2 * len(names) + 1)]
        totals = [_total(dump) for dump in dumps]
    pairs = zip(names, totals[::2], totals[1::2], strict=True)
    return {name: (twice - once) // N for name, once, twice in pairs}


def _total(dump: Path) -> int:
    found = re.search(r"^totals: (\d+)", dump.read_text(), re.MULTILINE)
    assert found, dump
    return int(found[1])


def overheads(counts: Counts) -> Counts:
    """What each case takes beyond the direct calls of it."""
    return {
        name: total - counts[f"{name.rpartition(', ')[0]}, {DIRECT}"]
        for name, total in counts.items()
        if not name.endswith(DIRECT)
    }


def tables() -> list[Table]:
    return [_table(counted(), _budget())]


def _table(counts: Counts, budget: Counts) -> Table:
    rows = [Row("a direct call")]
    rows += [
        Row(name.removesuffix(f", {DIRECT}"), _thousands(total), "k")
        for name, total in counts.items()
        if name.endswith(DIRECT)
    ]
    rows.append(Row("a member, beyond a direct call (and to its budget)"))
    for name, overhead in overheads(counts).items():
        change = f" ({overhead / budget[name] - 1:+.1%})" if name in budget else " (new)"
        rows.append(Row(name + change, _thousands(overhead), "k"))
    rows.append(Row("a member, the application included"))
    rows += [
        Row(name, _thousands(total), "k", goals.INSTRUCTIONS)
        for name, total in counts.items()
        if name.startswith("trivial, GET, ") and not name.endswith(DIRECT)
    ]
    return Table("Thousands of instructions", rows)


def _thousands(total: int) -> Spread:
    return Spread([total / 1000])


def _budget() -> Counts:
    if not BUDGET.exists():
        return {}
    budget: dict[str, Any] = json.loads(BUDGET.read_text())
    if budget["python"] != platform.python_version():
        print(f"The budget is of Python {budget['python']}.")
    return budget["overhead"].get(package.BUILD, {})


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions")
    parser.add_argument("--update", action="store_true", help="make what is counted the budget")
    parser.add_argument("--run", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run_all()
        return 0
    counts, budget = counted(), _budget()
    print(_table(counts, budget).text())
    if options.update:
        kept = json.loads(BUDGET.read_text())["overhead"] if BUDGET.exists() else {}
        made = {
            "python": platform.python_version(),
            "overhead": {**kept, package.BUILD: overheads(counts)},
        }
        BUDGET.write_text(json.dumps(made, indent=1) + "\n")
        return 0
    return compared(overheads(counts), budget)


def compared(reached: Counts, budget: Counts) -> int:
    """Say what changed; the exit status."""
    status = 0
    for name in {**reached, **budget}:
        if name not in reached or name not in budget:
            print(f"{name}: only {'in the budget' if name in budget else 'counted'}")
        elif abs(change := reached[name] / budget[name] - 1) > CHANGED:
            print(f"{name}: {change:+.1%}, {budget[name]:,} to {reached[name]:,}")
            status = max(status, int(change > 0))
    return status


if __name__ == "__main__":
    sys.exit(main())
