"""Cookies of members, on their way to the headers of the outer reply (RFC 6265)."""

from __future__ import annotations

from collections.abc import Iterable

from batchwsgi.model import Member, Problem


def promoted(members: Iterable[Member], mount: str) -> list[str]:
    """The `Set-Cookie` values of all members, in order, for the outer reply.

    Of several with the same name, Domain and Path only the last: that is what a browser would keep.
    One without a Path gets the one that a browser would have given it had it seen the member's own
    URL (`mount` and target), because the batch has another.
    """
    cookies: dict[tuple[str, str, str], str] = {}
    for member in members:
        response = member.response
        if response is None or response.problem is Problem.APPLICATION_ERROR:
            continue
        for name, value in response.fields:
            if name.lower() == "set-cookie":
                cookie, key = _with_path(value, mount + member.request.target)
                cookies.pop(key, None)  # the order is that of the last
                cookies[key] = cookie
    return list(cookies.values())


def _with_path(cookie: str, target: str) -> tuple[str, tuple[str, str, str]]:
    """The `Set-Cookie` value with a Path, and what makes it the same cookie as another."""
    pair, *attributes = cookie.split(";")
    path = domain = ""
    for attribute in attributes:  # the last of a name counts (RFC 6265 §5.3)
        name, _, value = (part.strip(" \t") for part in attribute.partition("="))
        if name.lower() == "path":
            path = value
        elif name.lower() == "domain" and value:
            domain = value.removeprefix(".").lower()
    if not path.startswith("/"):
        path = default_path(target)
        cookie = f"{cookie}; Path={path}"
    return cookie, (pair.partition("=")[0].strip(" \t"), domain, path)


def default_path(target: str) -> str:
    """The path of a cookie that names none, set by a reply to `target` (RFC 6265 §5.1.4)."""
    path = target.partition("?")[0]
    return path[: path.rfind("/")] or "/"
