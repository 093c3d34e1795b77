"""What every build of the small application answers with, so that only the framework differs."""

from __future__ import annotations

import struct
import zlib

ADA = {"name": "Ada", "n": 1}
GERMAN = "Grüße von Zoë: 20 °C"
JAPANESE = "日本語のテキスト"
CHUNKS = ["one\n", "zwölf\n", "三\n"]
LATIN_HEADER = "caf\xe9"


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


PNG = (
    b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    + _chunk(b"IDAT", zlib.compress(b"\x00\xff"))
    + _chunk(b"IEND", b"")
)
