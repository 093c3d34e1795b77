"""`batching()` in a browser: each call is what the browser's own `fetch` makes of it."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import zlib
from base64 import b64decode, b64encode
from collections import Counter
from pathlib import Path
from urllib.parse import urlencode

import pytest

import batchwsgi.browser

from .conftest import Page, offline

MODULE = Path(batchwsgi.browser.__file__).with_name("batch.js")
JSON = "Content-Type: application/json"
TEXT = "Content-Type: text/plain"


def reply(status, body=b"", *headers):
    """The URL of a reply like that."""
    query = [("status", status), *(("h", line) for line in headers)]
    return f"/reply?{urlencode([*query, ('body', b64encode(body).decode())])}"


REPLIES = {
    "json": reply(200, b'{"n": 123456789012345678901234567890, "x": 1.10}\n', JSON),
    "json-blanks": reply(200, b' \n[1, "\\u00e9\\ud800", "a\\"b}],\\\\"]\r\n', JSON),
    "json-like-an-entry": reply(200, b'{"body": {"body": ["body", 1]}, "encoding": "text"}', JSON),
    "json-string": reply(200, b'"body"', JSON),
    "json-null": reply(200, b"null", JSON),
    "json-null-blanks": reply(200, b" null\n", JSON),
    "json-empty": reply(200, b"", JSON),
    "not-json": reply(200, b"{oops", JSON),
    "problem": reply(404, b'{"type": "about:blank"}', "Content-Type: application/problem+json"),
    "text": reply(200, "Größe 好 {$responses.0.body}\n".encode(), TEXT),
    "text-null": reply(200, b"null", TEXT),
    "text-bom": reply(200, b"\xef\xbb\xbfx", TEXT),
    "html": reply(200, b"<p>&amp;</p>", "Content-Type: text/html; charset=utf-8"),
    "bytes": reply(200, bytes(range(256)), "Content-Type: image/png"),
    "no-type": reply(200, b"\x00\xff"),
    "empty": reply(200),
    "created": reply(201, b"", "Location: /x"),
    "no-content": reply(204),
    "reset": reply(205, b"", TEXT),
    "not-modified": reply(304, b"", 'ETag: "a"'),
    "failure": reply(500, b"no", TEXT),
    "teapot": reply(418, b"short", TEXT),
    "above-599": reply(799, b"odd", TEXT),
    "latin-1-header": reply(200, b"", "X-Name: Gr\xf6\xdfe"),
    "no-location": reply(302, b"x", TEXT),
    "redirect": reply(302, b"", "Location: echo?a=1"),
    "redirect-utf-8": reply(302, b"", "Location: echo?a=\xc3\xa9"),
    "loop": "/loop",
    "bad-redirect": reply(302, b"", "Location: data:text/plain,x"),
    "no-redirect": reply(302, b"", "Location: http://["),
    "gzip": reply(200, gzip.compress(b"text"), TEXT, "Content-Encoding: gzip"),
    "deflate": reply(200, zlib.compress(b"text"), TEXT, "Content-Encoding: Deflate"),
    "gzip-empty": reply(200, b"", TEXT, "Content-Encoding: gzip"),
    "no-gzip": reply(200, b"text", TEXT, "Content-Encoding: gzip"),
    "identity": reply(200, b"text", TEXT, "Content-Encoding: identity"),
}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_replies(page, method):
    found = page.run(
        """
        const [urls, method] = given;
        const calls = Object.entries(urls).map(([name, url]) => (
          [name, (fetch) => fetch(mount + url + "#part", { method })]));
        return compare(batching, Object.fromEntries(calls));
        """,
        REPLIES,
        method,
    )
    for shown in found["batched"].values():
        is_null = shown.pop("isNull", None)
        if is_null is not None and not shown["redirected"]:
            assert is_null == (method == "HEAD" or shown["status"] in (204, 205, 304))
    for shown in found["alone"].values():
        shown.pop("isNull", None)  # Chromium has an empty body there
    assert found["batched"] == found["alone"]
    assert found["beside"] == [200] * len(REPLIES)
    assert page.site.posted() == len(REPLIES)


def test_the_status_text_is_empty(page):
    """As over HTTP/2."""
    texts = page.run(
        """
        const batch = batching();
        const replies = await Promise.all([batch(mount + given[0]), batch(mount + given[1])]);
        return [...replies, ...replies.map((reply) => reply.clone())].map((one) => one.statusText);
        """,
        REPLIES["failure"],
        REPLIES["above-599"],
    )
    assert texts == [""] * 4


def test_text_in_another_charset_becomes_utf_8(page):
    url = reply(200, "Größe".encode("latin-1"), "Content-Type: text/plain; charset=latin1; x=y")
    shown, text = page.run(
        """
        const batch = batching();
        const [one] = await Promise.all([batch(mount + given[0]), batch(mount + "/echo")]);
        return [await show(one.clone()), await one.text()];
        """,
        url,
    )
    assert text == "Größe"
    assert ["content-type", "text/plain; charset=utf-8; x=y"] in shown["headers"]
    assert ["content-length", "7"] in shown["headers"]


SENT = {
    "query": '"/echo?q={$responses.0.body}&r=%7B&s={$$responses.&t=é"',
    "path": '"/caf\\u00e9/%25/a b;x"',
    "headers": '"/echo", {headers: {"X-Requested-With": "{$responses.x} Gr\\u00f6\\u00dfe",'
    ' "accept": "text/x", Range: "bytes=0-"}}',
    "string": '"/echo", {method: "post", body: "a {$responses.0} \\ud800 好"}',
    "empty": '"/echo", {method: "PUT", body: ""}',
    "none": '"/echo", {method: "POST"}',
    "delete": '"/echo", {method: "delete"}',
    "custom": '"/echo", {method: "REPORT"}',
    "patch": '"/echo", {method: "PATCH", body: "x"}',
    "options": '"/echo", {method: "OPTIONS"}',
    "params": '"/echo", {method: "POST", body: new URLSearchParams({a: "é &", b: "{$responses."})}',
    "typed-array": '"/echo", {method: "POST", body: new Uint8Array([9, 0, 255, 128]).subarray(1),'
    ' headers: {"Content-Type": "image/png"}}',
    "buffer": '"/echo", {method: "POST", body: new Uint8Array([0, 255]).buffer,'
    ' headers: {"Content-Type": "application/octet-stream"}}',
    "utf-8-bytes": '"/echo", {method: "POST", body: new TextEncoder().encode("\\ufeffé"),'
    ' headers: {"Content-Type": "text/plain; charset=UTF-8"}}',
    "json": '"/echo", {method: "POST", headers: {"Content-Type": "application/json"},'
    ' body: `[123456789012345678901234567890,"{$responses.0.body}","{$$responses.",'
    '"\\\\u007b\\\\u0024responses.x",{"{$responses.":1},"é",1.5,-1e-7,0.30000000000000004]`}',
    "json-string": '"/echo", {method: "POST", headers: {"Content-Type": "application/a+json"},'
    ' body: `"{$responses.0.body}"`}',
    "request": 'new Request(mount + "/echo", {method: "POST", body: "x", credentials: "include"})',
    "request-and-init": 'new Request(mount + "/echo", {method: "POST", body: "x"}), {body: "y"}',
    "url": 'new URL(mount + "/echo?x", location.href), {cache: "no-store"}',
}


def called(arguments):
    """The arguments, where a string at the start is a path under the mount."""
    return f"mount + {arguments}" if arguments.startswith('"/') else arguments


def parsed(shown):
    """What `/echo` told; JSON in its body as a value, because the format does not keep blanks."""
    told = json.loads(b64decode(shown["body"]))
    told.pop("HTTP_CACHE_CONTROL", None)
    body = b64decode(told["body"])
    if "json" in (told.get("CONTENT_TYPE") or "") and body:
        told["body"] = json.loads(body)
        told["CONTENT_LENGTH"] = ""
    return told


def calls(cases):
    """A script's object of functions that make these calls with the `fetch` that they are given."""
    lines = [f"{json.dumps(name)}: (fetch) => fetch({called(of)})" for name, of in cases.items()]
    return f"{{{', '.join(lines)}}}"


