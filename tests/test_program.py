"""What turns a list of requests into a program: order, failure, rollback, threads, streaming."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import composite

from batchwsgi import BatchMiddleware, Limits, subrequest

from .support import ask, batch, echo, environ, post

JSON_TYPE = ("Content-Type", "application/json")
NDJSON = {"Accept": "application/x-ndjson"}
WAIT = 10


def kind(entry):
    """The kind of problem of an entry, or its status."""
    if entry["headers"].get("Content-Type") == "application/problem+json":
        return entry["body"]["type"].rpartition(":")[2]
    return int(entry["status_code"])


def kinds(reply):
    return [kind(entry) for entry in reply.entries]


def statuses(request, start_response):
    """Answers with the status that is its path, and a cookie."""
    status = request["PATH_INFO"][1:4]
    headers = [JSON_TYPE, ("Set-Cookie", f"last={status}; Path=/")]
    start_response(f"{status} Status", headers)
    return [json.dumps({"status": int(status), "cookie": request.get("HTTP_COOKIE")}).encode()]


# --- The order, against a plain model ----------------------------------------------------------


@composite
def programs(draw):
    """Batches of members that succeed or fail, with methods, dependencies and references."""
    items = []
    for index in range(draw(st.integers(1, 8))):
        item = {"uri": f"/{draw(st.sampled_from([200, 200, 204, 302, 404, 500]))}?{index}"}
        item["method"] = draw(st.sampled_from(["get", "get", "head", "options", "post", "delete"]))
        if draw(st.booleans()):
            item["id"] = f"m{index}"
        earlier = st.integers(0, index - 1) if index else st.nothing()
        for place in draw(st.lists(earlier, max_size=2)) if index else []:
            item.setdefault("depends-on", []).append(items[place].get("id", str(place)))
        if index and draw(st.booleans()):
            item["uri"] += f"&{{$responses.{draw(earlier)}.status_code}}"
        items.append(item)
    return {"on-fail": draw(st.sampled_from(["ignore", "stop", "rollback"])), "requests": items}


def model(program):
    """What becomes of each member, as plainly as the contract says it."""
    items, on_fail, results = program["requests"], program["on-fail"], []
    stopped = False
    for item in items:
        names = set(item.get("depends-on", []))
        names.update(part.split(".")[0] for part in item["uri"].split("$responses.")[1:])
        places = [i for i, other in enumerate(items) if {other.get("id"), str(i)} & names]
        if stopped:
            result = "stopped"
        elif any(not isinstance(results[i], int) or results[i] >= 400 for i in places):
            result = "dependency-failed"
        else:
            result = int(item["uri"][1:4])
        results.append(result)
        failed = not isinstance(result, int) or result >= 400
        stopped = stopped or (failed and on_fail != "ignore")
    if on_fail == "rollback" and stopped:
        results = [r if not isinstance(r, int) or r >= 400 else "rolled-back" for r in results]
    return results


@contextmanager
def nothing_to_undo():
    yield


@pytest.fixture(scope="module")
def executors():
    made = {
        threads: BatchMiddleware(statuses, transaction=nothing_to_undo, threads=threads)
        for threads in (0, 1, 4)
    }
    yield made
    for app in made.values():
        for executor in app._pool._executors.values() if app._pool else []:
            executor.shutdown()


@given(program=programs())
def test_every_executor_does_what_the_model_says(executors, program):
    replies = [post(app, program) for app in executors.values()]
    assert kinds(replies[0]) == model(program)
    seen = [without_cookies(reply) for reply in replies]
    assert seen[0] == seen[1] == seen[2]
    lines = [stream(app, program) for app in executors.values()]
    for app_lines in lines:
        ordered = sorted(app_lines, key=lambda line: line.pop("index"))
        assert [without_cookie(entry) for entry in ordered] == seen[0]


def without_cookies(reply):
    return [without_cookie(entry) for entry in reply.entries]


def without_cookie(entry):
    """An entry without what members of a wave may see otherwise, and what a stream adds."""
    if isinstance(entry["body"], dict):
        entry["body"].pop("cookie", None)
    entry.pop("cookies", None)  # of a streamed one
    return entry


# --- Rollback ----------------------------------------------------------------------------------


class Journal:
    """An application and a transaction that write down what happens."""

    def __init__(self, commit_fails=False):
        self.events = []
        self.commit_fails = commit_fails

    def __call__(self, request, start_response):
        self.events.append(request["PATH_INFO"])
        return statuses(request, start_response)

    @contextmanager
    def transaction(self):
        self.events.append("begin")
        try:
            yield
        except BaseException:
            self.events.append("rollback")
            raise
        if self.commit_fails:
            raise RuntimeError("a constraint")
        self.events.append("commit")


def rollback(journal, *uris, **options):
    app = BatchMiddleware(journal, transaction=journal.transaction, **options)
    items = [uri if isinstance(uri, dict) else {"uri": uri} for uri in uris]
    return post(app, {"on-fail": "rollback", "requests": items})


def test_all_of_it():
    journal = Journal()
    reply = rollback(journal, "/200", "/302", "/204")
    assert kinds(reply) == [200, 302, 204]
    assert journal.events == ["begin", "/200", "/302", "/204", "commit"]
    assert reply.headers.getlist("Set-Cookie") == ["last=204; Path=/"]


def test_none_of_it():
    journal = Journal()
    reply = rollback(journal, "/200", {"uri": "/201", "id": "b"}, "/404", "/200")
    assert kinds(reply) == ["rolled-back", "rolled-back", 404, "stopped"]
    assert journal.events == ["begin", "/200", "/201", "/404", "rollback"]
    assert "Set-Cookie" not in reply.headers
    assert reply.entries[1] == {
        "id": "b",
        "method": "get",
        "uri": "/201",
        "status_code": "424",
        "headers": {"Content-Type": "application/problem+json"},
        "body": {
            "type": "urn:problem-type:batchwsgi:rolled-back",
            "title": "Undone: its transaction was rolled back",
            "status": 424,
            "detail": "The request at index 2 failed.",
        },
    }


def test_a_commit_that_fails(caplog):
    journal = Journal(commit_fails=True)
    reply = rollback(journal, "/200", "/204")
    assert kinds(reply) == ["rolled-back", "rolled-back"]
    assert reply.entries[0]["body"]["detail"] == "The transaction could not be committed."
    assert "Set-Cookie" not in reply.headers
    assert "a constraint" in caplog.text


def test_a_transaction_that_cannot_be_entered(caplog):
    called = []

    def transaction():
        raise RuntimeError("no database")

    app = BatchMiddleware(lambda *_: called.append(1), transaction=transaction)
    for headers in ({}, NDJSON):
        document = {"on-fail": "rollback", "requests": [{"uri": "/"}]}
        reply = post(app, document, headers=headers)
        assert (reply.status, called) == (503, [])
        assert reply.headers["Content-Type"] == "application/problem+json"
        assert reply.json()["detail"] == (
            "The transaction could not be entered. Nothing was executed."
        )


def test_no_transaction_was_set():
    document = {"on-fail": "rollback", "requests": [{"uri": "/"}]}
    assert post(BatchMiddleware(echo), document).pointers == ["/on-fail"]


def test_cookies_inside_a_transaction():
    """A later member sees them; what was undone is not promoted."""
    journal = Journal()
    reply = rollback(journal, "/200", "/201", "/202")
    seen = [entry["body"]["cookie"] for entry in reply.entries]
    assert seen == [None, "last=200", "last=201"]
    assert "Set-Cookie" not in rollback(Journal(), "/200", "/404").headers


def test_other_batches_are_in_no_transaction():
    journal = Journal()
    app = BatchMiddleware(journal, transaction=journal.transaction)
    post(app, {"on-fail": "stop", "requests": [{"uri": "/200"}, {"uri": "/404"}]})
    assert journal.events == ["/200", "/404"]


def test_a_batch_out_of_time_is_undone():
    journal = Journal()
    reply = rollback(journal, "/200", limits=Limits(deadline=0))
    assert kinds(reply) == ["deadline"]
    assert journal.events == []  # it did not begin


def test_a_reply_over_its_limit_is_undone():
    journal = Journal()
    reply = rollback(journal, "/200", "/201", "/202", limits=Limits(max_reply_size=200))
    assert kinds(reply) == ["rolled-back", "too-large", "reply-limit"]
    assert journal.events == ["begin", "/200", "/201", "rollback"]


# --- Threads -----------------------------------------------------------------------------------


@pytest.fixture
def side_by_side():
    """Middlewares with threads, whose pools end with the test."""
    made = []

    def wrapped(app, threads, **options):
        made.append(BatchMiddleware(app, threads=threads, **options))
        return made[-1]

    yield wrapped
    for app in made:
        for executor in app._pool._executors.values():
            executor.shutdown()


def test_safe_neighbours_run_side_by_side(side_by_side):
    barrier = threading.Barrier(5)
    order = []

    def app(request, start_response):
        assert request["wsgi.multithread"] is True
        if request["REQUEST_METHOD"] == "GET":
            barrier.wait(WAIT)  # only all five together get past it
        order.append(request["REQUEST_METHOD"])
        return echo(request, start_response)

    gets = [f"/{n}" for n in range(5)]
    items = [*gets, {"method": "post", "uri": "/w"}, *gets]
    reply = batch(side_by_side(app, 4), *items)
    assert [entry["status_code"] for entry in reply.entries] == ["200"] * 11
    assert [entry["body"]["PATH_INFO"] for entry in reply.entries] == [*gets, "/w", *gets]
    assert order == ["GET"] * 5 + ["POST"] + ["GET"] * 5


def test_call_iteration_and_close_are_in_one_thread(side_by_side):
    barrier = threading.Barrier(3)
    seen = []

    def app(request, start_response):
        threads = [threading.get_ident()]
        barrier.wait(WAIT)
        start_response("200 OK", [("Content-Type", "text/plain")])

        class Body:
            def __iter__(self):
                threads.append(threading.get_ident())
                yield b"x"

            def close(self):
                threads.append(threading.get_ident())
                seen.append(threads)

        return Body()

    batch(side_by_side(app, 2), "/1", "/2", "/3")
    assert [len(set(threads)) for threads in seen] == [1, 1, 1]
    assert len({threads[0] for threads in seen}) == 3


def test_no_threads_under_stop_or_rollback(side_by_side):
    seen = set()

    def app(request, start_response):
        seen.add(threading.get_ident())
        return echo(request, start_response)

    wrapped = side_by_side(app, 4, transaction=nothing_to_undo)
    for on_fail in ("stop", "rollback"):
        post(wrapped, {"on-fail": on_fail, "requests": [{"uri": "/"}] * 10})
    assert seen == {threading.get_ident()}


def test_a_wave_sees_the_cookies_of_all_before_it(side_by_side):
    def app(request, start_response):
        name = request["PATH_INFO"][1:]
        headers = [("Content-Type", "text/plain"), ("Set-Cookie", f"{name}=1; Path=/")]
        start_response("200 OK", headers)
        return [request.get("HTTP_COOKIE", "").encode()]

    items = ["/a", "/b", {"method": "post", "uri": "/c"}, "/d", "/e"]
    reply = batch(side_by_side(app, 4), *items)
    seen = [entry["body"] or "" for entry in reply.entries]
    assert seen == ["", "", "a=1; b=1", "a=1; b=1; c=1", "a=1; b=1; c=1"]
    cookies = [f"{name}=1; Path=/" for name in "abcde"]
    assert reply.headers.getlist("Set-Cookie") == cookies


def test_the_replys_limit_with_threads(side_by_side):
    """One that has started says too-large; those that have not say reply-limit."""

    def app(request, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x" * 300]

    limits = Limits(max_reply_size=1000)
    reply = batch(side_by_side(app, 3, limits=limits), *["/"] * 12)
    found = kinds(reply)
    assert found.count(200) == 2
    assert set(found) <= {200, "too-large", "reply-limit"}
    assert "reply-limit" in found


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_stops_a_worker_is_raised_again_after_the_stream_was_closed(side_by_side, error):
    running, release = threading.Barrier(3), threading.Event()

    def app(request, start_response):
        running.wait(WAIT)
        if threading.current_thread() is not threading.main_thread():
            release.wait(WAIT)
            raise error
        return echo(request, start_response)

    lines, _ = open_stream(side_by_side(app, 2), *[f"/{n}" for n in range(9)])
    releaser = threading.Timer(0.05, release.set)
    releaser.start()
    with pytest.raises(error):
        lines.close()
    releaser.join()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_stops_a_worker_is_raised_again(side_by_side, error):
    barrier = threading.Barrier(3)
    sent = []

    def app(request, start_response):
        sent.append(request["PATH_INFO"])
        if request["REQUEST_METHOD"] == "GET":
            barrier.wait(WAIT)
            raise error
        return echo(request, start_response)

    with pytest.raises(error):
        batch(side_by_side(app, 2), "/1", "/2", "/3", {"method": "post", "uri": "/4"})
    assert "/4" not in sent


def test_many_batches_at_once(side_by_side):
    app = side_by_side(echo, 4)
    results = {}

    def client(number):
        reply = batch(app, *[f"/{number}?{n}" for n in range(20)])
        results[number] = [
            (entry["body"]["PATH_INFO"], entry["body"]["QUERY_STRING"]) for entry in reply.entries
        ]

    threads = [threading.Thread(target=client, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert results == {n: [(f"/{n}", str(m)) for m in range(20)] for n in range(32)}


# --- The deadline ------------------------------------------------------------------------------


def test_no_member_starts_after_the_deadline(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("batchwsgi.middleware.monotonic", lambda: now[0])
    monkeypatch.setattr("batchwsgi.run.monotonic", lambda: now[0])

    def app(request, start_response):
        now[0] += 3
        return echo(request, start_response)

    wrapped = BatchMiddleware(app, limits=Limits(deadline=5))
    assert kinds(batch(wrapped, *["/"] * 4)) == [200, 200, "deadline", "deadline"]
    document = {"on-fail": "stop", "requests": [{"uri": "/"}] * 4}
    assert kinds(post(wrapped, document)) == [200, 200, "deadline", "deadline"]


def test_members_that_run_at_the_deadline_are_waited_for(side_by_side, monkeypatch):
    now, barrier = [100.0], threading.Barrier(3)
    monkeypatch.setattr("batchwsgi.middleware.monotonic", lambda: now[0])
    monkeypatch.setattr("batchwsgi.run.monotonic", lambda: now[0])

    def app(request, start_response):
        barrier.wait(WAIT)  # three have started
        now[0] += 100
        return echo(request, start_response)

    wrapped = side_by_side(app, 2, limits=Limits(deadline=5))
    found = kinds(batch(wrapped, *["/"] * 6))
    assert sorted(found, key=str) == [200, 200, 200, "deadline", "deadline", "deadline"]


class Clock:
    """The monotonic clock of the package, for tests: it goes on when it is told."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        for module in ("middleware", "run", "wsgi"):
            monkeypatch.setattr(f"batchwsgi.{module}.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def events(clock, closed, chunk=b"data: x\n\n"):
    """An application whose `/events` are without end, one in a second."""

    def endless():
        try:
            while True:
                clock.now += 1
                yield chunk
        finally:
            closed.append(clock.now)

    def app(request, start_response):
        fields = [("Content-Type", "text/event-stream"), ("Set-Cookie", "a=1; Path=/")]
        if request["PATH_INFO"] == "/events":
            start_response("200 OK", fields)
            return endless()
        if request["PATH_INFO"] == "/write":
            write = start_response("200 OK", fields)
            while True:
                clock.now += 1
                write(chunk)
        return statuses(request, start_response)

    return app


@pytest.mark.parametrize("method", ["get", "head"])
@pytest.mark.parametrize("chunk", [b"data: x\n\n", b""], ids=["data", "empty"])
@pytest.mark.parametrize("path", ["/events", "/write"])
def test_a_response_without_end_is_ended(clock, path, chunk, method, caplog):
    caplog.set_level("INFO", "batchwsgi.access")
    closed = []
    app = BatchMiddleware(events(clock, closed, chunk), limits=Limits(deadline=5))
    reply = batch(app, "/200", {"method": method, "uri": path}, "/200")
    assert kinds(reply) == [200, "timeout", "deadline"]
    assert reply.entries[1]["status_code"] == "504"
    assert reply.headers.getlist("Set-Cookie") == ["last=200; Path=/", "a=1; Path=/"]
    assert closed == ([105.0] if path == "/events" else [])
    assert f'"{method.upper()} {path}" 200 0' in caplog.text  # what the application said


@pytest.mark.parametrize("on_fail", ["stop", "rollback"])
def test_what_follows_a_timeout_says_deadline(clock, on_fail):
    journal = Journal()
    app = events(clock, [])
    app = BatchMiddleware(app, limits=Limits(deadline=5), transaction=journal.transaction)
    items = [{"uri": "/200"}, {"uri": "/events"}, {"uri": "/200"}]
    found = kinds(post(app, {"on-fail": on_fail, "requests": items}))
    first = "rolled-back" if on_fail == "rollback" else 200
    assert found == [first, "timeout", "deadline"]


@pytest.mark.parametrize("streamed", [False, True])
def test_responses_without_end_side_by_side(side_by_side, streamed):
    def endless(request, start_response):
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        while True:
            time.sleep(0.01)
            yield b"data: x\n\n"

    app = side_by_side(endless, 2, limits=Limits(deadline=0.2))
    document = {"requests": [{"uri": "/"}] * 6}
    found = list(map(kind, stream(app, document))) if streamed else kinds(post(app, document))
    assert sorted(found) == ["deadline"] * 3 + ["timeout"] * 3


def test_a_response_of_one_chunk_is_never_late(clock):
    def app(request, start_response):
        clock.now += 10
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"late"] if request["PATH_INFO"] == "/one" else [b"late", b"r"]

    wrapped = BatchMiddleware(app, limits=Limits(deadline=5))
    assert kinds(batch(wrapped, "/one")) == [200]
    assert kinds(batch(wrapped, "/two")) == ["timeout"]  # be it ever so finite
    response = subrequest(app, environ(), "GET", "/two")  # has no deadline
    assert (response.status, response.body) == (200, b"later")


