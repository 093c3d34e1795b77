"""What an item of the native format means, for the client that sends requests one by one.

It is written from the format's description, and shares no code with the dialect. Only `checked`
looks at items that an endpoint has not accepted yet.
"""

from __future__ import annotations

import codecs
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from werkzeug.datastructures import Headers
from werkzeug.http import parse_options_header

from batchwsgi.model import Request

Item = Mapping[str, object]
"""A request as an item of the native format; its `body` may be `bytes`."""

JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
_BINARY = "application/octet-stream"
_TEXT = frozenset(
    [_FORM, *(f"application/{name}" for name in "xml javascript x-javascript ecmascript".split())]
)
HAS_BODY = frozenset(["POST", "PUT", "PATCH"])
"""Methods with a `Content-Length` even where there is no body (RFC 9110 §8.6)."""
_MAY_REFER = ("uri", "args", "headers", "body")
_REFERENCE = re.compile(r"\{\$(\$*)responses\.")


def checked(requests: Iterable[Item]) -> list[Item]:
    """The items. Raises `TypeError` or `ValueError` for what is no list of items."""
    if isinstance(requests, str | bytes | Mapping) or not isinstance(requests, Iterable):
        raise TypeError(f"requests: {requests!r} is not a sequence of items")
    items = [*requests]
    for index, item in enumerate(items):
        if not isinstance(item, Mapping):
            raise TypeError(f"requests[{index}]: {item!r} is not an item, which is a mapping")
    if not items:
        raise ValueError("requests: there is none")
    return [_with_type(index, item) for index, item in enumerate(items)]


def _with_type(index: int, item: Item) -> Item:
    """`item`, with a `Content-Type` if its body is bytes."""
    if not isinstance(item.get("body"), bytes):
        return item
    headers = item.get("headers", {})
    if not isinstance(headers, Mapping):
        raise TypeError(f"requests[{index}]: headers: {headers!r} is not a mapping")
    if any(name.lower() == "content-type" for name in headers):
        return item
    return {**item, "headers": {**headers, "Content-Type": _BINARY}}


def refuse_references(items: Sequence[Item]) -> None:
    """Raise `ValueError` for a reference to an earlier reply, which means nothing alone."""
    for index, item in enumerate(items):
        for name in _MAY_REFER:
            try:
                _each_string(item.get(name), _literal)
            except ValueError as error:
                raise ValueError(f"requests[{index}]: {name}: {error}") from None


def sendable(index: int, item: Mapping[str, Any]) -> Item:
    """`item` as JSON can hold it. Raises `ValueError` if its body is not what its type says."""
    body = item.get("body")
    if not isinstance(body, bytes):
        return item
    coding, charset = coding_of(Headers(item["headers"])["Content-Type"])
    try:
        if coding == "base64":
            return {**item, "body": b64encode(body).decode()}
        value = body.decode(charset) if coding == "text" else json.loads(body)
    except ValueError as error:
        raise ValueError(f"requests[{index}]: body: not {coding}: {error}") from None
    return {**item, "body": _each_string(value, _escaped)}


def request_of(item: Mapping[str, Any]) -> Request:
    """The request that `item` means."""
    item = {
        name: _each_string(value, _literal) if name in _MAY_REFER else value
        for name, value in item.items()
    }
    method = item.get("method", "get").upper()
    target = _percent_encoded(item["uri"])
    headers = [*item.get("headers", {}).items()]
    content_type = Headers(headers).get("Content-Type")
    implied = None
    body = b""
    if "body" in item:
        implied = JSON
        body = _encoded(item["body"], content_type or JSON)
    if "args" in item:
        if "body" in item or method not in HAS_BODY:
            target = _with_query(target, _form(item["args"]))
        elif content_type and coding_of(content_type)[0] == "json":
            body = _encoded(item["args"], JSON)
        else:
            implied = _FORM
            body = _form(item["args"]).encode()
    if content_type is None and implied is not None:
        headers.append(("Content-Type", implied))
    return Request(method, target, headers, body)


def _percent_encoded(uri: str) -> str:
    """`uri` as a browser writes it (WHATWG URL §1.3, path and query percent-encode set)."""
    path, mark, query = uri.partition("?")
    path = re.sub(r'[^!-~]|["#<>^`{}]', _quoted, path)
    return path + mark + re.sub(r'[^!-~]|["#<>]', _quoted, query)


def _quoted(found: re.Match[str]) -> str:
    return quote(found[0])


def _with_query(target: str, query: str) -> str:
    if not query:
        return target
    if "?" not in target:
        return f"{target}?{query}"
    return target + ("" if target.endswith(("?", "&")) else "&") + query


def _form(args: Mapping[str, Any]) -> str:
    """`args` as a form: an array repeats its name, and null is left out."""
    pairs = [
        (name, single if isinstance(single, str) else json.dumps(single))
        for name, value in args.items()
        for single in (value if isinstance(value, list | tuple) else [value])
        if single is not None
    ]
    return urlencode(pairs)


def _encoded(body: Any, content_type: str) -> bytes:
    """The bytes that the `body` of an item means."""
    if isinstance(body, bytes):
        return body
    coding, charset = coding_of(content_type)
    if coding == "json":
        return json.dumps(body, separators=(",", ":")).encode()
    assert isinstance(body, str)
    return body.encode(charset) if coding == "text" else b64decode(body)


def coding_of(content_type: str) -> tuple[str, str]:
    """How a batch carries bodies of that type, as `json`, `text` or `base64`; and the charset."""
    kind, parameters = parse_options_header(content_type)
    kind = kind.lower()
    charset = parameters.get("charset", "utf-8")
    try:
        codecs.lookup(charset)
    except LookupError:
        charset = "utf-8"
    if kind == JSON or kind.endswith("+json"):
        return "json", charset
    is_text = kind.startswith("text/") or kind.endswith("+xml") or kind in _TEXT
    return "text" if is_text else "base64", charset


# --- References --------------------------------------------------------------------------------


def _each_string(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with each of its strings changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _each_string(inner, change) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_each_string(inner, change) for inner in value]
    return value


def _literal(text: str) -> str:
    """What `text` stands for. Raises `ValueError` if there is a reference in it."""
    for found in _REFERENCE.finditer(text):
        if not found[1]:
            raise ValueError(f"{text!r} has a reference, which means nothing in a request alone")
    return _REFERENCE.sub(r"{\1responses.", text)


def _escaped(text: str) -> str:
    """`text`, written so that there is no reference in it."""
    return _REFERENCE.sub(r"{$$\1responses.", text)
