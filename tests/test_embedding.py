from __future__ import annotations

import encodings
import json
import subprocess
import sys
from base64 import b64decode, b64encode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchwsgi.dialects.embedding import embedded, is_json, is_json_by_msgspec, json_string
from batchwsgi.dialects.media import media_type

JSON = "application/json"


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"a": 1}\n',
        b" \t\r\n[1, 2]",
        b"null",
        b"0",
        b"-0.0e-0",
        b"1e999",
        b"1" * 10_000,
        b"-" + b"9" * 5_000 + b".5",
        b'"\\ud800"',
        b'{"a":1,"a":2}',
        '"é中😀"'.encode(),
        b"[" * 128 + b"]" * 128,
        b"[" * 512 + b"]" * 512,
        b"[" + b'{"[":[]},' * 1000 + b"0]",
        b'"\\udc00\\ud800"',
        b"[" * 512 + b"]" * 512,
        b"[" + b'{"[":[]},' * 1000 + b"0]",
        b'"\\udc00\\ud800"',
    ],
    ids=lambda body: body[:12],
)
@pytest.mark.parametrize("content_type", [JSON, "Application/JSON; charset=utf-8", "a/b+json"])
def test_json_is_carried_byte_for_byte(body, content_type):
    assert embedded(body, content_type) == (body, None)


@pytest.mark.parametrize(
    "body",
    [
        b'1},{"status_code":"200"',
        b"{}]}",
        b"{} {}",
        b"{'a':1}",
        b"[1,]",
        b"[01]",
        b"[+1]",
        b"[.5]",
        b"[1.]",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b'"\n"',
        b'"\\x41"',
        b'"\\u12"',
        b'"abc',
        b"tru",
        b"True",
        b"\x0b[]",
        b"\xef\xbb\xbf{}",
        b"\xc2\xa0[]",
        b"// x\n1",
        b"[" * 513 + b"]" * 513,
        b'{"":' * 513 + b"1" + b"}" * 513,
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
    ],
    ids=lambda body: body[:12],
)
def test_what_is_not_json_is_text(body):
    assert not is_json(body)
    shown, encoding = embedded(body, JSON)
    assert encoding == "text"
    assert json.loads(shown) == body.decode()


@pytest.mark.parametrize("body", [b"\xff", b'"\xff"', b'"\xed\xa0\x80"', b"\xc0\xaf"])
def test_what_is_neither_is_base64(body):
    assert not is_json(body)
    assert embedded(body, JSON) == (b'"%b"' % b64encode(body), "base64")


@pytest.mark.parametrize("content_type", ["", JSON, "text/plain", "image/png", "nonsense"])
def test_empty(content_type):
    assert embedded(b"", content_type) == (b"null", None)


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/plain", "é\n".encode(), "é\n"),
        ("text/html; charset=utf-8", "中".encode(), "中"),
        ('text/plain; charset="ISO-8859-1"', "é".encode("latin-1"), "é"),
        ("text/plain; charset=latin1", b"\x80", "\x80"),
        ("text/plain; charset=windows-1252", b"\x80", "€"),
        ("text/plain; charset=Shift_JIS", "日本".encode("shift_jis"), "日本"),
        ("text/plain; charset=gb18030", "中".encode("gb18030"), "中"),
        ("text/plain; charset=utf-16", "é".encode("utf-16"), "é"),
        ("text/plain; charset=us-ascii", b"a", "a"),
        ("text/plain; charset=nothing", "é".encode(), "é"),
        ("text/plain; charset=", "é".encode(), "é"),
        ("text/plain; charset=rot13", b"abc", "abc"),
        ("text/plain; charset=utf-7", b"+2AA-", "+2AA-"),
        ("text/plain; charset=unicode_escape", b"\\ud800", "\\ud800"),
        ("text/plain; charset=idna", b"xn--a", "xn--a"),
        ("text/plain; charset=hex", b"00", "00"),
        ("text/plain", b"\xef\xbb\xbfa", "\ufeffa"),
        ("application/xml", b"<a/>", "<a/>"),
        ("image/svg+xml", b"<svg/>", "<svg/>"),
        ("application/javascript", b"1", "1"),
        ("application/x-www-form-urlencoded", b"a=1", "a=1"),
        ("TEXT/CSS", b'a{"}\\\x00', 'a{"}\\\x00'),
    ],
)
def test_text(content_type, body, text):
    shown, encoding = embedded(body, content_type)
    assert (json.loads(shown), encoding) == (text, "text")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("image/png", b"\x89PNG"),
        ("", b"text"),
        ("application/octet-stream", b"{}"),
        ("text/plain", b"\xff"),
        ("text/plain; charset=utf-8", b"\xed\xa0\x80"),
        ("text/plain; charset=ascii", b"\x80"),
        ("text/plain; charset=utf-16-le", b"\x00\xd8"),
        ("text/json-not/" + "x" * 2000, b"long types say nothing"),
    ],
)
def test_base64(content_type, body):
    shown, encoding = embedded(body, content_type)
    assert (b64decode(json.loads(shown)), encoding) == (body, "base64")


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b'{"a":[1,2,{"b":null}],"c":"\\u00e9"}')
def test_any_body_is_one_json_value(body):
    for content_type in (JSON, "text/plain", "text/plain; charset=utf-16", "image/png"):
        shown, encoding = embedded(body, content_type)
        value = json.loads(shown.decode())
        assert encoding in (None, "text", "base64")
        if encoding == "base64":
            assert b64decode(value) == body


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_quoted(text):
    assert json.loads(json_string(text)) == text


def test_an_unknown_charset_is_not_remembered():
    """`codecs.lookup` keeps each name that it is asked for."""
    before = len(encodings._cache)
    for n in range(100):
        embedded(b"a", f"text/plain; charset=x{n}")
    assert len(encodings._cache) == before


def test_a_million_brackets_take_little(processor_time):
    for body in (b"[" * 1_000_000, b"[" * 512 + b"[]," * 300_000, b"[]" * 500_000):
        with processor_time(below=5):
            assert not is_json(body)


def test_media_type_of_several_values_is_none_of_them():
    assert not media_type("application/json, text/plain").is_json
    assert media_type("text/plain; x=application/json").essence == "text/plain"


MUTATED = [
    b'{"a":[1,2.5e3,{"b":null,"c":"\\u00e9\\n"}],"d":true,"e":"x\xc3\xa9"}',
    b'[-0.5,"\\ud83d"]',
]


@given(st.sampled_from(MUTATED), st.lists(st.tuples(st.integers(0, 60), st.binary(max_size=2))))
def test_both_checkers_agree(body, changes):
    for place, new in changes:
        body = body[:place] + new + body[place + 1 :]
    assert is_json(body) == is_json_by_msgspec(body)


def test_without_msgspec():
    """The package works where the extra is not installed."""
    program = """
import sys
sys.modules["msgspec"] = None
from batchwsgi.dialects import embedding
assert embedding._is_json is embedding.is_json
assert embedding.embedded(b"[1]", "application/json") == (b"[1]", None)
assert embedding.embedded(b"[1", "application/json") == (b'"[1"', "text")
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
