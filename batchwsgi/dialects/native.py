"""The endpoint's own JSON format: `on-fail`, `requests`, and for each `method`, `uri`, `args`.

`Native.decode` reads a batch: first its own shape, then each item, member by member. Every fault is
collected, with its JSON Pointer. `Native.entry` writes what became of one member, `Native.encode`
joins the entries.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlencode

from batchwsgi.model import Batch, Fault, Malformed, Member, OnFail, Request, TooLarge
from batchwsgi.rules import Rules, checked_method

from .embedding import embedded, quoted
from .media import media_type
from .strict_json import loads

_BATCH_MEMBERS = frozenset(["on-fail", "requests"])
_ITEM_MEMBERS = frozenset(["id", "method", "uri", "args", "headers", "body"])
_ID = re.compile(r"(?![0-9]*\Z)[A-Za-z0-9_-]{1,64}")  # digits only is an index
_ARGS_ARE_BODY = frozenset(["POST", "PUT", "PATCH"])
_FORM = "application/x-www-form-urlencoded"

# Not in an entry's headers: what is about a connection (RFC 9110 §7.6.1), which a member has not,
# and cookies, which go to the headers of the reply, where scripts do not see them.
_NOT_IN_ENTRY = frozenset(
    (
        "connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
        "trailers transfer-encoding upgrade set-cookie"
    ).split()
)

Json = Any  # a decoded JSON value; its own type says no more
Item = dict[str, Json]


class Native:
    """The native dialect; it has no state."""

    media_type = "application/json"
    reply_type = "application/json"

    def decode(self, body: bytes, rules: Rules, authenticated: bool) -> Batch:
        """The batch in `body`. Raises `Malformed` with every fault in it, or `TooLarge`."""
        try:
            document = loads(body, rules.limits)
        except ValueError as error:
            raise Malformed([Fault("", f"not strict JSON: {error}")]) from None
        if not isinstance(document, dict):
            raise Malformed([Fault("", _expected("an object", document))])
        faults = list(_unknown(document, _BATCH_MEMBERS))
        on_fail = _on_fail(document, faults)
        members = []
        ids: set[str] = set()
        for index, item in enumerate(_items(document, rules, faults)):
            try:
                if not isinstance(item, dict):
                    raise Malformed([Fault("", _expected("an object", item))])
                members.append(Member(index, _request(item, rules, authenticated, ids), item))
            except Malformed as error:
                place = f"/requests/{index}"
                faults += [Fault(place + fault.pointer, fault.detail) for fault in error.faults]
        if faults:
            raise Malformed(faults)
        return Batch(members, on_fail)

    def entry(self, member: Member) -> bytes:
        """What became of `member`, as one JSON object."""
        item, response = member.source, member.response
        assert isinstance(item, dict) and response is not None
        headers: dict[str, tuple[str, str]] = {}
        for name, value in response.fields:
            lower = name.lower()
            if lower in headers:
                first_name, before = headers[lower]
                headers[lower] = first_name, f"{before}, {value}"
            elif lower not in _NOT_IN_ENTRY:
                headers[lower] = name, value
        _, content_type = headers.get("content-type", ("", ""))
        body, encoding = embedded(response.body, content_type)
        fields = ",".join([f'"{name}":{quoted(value)}' for name, value in headers.values()])
        head = (
            f'"method":{quoted(item.get("method", "get"))},"uri":{quoted(item["uri"])},'
            f'"status_code":"{response.status}","headers":{{{fields}}},"body":'
        )
        if "id" in item:
            head = f'"id":"{item["id"]}",{head}'
        tail = f',"encoding":"{encoding}"}}' if encoding else "}"
        return b"{%b%b%b" % (head.encode(), body, tail.encode())

    def encode(self, entries: Iterable[bytes]) -> bytes:
        """The whole reply; `entries` are in the order of the requests."""
        return b'{"responses":[%b]}' % b",".join(entries)


# --- The batch ---------------------------------------------------------------------------------


def _on_fail(document: Item, faults: list[Fault]) -> OnFail:
    word = document.get("on-fail", "ignore")
    if word == "rollback":
        faults.append(Fault("/on-fail", "rollback: this endpoint has no transaction to roll back"))
    elif not isinstance(word, str):
        faults.append(Fault("/on-fail", _expected("a string", word)))
    elif word not in ("ignore", "stop"):
        faults.append(Fault("/on-fail", f"{ascii(word)[:60]} is neither ignore nor stop"))
    else:
        return OnFail(word)
    return OnFail.IGNORE


def _items(document: Item, rules: Rules, faults: list[Fault]) -> list[Json]:
    """The items, counted before anything is done with one of them."""
    if "requests" not in document:
        faults.append(Fault("", "requests is missing"))
        return []
    items = document["requests"]
    if not isinstance(items, list):
        faults.append(Fault("/requests", _expected("an array", items)))
        return []
    if not items:
        faults.append(Fault("/requests", "no items, at least 1"))
    if len(items) > rules.limits.max_requests:
        raise TooLarge(
            f"requests: {len(items)} items, at most {rules.limits.max_requests} "
            "(Limits.max_requests)."
        )
    return items


# --- One item ----------------------------------------------------------------------------------


def _request(item: Item, rules: Rules, authenticated: bool, ids: set[str]) -> Request:
    """The request that `item` asks for. Raises `Malformed`, its pointers relative to the item.

    `ids` are those of the items before this one; its own is added.
    """
    faults = list(_unknown(item, _ITEM_MEMBERS))
    if "id" in item:
        _check_id(item["id"], ids, faults)
    method = "GET"
    try:
        method = checked_method(_string(item.get("method", "get")))
    except ValueError as error:
        faults.append(Fault("/method", str(error)))

    headers = _headers(item, rules, authenticated, faults)
    content_type = next((value for name, value in headers if name.lower() == "content-type"), None)
    query = ""
    body = b""
    implied_type = None
    if "body" in item:
        implied_type = "application/json"
        try:
            body = _body(item["body"], content_type or implied_type)
        except ValueError as error:
            faults.append(Fault("/body", str(error)))
    if "args" in item:
        args = item["args"]
        if not isinstance(args, dict):
            faults.append(Fault("/args", _expected("an object", args)))
        elif "body" in item or method not in _ARGS_ARE_BODY:
            query = urlencode(_pairs(args, faults))
        elif content_type is None or media_type(content_type).essence == _FORM:
            implied_type = _FORM
            body = urlencode(_pairs(args, faults)).encode()
        elif media_type(content_type).is_json:
            body = _dumps(args).encode()
        else:
            detail = f"become the body, a form or JSON, but the Content-Type is {content_type!a}"
            faults.append(Fault("/args", detail))
    if content_type is None and implied_type is not None:
        headers.append(("Content-Type", implied_type))

    target = ""
    try:
        target = rules.target(_string(item["uri"]), query)
    except KeyError:
        faults.append(Fault("", "uri is missing"))
    except ValueError as error:
        faults.append(Fault("/uri", str(error)))
    if faults:
        raise Malformed(faults)
    return Request(method, target, headers, body)


def _check_id(name: Json, ids: set[str], faults: list[Fault]) -> None:
    if not isinstance(name, str) or not _ID.fullmatch(name):
        detail = "an id is a string of 1 to 64 letters, digits, - and _, and not of digits only"
        faults.append(Fault("/id", detail))
    elif name in ids:
        faults.append(Fault("/id", f"{name} is the id of an earlier item"))
    else:
        ids.add(name)


def _headers(
    item: Item, rules: Rules, authenticated: bool, faults: list[Fault]
) -> list[tuple[str, str]]:
    """The headers that `item` sets."""
    headers = item.get("headers", {})
    if not isinstance(headers, dict):
        faults.append(Fault("/headers", _expected("an object", headers)))
        return []
    try:
        rules.count_headers(len(headers))
    except ValueError as error:
        faults.append(Fault("/headers", str(error)))
        return []
    pairs = []
    seen = set()
    for name, value in headers.items():
        try:
            pairs.append(rules.header(name, _string(value)))
            if name.lower() in seen:
                raise ValueError(f"{name} stands twice: the case of a name does not count")
            if authenticated and name.lower() == "authorization":
                raise ValueError(f"{name} would not be checked: the server has done that already")
            seen.add(name.lower())
        except ValueError as error:
            faults.append(Fault(f"/headers/{_token(name)}", str(error)))
    return pairs


def _body(value: Json, content_type: str) -> bytes:
    """`value` as a body of that type: JSON, text in its charset, or what its base64 stands for."""
    kind = media_type(content_type)
    if kind.is_json:
        return _dumps(value).encode()
    if not isinstance(value, str):
        raise ValueError(f"{_expected('a string', value)}: the Content-Type is {content_type!a}")
    if not kind.is_text:
        try:
            return b64decode(value, validate=True)
        except ValueError as error:
            raise ValueError(f"not base64 (RFC 4648 §4): {error}") from None
    if kind.charset and not kind.codec:
        raise ValueError(f"the charset {kind.charset!a} is not a known one")
    try:
        return value.encode(kind.codec or "utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"it has characters that {kind.charset} has not") from None


def _pairs(args: Item, faults: list[Fault]) -> list[tuple[str, str]]:
    """`args` as names and values; an array repeats its name, null is left out."""
    pairs = []
    for name, value in args.items():
        for index, single in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(single, str):
                pairs.append((name, single))
            elif isinstance(single, int | float):  # bool is an int
                pairs.append((name, _dumps(single)))
            elif single is not None:
                place = f"/args/{_token(name)}{f'/{index}' if isinstance(value, list) else ''}"
                detail = _expected("a string, number, boolean, null", single)
                faults.append(Fault(place, detail))
    return pairs


# --- Words -------------------------------------------------------------------------------------

_dumps = json.JSONEncoder(separators=(",", ":")).encode


def _unknown(members: Item, known: frozenset[str]) -> Iterator[Fault]:
    for name in members.keys() - known:
        yield Fault(f"/{_token(name)}", "unknown member")


def _string(value: Json) -> str:
    if not isinstance(value, str):
        raise ValueError(_expected("a string", value))
    return value


def _expected(what: str, value: Json) -> str:
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    kind = "null" if value is None else kinds.get(type(value), "a number")
    return f"{what} is expected, not {kind}"


def _token(name: str) -> str:
    """`name` as a reference token of a JSON Pointer (RFC 6901 §3)."""
    return name.replace("~", "~0").replace("/", "~1")
