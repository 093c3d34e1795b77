"""How much memory does a batch of large replies take?

Replies of 1 MB, a list of records as JSON, made anew for each request: 1,000 of them streamed,
30 of them in one reply. Each run is a process of its own, in which a batch of one has run before;
what is shown is how far the highest resident set (Linux, `VmHWM`) is above the set before.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from . import apps, goals, package
from .apps import Environ
from .table import Row, Table
from .timing import Spread

MB = 1e6
STREAMED, BUFFERED = 1_000, 30
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

RECORDS = b"[%b" % b",".join(apps.document([apps.record(n)])[14:-2] for n in range(4_700))


def large(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """An application whose every reply is 1 MB of JSON."""
    body = RECORDS + b"]"
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]


def tables() -> list[Table]:
    reply = len(RECORDS) / MB
    rows = [Row("one reply", Spread([reply]), "MB")]
    for name in package.copies():
        rows += [
            Row(
                f"{name}: {STREAMED:,} replies, streamed",
                Spread([_run(name, "streamed", count=STREAMED)]),
                "MB",
                goals.streamed_memory(reply),
            ),
            Row(
                f"{name}: {BUFFERED} replies in one of {BUFFERED * reply:.0f} MB",
                Spread([_run(name, "buffered", count=BUFFERED)]),
                "MB",
                goals.buffered_memory(BUFFERED * reply),
            ),
        ]
    return [Table("Memory added at the peak", rows)]


def _run(name: str, form: str, count: int) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", name, form, str(count)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(run.stdout)


def grown(name: str, form: str, count: int) -> float:
    """MB that this process grows by while it answers one batch."""
    copy = package.copies()[name]
    limits = copy.Limits(max_requests=count, max_reply_size=10**10, deadline=600)
    wrapped = copy.BatchMiddleware(large, limits=limits)
    accept = "application/x-ndjson" if form == "streamed" else "application/json"

    def run(members: int) -> None:
        body = apps.document(apps.items(members))
        environ = apps.outer("POST", "/batch", body, HTTP_ACCEPT=accept)
        received = sum(map(len, wrapped(environ, apps.start_response)))
        assert received > members * len(RECORDS)

    run(1)
    CLEAR.write_text("5")  # resets the highest resident set, proc(5)
    before = _kilobytes("VmRSS")
    run(count)
    return (_kilobytes("VmHWM") - before) * 1024 / MB


def _kilobytes(field: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise LookupError(field)


if __name__ == "__main__":
    print(grown(sys.argv[1], sys.argv[2], int(sys.argv[3])))
