"""The application under test, as its tests see it: a shop, on a database.

POST /login?user=      the session's user
GET  /me               who that is, 401 for nobody
POST /orders           an order, 201 with its Location; 500 if its sku is there already
GET  /orders           the skus of all orders
GET  /orders/ID        an order, 404
POST /orders/tolerant  the same as POST /orders; but 200 if the sku is there already
POST /lines            a line of an order. Whether the order exists is seen at COMMIT
POST /crash            an order, which is committed; then an exception
GET  /teapot           418, whatever is in the database
GET  /big              many bytes
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from ..support import App, Environ
from .database import Database


@dataclass
class Shop:
    """The shop with one framework on one database."""

    app: App
    """The application, without the endpoint."""
    transaction: Callable[[], AbstractContextManager[object]]
    """The README's recipe."""
    database: Database
    looks: dict[str, Callable[[], Any]] = field(default_factory=dict)
    """What `GET /look/NAME` answers with: how a test gets inside a batch that runs."""

    def skus(self) -> list[str]:
        """The orders that are in the database, seen from outside."""
        return self.database.query("SELECT sku FROM shop_order ORDER BY id")

    def looking(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """The application, and `/look/NAME`."""
        name = environ["PATH_INFO"].removeprefix("/look/")
        if name not in self.looks:
            return self.app(environ, start_response)
        seen = json.dumps(self.looks[name]()).encode()
        start_response("200 OK", [("Content-Type", "application/json")])
        return [seen]


def order(sku: str, **more: Any) -> dict[str, Any]:
    """A member that orders."""
    return {"method": "post", "uri": "/orders", "body": {"sku": sku}, **more}


def rollback(*items: Any) -> dict[str, Any]:
    """The document of a batch that is all or nothing; an item that is a string is a GET."""
    requests = [{"uri": item} if isinstance(item, str) else item for item in items]
    return {"on-fail": "rollback", "requests": requests}


def kind(entry: dict[str, Any]) -> str:
    """The status of an entry, or the kind of problem that the endpoint tells."""
    if entry["headers"].get("Content-Type") == "application/problem+json":
        return entry["body"]["type"].removeprefix("urn:problem-type:batchwsgi:")
    return entry["status_code"]


def kinds(entries: Iterable[dict[str, Any]]) -> list[str]:
    return [kind(entry) for entry in entries]
