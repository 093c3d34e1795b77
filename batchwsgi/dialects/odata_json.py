"""OData 4.01 JSON batches (OData JSON Format §19), which Microsoft Graph speaks too.

`ODataJSON.decode` reads `requests`, each with `id`, `method`, `url`, `headers`, `body`,
`atomicityGroup` and `dependsOn`. The requests of one `atomicityGroup` are done all or none.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from batchwsgi.errors import BatchError, Faults, Malformed, shown
from batchwsgi.model import Batch, Member, OuterRequest
from batchwsgi.references import Json
from batchwsgi.rules import Rules

from . import odata
from .embedding import (
    JSONDocument,
    body_bytes,
    content_type_of,
    embedded,
    json_string,
)
from .members import NO_TRANSACTION, Reader, service_root
from .protocol import Writer
from .strict_json import expected, read_object, requests_of

_NAMES = frozenset("id method url headers body atomicityGroup dependsOn depends_on".split())
_REQUIRED = ("id", "method", "url")
_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,128}")
_BASE64 = re.compile(r"([A-Za-z0-9+/_-]*)(={0,2})")

Item = dict[str, Json]


class ODataJSON:
    """The JSON dialect of OData 4.01 and Microsoft Graph; it has no state."""

    def __init__(self) -> None:
        self.media_type = "application/json"

    def decode(self, body: bytes, outer: OuterRequest, rules: Rules) -> Batch:
        """The batch in `body`. Raises `Malformed` with every fault in it, or `TooLarge`."""
        faults = Faults()
        document = _present(read_object(body, rules.limits, faults))
        for name in document.keys() - {"requests"}:
            faults.add("unknown member", name)
        items = requests_of(document, rules.limits, faults)
        reader = _Requests(items, outer, rules, faults)
        for index, item in enumerate(items):
            faults.enter("requests", index)
            if isinstance(item, dict):
                reader.read(index, _present(item))
            else:
                faults.add(expected("an object", item))
        if faults:
            raise Malformed(faults)
        groups = reader.has_groups_of_several()
        return Batch(reader.members, odata.on_fail(outer), len(body), needs_transaction=groups)

    def writer(self, batch: Batch, outer: OuterRequest) -> Writer:
        """What writes the reply, in the version that the client asks for."""
        return _Writer(odata.version(outer))

    def refusal(self, error: BatchError) -> Mapping[str, object]:
        """The `error` member that clients show."""
        return odata.refusal(error)


def _present(item: Item) -> Item:
    """What counts of an object: no annotation (`@`, OData JSON Format §4.6), and no `null`."""
    return {name: value for name, value in item.items() if value is not None and "@" not in name}


class _Group(NamedTuple):
    """An `atomicityGroup`."""

    number: int
    places: list[int]
    """The indexes of its requests, which stand next to each other."""


class _Requests:
    """Reads the requests of one batch, in order: what each needs of those before it."""

    def __init__(
        self, items: Sequence[Json], outer: OuterRequest, rules: Rules, faults: Faults
    ) -> None:
        ids = [item.get("id") if isinstance(item, dict) else None for item in items]
        self._rules = rules
        self._faults = faults
        self._reader = Reader(
            outer,
            rules,
            faults,
            ids=[name if isinstance(name, str) else None for name in ids],
            root=service_root(rules.path),
            allowed=odata.ALLOWED,
        )
        self._places: dict[str, int] = {}
        self._groups: dict[str, _Group] = {}

    @property
    def members(self) -> list[Member]:
        """What was read so far."""
        return self._reader.members

    def has_groups_of_several(self) -> bool:
        """Whether something has to be undone if a request fails."""
        return any(len(group.places) > 1 for group in self._groups.values())

    def read(self, index: int, item: Item) -> None:
        """Add the member. Once there are faults it is never sent, so it may be incomplete."""
        faults = self._faults
        for name in item.keys() - _NAMES:
            faults.add("unknown member", name)
        for name in _REQUIRED:
            if name not in item:
                faults.add(f"{name} is missing")
            elif not isinstance(item[name], str):
                faults.add(expected("a string", item[name]), name)
        group = self._group(index, item)
        depends_on = self._depends_on(item, group)
        self._check_id(index, item.get("id"))
        headers = self._headers(item.get("headers", {}))
        headers, body = self._body(item, headers)
        method, url = item.get("method"), item.get("url")
        member = self._reader.add(
            method if isinstance(method, str) else "GET",
            url if isinstance(url, str) else "",
            headers,
            body,
            source=item,
            group=None if group is None else group.number,
        )
        member.depends_on = {*member.depends_on, *depends_on}

    def _check_id(self, index: int, name: Json) -> None:
        """Refuse what is no id, or another's; note whose it is."""
        if not isinstance(name, str):
            return
        if not _ID.fullmatch(name):
            self._faults.add("1 to 128 characters, none of them a control character", "id")
        elif name in self._places or name in self._groups:
            self._faults.add(f"{shown(name)} is the id of an earlier request or group", "id")
        else:
            self._places[name] = index

    def _group(self, index: int, item: Item) -> _Group | None:
        """The group of the request, which it is added to; None for one that stands alone."""
        if "atomicityGroup" not in item:
            return None
        name = item["atomicityGroup"]
        try:
            if not isinstance(name, str):
                raise ValueError(expected("a string", name))
            if not _ID.fullmatch(name):
                raise ValueError("1 to 128 characters, none of them a control character")
            if name in self._places:
                raise ValueError(f"{shown(name)} is the id of an earlier request")
            group = self._groups.setdefault(name, _Group(len(self._groups), []))
            if group.places and group.places[-1] != index - 1:
                raise ValueError("the requests of a group stand next to each other")
            group.places.append(index)
            if len(group.places) == 2 and not self._rules.can_roll_back:
                raise ValueError(NO_TRANSACTION)
        except ValueError as error:
            self._faults.add(str(error), "atomicityGroup")
            return None
        return group

    def _depends_on(self, item: Item, own: _Group | None) -> set[int]:
        """The indexes of the earlier requests that have to succeed first."""
        if "depends_on" in item and "dependsOn" in item:
            self._faults.add("dependsOn is there too", "depends_on")
        called = "dependsOn" if "dependsOn" in item else "depends_on"
        names = item.get(called, [])
        places: set[int] = set()
        if not isinstance(names, list):
            self._faults.add(expected("an array", names), called)
            return places
        for number, name in enumerate(names):
            if not isinstance(name, str):
                self._faults.add(expected("a string", name), called, number)
            elif name in self._places:
                places.add(self._places[name])
            elif name in self._groups and self._groups[name] is not own:
                places.update(self._groups[name].places)
            else:
                detail = f"{shown(name)} is not the id of an earlier request, or of a group before"
                self._faults.add(detail, called, number)
        return places

    def _headers(self, headers: Json) -> list[tuple[str, str]]:
        """The headers that a request sets."""
        if not isinstance(headers, dict):
            self._faults.add(expected("an object", headers), "headers")
            return []
        fields = []
        for name, value in headers.items():
            if isinstance(value, str):
                fields.append((name, value))
            else:
                self._faults.add(expected("a string", value), "headers", name)
        return self._reader.headers(fields)

    def _body(
        self, item: Item, headers: list[tuple[str, str]]
    ) -> tuple[list[tuple[str, str]], bytes]:
        """The headers with the `Content-Type` implied, and the body."""
        if "body" not in item:
            return headers, b""
        types = [value for name, value in headers if name.lower() == "content-type"]
        if not types:
            types = ["application/json"]
            headers = [*headers, ("Content-Type", types[0])]
        try:
            return headers, body_bytes(item["body"], types[0], _from_base64)
        except ValueError as error:
            self._faults.add(str(error), "body")
            return headers, b""


