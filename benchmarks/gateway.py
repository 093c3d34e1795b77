"""What does one batch save over several services that wait?

20 GETs over three services, each of which takes 200 ms for one: asked one after the other at the
services themselves, on connections that are kept; through the gateway on one connection and on six
at a time; and as one batch. The gateway is the recipe of `docs/places.md`; it and the services are
gunicorns on loopback. Times are those of a clock on the wall.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

from . import apps, server
from .client import Connection, get, post
from .server import HOST
from .table import Row, Table
from .timing import spread, timed

NAMES = ("users", "orders", "stock")
GETS, WAIT = 20, 0.2
URIS = [f"/{NAMES[n % len(NAMES)]}/{n}" for n in range(GETS)]
BATCH = apps.document([{"uri": uri} for uri in URIS])
WAYS = {
    "services": "the services, one after the other",
    "sequential": "the gateway, one after the other",
    "six": "the gateway, six connections",
}


def service(environ: apps.Environ, start_response: Callable[..., Any]) -> list[bytes]:
    """A service: it waits."""
    time.sleep(WAIT)
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "2")])
    return [b"{}"]


def application() -> apps.App:
    """The recipe's gateway, with the services whose ports are in the environment."""
    from tests.places import recipe_gateway

    ports = os.environ["SERVICES"].split()
    recipe_gateway.proxy = recipe_gateway.ProxyMiddleware(
        recipe_gateway.NotFound(),
        {
            name: {"target": f"http://{HOST}:{port}", "host": None}
            for name, port in zip(NAMES, ports, strict=True)
        },
    )
    return recipe_gateway.application


def tables() -> list[Table]:
    with ExitStack() as stack:
        started = partial(server.gunicorn, "gthread", "benchmarks.gateway:service", GETS)
        ports = [stack.enter_context(started()) for _ in NAMES]
        gateway = stack.enter_context(
            server.gunicorn(
                "gthread",
                "benchmarks.gateway:application()",
                environment={"SERVICES": " ".join(map(str, ports))},
            )
        )
        taken = timed(
            {
                "services": partial(_in_turn, dict(zip(NAMES, ports, strict=True)), URIS),
                "sequential": partial(_in_turn, dict.fromkeys(NAMES, gateway), URIS),
                "six": partial(_over_six, dict.fromkeys(NAMES, gateway)),
                "batch": partial(_batch, gateway),
            },
            3,
        )
    rows = [Row("one batch, threads=20", spread(taken, lambda turn: 1e3 * turn["batch"]), "ms")]
    for way, label in WAYS.items():
        milliseconds = spread(taken, lambda turn, way=way: 1e3 * turn[way])
        rows += [
            Row(label, milliseconds, "ms"),
            Row("… / one batch", spread(taken, lambda turn, way=way: turn[way] / turn["batch"])),
        ]
    return [Table("20 GETs over three services that take 200 ms each", rows)]


def _in_turn(ports: dict[str, int], uris: list[str]) -> None:
    """One after the other, on one connection to each server."""
    connections = {port: Connection(port) for port in set(ports.values())}
    for uri in uris:
        connections[ports[uri.split("/")[1]]].ask(get(uri))
    for connection in connections.values():
        connection.close()


def _over_six(ports: dict[str, int]) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(partial(_in_turn, ports), [URIS[n::6] for n in range(6)]))


def _batch(port: int) -> None:
    connection = Connection(port)
    reply = connection.ask(post(BATCH))
    connection.close()
    if reply.count(b'"status_code":"200"') != GETS:
        raise AssertionError(reply)