def test_requests(page):
    found = page.run(f"return compare(batching, {calls(SENT)});")
    for name, shown in found["batched"].items():
        assert parsed(shown) == parsed(found["alone"][name]), name
        assert shown["url"] == found["alone"][name]["url"]
    assert page.site.posted() == len(SENT)


ON_ITS_OWN = {
    "another-origin": 'location.origin.replace("127.0.0.1", "localhost") + mount + "/echo"',
    "outside-the-mount": 'mount ? "/elsewhere" : "http://localhost:" + location.port + "/echo"',
    "endpoint": 'mount + "/batch", {method: "POST", body: "{}"}',
    "endpoint-encoded": 'mount + "/b%61tch?x"',
    "module": 'mount + "/batch.js"',
    "form-data": '"/echo", {method: "POST", body: form}',
    "blob": '"/echo", {method: "POST", body: new Blob(["x"])}',
    "bytes-without-type": '"/echo", {method: "POST", body: new Uint8Array([1])}',
    "charset": '"/echo", {method: "POST", body: "x", headers: {"Content-Type":'
    ' "text/plain; charset=latin1"}}',
    "bytes-not-utf-8": '"/echo", {method: "POST", body: new Uint8Array([255]), headers:'
    ' {"Content-Type": "text/plain"}}',
    "json-not-utf-8": '"/echo", {method: "POST", body: new Uint8Array([34, 255, 34]), headers:'
    ' {"Content-Type": "application/json"}}',
    "two-types": '"/echo", {method: "POST", body: "x", headers: [["Content-Type", "text/plain"],'
    ' ["Content-Type", "application/json"]]}',
    "omit": '"/echo", {credentials: "omit"}',
    "no-cors": '"/echo", {mode: "no-cors"}',
    "reload": '"/echo", {cache: "reload"}',
    "no-cache": '"/echo", {cache: "no-cache"}',
    "redirect-error": '"/echo", {redirect: "error"}',
    "redirect-manual": '"/loop", {redirect: "manual"}',
    "redirect-error-fails": '"/loop", {redirect: "error"}',
    "integrity": '"/echo", {integrity: "sha256-AAAA"}',
    "keepalive": '"/echo", {keepalive: true}',
    "referrer": '"/echo", {referrer: mount + "/page?x"}',
    "referrer-policy": '"/echo", {referrerPolicy: "no-referrer"}',
    "patch": '"/echo", {method: "patch"}',
    "blob-url": "blob",
    "user-info": '"http://a:b@" + location.host + mount + "/echo"',
    "encoded-slash": '"/a%2Fb"',
    "empty-segment": 'location.origin + mount + "//b"',
    "bad-escape": '"/a?b=%zz"',
    "dot-segment": '"/..%3Bx/a"',
    "not-utf-8": '"/a%ff"',
    "backslash": '"/a?\\\\b"',
    "long": '"/a?" + "x".repeat(5000)',
    "no-method": '"/echo", {method: "TRACE"}',
    "body-of-get": '"/echo", {method: "GET", body: "x"}',
}
for name, text in {
    "not-json": "{oops",
    "bom": "\ufeff1",
    "twice": r'{"a":[{"b":1}],"\u0061":2}',
    "surrogate": r'["\ud800"]',
    "surrogate-name": r'{"\udc00":1}',
    "deep": "[" * 30 + "]" * 30,
    "digits": "1" * 101,
    "overflow": "[1e999]",
    "precision": "0.12345678901234567890123",
    "minus-zero": "-0",
}.items():
    init = {"method": "POST", "body": text, "headers": {"Content-Type": "application/json"}}
    ON_ITS_OWN[f"json-{name}"] = f'"/echo", {json.dumps(init)}'


