"""The application of the fault tests: what it does with a request is in its record.

    /run/NAME     runs at once
    /fail/NAME    raises
    /wait/NAME    waits until the test opens the gate of that name
    /pause/NAME   is still at it when the deadline of `/short` is over
    /hang/NAME    does not end by itself

The environment variable `RECORD` names the file of the record.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from batchwsgi import BatchMiddleware, Limits

from ..support import Environ
from .record import Record

DEADLINE = 0.4
"""The deadline of batches at `/short`, in seconds."""


@cache
def record() -> Record:
    return Record(Path(os.environ["RECORD"]))


def fail(name: str) -> None:
    raise RuntimeError(name)


def wait(name: str) -> None:
    for _ in range(3000):
        if record().gate(name).exists():
            return
        time.sleep(0.01)


def pause(name: str) -> None:
    time.sleep(DEADLINE + 0.1)


def hang(name: str) -> None:
    time.sleep(60)


VIEWS: dict[str, Callable[[str], None]] = {
    "run": lambda name: None,
    "fail": fail,
    "wait": wait,
    "pause": pause,
    "hang": hang,
}


def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """The application without any endpoint."""
    _, view, name = environ["PATH_INFO"].split("/")
    record().add("started", name)
    VIEWS[view](name)
    record().add("finished", name)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"ran": name, "pid": os.getpid()}).encode()]


short = BatchMiddleware(app, "/short", limits=Limits(deadline=DEADLINE))
"""With an endpoint at `/short`; for servers that add the one at `/batch`."""

application = BatchMiddleware(short)
"""With both endpoints."""
