"""The JSON dialect of OData 4.01 and Microsoft Graph: how it is read and written."""

from __future__ import annotations

import json

import pytest
from werkzeug.datastructures import Headers

from batchwsgi import BatchMiddleware, Limits
from batchwsgi.dialects import ODataJSON
from batchwsgi.errors import Malformed, TooLarge
from batchwsgi.model import OnFail, OuterRequest
from batchwsgi.rules import Rules

from .support import echo, post

OUTER = OuterRequest(host="shop.test")
MOUNTED = OuterRequest(host="shop.test", mount="/mnt")
RULES = Rules("/v1.0/$batch", Limits(), can_roll_back=True)


def decode(*items, outer=OUTER, rules=RULES):
    made = [{"id": str(n), "method": "GET", "url": "/x", **item} for n, item in enumerate(items)]
    return ODataJSON().decode(json.dumps({"requests": made}).encode(), outer, rules)


def request(outer=OUTER, rules=RULES, **item):
    (member,) = decode(item, outer=outer, rules=rules).members
    return member.request


def faults(document, rules=RULES):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(Malformed) as caught:
        ODataJSON().decode(body, OUTER, rules)
    return [(fault.pointer, fault.detail) for fault in caught.value.faults.listed]


def fault(rules=RULES, **item):
    """The one fault of one request."""
    document = {"requests": [{"id": "1", "method": "GET", "url": "/x", **item}]}
    ((pointer, detail),) = faults(document, rules)
    return pointer.removeprefix("/requests/0"), detail


# --- Where a url leads -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("/me", "/v1.0/me"),
        ("me", "/v1.0/me"),
        ("", "/v1.0/"),
        ("?$top=1", "/v1.0/?$top=1"),
        ("/v1.0/me", "/v1.0/me"),
        ("/v1.0", "/v1.0"),
        ("/v1.0?x", "/v1.0?x"),
        ("/v1.01/me", "/v1.0/v1.01/me"),
        ("/mnt/v1.0/me", "/v1.0/me"),
        ("/mnt/me", "/v1.0/mnt/me"),
        ("http://shop.test/mnt/v1.0/me", "/v1.0/me"),
        ("HTTPS://SHOP.test:443/mnt/v1.0/me?x=1", "/v1.0/me?x=1"),
        ("Employees(23)?$filter=Name eq 'Rob'", "/v1.0/Employees(23)?$filter=Name%20eq%20'Rob'"),
        ("/$metadata", "/v1.0/$metadata"),
        ("$metadata#x".removesuffix("#x"), "/v1.0/$metadata"),
    ],
)
def test_url(url, target):
    assert request(MOUNTED, url=url).target == target


@pytest.mark.parametrize(
    ("url", "target"),
    [("x", "/x"), ("", "/"), ("/mnt/x", "/x"), ("/mnt", "/"), ("/mnt?q", "/?q"), ("/x", "/x")],
)
def test_url_where_the_service_root_is_the_mount(url, target):
    rules = Rules("/$batch", Limits())
    assert request(MOUNTED, rules, url=url).target == target


@pytest.mark.parametrize(
    ("url", "detail"),
    [
        ("//evil.test/x", "what follows // is a host"),
        ("http://evil.test/v1.0/x", "of another origin"),
        ("http://shop.test/x", "not below the service root, /v1.0"),
        ("http://shop.test/v1.0/x#y", "'#' is not allowed"),
        ("x#y", "'#' is not allowed"),
        ("../x", "a dot segment"),
        ("/v1.0/$batch", "a batch cannot be part of a batch"),
        ("$batch", "a batch cannot be part of a batch"),
        ("x" * 5000, "at most 4094 (Limits.max_uri_length)"),
        ("x" * 9000, "too long (Limits.max_uri_length)"),
    ],
)
def test_url_refused(url, detail):
    pointer, found = fault(url=url)
    assert pointer == "/url"
    assert detail in found


@pytest.mark.parametrize(
    ("url", "target"),
    [("/a b/x", "/a%20b/x"), ("/a%20b/é", "/a%20b/%C3%A9"), ("http://shop.test/a b/x", "/a%20b/x")],
)
def test_the_service_root_is_compared_as_encoded(url, target):
    assert request(rules=Rules("/a b/$batch", Limits()), url=url).target == target


