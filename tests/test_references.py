"""References to earlier replies: the grammar, the values, the places, the limits."""

from __future__ import annotations

import inspect
import json
import sys

import pytest

from batchwsgi import BatchMiddleware, Limits
from batchwsgi.dialects.expressions import compiled, filled, references
from batchwsgi.errors import Faults
from batchwsgi.model import Member, OuterRequest, Request, Response
from batchwsgi.references import Replies

from .support import batch, echo, post

VALUE = {
    "zero": 0,
    "no": False,
    "null": None,
    "empty": "",
    "text": "a/b ü?&=%",
    "number": 1.5,
    "list": [1, [2, 3], {"x": "y"}],
    "object": {"0": "zeroth", "a/b": 1, "m~n": 2, "": 3, "é}": 4, "%41": 5, "{$responses.": 6},
    "big": 10**40,
    "ref": "{$responses.0.status_code}",
}


def app(request, start_response):
    """Echoes; but `/value` answers with VALUE, and others with what their names say."""
    path = request["PATH_INFO"]
    if path == "/value":
        headers = [("Content-Type", "application/json"), ("X-A", "1"), ("x-a", "2")]
        headers += [("Set-Cookie", "secret=1"), ("Location", "/orders/7?x=1#top")]
        start_response("201 Created", headers)
        return [json.dumps(VALUE).encode()]
    if path == "/raw":
        start_response("200 OK", [("Content-Type", "application/json")])
        return [request["wsgi.input"].read()]
    if path == "/text":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b'{"a": 1}']
    if path == "/empty":
        start_response("204 No Content", [])
        return []
    if path == "/fail":
        start_response("404 Not Found", [("Content-Type", "application/json")])
        return [b"{}"]
    return echo(request, start_response)


FIRST = {"id": "first", "uri": "/value"}


def second(app=app, first=FIRST, options=None, **item):
    """The entry of an item that comes after one whose reply is VALUE."""
    return batch(BatchMiddleware(app, **(options or {})), first, {"uri": "/", **item}).entries[1]


def sent_body(expression, **more):
    entry = second(method="post", body=expression, **more)
    assert entry["status_code"] == "200", entry
    return json.loads(entry["body"]["body"])


# --- Values ------------------------------------------------------------------------------------

POINTERS = {
    "#/zero": 0,
    "#/no": False,
    "#/null": None,
    "#/empty": "",
    "#/number": 1.5,
    "#/big": 10**40,
    "#/text": VALUE["text"],
    "#/list": VALUE["list"],
    "#/list/0": 1,
    "#/list/1/1": 3,
    "#/list/2/x": "y",
    "#/object": VALUE["object"],
    "#/object/0": "zeroth",
    "#/object/a~1b": 1,
    "#/object/m~0n": 2,
    "#/object/": 3,
    "#/object/é%7D": 4,
    "#/object/%C3%A9%7D": 4,
    "#/object/%2541": 5,
    "#/%7Aero": 0,
    "#": VALUE,
    "": VALUE,
}


@pytest.mark.parametrize("pointer", POINTERS)
def test_types_are_kept(pointer):
    value = sent_body(f"{{$responses.first.body{pointer}}}")
    assert value == POINTERS[pointer]
    assert type(value) is type(POINTERS[pointer])
    assert sent_body({"a": [f"{{$responses.0.body{pointer}}}"]}) == {"a": [POINTERS[pointer]]}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("{$responses.first.status_code}", 201),
        ("{$responses.first.header.X-A}", "1, 2"),
        ("{$responses.first.header.content-type}", "application/json"),
        ("{$responses.first.location}", "/orders/7?x=1"),
        ("n={$responses.first.body#/zero}", "n=0"),
        ("{$responses.0.body#/no}{$responses.0.body#/null}", "falsenull"),
        ("{$responses.0.body#/number}/{$responses.0.body#/number}", "1.5/1.5"),
        ("<{$responses.0.body#/empty}>", "<>"),
        ("{$$responses.first.body}", "{$responses.first.body}"),
        ("{$$responses.0.body#/a} {$responses.0.status_code}", "{$responses.0.body#/a} 201"),
        ("{$response.0.body}", "{$response.0.body}"),
        ("${responses.0.body}", "${responses.0.body}"),
        ("{$$$responses.0.body}", "{$$responses.0.body}"),
        ("{$$$$responses.", "{$$$responses."),
        ("{$$$$response.", "{$$$$response."),
        ("{$responses.0.body#/object/{$responses.}", 6),
        ("{$responses.0.body#/ref}", "{$responses.0.status_code}"),
        ("x{$responses.0.body#/ref}", "x{$responses.0.status_code}"),
    ],
)
def test_expressions(expression, value):
    assert sent_body(expression) == value


