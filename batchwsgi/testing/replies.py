"""Reading the reply to a batch: each entry as a response, with the bytes of its body."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import NamedTuple

from werkzeug.datastructures import Headers
from werkzeug.http import parse_options_header

from batchwsgi.model import Problem, Response
from batchwsgi.testing.calls import cut
from batchwsgi.testing.items import JSON, coding_of

_values = json.JSONDecoder(parse_int=str, parse_float=str)  # integers of any length
_space = re.compile(r"[ \t\r\n]*")

_NDJSON = "application/x-ndjson"
_STREAMED = f"The reply is streamed, because of Accept: {_NDJSON}. Leave that header out."
_NO_ENDPOINT = "Is the application inside BatchMiddleware, and is that the path of the endpoint?"


class Entry(NamedTuple):
    """One entry of a batch's reply."""

    method: str
    uri: str
    encoding: str | None
    response: Response


def entries_of(reply: Response) -> list[Entry]:
    """The entries of a batch's reply. Raises `AssertionError` if it has none."""
    content_type = parse_options_header(reply.headers.get("Content-Type"))[0]
    if reply.status != 200 or content_type != JSON:
        raise AssertionError(_STREAMED if content_type == _NDJSON else _refusal(reply))
    try:
        document = _members(reply.body.decode())
        return [_entry(_members(text)) for text in _parts(document["responses"])]
    except (ValueError, LookupError, TypeError) as error:
        told = f"The reply is not that of a batch: {error!r}\n{_NO_ENDPOINT}"
        raise AssertionError(told) from None


def _refusal(reply: Response) -> str:
    """What a reply without entries says."""
    said = f"The batch was answered {reply.status} {reply.reason}"
    try:
        document = reply.json()
        lines = [f"{said}: {document['detail']}"]
        for fault in document.get("errors", []):
            lines.append(f"  {fault['pointer']}: {fault['detail']}")
        if "more" in document:
            lines.append(f"  … and {document['more']} more faults")
    except (ValueError, LookupError, TypeError):
        return f"{said}: {cut(reply.body.decode(errors='replace'))}\n{_NO_ENDPOINT}"
    return "\n".join(lines)


def _members(text: str) -> dict[str, str]:
    """The members of a JSON object, their values as they are written."""
    parts = [*_parts(text)]
    return {json.loads(parts[n]): parts[n + 1] for n in range(0, len(parts), 2)}


def _parts(text: str) -> Iterator[str]:
    """The values of a JSON array, or names and values of an object, as they are written."""
    place = _behind_space(text, 0) + 1
    is_empty = text[_behind_space(text, place)] in "]}"
    while not is_empty:
        begin = place
        _, place = _values.raw_decode(text, _behind_space(text, begin))
        place = _behind_space(text, place)
        yield text[begin:place]
        if text[place] in "]}":
            return
        place += 1  # behind "," or ":"


def _behind_space(text: str, place: int) -> int:
    found = _space.match(text, place)
    assert found is not None
    return found.end()


def _entry(members: Mapping[str, str]) -> Entry:
    status = int(json.loads(members["status_code"]))
    reason = ""
    with suppress(ValueError):  # it may be one of the application's own
        reason = HTTPStatus(status).phrase
    encoding = json.loads(members.get("encoding", "null"))
    response = Response(status, reason, [*json.loads(members["headers"]).items()])
    method = json.loads(members["method"])
    if members["body"] != "null" or _is_null(method, response.headers):
        response.body = _body(members["body"], encoding, response.headers)
    response.problem = _problem(response)
    return Entry(method, json.loads(members["uri"]), encoding, response)


def _is_null(method: str, headers: Headers) -> bool:
    """Whether `null` is the body of a reply, and not that it has none."""
    coding, _ = coding_of(headers.get("Content-Type", ""))
    return coding == "json" and headers.get("Content-Length") == "4" and method.upper() != "HEAD"


def _body(raw: str, encoding: str | None, headers: Headers) -> bytes:
    """The bytes that stand in an entry as `raw`."""
    if encoding is None:
        return raw.encode()
    text = json.loads(raw)
    if encoding == "base64":
        return b64decode(text, validate=True)
    charset = coding_of(headers.get("Content-Type", ""))[1]
    return text.encode(charset)  # type: ignore[no-any-return] # json has no types


def _problem(response: Response) -> Problem | None:
    """Why the endpoint answered in place of the application; None if it did not."""
    if response.headers.get("Content-Type") == "application/problem+json":
        with suppress(ValueError, LookupError, TypeError):
            prefix, _, kind = str(response.json()["type"]).rpartition(":")
            if prefix == "urn:problem-type:batchwsgi":
                return {problem.value[0]: problem for problem in Problem}[kind]
    return None
