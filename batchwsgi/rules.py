"""What a member may be: its method, target and headers.

The checks are pure, and the same before and after references are filled in. Each check raises
`ValueError`, which says what is wrong; the caller adds where. A check of a value returns that value
as it is sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote_to_bytes

from batchwsgi.errors import shown
from batchwsgi.model import is_token
from batchwsgi.options import Limits

_METHODS = {  # the usual ones, as clients spell them: they need no second look
    spelled: method
    for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
    for spelled in (method, method.lower())
}
_LONGEST_METHOD = 32
"""Characters: it is logged, and echoed."""
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]+")  # no underscore: WSGI folds "-" and "_"
_HEADER_VALUE = re.compile(r"[\x20-\x7e\x80-\xff]*")

# Targets that need no second look, if there is no "/." in them: nothing to encode or decode in the
# path, no second slash at the start. Everything else takes the slow way, `_check_path`.
_PLAIN_TARGET = re.compile(
    r"/(?!/)[A-Za-z0-9_~!$&'()*+,;=:@|\[\]/.-]*+"
    r"(?:\?(?:[A-Za-z0-9_~!$&'()*+,;=:@|\[\]/?.^`{}-]++|%[0-9A-Fa-f]{2})*+)?"
)
_NEVER_IN_TARGET = re.compile(r"[\x00-\x1f\x7f\\#]")
bad_escape = re.compile(r"%(?![0-9A-Fa-f]{2})").search
"""Finds a "%" that is no percent escape (RFC 3986 §2.1)."""
_CONTROL_BYTE = re.compile(rb"[\x00-\x1f\x7f]")
_ENCODED_SLASH = re.compile(r"%2f|%5c", re.IGNORECASE)
# What stays as it is beside letters, digits and "_.-~" when the rest is percent-encoded: printable
# ASCII less the path and the query percent-encode set of the WHATWG URL standard.
_PATH_SAFE = "%!$&'()*+,;=:@|[]/"
_QUERY_SAFE = _PATH_SAFE + "?^`{}"

_MEMBER_HEADERS = (
    "Accept Accept-Language Authorization Content-Type Content-Language Content-Disposition "
    "If-Match If-None-Match If-Modified-Since If-Unmodified-Since If-Range Range Prefer "
    "Idempotency-Key X-Requested-With X-CSRFToken X-CSRF-Token "
    "Traceparent Tracestate Baggage X-Request-Id X-Correlation-Id"
).split()
# Who the client is, where the request goes and where it ends: that always comes from the outer
# request (CVE-2022-24112: a member's own X-Real-IP was trusted). `X-HTTP-Method` is not among them:
# clients of SharePoint need it, and where an operator names it the application reads it anyway.
_NEVER = frozenset(
    (
        "host cookie origin referer via forwarded x-forwarded x-real-ip x-client-ip "
        "x-cluster-client-ip true-client-ip cf-connecting-ip x-http-method-override "
        "x-method-override x-rewrite-url connection keep-alive te trailer trailers "
        "transfer-encoding upgrade http2-settings content-length expect"
    ).split()
)
_NEVER_PREFIXES = ("x-forwarded-", "x-original-", "x-remote-", "remote-", "proxy", "sec-")
_TOO_WIDE = frozenset(["*", "x*", "x-*"])
"""Prefixes that mean more headers than anybody can overlook."""


class Rules:
    """The rules of one endpoint.

    `path` is the endpoint's own, `member_headers` are the names that the operator adds to those a
    member may set (a name, or a prefix and `*`). `encoded_slashes` lets `%2F` and `%5C` through in
    paths; `can_roll_back` tells that there is a transaction. Raises `ValueError` for a header that
    no member may ever set, or that is malformed, for a prefix that says next to nothing, and for a
    path that is none.
    """

    def __init__(
        self,
        path: str,
        limits: Limits,
        member_headers: object = (),
        encoded_slashes: bool = False,
        can_roll_back: bool = False,
    ) -> None:
        if not path.startswith("/"):
            raise ValueError(f"path: {path!r} does not begin with /")
        self.limits = limits
        self.can_roll_back = can_roll_back
        self.path = path
        """The endpoint's own path, decoded."""
        self._encoded_slashes = encoded_slashes
        own = {_operators_header(name): name for name in strings("member_headers", member_headers)}
        spelled = {name.lower(): name for name in _MEMBER_HEADERS}
        self.member_headers = tuple((spelled | own).values())
        """The headers that a member may set in every dialect; one that ends in `*` is a prefix."""
        self._named = frozenset(lower for lower in own if lower[-1] != "*")
        self._allowed = self._named.union(spelled)
        self._prefixes = tuple(lower[:-1] for lower in own if lower[-1] == "*")

    def target(self, uri: str, query: str = "") -> str:
        """The target that `uri` means, with `query` (percent-encoded) added to its own."""
        if len(uri) > self.limits.max_uri_length:  # before anything is encoded or decoded
            raise self._too_long(f"at least {len(uri)}")
        if "/." not in uri and _PLAIN_TARGET.fullmatch(uri):
            target = uri
            if self.path in uri and uri.partition("?")[0] == self.path:
                raise ValueError(_NO_BATCH_INSIDE)
        else:
            target = percent_encoded(uri)
            self._check_path(target.partition("?")[0])
        if query:
            if "?" not in target:
                target += "?"
            elif not target.endswith(("?", "&")):
                target += "&"
            target += query
        if len(target) > self.limits.max_uri_length:
            raise self._too_long(str(len(target)))
        return target

    def _too_long(self, length: str) -> ValueError:
        limit = self.limits.max_uri_length
        return ValueError(f"{length} bytes as encoded, at most {limit} (Limits.max_uri_length)")

    def _check_path(self, path: str) -> None:
        """Refuse a percent-encoded path that, once decoded, may lead elsewhere than it says."""
        decoded = unquote_to_bytes(path)
        if _CONTROL_BYTE.search(decoded):
            raise ValueError("the path has an encoded control character")
        if not _is_utf8(decoded):  # Bottle drops such bytes: "/%ffadmin" is its "/admin"
            raise ValueError("the path, once decoded, is not UTF-8")
        if not self._encoded_slashes and (found := _ENCODED_SLASH.search(path)):
            raise ValueError(
                f"the path has an encoded slash, {found[0]}; "
                "the operator can allow it with encoded_slashes"
            )
        # As applications and servers may read it: a backslash as a slash, and up to a ";" only.
        _, *segments = decoded.replace(b"\\", b"/").split(b"/")
        if any(segment.partition(b";")[0] in (b".", b"..") for segment in segments):
            raise ValueError("the path has a dot segment")
        if not segments[0] and len(segments) > 1:
            raise ValueError("the path begins with an empty segment")
        if decoded == self.path.encode():
            raise ValueError(_NO_BATCH_INSIDE)

    def count_headers(self, count: int) -> None:
        """Refuse more headers than one member may set."""
        if count > self.limits.max_headers:
            raise ValueError(
                f"{count} headers, at most {self.limits.max_headers} (Limits.max_headers)"
            )

    def is_named(self, lower: str) -> bool:
        """Whether the operator lets members set the header of that name, in lower case."""
        return lower in self._named or (lower.startswith(self._prefixes) and not _is_never(lower))

    def header(self, name: str, value: str, of_dialect: bool = False) -> tuple[str, str]:
        """One header that a member may set, its value trimmed (RFC 9110 §5.5).

        `of_dialect` tells that every member of its dialect may set it.

        Its length is looked at first. A server's own limit does not see members, and frameworks
        parse some headers in quadratic time: 64 KB of commas in `Content-Type` stop a process that
        runs CherryPy for four seconds.
        """
        if len(name) + len(value) > self.limits.max_header_size:
            raise ValueError(
                f"name and value have {len(name) + len(value)} bytes, "
                f"at most {self.limits.max_header_size} (Limits.max_header_size)"
            )
        # The form first: "ſec-fetch-site".lower() and others change into ASCII.
        check_header_name(name)
        lower = name.lower()
        if lower not in self._allowed and not of_dialect:
            if _is_never(lower):
                raise ValueError(f"{name} can never be set by a member")
            if not lower.startswith(self._prefixes):
                raise ValueError(
                    f"{name} cannot be set by a member, unless the operator allows it: "
                    f'member_headers=("{name}",)'
                )
        return name, checked_header_value(value)


