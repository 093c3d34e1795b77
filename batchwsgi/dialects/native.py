"""The endpoint's own JSON format: `on-fail`, `requests`, and for each `method`, `uri`, `args`.

`Native.decode` reads a batch: first its own shape, then each item, name by name. Every fault is
collected, with its JSON Pointer. `native_writers` has what writes the reply, `expressions` the
grammar of references.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from functools import partial
from urllib.parse import quote_plus

from batchwsgi.errors import BatchError, Faults, Malformed, Unresolved, shown
from batchwsgi.model import Batch, Member, OnFail, OuterRequest, Request, Response
from batchwsgi.options import Limits
from batchwsgi.references import INDEX, Json, Reference, Replies
from batchwsgi.rules import Rules, checked_method

from .embedding import body_bytes, content_type_of
from .expressions import Template, compiled, filled, references
from .media import media_type
from .native_writers import JSONWriter, LineWriter, asks_for_lines
from .protocol import Writer
from .strict_json import dumps, expected, read_object, reply_value, requests_of

_BATCH_NAMES = frozenset(["on-fail", "requests"])
_ITEM_NAMES = frozenset(["id", "method", "uri", "args", "headers", "body", "depends-on"])
_ON_FAIL = {on_fail.value: on_fail for on_fail in OnFail}
_MAY_REFER = ("uri", "args", "headers", "body")
_ID = re.compile(r"(?![0-9]*\Z)[A-Za-z0-9_-]{1,64}")  # digits only is an index
_ASCII_IN_FORMS = {code: quote_plus(chr(code)) for code in range(128)}
_ARGS_ARE_BODY = frozenset(["POST", "PUT", "PATCH"])
_FORM = "application/x-www-form-urlencoded"

Item = dict[str, Json]


class Native:
    """The native dialect; it has no state."""

    media_type = "application/json"

    def decode(self, body: bytes, outer: OuterRequest, rules: Rules) -> Batch:
        """The batch in `body`. Raises `Malformed` with every fault in it, or `TooLarge`."""
        faults = Faults()
        document = read_object(body, rules.limits, faults)
        if not _BATCH_NAMES.issuperset(document):
            _add_unknown(document, _BATCH_NAMES, faults)
        on_fail = _on_fail(document, rules, faults)
        may_refer = b"$" in body or b"\\u" in body  # a "$" can be written as \u0024
        reader = _Reader(rules, outer, may_refer, faults)
        for index, item in enumerate(requests_of(document, rules.limits, faults)):
            reader.read(index, item)
        if faults:
            raise Malformed(faults)
        members = reader.members
        for index in reader.referenced:
            members[index].referenced = True
        if on_fail is OnFail.ROLLBACK:
            for member in members:
                member.group = 0  # all of them or none
        needs_transaction = on_fail is OnFail.ROLLBACK
        return Batch(members, on_fail, len(body), needs_transaction)

    def writer(self, batch: Batch, outer: OuterRequest) -> Writer:
        """JSON, or a line for each member where the client asks for that."""
        return LineWriter() if asks_for_lines(outer.accept) else JSONWriter()

    def refusal(self, error: BatchError) -> Mapping[str, object]:
        """Nothing: the problem document says it all."""
        return {}


# --- The batch ---------------------------------------------------------------------------------


def _on_fail(document: Item, rules: Rules, faults: Faults) -> OnFail:
    word = document.get("on-fail", "ignore")
    if not isinstance(word, str):
        faults.add(expected("a string", word), "on-fail")
    elif word not in _ON_FAIL:
        faults.add(f"{shown(word)} is not ignore, stop or rollback", "on-fail")
    elif word == "rollback" and not rules.can_roll_back:
        detail = "rollback: this endpoint has none, its operator has set no transaction"
        faults.add(detail, "on-fail")
    else:
        return _ON_FAIL[word]
    return OnFail.IGNORE


# --- One item ----------------------------------------------------------------------------------


class _Reader:
    """Reads the items of one batch, in order: what each needs of those before it."""

    def __init__(self, rules: Rules, outer: OuterRequest, may_refer: bool, faults: Faults) -> None:
        self._rules = rules
        self._outer = outer
        self._may_refer = may_refer
        self._faults = faults
        self._index = 0
        self._places: dict[str, int] = {}
        self.members: list[Member] = []
        self._replies = Replies(self.members, outer, _value, rules.limits.max_reference_size)
        self.referenced: set[int] = set()

    def read(self, index: int, item: Json) -> None:
        """Add the member. Once there are faults it is never sent, so it may be incomplete."""
        self._index = index
        faults = self._faults
        faults.enter("requests", index)
        if not isinstance(item, dict):
            faults.add(expected("an object", item))
            return
        templates, found = self._compiled(item) if self._may_refer else (item, [])
        depends_on = self._depends_on(item["depends-on"]) if "depends-on" in item else None
        if "id" in item:  # only now: no item can refer to itself
            self._check_id(item["id"])
        # An item with references cannot be built yet; everything outside them is checked now.
        if found:
            self._check_literals(templates.get("headers"))
        checkable = _stand_in(templates) if found else templates
        request = _request(checkable, self._rules, self._outer, faults)
        member = Member(index, request, item)
        if depends_on:
            member.depends_on = depends_on
        if found:
            self._replies.expect(found)
            member.bind = partial(self._bound, templates, found)
            member.depends_on = {*member.depends_on, *(reference.place for reference in found)}
            self.referenced.update(ref.place for ref in found if ref.part == "body")
        self.members.append(member)

    def _check_literals(self, headers: Json) -> None:
        """Refuse a header if what stands beside its references can never be right."""
        for name, value in headers.items() if isinstance(headers, dict) else ():
            if isinstance(value, Template):
                try:
                    self._rules.header(name, value.literal())
                except ValueError as error:
                    self._faults.add_once(str(error), "headers", name)

    def _compiled(self, item: Item) -> tuple[Item, list[Reference]]:
        """`item` with its references as templates, and those references."""
        ready = item.copy()
        for name in _MAY_REFER:
            if name in item:
                value = item[name]
                # These places are looked at again when the request is built.
                again = isinstance(value, str) or name == "headers"
                add = self._faults.add_once if again else self._faults.add
                ready[name] = compiled(value, (name,), self._place, add)
        return ready, list(references(ready))

    def _place(self, name: str) -> int:
        """The index of the earlier item that has that id or index."""
        if name in self._places:
            return self._places[name]
        if INDEX.fullmatch(name) and int(name) < self._index:
            return int(name)
        raise ValueError(f"{shown(name)} is not the id or index of an earlier item")

    def _depends_on(self, names: Json) -> set[int]:
        """The indexes of the earlier items with these names."""
        places: set[int] = set()
        if not isinstance(names, list):
            self._faults.add(expected("an array", names), "depends-on")
            return places
        for number, name in enumerate(names):
            try:
                places.add(self._place(_index_or_id(name)))
            except ValueError as error:
                self._faults.add(str(error), "depends-on", number)
        return places

    def _check_id(self, name: Json) -> None:
        """Refuse what is no id, or another's; note whose it is."""
        if not isinstance(name, str) or not _ID.fullmatch(name):
            detail = "an id is a string of 1 to 64 letters, digits, - and _, and not of digits only"
            self._faults.add(detail, "id")
        elif name in self._places:
            self._faults.add(f"{name} is the id of an earlier item", "id")
        else:
            self._places[name] = self._index

    def _bound(self, ready: Item, found: list[Reference]) -> Request:
        """The request of an item, its references filled in and every rule applied again."""
        replies = self._replies
        fill = {"uri": Template.uri, "headers": Template.text}
        faults = Faults()
        try:
            replies.check_size(found)
            item = {
                name: filled(value, partial(fill.get(name, Template.value), replies=replies))
                for name, value in ready.items()
            }
            request = _request(item, self._rules, self._outer, faults)
        except (ValueError, RecursionError):  # a lone surrogate, or more levels than can be written
            raise Unresolved(f"what {found[0].text} brings cannot be written here") from None
        if faults:
            pointer, detail = faults.listed[0]
            raise Unresolved(f"{pointer}: {detail}")
        return request


