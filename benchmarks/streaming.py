"""When is the first entry of a streamed batch there, and what does streaming cost?

Batches of Flask views on a real gunicorn (gthread), on kept connections, by the clock on the wall.
For the first byte, the first of 100 members waits 50 ms, and is compared with the same request
alone. For the cost, 100 small replies are streamed and buffered.
"""

from __future__ import annotations

import time
from functools import partial

from . import apps, goals, server
from .client import Connection, get, post
from .table import Row, Table
from .timing import spread, timed, turns

SLOW = "/slow/50"
NDJSON = "application/x-ndjson"


def tables() -> list[Table]:
    small = apps.document(apps.items())
    slow = apps.document([{"uri": SLOW}, *apps.items()[1:]])
    with server.gunicorn("gthread") as port:
        connection = Connection(port)
        forms = {"streamed": post(small, NDJSON), "buffered": post(small)}
        whole = timed({name: partial(connection.ask, of) for name, of in forms.items()}, 80)

        def first_byte(request: bytes) -> float:
            started = time.perf_counter()
            connection.ask(request)
            return connection.first_byte - started

        requests = {"alone": get(SLOW), "stream": post(slow, NDJSON), "buffered": post(slow)}
        first = turns({name: partial(first_byte, of) for name, of in requests.items()}, 15)
        connection.close()
    alone = spread(first, lambda turn: 1e3 * turn["alone"])
    streamed = spread(first, lambda turn: turn["stream"] / turn["alone"])
    buffered = spread(first, lambda turn: turn["buffered"] / turn["alone"])
    buffered_whole = spread(whole, lambda turn: 1e3 * turn["buffered"])
    cost = spread(whole, lambda turn: turn["streamed"] / turn["buffered"])
    rows = [
        Row("first byte of the body, when the first member waits 50 ms"),
        Row("that request alone", alone, "ms"),
        Row("streamed batch / alone", streamed, "×", goals.FIRST_BYTE),
        Row("buffered batch / alone", buffered),
        Row("whole batch of 100 small replies"),
        Row("buffered", buffered_whole, "ms"),
        Row("streamed / buffered", cost, "×", goals.STREAMED),
    ]
    return [Table("Streaming, on gunicorn", rows)]