# --- Streaming ---------------------------------------------------------------------------------


def stream(app, document, **more):
    """The lines of a streamed reply."""
    reply = post(app, document, headers=NDJSON, **more)
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/x-ndjson"
    assert "Content-Length" not in reply.headers
    assert reply.body.endswith(b"\n")
    return [json.loads(line) for line in reply.body.splitlines()]


def open_stream(app, *uris):
    """The iterable of a streamed reply, and the headers it came with."""
    body = json.dumps({"requests": [{"uri": uri} for uri in uris]}).encode()
    started = []
    request = environ("POST", "/batch", body, {"Content-Type": "application/json", **NDJSON})
    return app(request, lambda *args: started.append(args)), started


@pytest.mark.parametrize(
    ("accept", "streamed"),
    [
        ("application/x-ndjson", True),
        ("Application/X-NDJSON", True),
        ("application/x-ndjson;q=0.1", True),
        ("application/x-ndjson, */*", True),
        ("application/x-ndjson, application/json;q=0.9", True),
        ("text/html, application/x-ndjson; charset=utf-8", True),
        ("application/x-ndjson, application/json", False),
        ("application/x-ndjson;q=0.5, application/json;q=0.9", False),
        ("application/x-ndjson;q=0", False),
        ("application/*", False),
        ("*/*", False),
        ("", False),
        ("application/x-ndjsonp", False),
        ("text/application/x-ndjson", False),
        ("application/xml", False),
        ("nonsense;;q=x,application/x-ndjson;q=x", False),
    ],
)
def test_who_asks_for_a_stream(accept, streamed):
    reply = batch(BatchMiddleware(echo), "/", headers={"Accept": accept})
    expected = "application/x-ndjson" if streamed else "application/json"
    assert (reply.status, reply.headers["Content-Type"]) == (200, expected)


