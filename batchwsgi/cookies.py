"""Cookies of members (RFC 6265): to later members, and to the headers of the outer reply.

Names and values travel as they stand, never unquoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from operator import attrgetter
from time import time
from typing import NamedTuple

from werkzeug.http import parse_date

from batchwsgi.model import Member, OuterRequest

LONGEST = 4096
"""Bytes of name and value of a cookie that browsers keep (RFC 6265bis §5.6)."""
_SECONDS = re.compile(r"-?[0-9]{1,18}")


class Cookie(NamedTuple):
    """One `Set-Cookie` field, as a browser reads it (RFC 6265 §5.2, §5.3)."""

    name: str
    """Empty for one that no browser keeps."""
    value: str
    domain: str
    """In lower case, without a dot before it; empty if none was named."""
    path: str
    """As named, or else the default path of the member's own URL."""
    secure: bool
    expires: float | None
    """Seconds since the epoch; None for the end of the session."""
    field: str
    """The field's value, with a Path."""

    @property
    def deletes(self) -> bool:
        """Whether it tells the client to forget a cookie: it has expired."""
        return self.expires is not None and self.expires <= time()

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from others (RFC 6265 §5.3)."""
        return self.name, self.domain, self.path


Cookies = dict[tuple[str, str, str], Cookie]
"""Cookies by name, domain and path."""


def _parsed(field: str, target: str) -> Cookie | None:
    """The cookie that a reply to `target` sets; None for one that breaks its prefix's rule."""
    pair, *rest = field.split(";")
    name, equals, value = pair.partition("=")
    attributes = {}
    for attribute in rest:  # the last of a name counts
        key, _, setting = attribute.partition("=")
        attributes[key.strip(" \t").lower()] = setting.strip(" \t")
    if not _keeps_prefix(name.strip(" \t").lower(), attributes):
        return None
    path = attributes.get("path", "")
    if not path.startswith("/"):
        path = default_path(target)
        field = f"{field}; Path={path}"
    return Cookie(
        name.strip(" \t") if equals else "",
        value.strip(" \t"),
        attributes.get("domain", "").removeprefix(".").lower(),
        path,
        "secure" in attributes,
        _expiry(attributes),
        field,
    )


def _keeps_prefix(lower: str, attributes: dict[str, str]) -> bool:
    """Whether a cookie of that name has what its prefix promises (RFC 6265bis §4.1.3).

    A browser does not keep one that has not, so that nobody can set it for another host or path.
    """
    if lower.startswith("__host-"):
        return (
            "secure" in attributes
            and attributes.get("path") == "/"
            and not attributes.get("domain")
        )
    return not lower.startswith("__secure-") or "secure" in attributes


def _expiry(attributes: dict[str, str]) -> float | None:
    """When a cookie expires: Max-Age wins over Expires, and what is malformed does not count."""
    if _SECONDS.fullmatch(seconds := attributes.get("max-age", "")):
        return time() + int(seconds)
    try:
        date = parse_date(attributes.get("expires"))
        return date.timestamp() if date else None
    except (ValueError, OverflowError):  # a year of twenty digits
        return None


def default_path(target: str) -> str:
    """The path of a cookie that names none, set by a reply to `target` (RFC 6265 §5.1.4).

    It ends before a ";", which in a `Set-Cookie` would begin another attribute.
    """
    path = target.partition("?")[0].partition(";")[0]
    return path[: path.rfind("/")] or "/"


class Jar:
    """The cookies that the members of one batch set: for later members, and for the outer reply.

    `limit` is how many bytes a member's `Cookie` may have, unless the client's own is longer: a
    server's own limit does not see members, and frameworks parse cookies in quadratic time.
    """

    def __init__(self, outer: OuterRequest, limit: int) -> None:
        self._outer = outer
        self._limit = limit
        self._cookies: Cookies = {}

    def keep(self, members: Iterable[Member]) -> None:
        """Take the cookies that these members set, which ran one by one or side by side.

        Of several with the same name, Domain and Path only the last: so does a browser. Of members
        that ran side by side, what one deletes counts after what others set: a neighbour that
        refreshed the session does not undo a logout.
        """
        own = [self._set_by(member) for member in members]
        cookies = [cookie for some in own for cookie in some]
        if len(own) > 1:
            cookies.sort(key=attrgetter("deletes"))
        for cookie in cookies:
            self._cookies.pop(cookie.key, None)  # the order is that of the last
            self._cookies[cookie.key] = cookie

    def _set_by(self, member: Member) -> Iterable[Cookie]:
        """The cookies that `member` sets, of each the last."""
        cookies: Cookies = {}
        for _, value in member.answer.set_cookies:
            cookie = _parsed(value, self._outer.mount + member.request.target)
            if cookie is not None:
                cookies.pop(cookie.key, None)
                cookies[cookie.key] = cookie
        return cookies.values()

    def cookies(self) -> Cookies:
        """What it holds now, for `restore`."""
        return self._cookies.copy()

    def restore(self, cookies: Cookies) -> None:
        """Hold again what it held: what members set since then was undone."""
        self._cookies = cookies

    def promoted(self) -> list[str]:
        """The `Set-Cookie` values for the outer reply.

        One without a Path has the one that a browser would have given it had it seen the member's
        own URL, because the batch has another.
        """
        return [cookie.field for cookie in self._cookies.values()]

    def header(self, target: str) -> str | None:
        """The `Cookie` header for a member's `target`; None where it stays the client's own.

        As a browser would do it, had the client sent the members one by one; but Domain and
        SameSite are not looked at: behind a proxy, `Host` may not be what the browser sees. A
        cookie that was set replaces the client's of that name wherever its own Path matches. One
        that is longer than browsers keep them is not sent, and what comes last is left out where
        all would be too long.
        """
        if not self._cookies:
            return None
        path = self._outer.mount + target.partition("?")[0]
        matching = [
            cookie
            for cookie in self._cookies.values()
            if cookie.name
            and len(cookie.name) + len(cookie.value) <= LONGEST
            and (self._outer.https or not cookie.secure)
            and _matches(path, cookie.path)
        ]
        if not matching:
            return None
        names = {cookie.name for cookie in matching}
        # What deletes the cookie of one Domain leaves that of another.
        live = {(cookie.name, cookie.path): cookie for cookie in matching if not cookie.deletes}
        client = self._outer.cookie.split(";")
        pairs = [pair.strip(" \t") for pair in client if _name(pair) not in names]
        for cookie in sorted(live.values(), key=_path_length, reverse=True):  # RFC 6265 §5.4
            pairs.append(f"{cookie.name}={cookie.value}")
        return self._within_limit([*filter(None, pairs)])

    def _within_limit(self, pairs: list[str]) -> str:
        limit = max(self._limit, len(self._outer.cookie))
        while (header := "; ".join(pairs)) and len(header) > limit:
            pairs.pop()
        return header


def _path_length(cookie: Cookie) -> int:
    return len(cookie.path)


def _name(pair: str) -> str:
    return pair.partition("=")[0].strip(" \t")


def _matches(path: str, cookie_path: str) -> bool:
    """Whether a cookie of that Path is sent with a request for `path` (RFC 6265 §5.1.4)."""
    return path == cookie_path or path.startswith(cookie_path.removesuffix("/") + "/")