def test_what_goes_on_its_own(page):
    """Two calls, before it and after it, still go together."""
    found = page.run(
        f"""
        const form = new FormData();
        form.append("a", "b");
        const blob = URL.createObjectURL(new Blob(["x"], {{ type: "text/plain" }}));
        const found = {{ alone: {{}}, batched: {{}} }};
        for (const [name, call] of Object.entries({calls(ON_ITS_OWN)})) {{
          const batch = batching();
          const calls = [batch(mount + "/other1"), call(batch), batch(mount + "/other2")];
          [, found.batched[name]] = await Promise.all(calls.map(show));
          found.alone[name] = await show(call(fetch));
        }}
        return found;
        """
    )
    for shown in (found["alone"], found["batched"]):
        boundary = shown["form-data"].pop("body") + shown["form-data"].pop("cloned")[-1]
        assert "WebKitFormBoundary" in boundary
    assert found["batched"] == found["alone"]
    others = [line for line in page.site.arrived("server") if line.startswith("GET /other")]
    assert others == []
    counts = Counter(page.site.arrived())
    assert counts["GET /other1"] == counts["GET /other2"] == len(ON_ITS_OWN)
    assert Counter(page.site.arrived("server"))["POST /batch"] >= len(ON_ITS_OWN)


def test_a_stream_goes_on_its_own(page):
    """Over HTTP/1.1 browsers refuse it; so is it here."""
    alone, batched = page.run(
        """
        const stream = () => new Blob(["x"]).stream();
        const init = () => ({ method: "POST", body: stream(), duplex: "half" });
        const batch = batching();
        const calls = [batch(mount + "/echo", init()), batch(mount + "/a"), batch(mount + "/b")];
        const shown = await Promise.all(calls.map(show));
        return [await show(fetch(mount + "/echo", init())), shown[0]];
        """
    )
    assert batched == alone
    assert page.site.posted() == 1


def test_a_request_whose_stream_does_not_end_holds_up_nobody(page):
    statuses = page.run(
        """
        const body = new ReadableStream();
        const request = new Request(mount + "/echo", { method: "POST", body, duplex: "half" });
        const batch = batching();
        batch(request).catch(() => {});
        const replies = await Promise.all([batch(mount + "/a"), batch(mount + "/b")]);
        return replies.map(({ status }) => status);
        """
    )
    assert statuses == [200, 200]