def test_a_line_for_each_request(wrap):
    document = {"requests": [{"uri": "/a", "id": "x"}, {"uri": "/b"}]}
    lines = stream(wrap(echo), document)
    assert [line["index"] for line in lines] == [0, 1]
    assert lines[0]["id"] == "x"
    assert [line["body"]["PATH_INFO"] for line in lines] == ["/a", "/b"]


def test_line_breaks_of_a_body():
    def app(request, start_response):
        start_response("200 OK", [JSON_TYPE])
        return [b'\r\n{\n"a\\n": [1,\r\n2]\n}\n']

    assert stream(BatchMiddleware(app), {"requests": [{"uri": "/"}]})[0]["body"] == {"a\n": [1, 2]}


def test_line_breaks_of_strings():
    """httpx and `str.splitlines` break a line at these too."""
    text = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x1dh\x1ei"

    def app(request, start_response):
        raw = request["PATH_INFO"] == "/json"
        content_type = "application/json" if raw else "text/plain; charset=utf-8"
        start_response("200 OK", [("Content-Type", content_type), ("X-Next", "\x85")])
        body = json.dumps(text, ensure_ascii=False) if raw else text
        return [body.encode()]

    document = {"requests": [{"uri": "/json"}, {"uri": f"/text?{text[:6]}"}]}
    reply = post(BatchMiddleware(app), document, headers=NDJSON)
    lines = [json.loads(line) for line in reply.body.decode().splitlines()]
    assert [line["body"] for line in lines] == [text, text]
    assert lines[1]["uri"] == f"/text?{text[:6]}"
    assert lines[1]["headers"]["X-Next"] == "\x85"


