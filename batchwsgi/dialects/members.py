"""Members as the dialects of other endpoints write them: where a url leads, which headers it sets.

What `odata_json` and `multipart` share. Each reads its own syntax and hands what it has read to a
`Reader`, which checks it by the same rules as a native item and makes a `Member` of it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

from batchwsgi.errors import Faults, Unresolved, shown
from batchwsgi.model import Member, OuterRequest, Request
from batchwsgi.references import location, own_path
from batchwsgi.rules import Rules, checked_method, percent_encoded

# What HTTP libraries write into every message, about a connection or known anyway.
_LEFT_OUT = frozenset(
    (
        "host content-length user-agent accept-encoding connection keep-alive te date mime-version "
        "content-transfer-encoding content-id"
    ).split()
)
NO_TRANSACTION = (
    "a group of several requests: this endpoint has none, its operator has set no transaction"
)
_ABSOLUTE = re.compile(r"https?://", re.IGNORECASE)
_AFTER_ID = re.compile(r"[/?]|\Z")


class Reader:
    """Makes the members of one batch, in order.

    `ids` are those of all its requests, by index, None for one that has none; `root` is the service
    root, percent-encoded, below which all urls are (OData), or None where urls are paths of the
    host and refer to nothing; `allowed` tells of a lower-case header name whether members of this
    dialect may set it, beside what the rules allow. Faults are added relative to the place that was
    entered last.
    """

    def __init__(
        self,
        outer: OuterRequest,
        rules: Rules,
        faults: Faults,
        *,
        ids: Sequence[str | None],
        root: str | None,
        allowed: re.Pattern[str] | None = None,
    ) -> None:
        self._outer = outer
        self._rules = rules
        self._faults = faults
        self._places: dict[str, list[int]] = {}
        for place, name in enumerate(ids):
            if name is not None:
                self._places.setdefault(name, []).append(place)
        self._longest_id = max(map(len, self._places), default=0)
        self._root = root
        self._allowed = allowed
        self.members: list[Member] = []

    def headers(self, fields: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """The headers that a member sets, of those that are written in its message.

        What is not the member's to say is left out, as a proxy would; anything else that it may not
        set is a fault, as is a name that stands twice.
        """
        try:
            self._rules.count_headers(len(fields))
        except ValueError as error:
            self._faults.add(str(error), "headers")
            return []
        kept: dict[str, tuple[str, str]] = {}
        for name, value in fields:
            lower = name.lower()
            if lower in _LEFT_OUT and not self._rules.is_named(lower):
                continue
            try:
                if lower in kept:
                    raise ValueError(f"{name} stands twice: the case of a name does not count")
                kept[lower] = self._header(name, lower, value)
            except ValueError as error:
                self._faults.add_once(str(error), "headers", name)
        return [*kept.values()]

    def _header(self, name: str, lower: str, value: str) -> tuple[str, str]:
        if lower == "authorization" and self._outer.authenticated:
            raise ValueError(f"{name} would not be checked: the server has done that already")
        also = self._allowed is not None and self._allowed.fullmatch(lower) is not None
        return self._rules.header(name, value, also)

    def add(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        source: Any,
        group: int | None = None,
    ) -> Member:
        """Add a member; `headers` are checked already. With faults it may be incomplete."""
        try:
            method = checked_method(method)
        except ValueError as error:
            self._faults.add(str(error), "method")
        member = Member(len(self.members), Request(method, "", headers, body), source)
        member.group = group
        try:
            self._aim(member, url)
        except ValueError as error:
            self._faults.add_once(str(error), "url")
        self.members.append(member)
        return member

    def _aim(self, member: Member, url: str) -> None:
        """Give `member` the target that `url` means, now or once an earlier reply is there."""
        if self._root is not None and (referred := self._referred(member.index, url)) is not None:
            place, rest = referred
            self._rules.target(f"{self._root}/x{rest}")  # if this is refused, every other would be
            member.depends_on = {*member.depends_on, place}
            member.bind = partial(self._bound, member, place, rest)
        else:
            member.request.target = self._rules.target(self._path(url))

    def _referred(self, index: int, url: str) -> tuple[int, str] | None:
        """The place of the request whose `$ID` begins `url`, and the rest; None for none.

        Of several with one id it is the nearest before. Raises `ValueError` for its own id, or one
        that comes later.
        """
        url = url.removeprefix("/")
        if not url.startswith("$"):
            return None
        ends = [found.start() for found in _AFTER_ID.finditer(url, 1, self._longest_id + 2)]
        for end in reversed(ends):  # an id may have slashes of its own
            name = url[1:end]
            if name in self._places and url[end : end + 1] in ("", "/", "?"):
                places = self._places[name]
                earlier = bisect_left(places, index)
                if not earlier:
                    raise ValueError(f"{shown(name)} is not the id of an earlier request")
                return places[earlier - 1], url[end:]
        return None

    def _bound(self, member: Member, place: int, rest: str) -> Request:
        """The request of a member whose url begins with the `Location` of an earlier reply."""
        earlier = self.members[place]
        written = member.request
        try:
            uri = location(earlier.request.target, earlier.answer, self._outer)
            path, mark, query = uri.partition("?")
            more, own_mark, own_query = rest.partition("?")
            path = self._within_root(percent_encoded(path + more))
            if own_mark or mark:
                path += "?" + (own_query if own_mark else query)
            target = self._rules.target(path)
        except (ValueError, LookupError) as error:
            raise Unresolved(f"the request at index {place}: {error}") from None
        return Request(written.method, target, written.headers, written.body)

    # --- Where a url leads

    def _path(self, url: str) -> str:
        """Path and query that `url` means, relative to the mount. Raises `ValueError`."""
        if len(url) > self._rules.limits.max_uri_length + 1024:
            raise ValueError(f"at least {len(url)} bytes, too long (Limits.max_uri_length)")
        if _ABSOLUTE.match(url):
            if "#" in url:
                raise ValueError("'#' is not allowed in a uri")
            try:
                return self._within_root(percent_encoded(own_path(url, self._outer)))
            except LookupError as error:
                raise ValueError(f"the url {error}") from None
        if self._root is None:
            return self._of_host(url)
        if url.startswith("//"):
            raise ValueError("not a path: what follows // is a host")
        if not url.startswith("/"):
            return f"{self._root}/{url}"
        url = percent_encoded(url)
        for prefix in (self._outer.mount + self._root, self._root):
            if prefix and _begins_with(url, prefix):
                url = url[len(prefix) :]
                break
        path = self._root + url
        return path if path.startswith("/") else f"/{path}"

    def _of_host(self, url: str) -> str:
        """A path of the host, less the mount."""
        mount = self._outer.mount
        if not url.startswith("/"):
            raise ValueError("not a path: it has to begin with /")
        url = percent_encoded(url)
        if not _begins_with(url, mount):
            raise ValueError(f"the url is outside the application's mount, {mount}")
        rest = url[len(mount) :]
        return rest if rest.startswith("/") else f"/{rest}"

    def _within_root(self, path: str) -> str:
        if self._root and not _begins_with(path, self._root):
            raise ValueError(f"it is not below the service root, {self._root}")
        return path


def _begins_with(path: str, prefix: str) -> bool:
    """Whether the whole segments of `prefix` begin `path`, compared as encoded."""
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/", "?")


def service_root(path: str) -> str:
    """The service root of an endpoint at `path`: its path less the last segment, encoded."""
    return quote(path.rpartition("/")[0], "!$&'()*+,;=:@/")