def test_names_are_not_looked_at():
    name = "{$responses.first.status_code}"
    assert sent_body({name: name}) == {name: 201}


def test_a_dollar_can_be_escaped():
    item = '{"uri":"/","method":"post","body":"{\\u0024responses.0.status_code}"}'
    document = f'{{"requests":[{{"uri":"/value"}},{item}]}}'.encode()
    assert json.loads(post(BatchMiddleware(app), document).entries[1]["body"]["body"]) == 201


def test_in_args():
    entry = second(args={"a": "{$responses.0.body#/list/0}", "b": "{$responses.0.body#/null}"})
    assert entry["body"]["QUERY_STRING"] == "a=1"
    entry = second(args={"a": ["x", "{$responses.0.body#/text}"]})
    assert entry["body"]["QUERY_STRING"] == "a=x&a=a%2Fb+%C3%BC%3F%26%3D%25"
    entry = second(method="put", args={"a": "{$responses.0.body#/no}"})
    assert entry["body"]["body"] == "a=false"
    json_type = {"Content-Type": "application/json"}
    entry = second(method="put", args={"a": "{$responses.0.body#/list}"}, headers=json_type)
    assert json.loads(entry["body"]["body"]) == {"a": VALUE["list"]}


def test_in_a_uri():
    text = "a%2Fb%20%C3%BC%3F%26%3D%25"
    entry = second(uri="/x?q={$responses.0.body#/text}&n={$responses.0.body#/zero}")
    assert entry["body"]["QUERY_STRING"] == f"q={text}&n=0"
    assert entry["uri"] == "/x?q={$responses.0.body#/text}&n={$responses.0.body#/zero}"
    entry = second(uri="/{$responses.0.body#/big}/{$responses.0.body#/object/0}.json")
    assert entry["body"]["PATH_INFO"] == f"/{10**40}/zeroth.json"
    entry = second(uri="/x/{$responses.0.body#/text}", options={"encoded_slashes": True})
    assert entry["body"]["PATH_INFO"] == "/x/" + VALUE["text"].encode().decode("latin-1")


def test_in_a_header():
    headers = {"Accept": "v={$responses.0.body#/zero}", "If-Match": "{$responses.0.status_code}"}
    entry = second(headers=headers)
    assert entry["body"]["HTTP_ACCEPT"] == "v=0"
    assert entry["body"]["HTTP_IF_MATCH"] == "201"


def test_the_content_type_can_be_brought():
    headers = {"Content-Type": "{$responses.0.header.content-type}"}
    entry = second(method="post", body={"a": 1}, headers=headers)
    assert entry["body"]["CONTENT_TYPE"] == "application/json"


def test_as_the_contract_shows_it():
    items = [
        {"id": "order", "method": "post", "uri": "/value", "body": {"sku": "A1", "n": 2}},
        {"uri": "{$responses.order.location}", "depends-on": ["order"]},
    ]
    entry = batch(BatchMiddleware(app), *items).entries[1]
    assert entry["body"]["PATH_INFO"] == "/orders/7"
    assert entry["uri"] == "{$responses.order.location}"


# --- Location ----------------------------------------------------------------------------------

LOCATIONS = {
    "/orders/7": "/orders/7",
    "7": "/shop/7",
    "./7": "/shop/7",
    "../7": "/7",
    "../../../7": "/7",
    "?page=2": "/shop/orders?page=2",
    "#top": "/shop/orders?a=1",
    "": "/shop/orders?a=1",
    "/": "/",
    "/x?y=1#z": "/x?y=1",
    "http://example.test/x": "/x",
    "https://example.test/x": "/x",
    "HTTP://EXAMPLE.test:80/x": "/x",
    "https://example.test:443/x": "/x",
    "//example.test/x": "/x",
    "http://example.test": "/",
    "/caf%C3%A9": "/caf%C3%A9",
    "/a//b": "/a//b",
}
FOREIGN = [
    *[
        "http://other.test/x",
        "//other.test/x",
        "http://example.test:8080/x",
        "ftp://example.test/x",
    ],
    *["http://example.test@other.test/x", "http://user@example.test/x", "javascript:alert(1)"],
    *["///x", "\thttp:///x", " http:///x"],
    *["mailto:a@example.test", "http://example.test.other.test/", "http:///x"],
]


