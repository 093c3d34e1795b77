"""The contract with clients: how a batch is read and how an entry is written."""

from __future__ import annotations

import json
import tracemalloc
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchwsgi import BatchMiddleware, Limits, Request, Response
from batchwsgi.dialects.native import Native
from batchwsgi.dialects.native_writers import JSONWriter
from batchwsgi.errors import BatchError, Malformed, TooLarge
from batchwsgi.model import Member, OnFail, OuterRequest
from batchwsgi.rules import _NO_BATCH_INSIDE, Rules

from .support import batch, echo, post

RULES = Rules("/batch", Limits())
OUTER = OuterRequest()
JSON_TYPE = ("Content-Type", "application/json")
FORM_TYPE = ("Content-Type", "application/x-www-form-urlencoded")


def decode(document, rules=RULES, outer=OUTER):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Native().decode(body, outer, rules)


def request(**item):
    (member,) = decode({"requests": [item]}).members
    return member.request


def faults(document, **options):
    with pytest.raises(Malformed) as caught:
        decode(document, **options)
    return {fault.pointer: fault.detail for fault in caught.value.faults.listed}


def item_faults(**item):
    """The faults of a batch of this one item, their pointers relative to it."""
    found = faults({"requests": [item]})
    return {pointer.removeprefix("/requests/0"): detail for pointer, detail in found.items()}


# --- The batch ---------------------------------------------------------------------------------


def content(made):
    return made.headers, made.body


def test_original_four_members():
    batch = decode(
        {
            "on-fail": "ignore",
            "requests": [
                {"method": "get", "uri": "/user/~me", "args": {"fields": "name"}},
                {"method": "put", "uri": "/user/~me/oauth/QZONE", "args": {"token": "t0k"}},
            ],
        }
    )
    assert batch.on_fail is OnFail.IGNORE
    assert [member.request for member in batch.members] == [
        Request("GET", "/user/~me?fields=name"),
        Request("PUT", "/user/~me/oauth/QZONE", [FORM_TYPE], b"token=t0k"),
    ]
    assert [member.index for member in batch.members] == [0, 1]


@pytest.mark.parametrize("word", ["ignore", "stop"])
def test_on_fail(word):
    assert decode({"on-fail": word, "requests": [{"uri": "/"}]}).on_fail.value == word


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (b"", {"": "not strict JSON: Expecting value: line 1 column 1 (char 0)"}),
        (b"[]", {"": "an object is expected, not an array"}),
        (b'"x"', {"": "an object is expected, not a string"}),
        ({}, {"": "requests is missing"}),
        ({"requests": {}}, {"/requests": "an array is expected, not an object"}),
        ({"requests": None}, {"/requests": "an array is expected, not null"}),
        ({"requests": []}, {"/requests": "no items, at least 1"}),
        (
            {"requests": [{"uri": "/"}], "onfail": 1, "a/b~c": 2},
            {"/onfail": "unknown member", "/a~1b~0c": "unknown member"},
        ),
        (
            {"requests": [{"uri": "/"}], "on-fail": "Stop"},
            {"/on-fail": "'Stop' is not ignore, stop or rollback"},
        ),
        (
            {"requests": [{"uri": "/"}], "on-fail": None},
            {"/on-fail": "a string is expected, not null"},
        ),
        (
            {"requests": [{"uri": "/"}], "on-fail": "rollback"},
            {"/on-fail": "rollback: this endpoint has none, its operator has set no transaction"},
        ),
        (
            {"requests": [1, "/x", None, [], True]},
            {
                "/requests/0": "an object is expected, not a number",
                "/requests/1": "an object is expected, not a string",
                "/requests/2": "an object is expected, not null",
                "/requests/3": "an object is expected, not an array",
                "/requests/4": "an object is expected, not a boolean",
            },
        ),
    ],
)
def test_faults_of_the_batch(document, expected):
    assert faults(document) == expected


def test_every_fault_is_listed():
    assert faults(
        {
            "on-fail": 1,
            "requests": [
                {"uri": "/ok"},
                {"uri": "x", "method": "a b", "body": "?", "headers": {"Content-Type": "a/b"}},
                {
                    "method": "get",
                    "args": {"a": [1, {}], "b/c": {}},
                    "headers": {"Host": "h", "X_Y": "z"},
                },
            ],
        }
    ).keys() == {
        "/on-fail",
        "/requests/1/uri",
        "/requests/1/method",
        "/requests/1/body",
        "/requests/2",
        "/requests/2/args/a/1",
        "/requests/2/args/b~1c",
        "/requests/2/headers/Host",
        "/requests/2/headers/X_Y",
    }


