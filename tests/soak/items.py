"""The requests of batches, and what has to become of each.

An `Item` is one request as all dialects can write it, with what the application answers if it is
sent. `KINDS` makes them.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from .ledger import POISON

JSON, FORM = "application/json", "application/x-www-form-urlencoded"


def blob(token: str, size: int) -> bytes:
    """Bytes that no other token has."""
    digest = hashlib.sha256(token.encode()).digest()
    return (digest * (size // len(digest) + 1))[:size]


def prose(token: str) -> bytes:
    return f"Größe {token} – 好\n".encode() * 3


def lines(token: str, count: int) -> bytes:
    return b"".join(f"{token} {number}\n".encode() for number in range(count))


@dataclass(kw_only=True)
class Item:
    """One request, what it depends on, and what the application answers if it is sent."""

    token: str
    method: str = "GET"
    path: str
    """With its query, as it is written where nothing is in `args`."""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = ""
    content: bytes = b""
    """The body as the application has to get it."""
    args: dict[str, Any] = field(default_factory=dict)
    """What native batches write in place of a form, or beside `path`."""
    written: Any = None
    """What native batches write in place of a JSON body: it has references."""
    depends_on: list[int] = field(default_factory=list)
    location_of: int | None = None
    """The url is the `Location` of that item."""
    group: int | None = None
    outcome: str = "200"
    """The status, or the type of a problem."""
    key: str = ""
    """What is in the ledger afterwards; empty if it writes nothing."""
    body: bytes | None = None
    """The body of the answer; None if it is the JSON of an identity."""
    says: dict[str, Any] = field(default_factory=dict)
    """More of what that JSON has."""

    @property
    def anonymous(self) -> bool:
        """Whether the answer has no token: it is not the application's own."""
        return self.path.startswith("/forbidden/")


Make = Callable[[str, random.Random], Item]


def echo(token: str, rng: random.Random) -> Item:
    query = {"q": [token, "é &=+"], "n": [str(rng.randrange(1000))]}
    path = f"/echo/{token}?{urlencode(query, doseq=True)}"
    return Item(token=token, path=path, says={"query": query})


def args(token: str, rng: random.Random) -> Item:
    values = {"q": [token, "ü"], "n": ["7"]}
    path = f"/echo/{token}?{urlencode(values, doseq=True)}"
    return Item(token=token, path=path, args=values, says={"query": values})


def other_user(token: str, rng: random.Random) -> Item:
    headers = {"Authorization": f"Bearer of.{token}", "X-Request-Id": f"trace.{token}"}
    says = {"user": f"of.{token}", "trace": f"trace.{token}"}
    return Item(token=token, path=f"/echo/{token}", headers=headers, says=says)


def slow(token: str, rng: random.Random) -> Item:
    path = f"/slow/{token}/{rng.randrange(20)}"
    return Item(token=token, path=path, says={"same": True, "path": path})


def text(token: str, rng: random.Random) -> Item:
    return Item(token=token, path=f"/prose/{token}", body=prose(token))


def binary(token: str, rng: random.Random) -> Item:
    size = rng.choice([0, 1, 100, 5_000, 30_000])
    return Item(token=token, path=f"/blob/{token}/{size}", body=blob(token, size))


def stream(token: str, rng: random.Random) -> Item:
    count = rng.randrange(10)
    path = f"/lines/{token}/{count}/{rng.randrange(3)}"
    return Item(token=token, path=path, body=lines(token, count))


def head(token: str, rng: random.Random) -> Item:
    return Item(token=token, method="HEAD", path=f"/prose/{token}", body=b"")


def nothing(token: str, rng: random.Random) -> Item:
    return Item(token=token, path=f"/nothing/{token}", outcome="204", body=b"")


def moved(token: str, rng: random.Random) -> Item:
    return Item(token=token, path=f"/moved/{token}", outcome="302", body=b"")


READS: list[Make] = [echo, args, other_user, slow, text, binary, stream, head, nothing, moved]


def make(token: str, rng: random.Random) -> Item:
    value = {"token": token, "text": "é" * rng.randrange(50), "list": [1, None, True]}
    return _made(token, value)


def form(token: str, rng: random.Random) -> Item:
    values = {"token": [token], "two": ["a b", "&ü"]}
    content = urlencode(values, doseq=True).encode()
    item = Item(token=token, method="POST", path=f"/form/{token}", key=token, says={"form": values})
    item.args, item.content_type, item.content = values, FORM, content
    return item