def _stand_in(ready: Item) -> Item:
    """An item with its references replaced by values that are right wherever one can stand.

    A stand-in in a header is `application/json`, because the header may be the `Content-Type`:
    under that type any `body` or `args` is right.
    """
    values = {"uri": Template.stand_in, "headers": _json_type}
    return {name: filled(value, values.get(name, _empty)) for name, value in ready.items()}


def _json_type(_: Template) -> str:
    return "application/json"


def _empty(_: Template) -> str:
    return ""


def _value(response: Response) -> Json:
    """The JSON value of a reply, as references see it. Raises `ValueError` if it has none."""
    if not response.body:
        raise ValueError("the reply is empty")
    if not media_type(content_type_of(*response.shown())).is_json:
        raise ValueError("the reply is not JSON")
    return reply_value(response.body)


def _request(item: Item, rules: Rules, outer: OuterRequest, faults: Faults) -> Request:
    """The request that `item` asks for; worth nothing if there are `faults` in the end."""
    if not _ITEM_NAMES.issuperset(item):
        _add_unknown(item, _ITEM_NAMES, faults)
    method = item.get("method", "GET")
    if isinstance(method, str):
        try:
            method = checked_method(method)
        except ValueError as error:
            faults.add(str(error), "method")
    else:
        faults.add(expected("a string", method), "method")
        method = ""
    headers: Sequence[tuple[str, str]] = ()
    query = ""
    body = b""
    if "headers" in item:
        headers = _headers(item["headers"], rules, outer.authenticated, faults)
    if "body" in item or "args" in item:
        headers, query, body = _content(item, method, headers, rules.limits, faults)
    target = ""
    uri = item.get("uri")
    if isinstance(uri, str):
        try:
            target = rules.target(uri, query)
        except ValueError as error:
            faults.add_once(str(error), "uri")
    elif "uri" in item:
        faults.add_once(expected("a string", uri), "uri")
    else:
        faults.add("uri is missing")
    return Request(method, target, headers, body)