def test_number_of_requests_counts_before_anything_else():
    rules = Rules("/batch", Limits(max_requests=2))
    assert len(decode({"requests": [{"uri": "/"}] * 2}, rules).members) == 2
    with pytest.raises(TooLarge, match=r"requests: 3 items, at most 2 \(Limits.max_requests\)"):
        decode({"requests": [1, 2, 3], "on-fail": "x"}, rules)


@pytest.mark.parametrize(
    ("count", "listed", "more"), [(1, 1, None), (100, 100, None), (103, 100, 3)]
)
def test_at_most_100_faults_are_listed(count, listed, more):
    with pytest.raises(Malformed) as caught:
        decode({"requests": [{"uri": "/", **{f"x{n}": 0 for n in range(count)}}]})
    document = json.loads(caught.value.document())
    assert len(document["errors"]) == listed
    assert document.get("more") == more
    assert document["detail"].startswith(
        "The batch has 1 fault." if count == 1 else f"The batch has {count} faults"
    )


# --- An item -----------------------------------------------------------------------------------


def test_defaults():
    assert request(uri="/") == Request("GET", "/")


@pytest.mark.parametrize(
    ("args", "query"),
    [
        ({"a": "b"}, "a=b"),
        ({"a": "b c&d=e", "é": "中/~"}, "a=b+c%26d%3De&%C3%A9=%E4%B8%AD%2F~"),
        ({"n": 1, "f": 1.5, "t": True, "f2": False}, "n=1&f=1.5&t=true&f2=false"),
        ({"a": [1, "b", None, True], "n": None}, "a=1&a=b&a=true"),
        ({"": ""}, "="),
        ({"big": 10**30, "e": 1e22}, "big=1" + "0" * 30 + "&e=1e%2B22"),
    ],
)
@pytest.mark.parametrize("method", ["get", "DELETE", "head", "options", "report"])
def test_args_go_to_the_query(method, args, query):
    assert request(uri="/x", method=method, args=args).target == f"/x?{query}"
    assert request(uri="/x?y", method=method, args=args).target == f"/x?y&{query}"
    assert request(uri="/x", method=method, args=args).body == b""


@pytest.mark.parametrize("args", [{}, {"a": None}, {"a": []}])
def test_no_args_leave_the_uri_alone(args):
    assert request(uri="/x", args=args) == Request("GET", "/x")


@pytest.mark.parametrize("method", ["post", "PUT", "Patch"])
def test_args_become_the_body(method):
    args = {"a": ["b c", 1], "n": None}
    item = {"uri": "/x?y=1", "method": method, "args": args}
    assert request(**item) == Request(method.upper(), "/x?y=1", [FORM_TYPE], b"a=b+c&a=1")
    own = ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
    assert content(request(**item, headers=dict([own]))) == ([own], b"a=b+c&a=1")
    own = ("content-type", "application/vnd.x+json")
    assert content(request(**item, headers=dict([own]))) == ([own], b'{"a":["b c",1],"n":null}')
    assert content(request(**{**item, "args": {}})) == ([FORM_TYPE], b"")


def test_args_beside_a_body_go_to_the_query():
    made = request(uri="/x", method="post", args={"a": 1}, body=None)
    assert made == Request("POST", "/x?a=1", [JSON_TYPE], b"null")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "multipart/form-data; boundary=x", "a/b", ""]
)
def test_args_under_another_type_are_a_fault(content_type):
    item = {"uri": "/", "method": "post", "args": {}, "headers": {"Content-Type": content_type}}
    assert "become the body" in item_faults(**item)["/args"]


@pytest.mark.parametrize(
    ("value", "body"),
    [
        (None, b"null"),
        (0, b"0"),
        ("", b'""'),
        ("text", b'"text"'),
        ({"a": [1, 1.10, "é"]}, b'{"a":[1,1.1,"\\u00e9"]}'),
        (10**99, b"1" + b"0" * 99),
    ],
)
def test_json_body(value, body):
    assert request(uri="/", method="post", body=value) == Request("POST", "/", [JSON_TYPE], body)
    own = ("Content-Type", "application/merge-patch+json")
    made = request(uri="/", method="patch", body=value, headers=dict([own]))
    assert made == Request("PATCH", "/", [own], body)