def test_calls_of_one_task_go_together_in_order(page):
    reports = page.run(
        """
        const reports = [], batch = batching({ onBatch: (report) => reports.push(report) });
        const calls = [batch(mount + "/0")];
        await null;
        calls.push(batch(mount + "/1"), batch(new Request(mount + "/2", {method: "PUT",
          body: "x"})));
        calls.push(batch(mount + "/3"));
        await Promise.all(calls);
        await Promise.all([batch(mount + "/4"), batch(mount + "/5")]);
        await sleep();
        return reports;
        """
    )
    assert page.site.arrived() == ["GET /0", "GET /1", "PUT /2", "GET /3", "GET /4", "GET /5"]
    assert page.site.arrived("server") == ["POST /batch"] * 2
    assert [(report["size"], report["status"]) for report in reports] == [(4, 200), (2, 200)]
    assert all(0 < report["time"] < 10_000 for report in reports)
    assert {line["accept"] for line in page.site.log()} == {"*/*"}


def test_wait(page):
    page.run(
        """
        const batch = batching({ wait: 150 });
        const first = batch(mount + "/0");
        await sleep(10);
        await Promise.all([first, batch(mount + "/1")]);
        """
    )
    assert page.site.arrived("server") == ["POST /batch"]


def test_at_most_so_many_requests_and_the_next_does_not_wait(page):
    sizes, order = page.run(
        """
        const sizes = [], order = [];
        const batch = batching({ onBatch: ({ size }) => sizes.push(size) });
        const get = (path) => batch(mount + path).then(() => order.push(path));
        const calls = [get("/wait")];
        for (let n = 1; n < 41; n++) calls.push(get(`/${n}`));
        await Promise.all(calls.slice(20));
        await fetch(mount + "/end");
        await Promise.all(calls);
        return [sizes, order];
        """
    )
    assert sizes == [20, 20]
    assert order[-20:] == ["/wait", *(f"/{n}" for n in range(1, 20))]
    assert page.site.arrived("server").count("GET /40") == 1
    assert page.site.posted() == 2


@pytest.mark.parametrize(("options", "sizes"), [("maxRequests: 2", [2, 2]), ("maxBytes: 130", [2])])
def test_limits_as_options(page, options, sizes):
    """130 bytes hold two short calls, and not one that has 200 bytes itself."""
    told = page.run(
        f"""
        const sizes = [], batch = batching({{ {options},
          onBatch: (told) => sizes.push(told.size) }});
        const calls = [batch(mount + "/1"), batch(mount + "/2"), batch(mount + "/3")];
        calls.push(batch(mount + "/4", {{ method: "POST", body: "é".repeat(100) }}));
        await Promise.all(calls);
        return sizes;
        """
    )
    assert told == sizes
    assert sorted(page.site.arrived()) == ["GET /1", "GET /2", "GET /3", "POST /4"]


def test_the_document_has_at_most_so_many_bytes(page):
    sent = page.run(
        """
        const sent = [];
        const real = (input, init) => {
          if (init) sent.push(new TextEncoder().encode(init.body).length);
          return fetch(input, init);
        };
        const batch = batching({ fetch: real });
        const body = "é".repeat(65536 - 200);
        await Promise.all([1, 2, 3, 4, 5, 6].map(() => batch(mount + "/x", { method: "POST",
          body })));
        const exact = batching({ fetch: real, maxBytes: sent[0] });
        await Promise.all([1, 2, 3, 4].map(() => exact(mount + "/x", { method: "POST", body })));
        return sent;
        """
    )
    assert len(sent) == 3
    assert sent[0] == sent[2]
    assert all(size <= 512 * 1024 for size in sent)


def test_a_call_alone_goes_by_the_real_fetch(page):
    real, streams = page.run(
        """
        let real = null;
        const batch = batching({ fetch: async (...args) => (real = await fetch(...args)) });
        const response = await batch(mount + "/echo");
        const posted = await batch(mount + "/echo", { method: "POST", body: "abc" });
        return [real === posted, atob((await posted.json()).body)];
        """
    )
    assert real
    assert streams == "abc"
    assert page.site.arrived("server") == ["GET /echo", "POST /echo"]


def test_headers_and_body_are_taken_at_the_moment_of_the_call(page):
    body, header = page.run(
        """
        const body = new Uint8Array([65]), batch = batching();
        const headers = new Headers({ "Content-Type": "text/plain", "X-Request-Id": "1" });
        const calls = [batch(mount + "/echo", { method: "POST", body, headers }),
          batch(mount + "/a")];
        body[0] = 66;
        headers.set("X-Request-Id", "2");
        const told = await (await calls[0]).json();
        return [atob(told.body), told.HTTP_X_REQUEST_ID];
        """
    )
    assert (body, header) == ("A", "1")


