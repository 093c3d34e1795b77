from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchwsgi import Limits
from batchwsgi.dialects.strict_json import loads

LIMITS = Limits()

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**99), 10**99)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=30,
)


@given(VALUES, st.booleans())
def test_what_json_writes_is_read(value, ascii_only):
    document = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert loads(document, Limits(max_depth=200)) == value


@given(st.binary())
def test_any_bytes_are_read_or_refused(document):
    try:
        value = loads(document, LIMITS)
    except ValueError:
        return
    assert value == json.loads(document)


@given(VALUES, st.integers(1, 6))
def test_depth_is_that_of_the_value(value, limit):
    def depth(value):
        if isinstance(value, dict):
            return 1 + max(map(depth, value.values()), default=0)
        if isinstance(value, list):
            return 1 + max(map(depth, value), default=0)
        return 0

    document = json.dumps(value).encode()
    if depth(value) <= limit:
        assert loads(document, Limits(max_depth=limit)) == value
    else:
        with pytest.raises(
            ValueError, match=rf"more than {limit} levels of nesting \(Limits.max_d"
        ):
            loads(document, Limits(max_depth=limit))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"", "Expecting value"),
        (b"\xef\xbb\xbf{}", "Expecting value"),
        ("{}".encode("utf-16"), "can't decode"),
        (b'"\xff"', "can't decode"),
        (b'"\xed\xa0\x80"', "can't decode"),
        (b"{} {}", "Extra data"),
        (b"{'a': 1}", "property name enclosed in double quotes"),
        (b"[1,]", "line 1 column"),
        (b"[01]", "Expecting ',' delimiter"),
        (b"[1.]", "Expecting ',' delimiter"),
        (b'"\t"', "Invalid control character"),
        (b"/**/1", "Expecting value"),
        (b"NaN", "NaN is not JSON"),
        (b"[Infinity]", "Infinity is not JSON"),
        (b"-Infinity", "-Infinity is not JSON"),
        (b"1e999", "the number 1e999 is out of range"),
        (b"-1e999", "out of range"),
        (b'{"a":1,"a":2}', "the name 'a' stands twice in one object"),
        (b'{"a":1,"\\u0061":2}', "the name 'a' stands twice"),
        (b'[{"b":{"a":1,"c":2,"a":3}}]', "the name 'a' stands twice"),
        (b'"\\ud800"', "a lone surrogate"),
        (b'{"\\uDFFF": 1}', "a lone surrogate"),
        (b'"\\udc00\\ud800"', "a lone surrogate"),
        (b"1" * 101, "more than 100 digits (Limits.max_digits)"),
        (b"-" + b"1" * 101, "more than 100 digits"),
        (b"0." + b"1" * 100, "more than 100 digits"),
        (b"[" * 33 + b"]" * 33, "more than 32 levels of nesting (Limits.max_depth)"),
        (b'{"":' * 33 + b"1" + b"}" * 33, "more than 32 levels"),
        (b"]" * 40, "Expecting value"),
        (b"[" * 32, "Expecting value"),
        (b'["' + b"[" * 40, "Unterminated string"),
    ],
)
def test_refused(document, message):
    with pytest.raises(ValueError) as caught:
        loads(document, LIMITS)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "document",
    [
        b" [1] \n",
        b"1" * 100,
        b"-" + b"1" * 100,
        b"0." + b"1" * 99,
        b"1e-" + b"0" * 97 + b"1",
        b"1e-999",
        b"[" * 32 + b"]" * 32,
        b'"' + b"[" * 1000 + b'"',
        b'["a[[","b]]","\\"[[[["]',
        b'"\\ud83d\\ude00"',
        b'{"a":{"a":1},"b":[{"a":1},{"a":1}]}',
    ],
    ids=lambda document: document[:20],
)
def test_accepted(document):
    assert loads(document, LIMITS) == json.loads(document)


SIZE = 2**20

HOSTILE = {
    "brackets": b"[" * SIZE,
    "braces": b'{"":' * (SIZE // 4),
    "pairs": b"[]" * (SIZE // 2),
    "closing": b"]" * SIZE,
    "quotes": b'"' * SIZE,
    "escapes": b'"' + b"\\" * (SIZE - 1),
    "escaped quotes": b'"' + b'\\"' * (SIZE // 2),
    "brackets in strings": b'["[",' * (SIZE // 5),
    "digits": b"1" * SIZE,
    "fraction": b"0." + b"1" * SIZE,
    "exponent": b"1e" + b"1" * SIZE,
    "numbers": b"[" + b"1," * (SIZE // 2) + b"1]",
    "space": b" " * SIZE,
    "surrogates": b'"' + b"\\ud800" * (SIZE // 6) + b'"',
    "same name": b"{" + b",".join([b'"a":1'] * (SIZE // 6)) + b"}",
    "last name twice": json.dumps({str(n): 0 for n in range(70000)}).encode()[:-1] + b',"69999":0}',
    "objects": b"[" + b"{}," * (SIZE // 3) + b"{}]",
}


@pytest.mark.parametrize("document", HOSTILE.values(), ids=HOSTILE)
def test_the_worst_mebibyte_takes_little(document, processor_time):
    with processor_time(below=5):
        try:
            loads(document, LIMITS)
        except ValueError as error:
            assert len(str(error)) < 200
