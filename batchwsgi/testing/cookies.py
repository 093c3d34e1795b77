"""The cookies of the client that sends requests one by one (RFC 6265).

It shares no code with what keeps the cookies of a batch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from time import time
from typing import NamedTuple

from werkzeug.datastructures import Headers
from werkzeug.http import parse_date


class Cookie(NamedTuple):
    """What a `Set-Cookie` field sets (RFC 6265 §5.2)."""

    name: str
    value: str
    domain: str
    path: str
    """As named, or else the default path of the request (§5.1.4)."""
    attributes: Mapping[str, str]
    """The others, by their names in lower case."""

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from others."""
        return self.name, self.domain, self.path

    @property
    def deletes(self) -> bool:
        """Whether it has expired."""
        seconds = self.attributes.get("max-age", "")
        if re.fullmatch("-?[0-9]+", seconds):
            return int(seconds) <= 0
        with suppress(ValueError, OverflowError):
            expires = parse_date(self.attributes.get("expires"))
            return expires is not None and expires.timestamp() <= time()
        return False

    @property
    def is_kept(self) -> bool:
        """Whether it has what its prefix promises (RFC 6265bis §4.1.3)."""
        lower = self.name.lower()
        if lower.startswith("__host-"):
            return "secure" in self.attributes and self.path == "/" and not self.domain
        return not lower.startswith("__secure-") or "secure" in self.attributes

    @property
    def compared(self) -> str:
        """How it is compared and shown: with neither its value nor the time when it expires."""
        told = [self.name, f"Path={self.path}"]
        if self.domain:
            told.append(f"Domain={self.domain}")
        for name, value in sorted(self.attributes.items()):
            if name not in ("expires", "max-age"):
                told.append(f"{name}={value}" if value else name)
            elif not self.deletes:
                told.append(name)
        if self.deletes:
            told.append("deleted")
        return "; ".join(told)


def cookie_of(field: str, request_path: str) -> Cookie:
    """The cookie that the reply to a request for that path sets by that `Set-Cookie` field."""
    pair, *rest = field.split(";")
    name, equals, value = pair.partition("=")
    attributes = {}
    for attribute in rest:
        key, _, setting = attribute.partition("=")
        attributes[key.strip(" \t").lower()] = setting.strip(" \t")
    domain = attributes.pop("domain", "").removeprefix(".").lower()
    path = attributes.pop("path", "")
    if not path.startswith("/"):
        path = request_path[: request_path.rfind("/")] or "/"
    return Cookie(name.strip(" \t") if equals else "", value.strip(" \t"), domain, path, attributes)


class Cookies:
    """The cookies of a client that sends `headers`, perhaps a `Cookie` among them.

    Domains are not looked at, as a server behind a proxy does not know its own: of several with the
    same name and Path, the one that was set last counts.
    """

    def __init__(self, headers: Headers) -> None:
        pairs = ";".join(headers.getlist("Cookie")).split(";")
        self._own = [pair.strip(" \t") for pair in pairs if pair.strip(" \t")]
        forwarded = headers.get("X-Forwarded-Proto", "").partition(",")[0]
        self._secure = forwarded.strip().lower() == "https"
        self._kept: dict[tuple[str, str, str], tuple[Cookie, int]] = {}

    def keep(self, index: int, path: str, fields: Iterable[str]) -> None:
        """Take what the reply to the request of that index, for that path, sets."""
        for field in fields:
            cookie = cookie_of(field, path)
            if cookie.is_kept:
                self._kept.pop(cookie.key, None)  # the order is that of the last
                self._kept[cookie.key] = cookie, index

    def set_by(self) -> dict[str, int]:
        """The cookies that were set, as they are compared, and by which request at last."""
        return {cookie.compared: index for cookie, index in self._kept.values()}

    def header(self, path: str) -> str:
        """The `Cookie` header of a request for that path (RFC 6265 §5.4); empty for none.

        A cookie that was set replaces the client's own of that name.
        """
        matching = [cookie for cookie, _ in self._kept.values() if self._is_sent(cookie, path)]
        names = {cookie.name for cookie in matching}
        pairs = [pair for pair in self._own if pair.partition("=")[0].rstrip(" \t") not in names]
        last = {(cookie.name, cookie.path): cookie for cookie in matching if not cookie.deletes}
        for cookie in sorted(last.values(), key=lambda cookie: -len(cookie.path)):
            pairs.append(f"{cookie.name}={cookie.value}")
        return "; ".join(pairs)

    def _is_sent(self, cookie: Cookie, path: str) -> bool:
        folder = cookie.path.removesuffix("/") + "/"
        return (
            cookie.name != ""
            and len(cookie.name) + len(cookie.value) <= 4096  # RFC 6265bis §5.6
            and (self._secure or "secure" not in cookie.attributes)
            and (path == cookie.path or path.startswith(folder))
        )
