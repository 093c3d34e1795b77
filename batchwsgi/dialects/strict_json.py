"""JSON as RFC 8259 has it, and no more: what a client sends is read with limits.

What the JSON dialects share stands here and in `embedding`.

`loads` never recurses deeper than `Limits.max_depth`, and works in linear time.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import lru_cache
from itertools import accumulate
from math import isinf
from typing import Any, NoReturn

from batchwsgi.errors import Faults, Malformed, TooLarge, shown
from batchwsgi.options import Limits

_FOLDED = bytes.maketrans(b"{}", b"[]")
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'{}[]"'))
# Possessive, and also matches an unterminated string: no backtracking.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BLANKS = " \t\n\r"
"""RFC 8259 §2."""
_STEP = {ord("["): 1, ord("]"): -1}
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def loads(document: bytes, limits: Limits) -> Any:  # what JSON holds has no narrower type
    """The value that `document` is, in UTF-8 without a byte order mark.

    Raises `ValueError` for what is not JSON (RFC 8259) or not UTF-8, and for duplicate names
    (compared after unescaping), `NaN`, `Infinity`, numbers that overflow or have too many digits,
    too many levels, lone surrogates.
    """
    check_depth(document, limits.max_depth, " (Limits.max_depth)")
    text = document.decode()
    begin = len(text) - len(text.lstrip(_BLANKS))
    value, end = _decoder(limits.max_digits).raw_decode(text, begin)
    if text[end:].strip(_BLANKS):
        raise json.JSONDecodeError("Extra data", text, end)
    if b"\\u" in document and _ESCAPED_SURROGATE.search(document):
        try:  # a pair is one character by now; what cannot be encoded is half of one
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("a string has a lone surrogate") from None
    return value


def read_object(document: bytes, limits: Limits, faults: Faults) -> dict[str, Any]:
    """The object that a batch document is. Raises `Malformed` if it is none."""
    try:
        value = loads(document, limits)
    except ValueError as error:
        faults.add(f"not strict JSON: {error}")
        raise Malformed(faults) from None
    if not isinstance(value, dict):
        faults.add(expected("an object", value))
        raise Malformed(faults)
    return value


def requests_of(document: dict[str, Any], limits: Limits, faults: Faults) -> list[Any]:
    """Its `requests`, counted before anything is done with one of them. Raises `TooLarge`."""
    if "requests" not in document:
        faults.add("requests is missing")
        return []
    items = document["requests"]
    if not isinstance(items, list):
        faults.add(expected("an array", items), "requests")
        return []
    if not items:
        faults.add("no items, at least 1", "requests")
    if len(items) > limits.max_requests:
        raise TooLarge(
            f"requests: {len(items)} items, at most {limits.max_requests} (Limits.max_requests)."
        )
    return items


MAX_LEVELS = 512
"""Of a reply: far from where Python ends recursion, so that all that read it give one answer."""


def reply_value(body: bytes) -> Any:
    """The JSON value of a reply; `ValueError` if it is none, or cannot be written again as JSON."""
    check_depth(body, MAX_LEVELS)
    return _REPLY.decode(body.decode())


def check_depth(document: bytes, limit: int, name: str = "") -> None:
    """Refuse more than `limit` levels, without recursion, before the parser recurses.

    Only brackets and quotes are kept. Outside strings the quotes then stand in pairs; if they do
    not, or a quote may be escaped, a slower way takes the strings out first. Each round removes
    the innermost level, all of it at C speed.
    """
    if document.count(b"[") + document.count(b"{") <= limit:
        return
    brackets = document.translate(_FOLDED, _NOT_STRUCTURE).replace(b'""', b"")
    if b'"' in brackets or b"\\" in document:
        brackets = _STRING.sub(b"", document).translate(_FOLDED, _NOT_STRUCTURE)
    left = brackets
    for _ in range(min(limit, 32)):
        shorter = left.replace(b"[]", b"")
        if not shorter:
            return
        if len(shorter) == len(left):
            break
        left = shorter
    # Deep, or out of balance: the parser tells the second, once it cannot go too deep.
    if max(accumulate(map(_STEP.__getitem__, brackets))) > limit:
        raise ValueError(f"more than {limit} levels of nesting{name}")


@lru_cache(maxsize=16)  # an operator has few
def _decoder(max_digits: int) -> json.JSONDecoder:
    def integer(digits: str) -> int:
        if len(digits) > max_digits and len(digits.lstrip("-")) > max_digits:
            raise too_many_digits()
        return int(digits)

    def real(literal: str) -> float:
        if len(literal) > max_digits and (sum(map(str.isdigit, literal)) > max_digits):
            raise too_many_digits()
        return _finite(literal)

    def too_many_digits() -> ValueError:
        return ValueError(f"a number has more than {max_digits} digits (Limits.max_digits)")

    return json.JSONDecoder(
        object_pairs_hook=_unique,
        parse_int=integer,
        parse_float=real,
        parse_constant=refuse_constant,
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the name {shown(twice)} stands twice in one object")
    return members


def refuse_constant(constant: str) -> NoReturn:
    """Refuse `NaN`, `Infinity` and `-Infinity`, which Python's `json` reads."""
    raise ValueError(f"{constant} is not JSON")


def _finite(literal: str) -> float:
    number = float(literal)
    if isinf(number):
        raise ValueError(f"the number {literal:.40} is out of range")
    return number


dumps = json.JSONEncoder(separators=(",", ":")).encode
"""A value as compact JSON, as it is sent to the application."""


def expected(what: str, value: Any) -> str:
    """What to say of a value of the wrong kind."""
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    kind = "null" if value is None else kinds.get(type(value), "a number")
    return f"{what} is expected, not {kind}"


_REPLY = json.JSONDecoder(parse_float=_finite, parse_constant=refuse_constant)
