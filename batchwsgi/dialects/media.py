"""What a `Content-Type` says of a body: JSON, text in a charset, or neither."""

from __future__ import annotations

from dataclasses import dataclass
from encodings import normalize_encoding
from encodings.aliases import aliases
from functools import lru_cache

from werkzeug.http import parse_options_header

# The charsets of the web, by the names of Python's codecs. Python has more, and they are not
# charsets: `rot13`, `unicode_escape`, `utf-7` with its lone surrogates.
_CHARSETS = frozenset(
    ["utf_8", "ascii", "utf_16", "utf_16_le", "utf_16_be", "latin_1", "koi8_r", "koi8_u"]
    + [f"iso8859_{part}" for part in (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)]
    + [f"cp{page}" for page in (866, 874, 932, 949, *range(1250, 1259))]
    + ["mac_roman", "gb2312", "gbk", "gb18030", "big5", "big5hkscs", "tis_620"]
    + ["euc_jp", "iso2022_jp", "shift_jis", "euc_kr"]
)
_TEXT = frozenset(
    (
        "application/xml application/javascript application/x-javascript application/ecmascript "
        "application/x-www-form-urlencoded"
    ).split()
)


@dataclass(frozen=True, slots=True)
class MediaType:
    """A `Content-Type` as bodies are concerned."""

    essence: str
    """Type and subtype in lower case; empty if there is none."""
    charset: str | None
    """As the header names it, in lower case; None if it does not."""
    codec: str | None
    """Python's name of that charset; None for one that is not of the web, or not named."""
    is_json: bool
    is_text: bool


def media_type(content_type: str) -> MediaType:
    """What a `Content-Type` field value says (RFC 9110 §8.3); of a very long one, nothing."""
    return _parsed(content_type if len(content_type) <= 1024 else "")


@lru_cache(maxsize=256)  # of at most 1024 characters each: clients choose them too
def _parsed(content_type: str) -> MediaType:
    essence, parameters = parse_options_header(content_type)
    essence = essence.lower()
    charset: str | None = parameters.get("charset")
    return MediaType(
        essence,
        charset if charset is None else charset.lower(),
        _codec(charset) if charset else None,
        essence == "application/json" or essence.endswith("+json"),
        essence.startswith("text/") or essence.endswith("+xml") or essence in _TEXT,
    )


def _codec(charset: str) -> str | None:
    """Python's name for a charset. `codecs.lookup` would remember each unknown one for ever."""
    name = normalize_encoding(charset).lower()
    name = aliases.get(name, name)
    return name if name in _CHARSETS else None
