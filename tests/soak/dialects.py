"""Batches as each dialect writes them, and their replies as each dialect is read.

Written anew, as a client would, and not with what the package has for this.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, NamedTuple

from .batches import (
    HTTP_MULTIPART,
    LINES,
    NATIVE,
    ODATA_JSON,
    ODATA_MULTIPART,
    TOO_LONG,
    Plan,
    failed,
)
from .items import FORM, JSON, Item

HOST = "soak.test"
"""The `Host` of all requests."""
PROBLEM = "urn:problem-type:batchwsgi:"
MULTIPART = "multipart/mixed; boundary="


class Sent(NamedTuple):
    """A request as a client sends it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Result(NamedTuple):
    """What was answered to one request of a batch."""

    status: int
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes
    id: str = ""
    """The id that the entry says it belongs to; empty if it says none."""

    @property
    def outcome(self) -> str:
        """The status, or the type of the problem that stands in place of an answer."""
        if self.headers.get("content-type") == "application/problem+json":
            kind = str(json.loads(self.body).get("type", ""))
            if kind.startswith(PROBLEM):
                return kind.removeprefix(PROBLEM)
        return str(self.status)


class Unreadable(Exception):
    """A reply that is not what its dialect says."""


# --- Writing ----------------------------------------------------------------------------------


def written(plan: Plan, rng: random.Random) -> Sent:
    """The batch, as its dialect writes it; with its flaw, if it has one."""
    items = plan.items
    if plan.flaw == "too many":
        items = items + [items[0]] * 21
    headers: dict[str, str] = {}
    if plan.dialect in (NATIVE, LINES):
        document = {"requests": [_native(plan, n, item) for n, item in enumerate(items)]}
        sent = _in_json(plan, {"on-fail": plan.on_fail, **document})
        headers["Accept"] = "application/x-ndjson" if plan.streamed else "*/*"
    elif plan.dialect == ODATA_JSON:
        requests = [_odata(plan, n, item, rng) for n, item in enumerate(items)]
        sent = _in_json(plan, {"requests": requests})
    else:
        sent = _multipart(plan, items, rng)
    if plan.dialect in (ODATA_JSON, ODATA_MULTIPART):
        headers["OData-Version"] = "4.01"
        if plan.on_fail == "stop":
            headers["Prefer"] = "continue-on-error=false"
    if plan.unavailable:
        headers["X-Unavailable"] = "1"
    return _flawed(plan, sent._replace(headers={**sent.headers, **headers}))


def alone(item: Item) -> Sent:
    """An item as a request of its own."""
    more = {"Content-Type": item.content_type} if item.content_type else {}
    return Sent(item.method, item.path, {**item.headers, **more}, item.content)


def _flawed(plan: Plan, sent: Sent) -> Sent:
    if plan.flaw == "cut off":
        return sent._replace(body=sent.body[:-20])
    if plan.flaw == TOO_LONG:
        return sent._replace(body=sent.body + b" " * 300_000)
    if plan.flaw == "media type":
        return sent._replace(headers={**sent.headers, "Content-Type": "text/csv"})
    return sent


def _fields(plan: Plan, item: Item) -> dict[str, str]:
    """The header lines of an item, and one that none may have if that is the batch's flaw."""
    more = {"X-Real-IP": "192.0.2.1"} if plan.flaw == "header" else {}
    return {**item.headers, **more}


def _in_json(plan: Plan, document: Any) -> Sent:
    return Sent("POST", plan.path, {"Content-Type": JSON}, json.dumps(document).encode())


def _native(plan: Plan, place: int, item: Item) -> dict[str, Any]:
    uri = item.path.partition("?")[0] if item.args else item.path
    if item.location_of is not None:
        uri = f"{{$responses.i{item.location_of}.location}}"
    request: dict[str, Any] = {"id": f"i{place}", "method": item.method.lower(), "uri": uri}
    headers = _fields(plan, item)
    if item.args:
        request["args"] = item.args
    elif item.content_type == JSON:
        request["body"] = item.written or json.loads(item.content)
    elif item.content_type:
        request["body"] = base64.b64encode(item.content).decode()
        headers["Content-Type"] = item.content_type
    if headers:
        request["headers"] = headers
    if item.depends_on:
        request["depends-on"] = [f"i{other}" for other in item.depends_on]
    return request


def _odata(plan: Plan, place: int, item: Item, rng: random.Random) -> dict[str, Any]:
    request: dict[str, Any] = {"id": f"{place}", "method": item.method}
    request["url"] = _url(item, rng)
    headers = _fields(plan, item)
    if item.content_type:
        headers["Content-Type"] = item.content_type
    if item.content_type == JSON:
        request["body"] = json.loads(item.content)
    elif item.content_type == FORM:
        request["body"] = item.content.decode()
    elif item.content_type:
        request["body"] = base64.urlsafe_b64encode(item.content).decode()
    if headers:
        request["headers"] = headers
    if item.depends_on:
        request["dependsOn"] = [f"{other}" for other in item.depends_on]
    if item.group is not None:
        request["atomicityGroup"] = f"g{item.group}"
    return request


def _url(item: Item, rng: random.Random) -> str:
    """One of the ways to write a url below the service root, which is the root here."""
    if item.location_of is not None:
        return f"${item.location_of}"
    return rng.choice([item.path, item.path[1:], f"http://{HOST}{item.path}"])