def located(location, mount="", target="/shop/orders?a=1", host="example.test"):
    member = Member(0, Request("POST", target), {})
    member.response = Response(201, "Created", [("Location", location)], b"")
    replies = Replies({0: member}, OuterRequest(host=host, mount=mount), None, 1000)
    template = compiled("{$responses.0.location}", (), int, Faults().add)
    replies.expect(references(template))
    return filled(template, lambda template: template.uri(replies))


@pytest.mark.parametrize("location", LOCATIONS)
def test_location(location):
    assert located(location) == LOCATIONS[location]
    for host in ("EXAMPLE.TEST", "example.test:80", "example.test:443"):
        assert located(location, host=host) == LOCATIONS[location]


@pytest.mark.parametrize("location", FOREIGN)
def test_a_foreign_location_is_not_found(location):
    with pytest.raises(Exception, match="its Location is of another origin"):
        located(location)


def test_location_with_a_port():
    assert located("http://example.test:8080/x", host="example.test:8080") == "/x"


@pytest.mark.parametrize(
    ("location", "uri"),
    [("/mnt/x", "/x"), ("x", "/shop/x"), ("/mnt/", "/"), ("/mnt", "/"), ("/mnt?q", "/?q")],
)
def test_location_under_a_mount(location, uri):
    assert located(location, mount="/mnt") == uri


@pytest.mark.parametrize("location", ["/x", "/mntx", "/", "../../x", "http://example.test/"])
def test_location_outside_the_mount(location):
    with pytest.raises(Exception, match="outside the application's mount"):
        located(location, mount="/mnt")


def test_location_elsewhere_in_a_uri_is_a_value():
    entry = second(uri="/login?next={$responses.0.location}")
    assert entry["body"]["QUERY_STRING"] == "next=%2Forders%2F7%3Fx%3D1"
    entry = second(uri="{$responses.0.location}&y=2")
    assert entry["body"]["QUERY_STRING"] == "x=1&y=2"


def test_no_location():
    entry = second(first={"uri": "/text"}, uri="{$responses.0.location}")
    assert "the reply has no Location" in unresolved(entry)


def test_location_of_an_outer_request_without_a_host():
    items = [FIRST, {"uri": "{$responses.first.location}"}]
    for more in ({}, {"SERVER_PORT": "8080"}):
        reply = batch(BatchMiddleware(app), *items, HTTP_HOST="", **more)
        assert reply.entries[1]["body"]["PATH_INFO"] == "/orders/7"


# --- What refuses the batch --------------------------------------------------------------------


@pytest.mark.parametrize(
    "expression",
    [
        *["{$responses.}", "{$responses.first}", "{$responses.first.}", "{$responses.first.bod}"],
        *["{$responses.first.body", "{$responses.first.body/a}", "{$responses.first.body#a}"],
        *["{$responses.first.header.}", "{$responses.first.headers}"],
        *["{$responses.first.header.a b}", "{$responses.first.status}", "{$responses. first.body}"],
        *[
            "{$responses.first.status_code#/a}",
            "{$responses.first.location.x}",
            "{$responses.é.body}",
        ],
        *[
            "x {$responses.first.body.a}",
            "{$responses.first.body#/%zz}",
            "{$responses.first.body#/~2}",
        ],
        *[
            "{$responses.first.body#/%7E5}",
            "{$responses.first.body#/%ff}",
            "{$responses.first.body#/~}",
            "{$responses.first.Body}",
        ],
        "{$responses." + "x" * 65 + ".body}",
    ],
)
@pytest.mark.parametrize("place", ["/uri", "/body", "/args/a", "/headers/Accept"])
def test_what_only_looks_like_an_expression(expression, place):
    item = {"uri": "/"}
    name = place.split("/")[1]
    item[name] = {
        "uri": "/" + expression,
        "body": expression,
        "args": {"a": expression},
        "headers": {"Accept": expression},
    }[name]
    assert batch(BatchMiddleware(app), FIRST, item).pointers == [f"/requests/1{place}"]