def test_an_id_may_have_slashes():
    batch = decode({"id": "a/b"}, {"id": "a"}, {"url": "$a/b/c"}, {"url": "$a/x"}, {"url": "$a/b"})
    assert [member.depends_on for member in batch.members] == [set(), set(), {0}, {1}, {0}]


def test_absolute_url_outside_the_mount():
    with pytest.raises(Malformed) as caught:
        decode({"url": "http://shop.test/v1.0/x"}, outer=MOUNTED)
    assert caught.value.faults.listed[0].detail == "the url is outside the application's mount"


# --- $ID ---------------------------------------------------------------------------------------


def located(location):
    def app(environ, start_response):
        if environ["REQUEST_METHOD"] == "POST":
            start_response("201 Created", [("Location", location)] if location else [])
            return []
        return echo(environ, start_response)

    return app


def responses(reply):
    assert reply.status == 200, reply.body
    return reply.json()["responses"]


def ask(app, *items, path="/v1.0/$batch", headers=None, **options):
    made = [{"id": f"r{n}", "method": "GET", "url": "/x", **item} for n, item in enumerate(items)]
    wrapped = BatchMiddleware(app, path, dialects=(ODataJSON(),), **options)
    return post(wrapped, {"requests": made}, path, headers)


@pytest.mark.parametrize(
    ("location", "url", "target"),
    [
        ("/v1.0/orders/7", "$r0", "/v1.0/orders/7"),
        ("/v1.0/orders/7", "/$r0/items?a=1", "/v1.0/orders/7/items?a=1"),
        ("/v1.0/orders/7?x=1", "$r0/items", "/v1.0/orders/7/items?x=1"),
        ("/v1.0/orders/7?x=1", "$r0?", "/v1.0/orders/7?"),
        ("7", "$r0", "/v1.0/7"),
    ],
)
def test_the_location_of_an_earlier_request(location, url, target):
    _, second = responses(ask(located(location), {"method": "POST"}, {"url": url}))
    query = second["body"]["QUERY_STRING"]
    assert second["body"]["PATH_INFO"] + (f"?{query}" if "?" in target else "") == target


@pytest.mark.parametrize(
    ("location", "url", "detail"),
    [
        (None, "$r0", "the reply has no Location"),
        ("/other/7", "$r0", "not below the service root"),
        ("http://evil.test/v1.0/7", "$r0", "another origin"),
        ("/v1.0/%2e%2e/x", "$r0", "a dot segment"),
    ],
)
def test_a_location_that_cannot_be_used(location, url, detail):
    _, second = responses(ask(located(location), {"method": "POST"}, {"url": url}))
    assert second["status"] == 424
    assert second["body"]["type"].endswith(":reference")
    assert detail in second["body"]["detail"]


def test_ids_that_are_not_earlier():
    document = {"requests": [{"id": "a", "method": "GET", "url": "$b"}] * 1}
    document["requests"].append({"id": "b", "method": "GET", "url": "/$b/x"})
    assert [pointer for pointer, _ in faults(document)] == ["/requests/0/url", "/requests/1/url"]


def test_what_stands_behind_an_id_is_checked_before_anything_runs():
    for rest in ("a#b", "../a", "%00", "%2f", "%ff", "a" * 5000):
        document = [{"method": "POST"}, {"url": f"$r0/{rest}"}]
        assert ask(located("/v1.0/7"), *document).pointers == ["/requests/1/url"]


# --- Headers -----------------------------------------------------------------------------------


def test_headers_left_out_allowed_and_refused():
    headers = dict.fromkeys(("Host", "user-agent", "Content-Length", "Date", "TE"), "x")
    allowed = {"OData-Version": "4.0", "odata-maxversion": "4.01", "Accept-Charset": "utf-8"}
    allowed |= {"DataServiceVersion": "2.0", "MaxDataServiceVersion": "3.0", "If-Match": "*"}
    assert request(headers={**headers, **allowed}).headers == [*allowed.items()]
    assert fault(headers={"X-HTTP-Method": "MERGE"})[0] == "/headers/X-HTTP-Method"
    assert fault(headers={"Cookie": "a=1"})[1] == "Cookie can never be set by a member"
    assert fault(headers={"Accept": "a", "accept": "b"})[0] == "/headers/accept"
    assert fault(headers={"Accept": None})[0] == "/headers/Accept"
    assert fault(headers=[])[1] == "an object is expected, not an array"
    few = Rules("/v1.0/$batch", Limits(max_headers=1))
    assert fault(few, headers={"Host": "a", "Date": "b"})[0] == "/headers"


