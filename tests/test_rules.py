from __future__ import annotations

import pytest

from batchwsgi import Limits
from batchwsgi.rules import Rules, checked_method, percent_encoded, subrequest_headers

RULES = Rules("/batch", Limits())
WITH_SLASHES = Rules("/batch", Limits(), encoded_slashes=True)

# What a person writes, and the target it becomes.
TARGETS = {
    "/": "/",
    "/user/~me": "/user/~me",
    "/a/b;v=1/c,d": "/a/b;v=1/c,d",
    "/a//b/": "/a//b/",
    "/a.b/c.": "/a.b/c.",
    "/x?": "/x?",
    "/x?a=1&b=/../?#".rstrip("#"): "/x?a=1&b=/../?",
    "/x?next=%2Fhome%00": "/x?next=%2Fhome%00",
    "/x?a={b}|^`[]": "/x?a={b}|^`[]",
    "/a%20b": "/a%20b",
    "/a b": "/a%20b",
    "/é": "/%C3%A9",
    "/中?q=中": "/%E4%B8%AD?q=%E4%B8%AD",
    '/"<>^`{}|': "/%22%3C%3E%5E%60%7B%7D|",
    '/x?"<> ': "/x?%22%3C%3E%20",
    "/\x80": "/%C2%80",
    "/...": "/...",
    "/.a": "/.a",
    "/..a/a..": "/..a/a..",
    "/%2e": None,
    "/batch/": "/batch/",
    "/batches": "/batches",
    "/x/batch": "/x/batch",
    "/Batch": "/Batch",
}

REFUSED = {
    "": "begin with /",
    "x": "begin with /",
    "?x": "begin with /",
    "*": "begin with /",
    "http://evil.test/": "begin with /",
    "//evil.test/x": "what follows // is a host",
    " /x": "begin with /",
    "\t/x": "'\\t' is not allowed",
    "/x\r\nHost: y": "'\\r' is not allowed",
    "/x\x00": "'\\x00' is not allowed",
    "/x\x7f": "'\\x7f' is not allowed",
    "/x#y": "'#' is not allowed",
    "/x\\y": "'\\\\' is not allowed",
    "/\\evil.test": "'\\\\' is not allowed",
    "/x?a=\\": "'\\\\' is not allowed",
    "/x%": "'%' is not a percent escape",
    "/x%2": "'%2' is not a percent escape",
    "/x%zz": "'%zz' is not a percent escape",
    "/x?a=%g0": "'%g0' is not a percent escape",
    "/x%u0041": "'%u0' is not a percent escape",
    "/x%00": "an encoded control character",
    "/x%0d%0ay": "an encoded control character",
    "/x%1f": "an encoded control character",
    "/x%7F": "an encoded control character",
    "/%ffadmin": "not UTF-8",
    "/x/.%ff./y": "not UTF-8",
    "/%c0%ae": "not UTF-8",
    "/%ed%a0%80": "not UTF-8",
    "/x%2fy": "encoded slash, %2f; the operator can allow it with encoded_slashes",
    "/x%5Cy": "encoded slash, %5C",
    "/.": "a dot segment",
    "/..": "a dot segment",
    "/./x": "a dot segment",
    "/x/../y": "a dot segment",
    "/x/..": "a dot segment",
    "/x/..?q": "a dot segment",
    "/%2e%2e/x": "a dot segment",
    "/.%2E/x": "a dot segment",
    "/x/%2e": "a dot segment",
    "/x/..;y/z": "a dot segment",
    "/x/.;y": "a dot segment",
    "/x/..%3By": "a dot segment",
    "/batch": "a batch cannot be part of a batch",
    "/batch?x": "a batch cannot be part of a batch",
    "/%62atch": "a batch cannot be part of a batch",
    "/b%61tch?x": "a batch cannot be part of a batch",
}

REFUSED_WITH_SLASHES = {
    "/%2fevil.test/x": "begins with an empty segment",
    "/%5cevil.test/x": "begins with an empty segment",
    "/x/..%2fy": "a dot segment",
    "/x/..%5cy": "a dot segment",
    "/x%5c..%5Cy": "a dot segment",
    "/x%2f%2e%2e": "a dot segment",
}


