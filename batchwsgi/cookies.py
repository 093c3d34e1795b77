"""Cookies of members (RFC 6265): to later members, and to the headers of the outer reply.

Names and values travel as they stand, never unquoted.
"""

from __future__ import annotations

import re
from time import time
from typing import NamedTuple

from werkzeug.http import parse_date

from batchwsgi.model import Member, Origin

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


Cookies = dict[tuple[str, str, str], Cookie]
"""Cookies by name, domain and path."""


def _parsed(field: str, target: str) -> Cookie:
    """The cookie that a reply to `target` sets."""
    pair, *rest = field.split(";")
    name, equals, value = pair.partition("=")
    attributes = {}
    for attribute in rest:  # the last of a name counts
        key, _, setting = attribute.partition("=")
        attributes[key.strip(" \t").lower()] = setting.strip(" \t")
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
    """The cookies that the members of one batch set: for later members, and for the outer reply."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._cookies: Cookies = {}

    def keep(self, member: Member) -> None:
        """Take the cookies that `member` sets.

        Of several with the same name, Domain and Path only the last: so does a browser.
        """
        assert member.response is not None
        for _, value in member.response.set_cookies:
            cookie = _parsed(value, self._origin.mount + member.request.target)
            key = (cookie.name, cookie.domain, cookie.path)
            self._cookies.pop(key, None)  # the order is that of the last
            self._cookies[key] = cookie

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
        cookie that was set replaces the client's of that name wherever its own Path matches.
        """
        if not self._cookies:
            return None
        path = self._origin.mount + target.partition("?")[0]
        matching = {
            (cookie.name, cookie.path): cookie
            for cookie in self._cookies.values()
            if cookie.name
            and (self._origin.https or not cookie.secure)
            and _matches(path, cookie.path)
        }
        if not matching:
            return None
        names = {name for name, _ in matching}
        client = self._origin.cookie.split(";")
        pairs = [pair.strip(" \t") for pair in client if _name(pair) not in names]
        now = time()
        for cookie in sorted(matching.values(), key=_path_length, reverse=True):  # RFC 6265 §5.4
            if cookie.expires is None or cookie.expires > now:
                pairs.append(f"{cookie.name}={cookie.value}")
        return "; ".join(filter(None, pairs))


def _path_length(cookie: Cookie) -> int:
    return len(cookie.path)


def _name(pair: str) -> str:
    return pair.partition("=")[0].strip(" \t")


def _matches(path: str, cookie_path: str) -> bool:
    """Whether a cookie of that Path is sent with a request for `path` (RFC 6265 §5.1.4)."""
    return path == cookie_path or path.startswith(cookie_path.removesuffix("/") + "/")