def _from_base64(text: str) -> bytes:
    """What base64url or base64 stands for (RFC 4648 §4, §5), with padding or without."""
    found = _BASE64.fullmatch(text)
    if found is None:
        raise ValueError("not base64url (RFC 4648 §5)")
    digits, padding = found.groups()
    if len(digits) % 4 == 1 or padding not in ("", "=" * (-len(digits) % 4)):
        raise ValueError("not base64url (RFC 4648 §5): the length or the padding is wrong")
    alphabet = digits.replace("+", "-").replace("/", "_")
    return urlsafe_b64decode(alphabet + "=" * (-len(digits) % 4))


class _Writer(JSONDocument):
    """Writes the reply."""

    def __init__(self, version: str) -> None:
        super().__init__([("OData-Version", version)])
        self._lower = version == "4.01"

    def entry(self, member: Member) -> bytes:
        """What became of `member`, as one JSON object."""
        item: Item = member.source
        response = member.answer
        names, values = response.shown()
        body, encoding = embedded(response.body, content_type_of(names, values))
        if encoding == "base64":
            body = b'"%b"' % urlsafe_b64encode(response.body)
        group = ""
        if "atomicityGroup" in item:
            group = f'"atomicityGroup":{json_string(item["atomicityGroup"])},'
        lines = []
        for name, value in zip(names.lower if self._lower else names.sent, values, strict=True):
            lines.append(f'"{name}":{json_string(value)}')
        head = (
            f'{{"id":{json_string(item["id"])},{group}"status":{response.status},'
            f'"headers":{{{",".join(lines)}}},"body":'
        )
        return b"".join((head.encode(), body, b"}"))