def test_a_request_is_used_as_by_fetch(page):
    used, again = page.run(
        """
        const request = new Request(mount + "/echo", { method: "POST", body: "x" }),
          batch = batching();
        const calls = [batch(request), batch(mount + "/a")];
        return [request.bodyUsed, await show(batch(request)),
          await Promise.all(calls).then(() => 1)];
        """
    )[:2]
    assert used
    assert again == {"error": "TypeError"}


REDIRECTS = {
    f"{status} {method} {host} {mode}": [status, method, host, mode]
    for status in (301, 302, 303, 307, 308)
    for method in ("GET", "POST", "PUT")
    for host, mode in (("127.0.0.1", "cors"), ("localhost", "cors"), ("localhost", "same-origin"))
}


def test_redirects(page):
    """`Authorization` never goes to another origin; mode `same-origin` goes to none."""
    place = f"{page.site.server.port}{page.site.server.mount}/echo?to"
    targets = {
        name: [reply(status, b"", f"Location: http://{host}:{place}"), method, mode]
        for name, (status, method, host, mode) in REDIRECTS.items()
    }
    found = page.run(
        """
        const headers = { Authorization: "Bearer x", "X-Requested-With": "y",
          "Content-Type": "text/a" };
        const calls = Object.entries(given[0]).map(([name, [url, method, mode]]) => [name,
          (fetch) => fetch(mount + url, { method, mode, headers,
            body: method === "GET" ? undefined : "text" })]);
        return compare(batching, Object.fromEntries(calls));
        """,
        targets,
    )
    assert found["batched"] == found["alone"]
    for name, shown in found["batched"].items():
        if "same-origin" in name:
            assert shown == {"error": "TypeError"}
        elif "error" not in shown:  # Chromium sends no POST on to another origin
            told = json.loads(b64decode(shown["body"]))
            assert told["authorization"] == (None if "localhost" in name else "Bearer x")
    assert page.site.posted() == len(REDIRECTS)


def test_cookies_of_members_are_kept(page):
    cookies = page.run(
        """
        const batch = batching();
        const url = mount + "/reply?status=200&h=Set-Cookie:%20seen%3D1%3B%20Path%3D/";
        await Promise.all([batch(url), batch(mount + "/echo")]);
        const [, reply] = await Promise.all([batch(mount + "/a"), batch(mount + "/echo")]);
        const told = await reply.json();
        document.cookie = "seen=; max-age=0; path=/";
        return told.cookie;
        """
    )
    assert cookies == "seen=1"


def test_an_aborted_call_rejects_at_once(page):
    """The batch goes on, and the other call has its answer."""
    status, reason = page.run(
        """
        const batch = batching(), control = new AbortController();
        const aborted = batch(mount + "/wait", { signal: control.signal });
        const other = batch(mount + "/a");
        await arrival("/wait");
        control.abort("why");
        const reason = await aborted.catch((reason) => reason);
        await fetch(mount + "/end");
        return [(await other).status, reason];
        """
    )
    assert (status, reason) == (200, "why")
    assert page.site.arrived() == ["GET /wait", "GET /a"]


def test_the_post_is_aborted_when_all_are(page):
    first, second, names = page.run(
        """
        let signal;
        const real = (input, init) => { signal = init.signal; return fetch(input, init); };
        const batch = batching({ fetch: real });
        const controls = [new AbortController(), new AbortController()];
        const calls = controls.map(({ signal }) => batch(mount + "/wait",
          { signal }).catch((e) => e.name));
        await arrival("/wait");
        controls[0].abort();
        const first = signal.aborted;
        controls[1].abort();
        return [first, signal.aborted, await Promise.all(calls)];
        """
    )
    assert (first, second, names) == (False, True, ["AbortError"] * 2)


def test_a_redirect_that_is_followed_can_be_aborted(page):
    reason = page.run(
        """
        const batch = batching(), control = new AbortController();
        const calls = [batch(mount + given[0], { signal: control.signal }), batch(mount + "/a")];
        const reason = calls[0].catch((reason) => reason);
        await arrival("/wait");
        control.abort("why");
        return reason;
        """,
        reply(302, b"", "Location: wait"),
    )
    assert reason == "why"


def test_what_is_aborted_before_the_batch_leaves_is_not_sent(page):
    reasons = page.run(
        """
        const batch = batching(), control = new AbortController(), { signal } = control;
        const calls = [batch(mount + "/0", { signal }), batch(mount + "/1"), batch(mount + "/2")];
        control.abort(7);
        calls.push(batch(mount + "/3", { signal: AbortSignal.abort(8) }));
        const settled = await Promise.allSettled(calls);
        return settled.map(({ reason, value }) => reason ?? value.status);
        """
    )
    assert reasons == [7, 200, 200, 8]
    assert page.site.arrived() == ["GET /1", "GET /2"]


