"""`batching()` in a browser: each call is what the browser's own `fetch` makes of it."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from pathlib import Path
from urllib.parse import urlencode

import pytest

import batchwsgi.browser

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
}


@pytest.mark.parametrize("url", REPLIES.values(), ids=REPLIES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_replies(page, url, method):
    alone, batched, beside = page.run(
        """
        const [url, method] = given, batch = batching();
        const calls = [batch(mount + url + "#part", { method }), batch(mount + "/echo")];
        const batched = await Promise.all(calls.map(show));
        return [await show(fetch(mount + url + "#part", { method })), ...batched];
        """,
        url,
        method,
    )
    is_null = batched.pop("isNull", None)
    if is_null is not None and not batched["redirected"]:  # Chromium has an empty body there
        assert is_null == (method == "HEAD" or batched["status"] in (204, 205, 304))
    alone.pop("isNull", None)
    assert batched == alone
    assert beside["status"] == 200
    assert page.site.posted() == 1


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
    return f"mount + {arguments}" if arguments.startswith('"') else arguments


def parsed(shown):
    """What `/echo` told; JSON in its body as a value, because the format does not keep blanks."""
    told = json.loads(b64decode(shown["body"]))
    told.pop("HTTP_CACHE_CONTROL", None)
    body = b64decode(told["body"])
    if "json" in (told.get("CONTENT_TYPE") or "") and body:
        told["body"] = json.loads(body)
        told["CONTENT_LENGTH"] = ""
    return told


@pytest.mark.parametrize("arguments", SENT.values(), ids=SENT)
def test_requests(page, arguments):
    alone, batched = page.run(
        f"""
        const batch = batching();
        const calls = [batch({called(arguments)}), batch(mount + "/echo")];
        const [batched] = await Promise.all(calls.map(show));
        return [await show(fetch({called(arguments)})), batched];
        """
    )
    assert parsed(batched) == parsed(alone)
    assert batched["url"] == alone["url"]
    assert page.site.posted() == 1


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


@pytest.mark.parametrize("arguments", ON_ITS_OWN.values(), ids=ON_ITS_OWN)
def test_what_goes_on_its_own(page, arguments):
    """The two others still go together."""
    if arguments.startswith('"/'):
        arguments = called(arguments)
    alone, batched = page.run(
        f"""
        const batch = batching(), form = new FormData();
        const blob = URL.createObjectURL(new Blob(["x"], {{ type: "text/plain" }}));
        form.append("a", "b");
        const own = batch({arguments});
        const others = [batch(mount + "/other1"), batch(mount + "/other2")];
        const shown = await show(own);
        await Promise.all(others);
        const alone = await show(fetch({arguments}));
        for (const one of [alone, shown]) {{
          if (hasForm(one)) one.body = one.cloned = "";
        }}
        return [alone, shown];
        function hasForm(one) {{ return /WebKitFormBoundary/.test(atob(one.body ?? "")); }}
        """
    )
    assert batched == alone
    batches = [line for line in page.site.log() if line["path"] == "/batch"]
    others = [line["side"] for line in page.site.log() if line["path"] in ("/other1", "/other2")]
    assert batches
    assert others == ["application"] * 2


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
        await new Promise((resolve) => setTimeout(resolve));
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
        await new Promise((resolve) => setTimeout(resolve, 10));
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
        const calls = [get("/slow?1")];
        for (let n = 1; n < 41; n++) calls.push(get(`/${n}`));
        await Promise.all(calls);
        return [sizes.sort(), order];
        """
    )
    assert sizes == [20, 20]
    assert order[-20:] == ["/slow?1", *(f"/{n}" for n in range(1, 20))]
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


REDIRECTS = [
    (status, method) for status in (301, 302, 303, 307, 308) for method in ("GET", "POST", "PUT")
]


@pytest.mark.parametrize(("status", "method"), REDIRECTS)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_redirects(page, status, method, host):
    """`Authorization` never goes to another origin."""
    target = f"http://{host}:{page.site.server.port}{page.site.server.mount}/echo?to"
    alone, batched = page.run(
        """
        const [url, method] = given, batch = batching();
        const headers = { Authorization: "Bearer x", "X-Requested-With": "y",
          "Content-Type": "text/a" };
        const init = method === "GET" ? { headers } : { method, headers, body: "text" };
        const [shown] = await Promise.all([batch(mount + url, init),
          batch(mount + "/b")].map(show));
        return [await show(fetch(mount + url, init)), shown];
        """,
        reply(status, b"", f"Location: {target}"),
        method,
    )
    assert batched == alone
    if "error" not in alone:
        told = json.loads(b64decode(batched["body"]))
        assert told["authorization"] == (None if host == "localhost" else "Bearer x")
    assert page.site.posted() == 1


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
    name, status, reason = page.run(
        """
        const batch = batching(), control = new AbortController();
        const aborted = batch(mount + "/slow?0.6", { signal: control.signal });
        const other = batch(mount + "/a");
        await new Promise((resolve) => setTimeout(resolve, 100));
        const started = performance.now();
        control.abort("why");
        const reason = await aborted.catch((reason) => reason);
        return [performance.now() - started < 200, (await other).status, reason];
        """
    )
    assert (name, status, reason) == (True, 200, "why")