@pytest.mark.parametrize(
    ("content_type", "value", "body"),
    [
        ("text/plain", "é", "é".encode()),
        ("text/plain; charset=iso-8859-1", "é", b"\xe9"),
        ("text/plain; charset=utf-16-le", "é", b"\xe9\x00"),
        ("application/x-www-form-urlencoded", "a=1&b=2", b"a=1&b=2"),
        ("application/xml", "<a/>", b"<a/>"),
        ("application/octet-stream", b64encode(b"\x00\xff").decode(), b"\x00\xff"),
        ("multipart/form-data; boundary=x", b64encode(b"--x").decode(), b"--x"),
        ("image/png", "", b""),
        ("text/plain", "", b""),
    ],
)
def test_string_body(content_type, value, body):
    made = request(uri="/", method="put", body=value, headers={"Content-Type": content_type})
    assert content(made) == ([("Content-Type", content_type)], body)


@pytest.mark.parametrize(
    ("content_type", "value", "detail"),
    [
        ("text/plain", 1, "a string is expected, not a number"),
        ("image/png", {}, "a string is expected, not an object"),
        ("image/png", None, "a string is expected, not null"),
        ("image/png", "AA=", "not base64"),
        ("image/png", "AA", "not base64"),
        ("image/png", "A A=", "not base64"),
        ("image/png", "_-==", "not base64"),
        ("image/png", "AA==\n", "not base64"),
        ("image/png", "é", "not base64"),
        ("text/plain; charset=ascii", "é", "it has characters that ascii has not"),
        ("text/plain; charset=rot13", "a", "the charset 'rot13' is not a known one"),
    ],
)
def test_body_faults(content_type, value, detail):
    item = {"uri": "/", "method": "put", "body": value, "headers": {"Content-Type": content_type}}
    assert detail in item_faults(**item)["/body"]


def test_headers():
    made = request(uri="/", headers={"Accept-Language": " zh ", "if-match": '"x"'})
    assert made.headers == [("Accept-Language", "zh"), ("if-match", '"x"')]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (None, {"/headers": "an object is expected, not null"}),
        ([], {"/headers": "an object is expected, not an array"}),
        ({"Accept": 1}, {"/headers/Accept": "a string is expected, not a number"}),
        ({"Accept": None}, {"/headers/Accept": "a string is expected, not null"}),
        (
            {"Accept": "a", "aCCept": "b"},
            {"/headers/aCCept": "aCCept stands twice: the case of a name does not count"},
        ),
        (
            {"a/b": "c"},
            {"/headers/a~1b": "'a/b' is not a header name of letters, digits and hyphens"},
        ),
    ],
)
def test_header_faults(headers, expected):
    assert item_faults(uri="/", headers=headers) == expected


def test_number_of_headers():
    rules = Rules("/batch", Limits(max_headers=1))
    document = {"requests": [{"uri": "/", "headers": {"Accept": "a", "Range": "b"}}]}
    assert faults(document, rules=rules) == {
        "/requests/0/headers": "2 headers, at most 1 (Limits.max_headers)"
    }


def test_authorization_where_the_server_has_checked_it():
    document = {"requests": [{"uri": "/", "headers": {"authorization": "Basic x"}}]}
    assert decode(document).members[0].request.headers == [("authorization", "Basic x")]
    found = faults(document, outer=OuterRequest(authenticated=True))
    assert found.keys() == {"/requests/0/headers/authorization"}


@pytest.mark.parametrize("name", ["a", "order", "A-_9", "0a", "x" * 64, "-"])
def test_id(name):
    assert decode({"requests": [{"uri": "/", "id": name}]}).members[0].source["id"] == name


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a\n", "é", "7", "007", "٣", 1, None, ["a"]])
def test_id_faults(name):
    assert item_faults(uri="/", id=name).keys() == {"/id"}