UNHANDLED = {
    "alone": """
        handled(batching({ fetch: fail })(mount + "/0"));
        await handled(batching({ fetch: fail })(mount + "/1", { signal }));""",
    "no-url": 'await handled(batching()("http://["));',
    "the-post": """
        const batch = batching({ fetch: fail });
        await Promise.all([batch(mount + "/0"), batch(mount + "/1")].map(handled));""",
    "aborted": """
        const batch = batching();
        const calls = [1, 2].map(() => handled(batch(mount + "/wait", { signal })));
        await arrival("/wait");
        control.abort();
        await Promise.all(calls);""",
    "aborted-then-refused": """
        const batch = batching({ fetch: async (input, init) => {
          if (!init) return fetch(input);
          control.abort();
          return new Response("", { status: 404 });
        } });
        const calls = [handled(batch(mount + "/0", { signal })), batch(mount + "/1")];
        await Promise.all(calls);""",
    "a-stream-that-fails": """
        const body = new ReadableStream({ pull(control) { control.error(new Error("x")); } });
        const request = new Request(mount + "/0", { method: "POST", body, duplex: "half" });
        const batch = batching();
        await Promise.all([handled(batch(request)), batch(mount + "/1"), batch(mount + "/2")]);""",
    "compressed": """
        const batch = batching();
        const [reply] = await Promise.all([batch(mount + given[0]), batch(mount + "/1")]);
        await handled(reply.text());""",
}


@pytest.mark.parametrize("script", UNHANDLED.values(), ids=UNHANDLED)
def test_no_rejection_goes_unhandled(page, script):
    unhandled, caught = page.run(
        f"""
        const unhandled = [], caught = [];
        addEventListener("unhandledrejection", (event) => unhandled.push(`${{event.reason}}`));
        const fail = async () => {{ throw new TypeError("no network"); }};
        const control = new AbortController(), {{ signal }} = control;
        const handled = (promise) => promise.catch((reason) => caught.push(reason.name));
        {script}
        await sleep(50);
        return [unhandled, caught];
        """,
        REPLIES["no-gzip"],
    )
    assert unhandled == []
    assert caught


def settled(page, module):
    """What becomes of three calls, and of the batch, at another endpoint."""
    return page.run(
        """
        const reports = [], batch = batching({ onBatch: (report) => reports.push(report.status) });
        const calls = [batch(mount + "/0"), batch(mount + "/1", { method: "POST", body: "x" })];
        calls.push(batch(mount + "/2"));
        const shown = await Promise.all(calls.map(show));
        await sleep();
        return [shown, reports];
        """,
        module=f"{module}.js",
    )


REFUSED = {
    **{str(status): status for status in (404, 405, 411, 413, 415)},
    "refused": 400,
    "odd-problem": 404,
    "no-problem": 404,
}


@pytest.mark.parametrize("fake", REFUSED)
def test_a_refused_batch_goes_one_by_one(page, fake):
    shown, reports = settled(page, f"/fake/{fake}")
    assert [one["status"] for one in shown] == [200] * 3
    assert reports == [REFUSED[fake]]
    assert sorted(page.site.arrived()[1:]) == ["GET /0", "GET /2", "POST /1"]


def test_a_batch_with_too_many_requests_goes_one_by_one(page):
    shown, reports = settled(page, "/few")
    assert [one["status"] for one in shown] == [200] * 3
    assert reports == [413]


@pytest.mark.parametrize("fake", ["html", "short", "null", "nonsense", "broken"])
def test_a_reply_that_is_none_rejects_every_call(page, fake):
    shown, reports = settled(page, f"/fake/{fake}")
    assert shown == [{"error": "TypeError"}] * 3
    assert reports == [200]
    assert page.site.arrived() == [f"POST /fake/{fake}"]


def test_a_post_that_fails_rejects_every_call(page):
    page.run("return window.batching = batching, null;")
    with offline(page.driver):
        names, statuses = page.driver.execute_async_script(
            """
            const [done] = arguments, statuses = [];
            const batch = batching({ onBatch: ({ status }) => statuses.push(status) });
            const calls = [batch(mount + "/0"), batch(mount + "/1"), fetch(mount + "/2")];
            Promise.all(calls.map(show)).then((shown) => (
              done([shown.map(({ error }) => error), statuses])));
            """
        )
    assert names == ["TypeError"] * 3
    assert statuses == [0]
    assert page.site.log() == []


def test_whatever_the_post_fails_with_is_a_type_error(page):
    found = page.run(
        """
        const fail = async () => { throw new DOMException("x", "NetworkError"); };
        const batch = batching({ fetch: fail });
        const calls = [batch(mount + "/0"), batch(mount + "/1")];
        return Promise.all(calls.map((call) => call.catch((e) => [e.name, e.cause.name])));
        """
    )
    assert found == [["TypeError", "NetworkError"]] * 2