@pytest.mark.parametrize("name", ["other", "2", "1", "second", "third", "01", "-1", "9" * 60])
def test_who_is_not_an_earlier_item(name):
    items = [
        FIRST,
        {"id": "second", "uri": f"/{{$responses.{name}.body}}"},
        {"id": "third", "uri": "/"},
    ]
    reply = batch(BatchMiddleware(app), *items)
    assert reply.pointers == ["/requests/1/uri"]
    assert "is not the id or index of an earlier item" in reply.json()["errors"][0]["detail"]
    items[1] = {"id": "second", "uri": "/", "depends-on": ["first", name]}
    assert batch(BatchMiddleware(app), *items).pointers == ["/requests/1/depends-on/1"]


@pytest.mark.parametrize(
    ("value", "place"),
    [("first", ""), (None, ""), ({}, ""), ([1], "/0"), ([None], "/0"), ([[]], "/0")],
)
def test_depends_on_is_an_array_of_ids(value, place):
    reply = batch(BatchMiddleware(app), FIRST, {"uri": "/", "depends-on": value})
    assert reply.pointers == [f"/requests/1/depends-on{place}"]


def test_every_fault_beside_references_is_listed():
    item = {
        "uri": "x{$responses.first.location}",
        "method": "a b",
        "headers": {"Host": "{$responses.first.status_code}", "Accept": 1},
        "body": ["{$responses.nobody.body}", {"a/b": "{$responses.first.nothing}"}],
        "args": [],
        "more": 1,
    }
    reply = batch(BatchMiddleware(app), FIRST, item)
    assert sorted(reply.pointers) == [
        *["/requests/1/args", "/requests/1/body/0", "/requests/1/body/1/a~1b"],
        *["/requests/1/headers/Accept", "/requests/1/headers/Host", "/requests/1/method"],
        *["/requests/1/more", "/requests/1/uri"],
    ]


@pytest.mark.parametrize(
    "uri",
    [
        *["{}", "x{}", "http://evil.test/{}", "//{}", "/x#y{}", "/x\\{}", "/../{}", "/x%zz/{}"],
        *["/x\r\n{}", "{}{$responses.first.location}"],
    ],
)
def test_what_no_value_can_make_a_uri(uri):
    uri = uri.replace("{}", "{$responses.first.body#/text}")
    assert batch(BatchMiddleware(app), FIRST, {"uri": uri}).pointers == ["/requests/1/uri"]


# --- What shows at run time --------------------------------------------------------------------


def unresolved(entry):
    assert entry["status_code"] == "424"
    assert entry["body"]["type"] == "urn:problem-type:batchwsgi:reference"
    return entry["body"]["detail"]


@pytest.mark.parametrize(
    ("item", "detail"),
    [
        ({"body": "{$responses.0.body#/nothing}"}, "the reply has no 'nothing' there"),
        ({"body": "{$responses.0.body#/zero/x}"}, "the reply has no 'x' there"),
        ({"body": "{$responses.0.body#/list/3}"}, "no '3' there"),
        ({"body": "{$responses.0.body#/list/-1}"}, "no '-1' there"),
        ({"body": "{$responses.0.body#/list/-}"}, "no '-' there"),
        ({"body": "{$responses.0.body#/list/00}"}, "no '00' there"),
        ({"body": "{$responses.0.body#/list/1e0}"}, "no '1e0' there"),
        ({"body": "{$responses.0.body#/text/0}"}, "no '0' there"),
        ({"body": "{$responses.0.body#/list/length}"}, "no 'length' there"),
        ({"body": "{$responses.0.body#/__class__}"}, "no '__class__' there"),
        ({"body": "{$responses.0.header.X-B}"}, "the reply has no such header"),
        ({"body": "{$responses.0.header.Set-Cookie}"}, "the reply has no such header"),
        ({"body": "x{$responses.0.body#/list}"}, "not a scalar"),
        ({"uri": "/{$responses.0.body#/object}"}, "not a scalar"),
        ({"headers": {"Accept": "{$responses.0.body}"}}, "not a scalar"),
        ({"uri": "/x/{$responses.0.body#/text}"}, "/uri: the path has an encoded slash, %2F"),
        ({"uri": "/{$responses.0.body#/empty}/x"}, "/uri: not a path: what follows // is a host"),
        (
            {"args": {"a": "{$responses.0.body#/object}"}},
            "/args/a: a string, number, boolean, null",
        ),
        (
            {"body": "{$responses.0.body#/list}", "headers": {"Content-Type": "text/plain"}},
            "/body: ",
        ),
        ({"headers": {"Content-Type": "x{$responses.0.status_code}"}, "body": 1}, "/body: "),
    ],
)
def test_what_cannot_be_filled_in(item, detail):
    called = []

    def counting(request, start_response):
        called.append(request["PATH_INFO"])
        return app(request, start_response)

    entry = second(counting, **{"method": "post" if "body" in item else "get", **item})
    assert detail in unresolved(entry)
    assert called == ["/value"]