def test_a_stream_says_whose_cookies_were_not_kept():
    def app(request, start_response):
        fields = [("Set-Cookie", "a=1")] if request["PATH_INFO"] == "/login" else []
        start_response("200 OK", fields)
        return []

    document = {"requests": [{"uri": "/login"}, {"uri": "/"}, {"uri": "/login"}]}
    lines = stream(BatchMiddleware(app), document)
    assert [line.get("cookies") for line in lines] == ["not-kept", None, "not-kept"]
    assert "cookies" not in post(BatchMiddleware(app), document).entries[0]


def test_no_cookie_is_promoted():
    document = {"requests": [{"uri": "/200"}, {"uri": "/200"}]}
    reply = post(BatchMiddleware(statuses), document, headers=NDJSON)
    assert "Set-Cookie" not in reply.headers
    assert json.loads(reply.body.splitlines()[1])["body"]["cookie"] == "last=200"


def test_an_entry_is_handed_over_before_the_next_member_starts():
    sent = []

    def app(request, start_response):
        sent.append(request["PATH_INFO"])
        return echo(request, start_response)

    lines, started = open_stream(BatchMiddleware(app), "/0", "/1", "/2")
    assert [status for status, _ in started] == ["200 OK"]
    for index, line in enumerate(lines):
        assert json.loads(line)["index"] == index
        assert sent == [f"/{n}" for n in range(index + 1)]


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_closing_starts_no_further_member(taken):
    sent = []

    def app(request, start_response):
        sent.append(request["PATH_INFO"])
        return echo(request, start_response)

    lines, _ = open_stream(BatchMiddleware(app), "/0", "/1", "/2", "/3")
    for _ in range(taken):
        next(lines)
    lines.close()
    assert sent == ["/0", "/1"][: max(taken, 1)]
    lines.close()


