"""The endpoint's own JSON format: `on-fail`, `requests`, and for each `method`, `uri`, `args`.

`Native.decode` reads a batch: first its own shape, then each item, member by member. Every fault is
collected, with its JSON Pointer. `Native.entry` writes what became of one member; `Native.encode`
joins the entries, `Native.line` makes one a line of a streamed reply.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any
from urllib.parse import quote_plus

from batchwsgi.model import (
    Batch,
    Fault,
    Malformed,
    Member,
    OnFail,
    Origin,
    Request,
    Response,
    TooLarge,
    Unresolved,
)
from batchwsgi.references import (
    INDEX,
    Reference,
    Replies,
    Template,
    compiled,
    filled,
    pointer_token,
    references,
)
from batchwsgi.rules import Rules, checked_method

from .embedding import embedded, quoted
from .media import media_type
from .strict_json import loads, reply_value

_BATCH_MEMBERS = frozenset(["on-fail", "requests"])
_ITEM_MEMBERS = frozenset(["id", "method", "uri", "args", "headers", "body", "depends-on"])
_MAY_REFER = ("uri", "args", "headers", "body")
_ID = re.compile(r"(?![0-9]*\Z)[A-Za-z0-9_-]{1,64}")  # digits only is an index
_ASCII_IN_FORMS = {code: quote_plus(chr(code)) for code in range(128)}
_ARGS_ARE_BODY = frozenset(["POST", "PUT", "PATCH"])
_TAILS = {None: b"}", "text": b',"encoding":"text"}', "base64": b',"encoding":"base64"}'}
_FORM = "application/x-www-form-urlencoded"

Json = Any  # a decoded JSON value; its own type says no more
Item = dict[str, Json]


class Native:
    """The native dialect; it has no state."""

    media_type = "application/json"
    reply_type = "application/json"
    stream_type = "application/x-ndjson"

    def decode(self, body: bytes, rules: Rules, origin: Origin) -> Batch:
        """The batch in `body`. Raises `Malformed` with every fault in it, or `TooLarge`."""
        try:
            document = loads(body, rules.limits)
        except ValueError as error:
            raise Malformed([Fault("", f"not strict JSON: {error}")]) from None
        if not isinstance(document, dict):
            raise Malformed([Fault("", _expected("an object", document))])
        faults = _unknown(document, _BATCH_MEMBERS)
        on_fail = _on_fail(document, rules, faults)
        may_refer = b"$" in body or b"\\u" in body  # a "$" can be written as \u0024
        reader = _Reader(rules, origin, may_refer)
        members = []
        for index, item in enumerate(_items(document, rules, faults)):
            try:
                members.append(reader.member(index, item))
            except Malformed as error:
                place = f"/requests/{index}"
                faults += [Fault(place + fault.pointer, fault.detail) for fault in error.faults]
        if faults:
            raise Malformed(faults)
        for index in reader.referenced:
            members[index].referenced = True
        if on_fail == "rollback":
            for member in members:
                member.group = 0  # all of them or none: a failure in it stops the rest
        return Batch(members, OnFail.STOP if on_fail == "stop" else OnFail.IGNORE)

    def entry(self, member: Member) -> bytes:
        """What became of `member`, as one JSON object."""
        item, response = member.source, member.response
        assert isinstance(item, dict) and response is not None
        headers = response.shown()
        content_type = headers["content-type"][1] if "content-type" in headers else ""
        body, encoding = embedded(response.body, content_type)
        head = '%s"method":%s,"uri":%s,"status_code":"%d","headers":{%s},"body":' % (
            '{"id":"%s",' % item["id"] if "id" in item else "{",
            quoted(item["method"]) if "method" in item else '"get"',
            quoted(item["uri"]),
            response.status,
            ",".join(['"%s":%s' % (name, quoted(value)) for name, value in headers.values()]),
        )
        return b"%b%b%b" % (head.encode(), body, _TAILS[encoding])

    def encode(self, entries: Iterable[bytes]) -> Iterator[bytes]:
        """The parts of the whole reply; `entries` are in the order of the requests."""
        mark = b'{"responses":['
        for entry in entries:
            yield mark
            yield entry
            mark = b","
        yield b"]}"

    def line(self, member: Member) -> bytes:
        """The part of a streamed reply that tells of `member`: one line (NDJSON)."""
        # In JSON a line break can only stand between tokens, where a space is the same.
        entry = member.entry.replace(b"\n", b" ").replace(b"\r", b" ")
        return b'{"index":%d,%b\n' % (member.index, entry[1:])


# --- The batch ---------------------------------------------------------------------------------


def _on_fail(document: Item, rules: Rules, faults: list[Fault]) -> str:
    word = document.get("on-fail", "ignore")
    if not isinstance(word, str):
        faults.append(Fault("/on-fail", _expected("a string", word)))
    elif word not in ("ignore", "stop", "rollback"):
        faults.append(Fault("/on-fail", f"{ascii(word)[:60]} is not ignore, stop or rollback"))
    elif word == "rollback" and not rules.can_roll_back:
        detail = "rollback: this endpoint has none, its operator has set no transaction"
        faults.append(Fault("/on-fail", detail))
    else:
        return word
    return "ignore"


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


class _Reader:
    """Reads the items of one batch, in order: what each needs of those before it."""

    def __init__(self, rules: Rules, origin: Origin, may_refer: bool) -> None:
        self._rules = rules
        self._origin = origin
        self._may_refer = may_refer
        self._index = 0
        self._places: dict[str, int] = {}
        self._members: dict[int, Member] = {}
        self._replies = Replies(self._members, origin, _value)
        self.referenced: set[int] = set()

    def member(self, index: int, item: Json) -> Member:
        """The member that `item` asks for. Raises `Malformed`, its pointers relative to it."""
        self._index = index
        if not isinstance(item, dict):
            raise Malformed([Fault("", _expected("an object", item))])
        faults: list[Fault] = []
        depends_on: set[int] = set()
        found: list[Reference] = []
        ready = item
        if "depends-on" in item:
            depends_on.update(self._depends_on(item["depends-on"], faults))
        if self._may_refer:
            ready = {
                name: compiled(value, f"/{name}", self._place, faults)
                if name in _MAY_REFER
                else value
                for name, value in item.items()
            }
            found = list(references(ready))
        if "id" in item:  # only now: no item can refer to itself
            self._check_id(item["id"], index, faults)
        try:
            # With references it cannot be built yet, but what they are not part of is checked.
            request = _request(_stand_in(ready) if found else ready, self._rules, self._origin)
        except Malformed as error:
            known = {fault.pointer for fault in faults}  # a place has one fault
            faults += [fault for fault in error.faults if fault.pointer not in known]
            raise Malformed(faults) from None
        if faults:
            raise Malformed(faults)
        self._members[index] = member = Member(index, request, item)
        if found:
            member.bind = partial(self._bound, ready, found)
            depends_on.update(reference.place for reference in found)
            self.referenced.update(ref.place for ref in found if ref.part == "body")
        if depends_on:
            member.depends_on = depends_on
        return member

    def _place(self, name: str) -> int:
        """The index of the earlier item that has that id or index."""
        if name in self._places:
            return self._places[name]
        if INDEX.fullmatch(name) and int(name) < self._index:
            return int(name)
        raise ValueError(f"{ascii(name)[:70]} is not the id or index of an earlier item")

    def _depends_on(self, names: Json, faults: list[Fault]) -> Iterator[int]:
        if not isinstance(names, list):
            faults.append(Fault("/depends-on", _expected("an array", names)))
            return
        for number, name in enumerate(names):
            try:
                yield self._place(_string(name))
            except ValueError as error:
                faults.append(Fault(f"/depends-on/{number}", str(error)))

    def _check_id(self, name: Json, index: int, faults: list[Fault]) -> None:
        if not isinstance(name, str) or not _ID.fullmatch(name):
            detail = "an id is a string of 1 to 64 letters, digits, - and _, and not of digits only"
            faults.append(Fault("/id", detail))
        elif name in self._places:
            faults.append(Fault("/id", f"{name} is the id of an earlier item"))
        else:
            self._places[name] = index

    def _bound(self, ready: Item, found: list[Reference]) -> Request:
        """The request of an item, its references filled in and every rule applied again."""
        replies = self._replies
        replies.check_size(found, self._rules.limits.max_reference_size)
        fill = {"uri": Template.uri, "headers": Template.text}
        try:
            return _request(
                {
                    name: filled(value, partial(fill.get(name, Template.value), replies=replies))
                    for name, value in ready.items()
                },
                self._rules,
                self._origin,
            )
        except Malformed as error:
            pointer, detail = error.faults[0]
            raise Unresolved(f"{pointer}: {detail}") from None
        except (ValueError, RecursionError):  # a lone surrogate, or more levels than can be written
            raise Unresolved(f"what {found[0].text} brings cannot be written here") from None


def _stand_in(ready: Item) -> Item:
    """An item with its references replaced by values that are right wherever one can stand."""
    values = {"uri": "/", "headers": "application/json"}
    return {
        name: filled(value, partial(_constant, values.get(name, "")))
        for name, value in ready.items()
    }


def _constant(value: str, _: Template) -> str:
    return value


def _value(response: Response) -> Json:
    """The JSON value of a reply, as references see it. Raises `ValueError` if it has none."""
    if not response.body:
        raise ValueError("the reply is empty")
    if not media_type(response.headers.get("Content-Type", "")).is_json:
        raise ValueError("the reply is not JSON")
    return reply_value(response.body)


def _request(item: Item, rules: Rules, origin: Origin) -> Request:
    """The request that `item` asks for. Raises `Malformed`, its pointers relative to the item."""
    faults = [] if _ITEM_MEMBERS.issuperset(item) else _unknown(item, _ITEM_MEMBERS)
    method = "GET"
    if "method" in item:
        try:
            method = checked_method(_string(item["method"]))
        except ValueError as error:
            faults.append(Fault("/method", str(error)))

    headers: list[tuple[str, str]] = []
    content_type = implied_type = None
    if "headers" in item:
        headers = _headers(item["headers"], rules, origin.authenticated, faults)
        for name, value in headers:
            if name.lower() == "content-type":
                content_type = value
    query = ""
    body = b""
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
            query = _form(args, faults)
        elif content_type is None or media_type(content_type).essence == _FORM:
            implied_type = _FORM
            body = _form(args, faults).encode()
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


def _headers(
    headers: Json, rules: Rules, authenticated: bool, faults: list[Fault]
) -> list[tuple[str, str]]:
    """The headers that an item sets."""
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
            faults.append(Fault(f"/headers/{pointer_token(name)}", str(error)))
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
        raise ValueError(f"it has characters that {kind.charset or 'utf-8'} has not") from None


def _form(args: Item, faults: list[Fault]) -> str:
    """`args` as a form (WHATWG URL §5.2); an array repeats its name, null is left out."""
    pairs = []
    for name, value in args.items():
        for index, single in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(single, str):
                pairs.append(f"{_quoted(name)}={_quoted(single)}")
            elif isinstance(single, bool):
                pairs.append(f"{_quoted(name)}={'true' if single else 'false'}")
            elif isinstance(single, int | float):  # their repr is what Python's json writes
                pairs.append(f"{_quoted(name)}={_quoted(repr(single))}")
            elif single is not None:
                place = (
                    f"/args/{pointer_token(name)}{f'/{index}' if isinstance(value, list) else ''}"
                )
                detail = _expected("a string, number, boolean, null", single)
                faults.append(Fault(place, detail))
    return "&".join(pairs)


def _quoted(text: str) -> str:
    """`text` as a name or value of a form, as `quote_plus` has it but faster."""
    return text.translate(_ASCII_IN_FORMS) if text.isascii() else quote_plus(text)


# --- Words -------------------------------------------------------------------------------------

_dumps = json.JSONEncoder(separators=(",", ":")).encode


def _unknown(members: Item, known: frozenset[str]) -> list[Fault]:
    return [
        Fault(f"/{pointer_token(name)}", "unknown member") for name in members if name not in known
    ]


def _string(value: Json) -> str:
    if not isinstance(value, str):
        raise ValueError(_expected("a string", value))
    return value


def _expected(what: str, value: Json) -> str:
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    kind = "null" if value is None else kinds.get(type(value), "a number")
    return f"{what} is expected, not {kind}"