@pytest.mark.parametrize("uri", [uri for uri, target in TARGETS.items() if target], ids=ascii)
def test_target(uri):
    assert RULES.target(uri) == TARGETS[uri]
    assert percent_encoded(uri) == TARGETS[uri]
    assert RULES.target(TARGETS[uri]) == TARGETS[uri]


@pytest.mark.parametrize("uri", REFUSED, ids=ascii)
def test_target_refused(uri):
    with pytest.raises(ValueError) as caught:
        RULES.target(uri)
    assert REFUSED[uri] in str(caught.value)


@pytest.mark.parametrize("uri", REFUSED_WITH_SLASHES, ids=ascii)
def test_encoded_slashes_open_no_way_up_or_out(uri):
    with pytest.raises(ValueError) as caught:
        WITH_SLASHES.target(uri)
    assert REFUSED_WITH_SLASHES[uri] in str(caught.value)


def test_encoded_slashes():
    assert WITH_SLASHES.target("/x%2Fy%5c") == "/x%2Fy%5c"


@pytest.mark.parametrize("path", ["/büro/batch", "/a b"])
def test_own_path_outside_ascii(path):
    rules = Rules(path, Limits())
    with pytest.raises(ValueError, match="a batch cannot be part of a batch"):
        rules.target(path)


@pytest.mark.parametrize(
    ("uri", "query", "target"),
    [
        ("/x", "a=1", "/x?a=1"),
        ("/x?", "a=1", "/x?a=1"),
        ("/x?b", "a=1", "/x?b&a=1"),
        ("/x?b&", "a=1", "/x?b&a=1"),
        ("/é?b", "a=1", "/%C3%A9?b&a=1"),
        ("/x?b", "", "/x?b"),
    ],
)
def test_target_with_query(uri, query, target):
    assert RULES.target(uri, query) == target


def test_length_counts_as_encoded():
    rules = Rules("/batch", Limits(max_uri_length=10))
    assert rules.target("/123?5", "789") == "/123?5&789"
    with pytest.raises(
        ValueError, match=r"11 bytes as encoded, at most 10 \(Limits.max_uri_length\)"
    ):
        rules.target("/123?5", "7890")
    with pytest.raises(ValueError, match="13 bytes"):
        rules.target("/éé")


@pytest.mark.parametrize("method", ["get", "GET", "pOsT", "M-SEARCH", "x!#$%&'*+.^_`|~9"])
def test_method(method):
    assert checked_method(method) == method.upper()


@pytest.mark.parametrize("method", ["", "po st", "poſt", "GET\n", "GET ", "G\x00T", "GÉT", "G/T"])
def test_method_is_a_token(method):
    with pytest.raises(ValueError, match="is not a method"):
        checked_method(method)


def test_a_method_has_at_most_32_characters():
    assert checked_method("x" * 32) == "X" * 32
    with pytest.raises(ValueError, match="33 characters, a method has at most 32"):
        checked_method("x" * 33)


@pytest.mark.parametrize("method", ["connect", "CONNECT", "Trace"])
def test_method_not_in_a_batch(method):
    with pytest.raises(ValueError, match="cannot be part of a batch"):
        checked_method(method)


ALLOWED = """Accept Accept-Language Authorization Content-Type Content-Language Content-Disposition
If-Match If-None-Match If-Modified-Since If-Unmodified-Since If-Range Range Prefer Idempotency-Key
X-Requested-With X-CSRFToken X-CSRF-Token Traceparent Tracestate Baggage X-Request-Id
X-Correlation-Id""".split()

NEVER = """Host Cookie Origin Referer Forwarded X-Forwarded-For X-Forwarded-Host X-Real-Ip
X-Forwarded X-Client-Ip X-Cluster-Client-Ip True-Client-Ip Cf-Connecting-Ip X-Remote-User
Remote-User Remote-Addr Proxy Proxy-Authorization Sec-Fetch-Site X-Http-Method-Override Via
X-Method-Override X-Original-Url X-Original-Host X-Rewrite-Url Connection Keep-Alive TE
Trailer Transfer-Encoding Upgrade Content-Length Expect""".split()