def test_closing_waits_for_the_members_that_run(side_by_side):
    running, release, ended = threading.Barrier(3), threading.Event(), []

    def app(request, start_response):
        if threading.current_thread() is threading.main_thread():
            running.wait(WAIT)
        else:
            running.wait(WAIT)
            release.wait(WAIT)
            ended.append(request["PATH_INFO"])
        return echo(request, start_response)

    lines, _ = open_stream(side_by_side(app, 2), *[f"/{n}" for n in range(9)])
    releaser = threading.Timer(0.05, release.set)
    releaser.start()
    lines.close()
    releaser.join()
    assert len(ended) == 2


def test_a_refusal_of_a_stream():
    reply = post(BatchMiddleware(echo), {"requests": []}, headers=NDJSON)
    assert (reply.status, reply.headers["Content-Type"]) == (400, "application/problem+json")


def test_limits_count_alike_in_both_forms():
    def app(request, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x" * int(request["QUERY_STRING"])]

    wrapped = BatchMiddleware(app, limits=Limits(max_reply_size=2000, max_member_size=1000))
    items = [{"uri": f"/?{size}"} for size in (500, 1000, 700, 900, 1)]
    lines = stream(wrapped, {"requests": items})
    assert [kind(line) for line in lines] == kinds(post(wrapped, {"requests": items}))
    assert [kind(line) for line in lines] == [200, "too-large", 200, "too-large", "reply-limit"]


def test_a_rolled_back_stream_tells_the_truth():
    journal = Journal()
    app = BatchMiddleware(journal, transaction=journal.transaction)
    document = {"on-fail": "rollback", "requests": [{"uri": "/200"}, {"uri": "/404"}]}
    assert [kind(line) for line in stream(app, document)] == ["rolled-back", 404]


def test_an_exception_that_stops_a_worker_ends_the_stream():
    def app(request, start_response):
        if request["PATH_INFO"] == "/1":
            raise SystemExit
        return echo(request, start_response)

    lines, _ = open_stream(BatchMiddleware(app), "/0", "/1", "/2")
    next(lines)
    with pytest.raises(SystemExit):
        next(lines)
    lines.close()


def test_a_stream_of_a_large_reply_lets_go_of_it():
    """Neither the entry nor the body of a member that was handed over is kept."""

    def app(request, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x" * 500_000]

    wrapped = BatchMiddleware(app, limits=Limits(max_requests=100, max_reply_size=10**9))
    import tracemalloc

    lines, _ = open_stream(wrapped, *["/"] * 60)
    next(lines)
    tracemalloc.start()
    try:
        for _ in lines:
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * 500_000


def test_the_refused_reply_is_one_reply():
    app = BatchMiddleware(echo)
    reply = ask(app, environ("POST", "/batch", b"x", {"Content-Type": "text/plain", **NDJSON}))
    assert reply.status == 415