_NO_BATCH_INSIDE = "this is the batch endpoint itself: a batch cannot be part of a batch"


def checked_method(method: str) -> str:
    """The method in upper case: an RFC 9110 token, but not `CONNECT` or `TRACE`."""
    if known := _METHODS.get(method):
        return known
    # The checks come before the change of case: "poſt".upper() is "POST".
    if len(method) > _LONGEST_METHOD:
        raise ValueError(f"{len(method)} characters, a method has at most {_LONGEST_METHOD}")
    if not is_token(method):
        raise ValueError(f"{shown(method)} is not a method (RFC 9110 §9.1)")
    upper = method.upper()
    if upper in ("CONNECT", "TRACE"):
        raise ValueError(f"{upper} cannot be part of a batch")
    return upper


def percent_encoded(uri: str) -> str:
    """`uri` with what it cannot hold percent-encoded as UTF-8, as a browser would do it.

    Raises `ValueError` for what is not a path and query (RFC 9112 §3.2.1, origin form). The string
    is looked at as it was sent: URL parsers drop TAB, CR, LF and leading controls silently.
    """
    if found := _NEVER_IN_TARGET.search(uri):
        raise ValueError(f"{shown(found[0])} is not allowed in a uri")
    if not uri.startswith("/"):
        raise ValueError("not a path: it has to begin with /")
    if uri.startswith("//"):
        raise ValueError("not a path: what follows // is a host")
    if found := bad_escape(uri):
        raise ValueError(f"{shown(uri[found.start() :][:3])} is not a percent escape")
    path, mark, query = uri.partition("?")
    return quote(path, _PATH_SAFE) + mark + quote(query, _QUERY_SAFE)