def test_what_the_operator_names_is_set():
    rules = Rules("/v1.0/$batch", Limits(), ("User-Agent", "X-HTTP-Method", "X-Ms-*"))
    headers = {"User-Agent": "graph", "X-HTTP-Method": "MERGE", "x-ms-date": "d"}
    assert request(rules=rules, headers=headers).headers == [*headers.items()]
    wide = Rules("/v1.0/$batch", Limits(), ("Content-*", "H*"))
    headers = {"Content-Length": "2", "Host": "h", "Content-MD5": "m"}
    assert request(rules=wide, headers=headers).headers == [("Content-MD5", "m")]


def test_where_the_server_has_checked_credentials():
    with pytest.raises(Malformed):
        decode({"headers": {"Authorization": "x"}}, outer=OuterRequest(authenticated=True))


# --- Bodies ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "value", "body"),
    [
        (None, {"a": 1}, b'{"a":1}'),
        ("application/json", "text", b'"text"'),
        ("text/plain; charset=latin-1", "é", b"\xe9"),
        ("image/png", "-_8=", b"\xfb\xff"),
        ("image/png", "-_8", b"\xfb\xff"),
        ("image/png", "+_8", b"\xfb\xff"),
        ("image/png", "", b""),
    ],
)
def test_body(content_type, value, body):
    headers = {"Content-Type": content_type} if content_type else {}
    made = request(method="POST", headers=headers, body=value)
    assert made.body == body
    assert dict(made.headers)["Content-Type"] == (content_type or "application/json")


@pytest.mark.parametrize("value", ["-_8==", "-", "-_8===", "a b=", "é", 7, "AAAA="])
def test_body_that_is_no_base64(value):
    assert fault(method="POST", headers={"Content-Type": "image/png"}, body=value)[0] == "/body"


def test_null_is_the_same_as_absent():
    item = {"headers": None, "body": None, "dependsOn": None, "atomicityGroup": None, "if": None}
    made = request(**item)
    assert (made.headers, made.body) == ([], b"")


# --- The shape ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "found"),
    [
        (b"{", [""]),
        ([], [""]),
        ({}, [""]),
        ({"requests": 1}, ["/requests"]),
        ({"requests": []}, ["/requests"]),
        ({"requests": [1]}, ["/requests/0"]),
        ({"requests": [{}]}, ["/requests/0"] * 3),
        ({"requests": None, "x": 1, "@y": 2}, ["/x", ""]),
    ],
)
def test_shape(document, found):
    assert [pointer for pointer, _ in faults(document)] == found


@pytest.mark.parametrize("name", ["", "x" * 129, "a\n", "a\x7f", "a\x85"])
def test_what_is_no_id(name):
    assert fault(id=name)[0] == "/id"
    assert fault(atomicityGroup=name)[0] == "/atomicityGroup"


def test_types():
    assert fault(id=1) == ("/id", "a string is expected, not a number")
    assert fault(method=1)[0] == "/method"
    assert fault(url=["/"])[0] == "/url"
    assert fault(method="trace")[0] == "/method"
    assert fault(atomicityGroup=1)[0] == "/atomicityGroup"
    assert fault(dependsOn="1")[0] == "/dependsOn"
    assert fault(dependsOn=[1])[0] == "/dependsOn/0"
    assert fault(dependsOn=["later"])[0] == "/dependsOn/0"
    assert fault(dependsOn=[], depends_on=[])[0] == "/depends_on"
    assert fault(x=1) == ("/x", "unknown member")


def test_too_many_requests():
    with pytest.raises(TooLarge, match=r"requests: 21 items, at most 20 \(Limits.max_requests\)"):
        decode(*[{}] * 21)