def test_the_post_is_aborted_when_all_are(page):
    first, second, names = page.run(
        """
        let signal;
        const real = (input, init) => { signal = init.signal; return fetch(input, init); };
        const batch = batching({ fetch: real });
        const controls = [new AbortController(), new AbortController()];
        const calls = controls.map(({ signal }) => batch(mount + "/slow?1",
          { signal }).catch((e) => e.name));
        await new Promise((resolve) => setTimeout(resolve, 100));
        controls[0].abort();
        const first = signal.aborted;
        controls[1].abort();
        return [first, signal.aborted, await Promise.all(calls)];
        """
    )
    assert (first, second, names) == (False, True, ["AbortError"] * 2)


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


def test_no_rejection_goes_unhandled(page):
    unhandled = page.run(
        """
        const unhandled = [];
        addEventListener("unhandledrejection", (event) => unhandled.push(`${event.reason}`));
        const fail = async () => { throw new TypeError("no network"); };
        const batch = batching({ fetch: fail }), control = new AbortController(),
          { signal } = control;
        const handled = (promise) => promise.catch(() => {});
        handled(batch(mount + "/0"));
        handled(batch("http://["));
        await handled(batch(mount + "/1", { signal }));
        const slow = batching();
        const calls = [1, 2].map(() => handled(slow(mount + "/slow?0.2", { signal })));
        setTimeout(() => control.abort(), 50);
        await Promise.all(calls);
        await Promise.all([1, 2].map(() => handled(batch(mount + "/2"))));
        await new Promise((resolve) => setTimeout(resolve, 300));
        return unhandled;
        """
    )
    assert unhandled == []


def settled(page, module):
    """What becomes of three calls, and of the batch, at another endpoint."""
    return page.run(
        """
        const reports = [], batch = batching({ onBatch: (report) => reports.push(report.status) });
        const calls = [batch(mount + "/0"), batch(mount + "/1", { method: "POST", body: "x" })];
        calls.push(batch(mount + "/2"));
        const shown = await Promise.all(calls.map(show));
        await new Promise((resolve) => setTimeout(resolve));
        return [shown, reports];
        """,
        module=f"{module}.js",
    )


REFUSED = {"404": 404, "405": 405, "411": 411, "413": 413, "415": 415, "refused": 400}


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


@pytest.mark.parametrize("fake", ["html", "short", "nonsense"])
def test_a_reply_that_is_none_rejects_every_call(page, fake):
    shown, reports = settled(page, f"/fake/{fake}")
    assert shown == [{"error": "TypeError"}] * 3
    assert reports == [200]
    assert page.site.arrived() == [f"POST /fake/{fake}"]


def test_a_post_that_fails_rejects_every_call(page):
    names, statuses = page.run(
        """
        const statuses = [], fail = async () => { throw new DOMException("x", "NetworkError"); };
        const batch = batching({ fetch: fail, onBatch: ({ status }) => statuses.push(status) });
        const shown = await Promise.all([batch(mount + "/0"), batch(mount + "/1")].map(show));
        return [shown.map(({ error }) => error), statuses];
        """
    )
    assert names == ["TypeError"] * 2
    assert statuses == [0]


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
        await new Promise((resolve) => setTimeout(resolve));
        return [reports, error];
        """,
        module="/batch.js?v=1",
    )
    assert reports == [200]
    assert error == "TypeError"


def test_what_on_batch_throws_changes_nothing(page):
    statuses = page.run(
        """
        const quiet = (event) => event.preventDefault();
        addEventListener("error", quiet);
        const batch = batching({ onBatch: () => { throw new Error("mine"); } });
        const replies = await Promise.all([batch(mount + "/0"), batch(mount + "/1")]);
        await new Promise((resolve) => setTimeout(resolve));
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
    """It is to be read. The aim is 250 lines."""
    module = Path(batchwsgi.browser.__file__).with_name("batch.js")
    lines = module.read_text().splitlines()
    assert len(lines) <= 300
    assert max(map(len, lines)) <= 120
    assert lines.count('const PATH = "/batch";') == 1