@pytest.mark.parametrize(
    ("first", "detail"),
    [
        ({"uri": "/text"}, "{$responses.0.body#/a}: the reply is not JSON"),
        ({"uri": "/empty"}, "{$responses.0.body#/a}: the reply is empty"),
        (
            {
                "uri": "/raw",
                "method": "post",
                "body": "{",
                "headers": {"Content-Type": "text/plain"},
            },
            "Exp",
        ),
    ],
)
def test_replies_without_a_value(first, detail):
    assert detail in unresolved(second(first=first, body="{$responses.0.body#/a}"))


@pytest.mark.parametrize(
    ("reply", "detail"),
    [
        ('{"a":NaN}', "NaN is not JSON"),
        ('{"a":1e999}', "out of range"),
        ('{"a":' + "[" * 100_000, "more than 512 levels of nesting"),
        ('{"a":"\xff"}', "can't decode"),
    ],
    ids=lambda value: value[:12],
)
def test_replies_that_cannot_be_written_again(reply, detail):
    def replying(request, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        return [reply.encode("latin-1")]

    assert detail in unresolved(second(replying, body="{$responses.0.body#/a}"))


def test_a_reply_with_a_very_long_number():
    def replying(request, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b'{"a":' + b"9" * 5000 + b"}"]

    reply = batch(BatchMiddleware(replying), "/", {"uri": "/", "body": "{$responses.0.body#/a}"})
    entry = json.loads(reply.body, parse_int=str)["responses"][1]
    assert entry["status_code"] == "424"
    assert "4300" in entry["body"]["detail"]


@pytest.mark.parametrize("part", ["body#/a", "header.x-a"])
@pytest.mark.parametrize("value", ["a\r\nX-Injected: 1", "\x00", "\ud800", "€"])
def test_control_characters_do_not_get_into_headers(part, value):
    def replying(request, start_response):
        start_response("200 OK", [("Content-Type", "application/json"), ("X-A", "\tv")])
        return [json.dumps({"a": value}).encode()]

    entry = second(replying, headers={"Accept": f"{{$responses.0.{part}}}"})
    assert "the value has a control character" in unresolved(entry)


@pytest.mark.parametrize(
    "item",
    [
        {"uri": "/x?{$responses.0.body#/a}"},
        {"args": {"a": "{$responses.0.body#/a}"}},
        {"args": {"a": "{$responses.0.body#/a}"}, "method": "post"},
        {"body": "{$responses.0.body#/a}", "headers": {"Content-Type": "text/plain"}},
    ],
)
def test_lone_surrogates_do_not_get_into_uris_and_text(item):
    def replying(request, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b'{"a": "\\ud800"}']

    unresolved(second(replying, **item))


def test_rules_hold_for_the_result():
    def replying(request, start_response):
        start_response("200 OK", [("Content-Type", "application/json"), ("Location", "/batch")])
        return [b'{"up": "..", "long": "%s"}' % (b"x" * 5000)]

    for uri, detail in {
        "/x/{$responses.0.body#/up}/y": "a dot segment",
        "/x?{$responses.0.body#/long}": "Limits.max_uri_length",
        "{$responses.0.location}": "a batch cannot be part of a batch",
    }.items():
        assert detail in unresolved(second(replying, uri=uri))


# --- Dependencies ------------------------------------------------------------------------------


def kinds(reply):
    return [
        entry["body"]["type"].rpartition(":")[2]
        if entry["status_code"] == "424"
        else int(entry["status_code"])
        for entry in reply.entries
    ]


def test_a_reference_is_a_dependency():
    items = [
        {"id": "a", "uri": "/fail"},
        {"id": "b", "uri": "/{$responses.a.status_code}"},
        {"id": "c", "uri": "/", "depends-on": ["b"]},
        {"uri": "/", "args": {"x": "{$responses.c.status_code}"}},
        "/",
    ]
    failed = "dependency-failed"
    assert kinds(batch(BatchMiddleware(app), *items)) == [404, failed, failed, failed, 200]


def test_a_fault_at_run_time_is_a_failure():
    items = [
        FIRST,
        {"id": "b", "uri": "/", "args": {"x": "{$responses.first.body#/nothing}"}},
        {"uri": "/", "depends-on": ["b"]},
        {"uri": "/"},
    ]
    app_ = BatchMiddleware(app)
    assert kinds(batch(app_, *items)) == [201, "reference", "dependency-failed", 200]
    reply = post(app_, {"on-fail": "stop", "requests": items})
    assert kinds(reply) == [201, "reference", "stopped", "stopped"]


# --- Limits ------------------------------------------------------------------------------------


def test_reference_size_is_counted_before_anything_is_built():
    def replying(request, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps({"a": "x" * 98}).encode()]

    reference = "{$responses.0.body#/a}"  # 100 bytes as JSON
    options = {"limits": Limits(max_reference_size=300)}
    fits = second(replying, body=[reference] * 3, method="post", options=options)
    assert fits["status_code"] == "200"
    for item in (
        {"body": [reference] * 4},
        {"body": reference * 4},
        {"body": reference, "args": {"a": [reference] * 3}},
        {"uri": f"/?{reference}", "body": [reference] * 3},
    ):
        entry = second(replying, method="post", options=options, **item)
        assert "more than 300 bytes in all (Limits.max_reference_size)" in unresolved(entry)


def test_a_million_repetitions_take_little(processor_time):
    def replying(request, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(["x" * 500_000, *[""] * 1000]).encode()]

    small = [f"{{$responses.0.body#/{n}}}" for n in range(1, 1000)] * 36
    spellings = [f"{{$responses.0.body#/%3{n % 10}}}" for n in range(20_000)]
    for body in (
        ["{$responses.0.body}"] * 40_000,
        small,
        spellings,
        "{$responses.0.body#/1}" * 40_000,
    ):
        with processor_time(below=10):
            second(replying, method="post", body=body)
    document = {"requests": [FIRST, {"uri": "/", "body": "{$responses." * 80_000}]}
    with processor_time(below=5):
        assert post(BatchMiddleware(app), document).status == 400


def nested(levels):
    """An application whose replies have so many levels."""

    def replying(request, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b"[" * levels + b"]" * levels]

    return replying


def deep(calls, function):
    """What `function` gives, so many calls down the stack."""
    return function() if calls == 0 else deep(calls - 1, function)


def test_a_reply_that_nests_deep_is_one_fault():
    """Deep in a framework's stack, and in the shallow one of a pool's thread, alike."""
    item = {"uri": "/", "headers": {"Accept": "{$responses.0.body#/0/0}"}}
    for threads in (0, 1):
        wrapped = BatchMiddleware(nested(940), threads=threads)
        reply = deep(60, lambda wrapped=wrapped: batch(wrapped, "/", item, item))
        assert "more than 512 levels" in unresolved(reply.entries[1])


def test_what_a_deep_stack_cannot_write():
    item = {"uri": "/", "body": "{$responses.0.body}"}
    limit = sys.getrecursionlimit() - len(inspect.stack()) - 250
    reply = deep(limit, lambda: batch(BatchMiddleware(nested(400)), "/", item))
    assert reply.status == 200
    entry = json.loads(reply.body)["responses"][1]
    if sys.version_info >= (3, 12):  # what C calls has a limit of its own there
        assert entry["status_code"] == "200"
    else:
        assert "more levels than can be read here" in unresolved(entry)


def test_a_long_literal_is_not_shown_whole():
    def replying(request, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b'{"a":' + b"1" * 100_000 + b".5}"]

    reply = batch(BatchMiddleware(replying), "/", {"uri": "/", "body": "{$responses.0.body#/a}"})
    assert len(reply.body) < 102_000


def test_references_of_a_compiled_value():
    faults = Faults()
    value = compiled(
        {"a": ["{$responses.0.body}", "x{$responses.1.location}y"], "b": 1}, (), int, faults.add
    )
    assert [reference.text for reference in references(value)] == [
        "{$responses.0.body}",
        "{$responses.1.location}",
    ]
    assert not faults


# --- Of what size ------------------------------------------------------------------------------


def test_an_expression_has_at_most_1024_characters():
    def replying(request, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b"{}"]

    app = BatchMiddleware(replying)
    for characters in (1025, 2000, 1_000_000):
        literal = "{$responses.0.body#/" + "a" * (characters - 21) + "}"
        assert len(literal) == characters
        reply = batch(app, "/", {"uri": "/", "headers": {"Accept": literal}})
        assert reply.pointers == ["/requests/1/headers/Accept"]
    exactly = "{$responses.0.body#/" + "a" * 1003 + "}"
    assert len(exactly) == 1024
    entry = batch(app, "/", {"uri": "/", "headers": {"Accept": exactly}}).entries[1]
    assert "the reply has no 'aaa" in unresolved(entry)


def test_a_header_is_measured_again_once_it_is_filled_in():
    def replying(request, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps("a" * 8184).encode()]

    reference = "{$responses.0.body}"
    items = [{"uri": "/", "headers": {"Accept": reference + more}} for more in ("", "b")]
    entries = batch(BatchMiddleware(replying), "/", *items).entries
    assert entries[1]["status_code"] == "200"
    assert "8191 bytes, at most 8190 (Limits.max_header_size)" in unresolved(entries[2])


@pytest.mark.parametrize("threads", [0, 4])
def test_decoded_bodies_are_let_go(memory, threads):
    """Eight replies of 0.2 MB take 7 MB each once they are decoded."""
    body = b'{"a":7,"b":[' + b",".join([b"[]"] * 66_000) + b"]}"

    def replying(request, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        return [body if request["PATH_INFO"] == "/large" else b"1"]

    limits = Limits(max_reply_size=2**24)
    app = BatchMiddleware(replying, limits=limits, threads=threads)
    using = {f"n{n}": f"{{$responses.{n}.body#/a}}" for n in range(8)}
    items = [*["/large"] * 8, {"uri": "/one", "args": using}, {"uri": "/two", "args": using}]
    items += [{"uri": f"/{n}", "args": {"n": f"{{$responses.{n}.body#/a}}"}} for n in range(8)]
    with memory(below=12 * 2**20):
        reply = batch(app, *items)
    assert [entry["status_code"] for entry in reply.entries] == ["200"] * 18


def test_values_are_looked_up_for_all_members_at_once():
    """What one member cannot have does not keep others from what they need."""

    def replying(request, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b'{"a":"' + b"x" * 2000 + b'","b":1,"c":{"d":2}}']

    app = BatchMiddleware(replying, limits=Limits(max_reference_size=1000))
    parts = ["#/a", "#/b", "#/no", "#/c/d", "#/c"]
    bodies = [[f"{{$responses.0.body{part}}}" for part in parts[n:]] for n in range(5)]
    bodies[2] = bodies[2][1:]
    items = [{"method": "post", "uri": "/", "body": body} for body in bodies]
    entries = batch(app, "/", *items, headers={}).entries
    details = [unresolved(entry) if entry["status_code"] == "424" else None for entry in entries]
    assert "more than 1000 bytes" in details[1]
    assert "the reply has no 'no' there" in details[2]
    assert details[3:] == [None, None, None]


# --- Location, as RFC 3986 has it --------------------------------------------------------------

RFC_3986_5_4 = {
    **{"g": "/b/c/g", "./g": "/b/c/g", "g/": "/b/c/g/", "/g": "/g", "?y": "/b/c/d;p?y"},
    **{"g?y": "/b/c/g?y", "#s": "/b/c/d;p?q", "g#s": "/b/c/g", "g?y#s": "/b/c/g?y"},
    **{";x": "/b/c/;x", "g;x": "/b/c/g;x", "g;x?y#s": "/b/c/g;x?y", "": "/b/c/d;p?q"},
    **{".": "/b/c/", "./": "/b/c/", "..": "/b/", "../": "/b/", "../g": "/b/g"},
    **{"../..": "/", "../../": "/", "../../g": "/g", "../../../g": "/g", "../../../../g": "/g"},
    **{"/./g": "/g", "/../g": "/g", "g.": "/b/c/g.", ".g": "/b/c/.g", "g..": "/b/c/g.."},
    **{"..g": "/b/c/..g", "./../g": "/b/g", "./g/.": "/b/c/g/", "g/./h": "/b/c/g/h"},
    **{"g/../h": "/b/c/h", "g;x=1/./y": "/b/c/g;x=1/y", "g;x=1/../y": "/b/c/y"},
    **{"g?y/./x": "/b/c/g?y/./x", "g?y/../x": "/b/c/g?y/../x", "g#s/../x": "/b/c/g"},
    # Empty segments are segments.
    **{"g//h": "/b/c/g//h", "/a//b": "/a//b", "g//../h": "/b/c/g/h", "http://a/b//c": "/b//c"},
    **{"//a": "/", "//a?x": "/?x", "http://a": "/", "HTTP://A:80/../x": "/x"},
}


@pytest.mark.parametrize("location", RFC_3986_5_4)
def test_location_is_resolved_as_rfc_3986_has_it(location):
    assert located(location, target="/b/c/d;p?q", host="a") == RFC_3986_5_4[location]


def test_location_beside_empty_segments():
    assert located("c", target="/src/a//b") == "/src/a//c"
    assert located("../c", target="/src/a//b") == "/src/a/c"


@pytest.mark.parametrize("location", ["h\tttp:///x", "/a\t/b"])
def test_a_location_with_a_tab_is_not_taken_for_one_without(location):
    def replying(request, start_response):
        start_response("201 Created", [("Location", location)])
        return []

    entry = batch(BatchMiddleware(replying), "/x", {"uri": "{$responses.0.location}"}).entries[1]
    assert "'\\t' is not allowed in a uri" in unresolved(entry)


def test_a_location_outside_ascii_is_utf_8():
    """Bottle writes it so; clients read it so. Where it is not, the characters are latin-1."""
    assert located("/ü".encode().decode("latin-1")) == "/ü"
    assert located("/ü") == "/ü"


def test_the_mount_may_be_spelled_otherwise():
    assert located("/%c3%a9/x", mount="/%C3%A9") == "/x"
    assert located("/a%2Fb/x", mount="") == "/a%2Fb/x"
    with pytest.raises(Exception, match="outside the application's mount"):
        located("/a%2Fb/x", mount="/a/b")


LEVELS = b"[" * 13 + b",".join([b"1e15"] * 200_000) + b"]" * 13


def test_what_is_too_large_is_not_built(memory):
    """Twelve members that each need another level of eight replies of 1 MB, and get none."""

    def replying(request, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        return [LEVELS]

    items = [
        {
            "method": "post",
            "uri": "/",
            "body": [f"{{$responses.{(n + m) % 8}.body#{'/0' * n}}}" for m in range(8)],
        }
        for n in range(12)
    ]
    app = BatchMiddleware(replying)
    with memory(below=40 * 2**20):
        reply = batch(app, *["/"] * 7, *["/"], *items)
    entries = reply.entries
    assert ["more than 262144 bytes" in unresolved(entry) for entry in entries[8:]] == [True] * 12


def test_a_reply_without_a_value_is_read_once():
    def replying(request, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b"[1,2"]

    parts = {f"n{n}": f"{{$responses.0.body#/{n}}}" for n in range(50)}
    items = [{"uri": "/", "args": {name: value}} for name, value in parts.items()]
    app = BatchMiddleware(replying, limits=Limits(max_requests=60))
    entries = batch(app, "/", *items).entries
    assert all("Expecting" in unresolved(entry) for entry in entries[1:])


def test_what_stands_beside_references_in_a_header_is_checked_before_anything_runs():
    status = "{$responses.0.status_code}"
    headers = {"Accept": f"\n{status}", "Prefer": f"{'x' * 8190}{status}", "If-Match": status}
    reply = batch(BatchMiddleware(app), FIRST, {"uri": "/", "headers": headers})
    assert reply.pointers == ["/requests/1/headers/Accept", "/requests/1/headers/Prefer"]


def test_what_grows_when_it_is_written_is_counted_as_written():
    def replying(request, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        return ['{"a":{"é":["'.encode() + "é".encode() * 600 + b'",1,{"b":2}]}}']

    app = BatchMiddleware(replying, limits=Limits(max_reference_size=1000))
    items = [{"uri": "/", "args": {"a": f"{{$responses.0.body#/a/é/{n}}}"}} for n in (0, 2)]
    items[1]["method"], items[1]["headers"] = "post", {"Content-Type": "application/json"}
    entries = batch(app, "/", *items).entries
    assert "more than 1000 bytes in all" in unresolved(entries[1])
    assert entries[2]["status_code"] == "200"