def _multipart(plan: Plan, items: Iterable[Item], rng: random.Random) -> Sent:
    boundary = f"batch_{plan.token}"
    parts: list[bytes] = []
    for group, unit in groupby(enumerate(items), lambda numbered: numbered[1].group):
        within = [_part(plan, place, item, rng) for place, item in unit]
        if group is None:
            parts += within
        else:
            inner = f"set_{group}"
            head = f"Content-Type: {MULTIPART}{inner}\r\n\r\n".encode()
            parts.append(head + _joined(within, inner))
    headers = {"Content-Type": MULTIPART + boundary}
    return Sent("POST", plan.path, headers, _joined(parts, boundary))


def _joined(parts: Iterable[bytes], boundary: str) -> bytes:
    mark = f"--{boundary}".encode()
    return b"".join(b"%b\r\n%b\r\n" % (mark, part) for part in parts) + mark + b"--\r\n"


def _part(plan: Plan, place: int, item: Item, rng: random.Random) -> bytes:
    url = _url(item, rng)
    if plan.dialect == HTTP_MULTIPART and not url.startswith(("/", "http")):
        url = f"/{url}"
    head = ["Content-Type: application/http", f"Content-ID: {place}", ""]
    head.append(f"{item.method} {url} HTTP/1.1")
    head += [f"{name}: {value}" for name, value in _fields(plan, item).items()]
    if item.content_type:
        head += [f"Content-Type: {item.content_type}", f"Content-Length: {len(item.content)}"]
    return "\r\n".join([*head, "", ""]).encode() + item.content


# --- Reading ----------------------------------------------------------------------------------


def read(plan: Plan, content_type: str, body: bytes) -> dict[int, Result]:
    """What a whole reply says of each item. Raises `Unreadable`, or what its parser raises."""
    if plan.dialect in (ODATA_MULTIPART, HTTP_MULTIPART):
        results = dict(_parts_read(plan, content_type, body))
    else:
        entry = _native_entry if plan.dialect == NATIVE else _odata_entry
        entries = json.loads(body)["responses"]
        results = {place: entry(found) for place, found in enumerate(entries)}
    for place, result in results.items():
        if result.id not in (_id(plan, place), ""):
            raise Unreadable(f"the entry at {place} has the id {result.id!r}")
    return results


def line_read(line: bytes) -> tuple[int, Result]:
    """What one line of a streamed reply says, and of which item."""
    entry = json.loads(line)
    result = _native_entry(entry)
    if result.id != f"i{entry['index']}":
        raise Unreadable(f"the line of {entry['index']} has the id {result.id!r}")
    return entry["index"], result


def _id(plan: Plan, place: int) -> str:
    return {NATIVE: f"i{place}", HTTP_MULTIPART: f"response-{place}"}.get(plan.dialect, f"{place}")


def _native_entry(entry: dict[str, Any]) -> Result:
    body, encoding = entry["body"], entry.get("encoding")
    if encoding == "base64":
        content = base64.b64decode(body)
    elif encoding == "text":
        content = body.encode()
    else:
        content = b"" if body is None else json.dumps(body).encode()
    headers = {name.lower(): value for name, value in entry["headers"].items()}
    return Result(int(entry["status_code"]), headers, content, entry["id"])


def _odata_entry(entry: dict[str, Any]) -> Result:
    headers, body = entry["headers"], entry["body"]
    kind = headers.get("content-type", "")
    if body is None:
        content = b""
    elif "json" in kind:
        content = json.dumps(body).encode()
    elif kind.startswith("text/"):
        content = body.encode()
    else:
        content = base64.urlsafe_b64decode(body)
    return Result(entry["status"], headers, content, entry["id"])


def _parts_read(plan: Plan, content_type: str, body: bytes) -> Iterator[tuple[int, Result]]:
    """What each part says. The one part of a change set that failed speaks for all in it."""
    parts = iter(_split(content_type, body))
    for group, unit in groupby(range(len(plan.items)), lambda place: plan.items[place].group):
        if group is None:
            for place in unit:
                yield place, _message(next(parts))
            continue
        places = list(unit)
        part = next(parts)
        head, _, content = part.partition(b"\r\n\r\n")
        kind = head.decode().removeprefix("Content-Type: ")
        if kind.startswith(MULTIPART):
            yield from zip(places, map(_message, _split(kind, content)), strict=True)
            continue
        culprit = _message(part)
        if not failed(culprit.outcome):
            raise Unreadable("one part for a change set that did not fail")
        yield from ((place, culprit) for place in places)
    if list(parts):
        raise Unreadable("more parts than requests")


def _split(content_type: str, body: bytes) -> list[bytes]:
    """The parts between the delimiters."""
    mark = b"--" + content_type.removeprefix(MULTIPART).encode()
    first, *parts, last = (b"\r\n" + body).split(b"\r\n" + mark)
    if (
        first
        or last not in (b"--\r\n", b"--")
        or not all(part.startswith(b"\r\n") for part in parts)
    ):
        raise Unreadable(f"not {content_type}")
    return [part[2:] for part in parts]


def _message(part: bytes) -> Result:
    """The HTTP message in a part."""
    outside, head, body = part.split(b"\r\n\r\n", 2)
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    headers = {name.lower(): value for name, value in headers.items()}
    if int(headers["content-length"]) != len(body):
        raise Unreadable(f"{len(body)} bytes, not {headers['content-length']}")
    named = outside.decode().partition("Content-ID: ")[2]
    return Result(int(status.split()[1]), headers, body, named)