def test_an_id_names_one_item():
    document = {"requests": [{"uri": "/", "id": "a"}, {"uri": "/", "id": "a"}]}
    assert faults(document) == {"/requests/1/id": "a is the id of an earlier item"}


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({}, {"/requests/0": "uri is missing"}),
        ({"uri": None}, {"/requests/0/uri": "a string is expected, not null"}),
        ({"uri": 7}, {"/requests/0/uri": "a string is expected, not a number"}),
        ({"uri": "/", "method": None}, {"/requests/0/method": "a string is expected, not null"}),
        ({"uri": "/", "args": None}, {"/requests/0/args": "an object is expected, not null"}),
        ({"uri": "/", "args": [1]}, {"/requests/0/args": "an object is expected, not an array"}),
        ({"uri": "/", "Method": "get"}, {"/requests/0/Method": "unknown member"}),
        (
            {"uri": "/batch"},
            {"/requests/0/uri": _NO_BATCH_INSIDE},
        ),
    ],
)
def test_item_faults(item, expected):
    assert faults({"requests": [item]}) == expected


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["a", "b", "1"]) | JSON_VALUES,
        "method": st.sampled_from(["get", "POST", "trace", "a b"]) | JSON_VALUES,
        "uri": st.text().map(lambda text: "/" + text) | JSON_VALUES,
        "args": st.dictionaries(st.text(), JSON_VALUES) | JSON_VALUES,
        "headers": st.dictionaries(st.sampled_from(["Accept", "accept", "Host", ""]), JSON_VALUES),
        "body": JSON_VALUES,
        "other": JSON_VALUES,
    },
)


@given(
    st.binary()
    | st.lists(ITEMS | JSON_VALUES).map(lambda items: json.dumps({"requests": items}).encode())
)
def test_any_bytes_are_a_batch_or_a_batch_error(body):
    try:
        batch = Native().decode(body, OUTER, RULES)
    except BatchError as error:
        assert 400 <= json.loads(error.document())["status"] < 500
        return
    items = json.loads(body)["requests"]
    assert [member.source for member in batch.members] == items
    for member in batch.members:
        assert member.request.method.isascii()
        assert member.request.target.isascii() and member.request.target.isprintable()
        assert member.request.target.startswith("/")


# --- What grows ---------------------------------------------------------------------------------


def test_a_repeated_name_does_not_multiply():
    """60 KB of batch would be a form of 400 MB."""
    args = {"n" * 20_000: [1] * 20_000}
    tracemalloc.start()
    try:
        assert item_faults(uri="/", method="post", args=args) == {
            "/args": "too long as encoded, at most 1048576 (Limits.max_body_size)"
        }
        found = item_faults(uri="/", args=args)
        assert found == {"/uri": "too long as encoded, at most 4094 (Limits.max_uri_length)"}
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_form_up_to_its_limit():
    rules = Rules("/batch", Limits(max_body_size=7))
    item = {"uri": "/", "method": "post", "args": {"a": ["b", "c"]}}
    assert decode({"requests": [item]}, rules).members[0].request.body == b"a=b&a=c"
    item["args"]["a"][0] = "bb"
    assert faults({"requests": [item]}, rules=rules).keys() == {"/requests/0/args"}


@pytest.mark.parametrize(
    "item",
    [
        {"uri": "/", "args": {"n" * 40_000: [[]] * 20_000}},
        {"uri": "/", "method": "post", "body": {"n" * 50_000: ["{$responses.x"] * 5_000}},
        {"uri": "/", "method": "post", "body": {"n" * 500_000: [0] * 250_000, "x": "$"}},
        {"uri": "/", **{f"{n}{'n' * 10}": 0 for n in range(50_000)}},
    ],
    ids=["args", "references", "places", "names"],
)
def test_faults_take_little(item, memory, processor_time):
    """A hundred are listed, with pointers of a bounded length; the rest is counted."""
    body = json.dumps({"requests": [item]}).encode()
    with processor_time(below=20), memory(below=100_000_000):
        try:
            Native().decode(body, OUTER, RULES)
        except Malformed as error:
            assert len(error.document()) < 100_000
            assert len(error.faults.listed) <= 100


def test_a_long_pointer_names_what_the_place_is_in():
    found = item_faults(uri="/", args={"n" * 1000: {}, "m/~": {}})
    assert found.keys() == {"/args", "/args/m~1~0"}


def test_what_the_client_wrote_is_not_shown_whole():
    content_type = "x" * 100_000
    (detail,) = item_faults(uri="/", body=1, headers={"Content-Type": content_type}).values()
    assert len(detail) < 600


# --- An entry ----------------------------------------------------------------------------------


def entry(response, **item):
    member = Member(0, Request("GET", "/"), {"uri": "/", **item})
    member.response = response
    return json.loads(JSONWriter().entry(member))


