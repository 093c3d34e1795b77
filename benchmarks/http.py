"""What does a batch save on the way: time, connections and bytes?

100 GETs of a Flask view on a real gunicorn with one worker: one after the other on one connection,
over six connections at a time (what a browser opens), and as one batch; on loopback, and 50 ms
away, through `proxy`. Every run opens its connections anew. In TCP's slow start a new connection
carries 14,600 bytes in its first round trip, and a batch's reply is longer: both are shown. Times
are those of a clock on the wall.

HTTP/2 stands beside it, on a granian, both ways asked by h2load: 100 streams on one connection.
That batches beat it on latency is not claimed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from . import apps, client, goals, server
from .client import Connection, get, post
from .server import HOST
from .table import Row, Table
from .timing import Spread, Turn, seconds, spread, timed, turns

GETS = [get(item["uri"]) for item in apps.items()]
BATCH = apps.document(apps.items())
AWAY, WINDOW = 0.05, 14_600
NAMES = {1: "sequential", 6: "six connections"}


def tables() -> list[Table]:
    with server.gunicorn("gthread") as port:
        here = timed(ways(port), 15)
        with server.delayed(port, AWAY) as far_port:
            away = timed(ways(far_port, (6,)), 7)
            once = seconds(lambda: _over(far_port, 1), 1, time.perf_counter)
        with server.delayed(port, AWAY, WINDOW) as far_port:
            slow_start = timed(ways(far_port, (6,)), 7)
        wire = [_wire(port, headers) for headers in (client.BROWSER, client.LEAN)]
    with server.gunicorn("sync") as port:
        sync = timed(ways(port), 10)
    far_batch = spread(away, lambda turn: turn["batch"]).median
    rows = [
        *_rows("gthread, loopback", here, (goals.SEQUENTIAL, goals.SIX_CONNECTIONS)),
        *_rows("gthread, 50 ms away", away, (None, goals.SIX_AT_50_MS)),
        Row("sequential, once / one batch", Spread([once / far_batch])),
        *_rows("gthread, 50 ms away, in slow start", slow_start, (None, None)),
        *_rows("sync (a connection for each request), loopback", sync, (None, None)),
        Row("bytes sent and received, without those of TCP: 100 requests / one batch"),
        Row("headers as a browser sends them", wire[0], "×", goals.WIRE),
        Row("few headers", wire[1]),
    ]
    return [Table("100 members on gunicorn", rows), _http2()]


def ways(port: int, connections: tuple[int, ...] = (1, 6)) -> dict[str, Callable[[], object]]:
    """The ways to ask for 100 items, by name."""
    calls = {NAMES[count]: partial(_over, port, count) for count in connections}
    return {**calls, "batch": partial(_ask, port, [post(BATCH)])}


def _over(port: int, connections: int) -> None:
    """All GETs, shared out among so many connections."""
    shares = [GETS[number::connections] for number in range(connections)]
    with ThreadPoolExecutor(connections) as pool:
        list(pool.map(partial(_ask, port), shares))


def _ask(port: int, requests: list[bytes]) -> int:
    """The bytes that went both ways to have these answered on one new connection."""
    connection = Connection(port)
    for request in requests:
        connection.ask(request)
    connection.close()
    return connection.bytes


def _wire(port: int, headers: str) -> Spread:
    """How many times fewer bytes a batch is. That is counted, and the same each time."""
    gets = [get(item["uri"], headers) for item in apps.items()]
    return Spread([_ask(port, gets) / _ask(port, [post(BATCH, headers=headers)])])


def _rows(
    title: str, taken: list[Turn], bounds: tuple[goals.Goal | None, goals.Goal | None]
) -> list[Row]:
    rows = [Row(title), Row("one batch", spread(taken, lambda turn: 1e3 * turn["batch"]), "ms")]
    for way, goal in zip(NAMES.values(), bounds, strict=True):
        if way in taken[0]:
            figure = spread(taken, lambda turn, way=way: turn[way] / turn["batch"])
            rows.append(Row(f"{way} / one batch", figure, "×", goal))
    return rows


# --- HTTP/2 ------------------------------------------------------------------------------------


def _http2() -> Table:
    if not shutil.which("h2load"):
        return Table("HTTP/2", [Row("h2load is not installed (Debian: nghttp2-client)")])
    rows = []
    with server.granian() as port, server.delayed(port, AWAY) as far_port:
        for title, at in (("loopback", port), ("50 ms away", far_port)):
            calls = {"streams": partial(_h2load, at, False), "batch": partial(_h2load, at, True)}
            taken = turns(calls, 11)
            batch = spread(taken, lambda turn: 1e3 * turn["batch"])
            ratio = spread(taken, lambda turn: turn["streams"] / turn["batch"])
            rows += [
                Row(title),
                Row("one batch", batch, "ms"),
                Row("100 streams / one batch", ratio),
            ]
    return Table("100 members on granian, HTTP/2", rows)


def _h2load(port: int, batch: bool) -> float:
    """Seconds that h2load took for all, by its own clock."""
    with tempfile.NamedTemporaryFile() as file:
        if batch:
            file.write(BATCH)
            file.flush()
            options = ["-n1", "-m1", f"-d{file.name}", "-Hcontent-type: application/json"]
            urls = [f"http://{HOST}:{port}/batch"]
        else:
            options = [f"-n{apps.MEMBERS}", f"-m{apps.MEMBERS}"]
            urls = [f"http://{HOST}:{port}{item['uri']}" for item in apps.items()]
        command = ["h2load", "-c1", "-t1", *options, *urls]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    expected = 1 if batch else apps.MEMBERS
    if f"status codes: {expected} 2xx" not in output:
        raise AssertionError(output)
    found = re.search(r"finished in ([0-9.]+)(us|ms|s)", output)
    assert found, output
    return float(found[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[found[2]]