@pytest.mark.parametrize(("fake", "status"), [("401", 401), ("502", 502), ("bad", 400)])
def test_any_other_answer_is_every_calls_answer(page, fake, status):
    shown, reports = settled(page, f"/fake/{fake}")
    assert [one["status"] for one in shown] == [status] * 3
    assert [one["url"][-2:] for one in shown] == ["/0", "/1", "/2"]
    assert {b64decode(one["body"]) for one in shown} == {b"Bad." if fake == "bad" else b"No."}
    assert reports == [status]
    assert page.site.arrived() == [f"POST /fake/{fake}"]


def test_a_header_that_was_refused_goes_on_its_own_from_then_on(page):
    seen = page.run(
        """
        const batch = batching(), headers = { "X-Unknown": "1" };
        const send = () => Promise.all([batch(mount + "/0", { headers }), batch(mount + "/1"),
          batch(mount + "/2")]);
        const told = await Promise.all([...await send(),
          ...await send()].map((reply) => reply.json()));
        return told.map((one) => one.HTTP_X_UNKNOWN ?? null);
        """
    )
    assert seen == ["1", None, None] * 2
    server = page.site.arrived("server")
    assert server[0] == "POST /batch"
    assert sorted(server[1:4]) == ["GET /0", "GET /1", "GET /2"]
    assert sorted(server[4:]) == ["GET /0", "POST /batch"]


def test_members_that_were_not_executed_go_on_their_own(page):
    shown, reports = settled(page, "/late")
    assert [one["status"] for one in shown] == [200] * 3
    assert reports == [200]
    assert sorted(page.site.arrived()) == ["GET /0", "GET /2", "POST /1"]


def test_a_reply_too_large_goes_again_where_the_method_is_safe(page):
    large = reply(200, b"x" * 700, TEXT)
    statuses = page.run(
        """
        const batch = batching();
        const calls = ["GET", "POST", "OPTIONS"].map((method) => batch(mount + given[0],
          { method }));
        return (await Promise.all(calls)).map(({ status }) => status);
        """,
        large,
        module="/tight.js",
    )
    assert statuses == [200, 502, 200]
    assert page.site.arrived().count("POST /reply") == 1


def test_a_full_reply(page):
    """The last has not run, and goes on its own; the one before was cut off."""
    statuses = page.run(
        """
        const batch = batching();
        const calls = [0, 1, 2].map(() => batch(mount + given[0], { method: "POST" }));
        return (await Promise.all(calls)).map(({ status }) => status);
        """,
        reply(200, b"x" * 400, TEXT),
        module="/little.js",
    )
    assert statuses == [200, 502, 200]
    assert page.site.arrived() == ["POST /reply"] * 3


LOST = {"timeout": 504, "offloaded": 502, "too-large": 502}


@pytest.mark.parametrize("fake", LOST)
def test_members_whose_reply_is_lost_go_again_where_the_method_is_safe(page, fake):
    shown, _ = settled(page, f"/fake/{fake}")
    assert [one["status"] for one in shown] == [200, LOST[fake], 200]
    assert sorted(page.site.arrived()) == ["GET /0", "GET /2", f"POST /fake/{fake}"]


def test_a_file_that_the_server_sends(page):
    url = reply(200, b"", "X-Sendfile: /x", TEXT)
    found = page.run("return compare(batching, { file: (fetch) => fetch(mount + given[0]) });", url)
    assert found["batched"] == found["alone"]


def test_a_path_of_several_segments(page):
    shown, reports = settled(page, "/a/b%20%C3%A9")
    assert [one["status"] for one in shown] == [200] * 3
    assert reports == [200]


def test_the_endpoint_as_an_option(page):
    reports, error = page.run(
        """
        const reports = [], onBatch = ({ status }) => reports.push(status);
        const batch = batching({ endpoint: mount + "/batch?x#y", onBatch });
        await Promise.all([batch(mount + "/0"), batch(mount + "/1")]);
        let error;
        try { batching({ endpoint: "/other" }); } catch (caught) { error = caught.name; }
        await sleep();
        return [reports, error];
        """,
        module="/batch.js?v=1",
    )
    assert reports == [200]
    assert error == "TypeError"


def test_a_module_from_another_origin(page):
    """Its endpoint is of that origin, and calls to another origin go on their own."""
    server = page.site.server
    foreign = f"http://localhost:{server.port}{server.mount}"
    found = page.run(
        """
        const batch = batching(), [foreign] = given;
        const urls = [mount + "/0", mount + "/1", foreign + "/2", foreign + "/3"];
        const own = batching({ endpoint: mount + "/batch" });
        return Promise.all([...urls.map((url) => batch(url)), own(mount + "/4"), own(mount + "/5")]
          .map(async (call) => [(await call).status, (await call).type]));
        """,
        foreign,
        module=f"{foreign}/batch.js",
    )
    assert found == [[200, "basic"]] * 2 + [[200, "cors"]] * 2 + [[200, "basic"]] * 2
    server_side = page.site.arrived("server")
    assert sorted(server_side) == ["GET /0", "GET /1", "GET /2", "GET /3", "POST /batch"]
    assert page.site.arrived().count("GET /5") == 1