@pytest.mark.parametrize("name", ALLOWED)
def test_header_allowed(name):
    for spelled in (name, name.lower(), name.upper()):
        assert RULES.header(spelled, "v") == (spelled, "v")


@pytest.mark.parametrize(
    "options", [(), ("X-F*", "X-R*", "R*", "S*", "P*", "H*", "C*", "V*")], ids=repr
)
@pytest.mark.parametrize("name", NEVER)
def test_header_that_no_option_opens(name, options):
    rules = Rules("/batch", Limits(), options)
    for spelled in (name, name.lower(), name.upper()):
        with pytest.raises(ValueError, match=f"^{spelled} can never be set by a member"):
            rules.header(spelled, "v")


def test_header_that_an_option_opens():
    with pytest.raises(ValueError, match=r'unless the operator allows it: member_headers=\("X-A",'):
        RULES.header("X-A", "v")
    rules = Rules("/batch", Limits(), ("X-Tenant", "x-ms-*"))
    assert rules.header("x-tenant", "v") == ("x-tenant", "v")
    assert rules.header("X-MS-Date", "v") == ("X-MS-Date", "v")
    for name in ("X-Tenants", "X-M", "X-Msx"):
        with pytest.raises(ValueError, match="unless the operator allows it"):
            rules.header(name, "v")


@pytest.mark.parametrize(
    "name", ["", "X_A", "Accept_Language", "A b", "Accept:", "Ac\ncept", "ſec"]
)
def test_header_name_malformed(name):
    with pytest.raises(ValueError, match="is not a header name"):
        Rules("/batch", Limits(), ("A*", "s*")).header(name, "v")


@pytest.mark.parametrize("prefix", ["*", "X*", "x*", "X-*", "x-*"])
def test_prefix_that_says_too_little(prefix):
    with pytest.raises(ValueError, match="says too little"):
        Rules("/batch", Limits(), (prefix,))


def test_a_method_override_of_sharepoint_can_be_named():
    assert Rules("/batch", Limits(), ("X-HTTP-Method",)).header("X-HTTP-Method", "MERGE")


def test_a_header_counts_before_it_is_trimmed():
    rules = Rules("/batch", Limits(max_header_size=10))
    assert rules.header("Accept", "abc ") == ("Accept", "abc")
    with pytest.raises(ValueError, match=r"11 bytes, at most 10 \(Limits.max_header_size\)"):
        rules.header("Accept", "abcd ")
    with pytest.raises(ValueError, match="at most 10"):
        rules.header("a" * 2**20, "")
    with pytest.raises(ValueError, match="at most 8190"):
        RULES.header("Content-Type", "," * 8190)


def test_a_long_uri_is_not_encoded(memory):
    uri = "/" + "é" * 1_000_000
    with memory(below=2**16), pytest.raises(ValueError, match="at least 1000001 bytes as encoded"):
        RULES.target(uri)


@pytest.mark.parametrize("value", ["a\nb", "a\r\n b", "\x00", "\x1f", "a\tb", "\x7f", "€", "中"])
def test_header_value_refused(value):
    with pytest.raises(ValueError, match="a control character or one outside latin-1"):
        RULES.header("Accept", value)


def test_header_value_is_as_a_server_would_pass_it():
    assert RULES.header("Accept", "  a  b é ") == ("Accept", "a  b é")


def test_number_of_headers():
    rules = Rules("/batch", Limits(max_headers=2))
    rules.count_headers(2)
    with pytest.raises(ValueError, match=r"3 headers, at most 2 \(Limits.max_headers\)"):
        rules.count_headers(3)


def test_subrequest_headers():
    pairs = [("Host", "h"), ("X-A", "1"), ("x-a", " 2 "), ("Content-Length", "9")]
    assert subrequest_headers(pairs) == (("Host", "h"), ("X-A", "1"), ("x-a", "2"))
    assert subrequest_headers({"Transfer-Encoding": "chunked", "B": "c"}) == (("B", "c"),)
    with pytest.raises(ValueError, match="is not a header name"):
        subrequest_headers({"a_b": ""})
    with pytest.raises(ValueError, match="control character"):
        subrequest_headers({"a": "\n"})