def test_entry():
    assert entry(Response(200, "OK", [JSON_TYPE], b'{"name": "Ada"}'), uri="/é", method="gEt") == {
        "method": "gEt",
        "uri": "/é",
        "status_code": "200",
        "headers": {"Content-Type": "application/json"},
        "body": {"name": "Ada"},
    }


def test_entry_with_an_id_and_text():
    fields = [("Content-Type", "text/plain"), ("X-A", 'q"\\é')]
    assert entry(Response(404, "Not Found", fields, "ü".encode()), id="a") == {
        "id": "a",
        "method": "get",
        "uri": "/",
        "status_code": "404",
        "headers": {"Content-Type": "text/plain", "X-A": 'q"\\é'},
        "body": "ü",
        "encoding": "text",
    }


def test_entry_headers():
    fields = [
        *[("Vary", "a"), ("X-A", "1"), ("vary", "b"), ("VARY", "c")],
        *[("Set-Cookie", "a=1"), ("set-cookie", "b=2"), ("Connection", "close")],
        *[("Transfer-Encoding", "chunked"), ("Keep-Alive", "x"), ("Upgrade", "x"), ("TE", "x")],
        *[("Trailer", "x"), ("Proxy-Authenticate", "x"), ("Date", "today")],
    ]
    assert list(entry(Response(204, "No Content", fields, b""))["headers"].items()) == [
        ("Vary", "a, b, c"),
        ("X-A", "1"),
        ("Date", "today"),
    ]


def test_json_is_spliced():
    member = Member(0, Request("GET", "/"), {"uri": "/"})
    member.response = Response(200, "OK", [JSON_TYPE], b'{"n" : 1.10,\n"big":' + b"9" * 999 + b"}")
    assert b'"body":{"n" : 1.10,\n"big":' + b"9" * 999 + b"}}" in JSONWriter().entry(member)


# --- Many faults -------------------------------------------------------------------------------


def test_faults_are_counted_in_linear_time_and_by_place(memory, processor_time):
    """All at one place that is longer than a pointer can show."""
    document = {"requests": [{"uri": "/", "args": {"a" * 400: [[]] * 330_000}}]}
    body = json.dumps(document, separators=(",", ":")).encode()
    with processor_time(below=60), memory(below=70 * 2**20):
        reply = post(BatchMiddleware(echo), body)
    assert reply.json()["detail"].startswith("The batch has 330000 faults, 329900 of them not")
    assert {error["pointer"] for error in reply.json()["errors"]} == {"/requests/0/args"}
    assert len(reply.json()["errors"]) == 100
    assert reply.json()["more"] == 329_900


@pytest.mark.parametrize(
    ("item", "places"),
    [
        ({"uri": "{$responses.x"}, ["uri"]),
        ({"uri": "x", "args": {"a": "y" * 5000}}, ["uri"]),
        ({"uri": "/", "headers": "{$responses.x"}, ["headers"]),
        ({"uri": "/", "headers": {"Host": "{$responses.x"}}, ["headers/Host"]),
        ({"uri": "/", "args": "{$responses.x"}, ["args"]),
        (
            {"uri": "/", "headers": {"Content-Type": "image/png"}, "body": "{$responses.x"},
            ["body"],
        ),
    ],
)
def test_a_place_has_one_fault(item, places):
    reply = batch(BatchMiddleware(echo), item, item)
    assert reply.pointers == [f"/requests/{n}/{place}" for n in range(2) for place in places]
    assert f"has {2 * len(places)} fault" in reply.json()["detail"]


def test_a_form_that_is_too_long_is_not_encoded(memory):
    item = {"method": "post", "uri": "/", "args": {"é" * 100: "é" * 1_000_000}}
    body = json.dumps({"requests": [item]}, ensure_ascii=False).encode()
    app = BatchMiddleware(echo, limits=Limits(max_body_size=len(body)))
    body = body.replace(b'"post"', b'"get"')
    with memory(below=12 * 2**20):
        assert post(app, body).pointers == ["/requests/0/uri"]


def test_indexes_are_numbers_too():
    items = ["/404", {"uri": "/", "depends-on": [0]}, {"uri": "/", "depends-on": ["0"]}, "/"]
    entries = batch(BatchMiddleware(statuses), *items).entries
    assert [entry["status_code"] for entry in entries] == ["404", "424", "424", "200"]


def statuses(request, start_response):
    start_response("404 Not Found" if request["PATH_INFO"] == "/404" else "200 OK", [])
    return []