def _content(
    item: Item, method: str, headers: Sequence[tuple[str, str]], limits: Limits, faults: Faults
) -> tuple[Sequence[tuple[str, str]], str, bytes]:
    """What `args` and `body` mean: the headers with the `Content-Type` implied, query and body."""
    content_type = implied_type = None
    for name, value in headers:
        if name.lower() == "content-type":
            content_type = value
    query = ""
    body = b""
    if "body" in item:
        implied_type = "application/json"
        try:
            body = body_bytes(item["body"], content_type or implied_type, _from_base64)
        except ValueError as error:
            faults.add_once(str(error), "body")
    if "args" in item:
        args = item["args"]
        if not isinstance(args, dict):
            faults.add_once(expected("an object", args), "args")
        elif "body" in item or method not in _ARGS_ARE_BODY:
            query = _form(args, "uri", "max_uri_length", limits, faults)
        elif content_type is None or media_type(content_type).essence == _FORM:
            implied_type = _FORM
            body = _form(args, "args", "max_body_size", limits, faults).encode()
        elif media_type(content_type).is_json:
            body = dumps(args).encode()
        else:
            detail = (
                f"become the body, a form or JSON, but the Content-Type is {shown(content_type)}"
            )
            faults.add(detail, "args")
    if content_type is None and implied_type is not None:
        headers = [*headers, ("Content-Type", implied_type)]
    return headers, query, body


def _headers(
    headers: Json, rules: Rules, authenticated: bool, faults: Faults
) -> list[tuple[str, str]]:
    """The headers that an item sets."""
    if not isinstance(headers, dict):
        faults.add_once(expected("an object", headers), "headers")
        return []
    try:
        rules.count_headers(len(headers))
    except ValueError as error:
        faults.add(str(error), "headers")
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
            faults.add_once(str(error), "headers", name)
    return pairs


def _from_base64(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"not base64 (RFC 4648 §4): {error}") from None


def _form(args: Item, of: str, limit_name: str, limits: Limits, faults: Faults) -> str:
    """`args` as a form (WHATWG URL §5.2), part `of` what that limit is for.

    An array repeats its name, null is left out. The length is counted as it grows: a long name
    that an array repeats is quadratic.
    """
    limit: int = getattr(limits, limit_name)
    pairs = []
    size = 0
    for name, value in args.items():
        key = _form_encoded(name, limit)
        for index, single in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(single, str):
                text = _form_encoded(single, limit)
            elif isinstance(single, bool):
                text = "true" if single else "false"
            elif isinstance(single, int | float):  # their repr is what Python's json writes
                text = _form_encoded(repr(single), limit)
            elif single is None:
                continue
            else:
                place = (name, index) if isinstance(value, list) else (name,)
                faults.add(expected("a string, number, boolean, null", single), "args", *place)
                continue
            size += len(key) + len(text) + 2
            if size > limit + 1:  # the last has no "&" after it
                detail = f"too long as encoded, at most {limit} (Limits.{limit_name})"
                faults.add_once(detail, of)
                return ""
            pairs.append(f"{key}={text}")
    return "&".join(pairs)


def _form_encoded(text: str, limit: int) -> str:
    """`text` as a name or value of a form, as `quote_plus` has it but faster.

    One that is longer than `limit` stays as it is: it is refused, and need not be encoded for that.
    """
    if len(text) > limit:
        return text
    if not text.isascii():
        return quote_plus(text)
    return text if text.isalnum() else text.translate(_ASCII_IN_FORMS)


# --- Words -------------------------------------------------------------------------------------


def _add_unknown(members: Item, known: frozenset[str], faults: Faults) -> None:
    for name in members.keys() - known:
        faults.add("unknown member", name)


def _index_or_id(value: Json) -> str:
    """A name as `_place` takes it; an index may be a number."""
    if type(value) is int:  # not a boolean
        return str(value)
    if not isinstance(value, str):
        raise ValueError(expected("a string or an index", value))
    return value


def _string(value: Json) -> str:
    if not isinstance(value, str):
        raise ValueError(expected("a string", value))
    return value