def upload(token: str, rng: random.Random) -> Item:
    content = blob(token, rng.choice([1, 1_000, 20_000]))
    item = Item(token=token, method="PUT", path=f"/files/{token}", key=token)
    item.content_type, item.content = "application/octet-stream", content
    item.says = {"length": len(content)}
    return item


def delete(token: str, rng: random.Random) -> Item:
    path = f"/things/{token}"
    return Item(token=token, method="DELETE", path=path, outcome="204", key=token, body=b"")


WRITES: list[Make] = [make, make, form, upload, delete]


def fail(token: str, rng: random.Random) -> Item:
    status = rng.choice([400, 404, 409, 500, 503])
    return Item(token=token, path=f"/fail/{token}/{status}", outcome=str(status))


def write_and_fail(token: str, rng: random.Random) -> Item:
    path = f"/fail/{token}/409"
    return Item(token=token, method="POST", path=path, outcome="409", key=token)


def raises(token: str, rng: random.Random) -> Item:
    return Item(token=token, path=f"/raise/{token}", outcome="application-error")


def write_and_raise(token: str, rng: random.Random) -> Item:
    path = f"/raise/{token}"
    return Item(token=token, method="POST", path=path, outcome="application-error", key=token)


def breaks(token: str, rng: random.Random) -> Item:
    return Item(token=token, path=f"/break/{token}", outcome="application-error")


def large(token: str, rng: random.Random) -> Item:
    return Item(token=token, path=f"/blob/{token}/200000", outcome="too-large")


def short(token: str, rng: random.Random) -> Item:
    return Item(token=token, path=f"/short/{token}", outcome="incomplete")


def offloaded(token: str, rng: random.Random) -> Item:
    return Item(token=token, path=f"/sent/{token}", outcome="offloaded")


def forbidden(token: str, rng: random.Random) -> Item:
    return Item(token=token, path=f"/forbidden/{token}", outcome="403")


FAILURES: list[Make] = [
    *[fail, write_and_fail, raises, write_and_raise, breaks, large, short, offloaded, forbidden]
]


def login(token: str, rng: random.Random) -> Item:
    return Item(token=token, method="POST", path=f"/login/{token}")


def logout(token: str, rng: random.Random) -> Item:
    return Item(token=token, method="POST", path=f"/logout/{token}")


LOGINS: list[Make] = [login, logout]


def poison(token: str, rng: random.Random) -> Item:
    """A write with which no transaction can be committed."""
    key = f"{POISON}.{token}"
    return Item(token=token, method="POST", path=f"/poison/{token}", key=key)


def stuck(token: str, rng: random.Random) -> Item:
    """A write whose answer goes on when the deadline of `/short` is over."""
    path = f"/lines/{token}/50/20"
    return Item(token=token, method="POST", path=path, outcome="timeout", key=token)


def half_full(token: str, rng: random.Random) -> Item:
    """Of these, six do not fit into one reply."""
    return Item(token=token, path=f"/blob/{token}/45000", body=blob(token, 45_000))


def at_location(token: str, place: int, of: Item) -> Item:
    """What reads the thing that `of`, at that place of the batch, has made."""
    path = f"/things/{of.token}"
    return Item(token=of.token, path=path, location_of=place, depends_on=[place])


def referring(token: str, place: int, of: Item) -> Item:
    """A write with parts of the answer to `of` in its body; native alone."""
    value = {"token": of.token, "status": 201, "at": f"it is {of.token}."}
    item = _made(token, value)
    reference = f"{{$responses.{place}.body#/token}}"
    status = f"{{$responses.i{place}.status_code}}"
    item.written = {"token": reference, "status": status, "at": f"it is {reference}."}
    item.depends_on = [place]
    return item


def nowhere(token: str, place: int, of: Item) -> Item:
    """A write with a reference to what the answer to `of` has not; native alone."""
    item = referring(token, place, of)
    item.written = {"token": f"{{$responses.{place}.body#/no/such}}"}
    item.outcome = "reference"
    return item


def _made(token: str, value: Any) -> Item:
    """A write with this JSON body."""
    return Item(
        token=token,
        method="POST",
        path=f"/make/{token}",
        content_type=JSON,
        content=json.dumps(value, separators=(",", ":")).encode(),
        outcome="201",
        key=token,
        says={"json": value},
    )