def check_header_name(name: str) -> None:
    """Refuse with `ValueError` a header name that WSGI cannot tell from others."""
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError(f"{shown(name)} is not a header name of letters, digits and hyphens")


def checked_header_value(value: str) -> str:
    """`value` without the spaces at its ends; `ValueError` if a header cannot hold it."""
    if not _HEADER_VALUE.fullmatch(value):
        raise ValueError("the value has a control character or one outside latin-1")
    return value.strip(" ")


def subrequest_headers(
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
) -> tuple[tuple[str, str], ...]:
    """The headers of a `subrequest`: checked for their form, with no allow-list, less framing."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    checked = []
    for name, value in pairs:
        check_header_name(name)
        if name.lower() not in ("content-length", "transfer-encoding"):
            checked.append((name, checked_header_value(value)))
    return tuple(checked)


def strings(option: str, values: object) -> tuple[str, ...]:
    """The value of an option that is a sequence of strings; `TypeError` if it is none."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{option}: a sequence of strings, not {values!r}")
    checked = tuple(values)
    for value in checked:
        if not isinstance(value, str):
            raise TypeError(f"{option}: {value!r} is not a string")
    return checked


def _operators_header(name: str) -> str:
    """A name or prefix from `member_headers` in lower case; `ValueError` if it can never be set."""
    stem = name.removesuffix("*")
    if not (_HEADER_NAME.fullmatch(stem) or name == "*"):
        raise ValueError(f"member_headers: {shown(name)} is not a header name")
    if _is_never(stem.lower()):
        raise ValueError(f"member_headers: {name} can never be set by a member")
    if name.lower() in _TOO_WIDE:
        raise ValueError(f"member_headers: {name} says too little; a prefix names one purpose")
    return name.lower()


def _is_never(lower: str) -> bool:
    return lower in _NEVER or lower.startswith(_NEVER_PREFIXES)


def _is_utf8(decoded: bytes) -> bool:
    try:
        decoded.decode()
    except UnicodeDecodeError:
        return False
    return True
