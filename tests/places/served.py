"""What gunicorn serves behind nginx: records as JSON, who the client is, and members that wait.

    /records/COUNT/NUMBER   so many records, always the same; no two numbers have the same
    /seen                   the client, the host and the scheme, as the application is told
    /wait/NAME              waits until the test opens the gate of that name

The environment variable `RECORD` names the file of the record.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from typing import Any

from werkzeug.middleware.proxy_fix import ProxyFix

from batchwsgi import BatchMiddleware
from batchwsgi.dialects import HTTPMultipart, Native

from ..faults import apps
from ..support import Environ

FIRST = "Ada Grace Alan Edsger Barbara Donald Margaret Dennis Frances Kenneth".split()
LAST = "Lovelace Hopper Turing Dijkstra Liskov Knuth Hamilton Ritchie Allen Iverson".split()


def records(count: int, number: int) -> list[dict[str, object]]:
    """So many orders, of a hundred bytes each in JSON."""
    chance = random.Random(f"{count} {number}")
    return [
        {
            "number": chance.randrange(100_000),
            "customer": f"{chance.choice(FIRST)} {chance.choice(LAST)}",
            "sku": f"{chance.randrange(16**6):06x}",
            "price": chance.randrange(100, 10_000) / 100,
            "paid": chance.random() < 0.5,
        }
        for _ in range(count)
    ]


def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
    _, view, *names = environ["PATH_INFO"].split("/")
    if view == "wait":
        return apps.app(environ, start_response)
    value: object
    if view == "records":
        value = records(*map(int, names))
    else:
        value = [environ[key] for key in ("REMOTE_ADDR", "HTTP_HOST", "wsgi.url_scheme")]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(value).encode()]


application = ProxyFix(BatchMiddleware(app, dialects=(Native(), HTTPMultipart())))
