"""The corpus: hostile requests as data, each a file of `corpus/`, its name the file's.

A file has three parts: what is expected, as TOML; a line of three hyphens; the request as it is
sent. Line breaks in the request's head are CR LF on the wire, in its body they are as they stand,
and the last one of the file is not part of it. What no editor shows stands between guillemets:

    «00 FF»                   these bytes, in hexadecimal
    «repeat 1000 [»           the text 1000 times
    «count 1000 ,"x#":0»      the text 1000 times, # replaced by 0, 1, 2, …
    «length»                  in the head: how many bytes the body has

and can be nested. What the TOML says:

    why            one line: what the request tries, with the CVE or the RFC
    status         of the reply
    says           a part of the refusal's detail
    errors         JSON Pointers of all its faults, each with a part of its detail
    entries        for a batch that is answered: of each entry the members that are looked at;
                   `problem` stands for the type of its problem document
    called         the requests that reach the application, none if it is left out
    cookies        what the reply sets, nothing if it is left out
    only           "process" or "wire", for what makes no sense on the other
    options        of the middleware, only in process
    environ        more keys of the outer environ, only in process
    ends           the client says that it sends no more, as soon as it has sent the request
    may_refuse     true: a server may refuse the request itself, with a 4xx or by closing
    servers        by the name of a server, or a pattern of names: the status with which it refuses
                   the request itself, "closed", or a table of what differs under it
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from io import BytesIO
from pathlib import Path
from typing import Any

from ..support import Environ, bare_environ, header_key

FOLDER = Path(__file__).with_name("corpus")

_INNERMOST = re.compile("«([^«»]*)»".encode())
_HEXADECIMAL = re.compile(rb"[0-9A-Fa-f]{2}(?: [0-9A-Fa-f]{2})*")
_MANY = re.compile(rb"(repeat|count) (\d+) (.+)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One file; see the module."""

    name: str
    source: bytes = field(repr=False)
    why: str
    status: int
    says: str = ""
    errors: Mapping[str, str] | None = None
    entries: list[dict[str, Any]] | None = None
    called: list[str] = field(default_factory=list)
    cookies: list[str] = field(default_factory=list)
    only: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    ends: bool = False
    may_refuse: bool = False
    servers: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.why.endswith("."), self.name
        assert self.only in ("", "process", "wire"), self.name
        assert not (self.options or self.environ) or self.only == "process", self.name
        assert (self.status == 200) == (self.entries is not None), self.name
        assert self.status != 400 or self.errors or self.says or self.may_refuse, self.name

    def under(self, server: str) -> tuple[Case, set[int | str]]:
        """What is expected under a server, and the ways in which it may refuse by itself."""
        case = self
        own: set[int | str] = {*range(400, 500), "closed"} if self.may_refuse else set()
        for pattern, differs in self.servers.items():
            if fnmatch(server, pattern):
                if isinstance(differs, dict):
                    case = replace(case, **differs)
                else:
                    own.add(differs)
        return case, own

    @property
    def request(self) -> bytes:
        """The bytes of the request."""
        head, blank, body = self.source.partition(b"\n\n")
        body = expanded(body)
        head = expanded(head.replace("«length»".encode(), b"%d" % len(body)), b"\r\n")
        return head + (b"\r\n\r\n" if blank else b"") + body


def expanded(text: bytes, line_break: bytes = b"\n") -> bytes:
    """`text` with its line breaks, and with what stands between guillemets written out."""
    text = text.replace(b"\n", line_break)
    found = True
    while found:
        text, found = _INNERMOST.subn(_written_out, text)
    return text


def _written_out(found: re.Match[bytes]) -> bytes:
    directive = found[1]
    if _HEXADECIMAL.fullmatch(directive):
        return bytes.fromhex(directive.decode())
    many = _MANY.fullmatch(directive)
    if many is None:
        raise ValueError(f"«{directive.decode()}» is no directive")
    kind, times, text = many[1], int(many[2]), many[3]
    if kind == b"repeat":
        return text * times
    return b"".join([text.replace(b"#", b"%d" % number) for number in range(times)])


def read(file: Path) -> Case:
    """The case of a file."""
    expected, _, source = file.read_bytes().partition(b"\n---\n")
    name = str(file.relative_to(FOLDER).with_suffix(""))
    try:
        return Case(
            name=name, source=source.removesuffix(b"\n"), **tomllib.loads(expected.decode())
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from error


CASES = {case.name: case for case in map(read, sorted(FOLDER.rglob("*.http")))}


# --- In process --------------------------------------------------------------------------------

_REQUEST_LINE = re.compile(rb"([!-~]+) (/[!-~]*) (HTTP/1\.[01])")
_FIELD = re.compile(rb"([A-Za-z0-9-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")


def environ(request: bytes) -> Environ:
    """The environ (PEP 3333) of a request, as the strictest of servers would make it.

    Raises `ValueError` for what is malformed (RFC 9112 §3, §5), chunked, or has a field twice. The
    `Content-Length` is not looked at: what it says is for the middleware to check.
    """
    head, blank, body = request.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    request_line = _REQUEST_LINE.fullmatch(first)
    if not blank or request_line is None:
        raise ValueError(f"no request: {first[:80]!r}")
    method, target, protocol = (part.decode() for part in request_line.groups())
    made = bare_environ(method, target, _Input(body))
    made |= {"SERVER_PROTOCOL": protocol, "wsgi.errors": None}
    for line in lines:
        parts = _FIELD.fullmatch(line)
        if parts is None or parts[1].lower() == b"transfer-encoding":
            raise ValueError(f"not for this parser: {line[:80]!r}")
        key = header_key(parts[1].decode())
        if key in made:
            raise ValueError(f"{key} stands twice")
        made[key] = parts[2].decode("latin-1")
    made["wsgi.input"].left = _declared(made.get("CONTENT_LENGTH", ""))
    return made


def _declared(length: str) -> int:
    return int(length) if length.isascii() and length.isdigit() and len(length) < 16 else 0


class _Input(BytesIO):
    """A stream on which a read past the end would block: `left` is what may still be asked for."""

    left = 0

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None and 0 <= size <= self.left, f"{size} asked for, {self.left} left"
        found = super().read(size)
        self.left -= len(found)
        return found

    def readinto(self, buffer: Any) -> int:
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)