def test_groups():
    items = [{"atomicityGroup": "g"}, {"atomicityGroup": "g"}, {}, {"atomicityGroup": "h"}]
    items.append({"dependsOn": ["g", "2"]})
    batch = decode(*items)
    assert [member.group for member in batch.members] == [0, 0, None, 1, None]
    assert batch.members[4].depends_on == {0, 1, 2}
    assert batch.needs_transaction
    assert not decode({"atomicityGroup": "g"}).needs_transaction


@pytest.mark.parametrize(
    ("items", "pointer"),
    [
        ([{"atomicityGroup": "g"}, {}, {"atomicityGroup": "g"}], "/requests/2/atomicityGroup"),
        ([{}, {"atomicityGroup": "0"}], "/requests/1/atomicityGroup"),
        ([{"atomicityGroup": "g"}, {"id": "g"}], "/requests/1/id"),
        (
            [{"atomicityGroup": "g"}, {"atomicityGroup": "g", "dependsOn": ["g"]}],
            "/requests/1/dependsOn/0",
        ),
    ],
)
def test_groups_that_are_none(items, pointer):
    with pytest.raises(Malformed) as caught:
        decode(*items)
    assert [fault.pointer for fault in caught.value.faults.listed] == [pointer]


def test_a_group_of_several_needs_a_transaction():
    rules = Rules("/v1.0/$batch", Limits())
    with pytest.raises(Malformed) as caught:
        decode({"atomicityGroup": "g"}, {"atomicityGroup": "g"}, rules=rules)
    ((pointer, detail),) = caught.value.faults.listed
    assert pointer == "/requests/1/atomicityGroup"
    assert "no transaction" in detail
    assert decode({"atomicityGroup": "g"}, rules=rules)


@pytest.mark.parametrize(
    ("prefer", "on_fail"),
    [
        ("", OnFail.IGNORE),
        ("continue-on-error", OnFail.IGNORE),
        ("odata.continue-on-error=false", OnFail.STOP),
        ('return=minimal, Continue-On-Error = "FALSE"; x', OnFail.STOP),
        ("continue-on-error=true, continue-on-error=false", OnFail.IGNORE),
        ("x-continue-on-error=false", OnFail.IGNORE),
        ("odata.continue-on-error=falsehood", OnFail.IGNORE),
        ("continue-on-error=0, continue-on-error=false", OnFail.IGNORE),
        ('a="x, continue-on-error=false"', OnFail.IGNORE),
        ("respond-async; continue-on-error=false", OnFail.IGNORE),
        ('a="\\", x", continue-on-error="false"', OnFail.STOP),
        ('continue-on-error = "false', OnFail.STOP),
    ],
)
def test_prefer(prefer, on_fail):
    outer = OUTER._replace(headers=Headers({"Prefer": prefer}))
    assert decode({}, outer=outer).on_fail is on_fail


def test_a_long_preference_is_read_in_linear_time(processor_time):
    for prefer in ("continue-on-error" + " " * 500_000 + "x", '"' * 500_001, ";" * 500_000):
        outer = OUTER._replace(headers=Headers({"Prefer": prefer}))
        with processor_time(below=5):
            assert decode({}, outer=outer).on_fail is OnFail.IGNORE


# --- The reply ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ({}, "4.0"),
        ({"OData-Version": "4.01"}, "4.01"),
        ({"OData-Version": "4.0", "OData-MaxVersion": "4.01"}, "4.01"),
        ({"OData-MaxVersion": "4.0"}, "4.0"),
    ],
)
def test_version(headers, version):
    reply = ask(echo, {"atomicityGroup": "g"}, headers=headers)
    assert reply.headers["OData-Version"] == version
    (response,) = responses(reply)
    assert response["atomicityGroup"] == "g"
    name = "content-type" if version == "4.01" else "Content-Type"
    assert response["headers"] == {name: "application/json"}


def test_refusal_has_an_error_that_clients_show():
    reply = ask(echo, {"method": "connect"})
    assert reply.status == 400
    error = reply.json()["error"]
    assert error["code"] == "400"
    assert error["message"].endswith("/requests/0/method: CONNECT cannot be part of a batch")
    reply = ask(echo, *[{}] * 21)
    assert (reply.status, reply.json()["error"]["code"]) == (413, "413")