WORKER = """
import {{ batching }} from "{site}/batch.js";
const batch = batching();
const replies = await Promise.all(["/0", "/1"].map((path) => batch("{site}" + path)));
postMessage(replies.map(({{ status }}) => status));
"""


def test_in_a_worker(page):
    statuses = page.run(
        """
        const url = URL.createObjectURL(new Blob(given, { type: "text/javascript" }));
        const worker = new Worker(url, { type: "module" });
        return new Promise((resolve) => worker.onmessage = ({ data }) => resolve(data));
        """,
        WORKER.format(site=page.site.url),
    )
    assert statuses == [200, 200]
    assert page.site.posted() == 1


@pytest.mark.parametrize("sandbox", ["allow-scripts", "allow-scripts allow-same-origin"])
def test_in_a_frame(page, sandbox):
    """Without an origin of its own everything is another origin there, its own server too."""
    statuses = page.run(
        """
        const frame = document.createElement("iframe");
        frame.sandbox = given[0];
        frame.src = mount + "/page?frame";
        const told = new Promise((resolve) => onmessage = ({ data }) => resolve(data));
        document.body.append(frame);
        return told;
        """,
        sandbox,
    )
    assert statuses == [200, 200]
    together = "allow-same-origin" in sandbox
    alone = ["GET /0", "GET /1"]
    assert sorted(page.site.arrived("server")) == (["POST /batch"] if together else alone)


def test_under_a_strict_policy(driver, site):
    """The module needs `script-src 'self'` and `connect-src 'self'`, and no more."""
    page = Page(driver, site, "/page?strict")
    found = page.run(
        "return compare(batching, { file: (fetch) => fetch(mount + given[0]) });", REPLIES["gzip"]
    )
    assert found["batched"] == found["alone"]
    assert site.posted() == 1


def test_what_on_batch_throws_changes_nothing(page):
    statuses = page.run(
        """
        const quiet = (event) => event.preventDefault();
        addEventListener("error", quiet);
        const batch = batching({ onBatch: () => { throw new Error("mine"); } });
        const replies = await Promise.all([batch(mount + "/0"), batch(mount + "/1")]);
        await sleep();
        return replies.map(({ status }) => status);
        """
    )
    assert statuses == [200, 200]


def test_a_large_reply_with_many_escapes(page):
    same = page.run(
        """
        const text = JSON.stringify("\\\"".repeat(100000)), path = mount + "/fake/large";
        const body = `{"responses":[${[1, 2].map(() => `{"status_code":"200",`
          + `"headers":{"content-type":"application/json"},"body":${text}}`)}]}`;
        const batch = batching({ fetch: async () => new Response(body) });
        const replies = await Promise.all([batch(mount + "/0"), batch(mount + "/1")]);
        return await replies[1].text() === text;
        """
    )
    assert same


def test_the_size_of_the_module():
    """It is to be read."""
    lines = MODULE.read_text().splitlines()
    assert len(lines) <= 250
    assert max(map(len, lines)) <= 120
    assert lines.count('const PATH = "/batch";') == 1


@pytest.fixture(scope="session")
def tsc(tmp_path_factory):
    """The compiler of TypeScript, installed for this session."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}, which the compiler of TypeScript needs")
    folder = tmp_path_factory.mktemp("typescript")
    shutil.copy(Path(__file__).with_name("package.json"), folder)
    options = ["--ignore-scripts", "--no-audit", "--no-fund"]
    command = ["npm", "install", "--prefix", folder, *options]
    installed = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert installed.returncode == 0, installed.stderr
    return folder / "node_modules" / "typescript" / "bin" / "tsc"


TYPED = """
import { batching } from "./batch.js";
const batch: typeof fetch = batching({
  endpoint: new URL("http://a/batch"), wait: 1, onBatch: ({ size, time, status }) => size + status,
});
batch("/a").then(({ status }) => status);
// @ts-expect-error
batching({ onBatch: ({ sizes }) => sizes });
"""


def test_the_types_of_the_module(tsc, tmp_path):
    """They are right, and a program in TypeScript sees them."""
    shutil.copy(MODULE, tmp_path)
    (tmp_path / "program.ts").write_text(TYPED)
    options = "--noEmit --allowJs --checkJs --strict --target es2024 --module esnext"
    command = ["node", tsc, *options.split(), "--lib", "es2024,dom,dom.iterable", "program.ts"]
    checked = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert (checked.returncode, checked.stdout) == (0, "")
