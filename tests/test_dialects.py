"""What holds for every dialect: any bytes, order, limits, cookies, threads, identity, growth."""

from __future__ import annotations

import json
import random
from contextlib import nullcontext
from pathlib import Path

import pytest

from batchwsgi import BatchMiddleware, Limits
from batchwsgi.dialects import HTTPMultipart, Native, ODataJSON, ODataMultipart
from batchwsgi.errors import BatchError
from batchwsgi.model import Batch, OuterRequest
from batchwsgi.rules import Rules
from batchwsgi.wsgi import outer_request

from .support import ask, echo, environ

PATH = "/$batch"
MULTIPART = "multipart/mixed; boundary=b"


class Format:
    """How the tests write a batch in one dialect, and read its reply."""

    def __init__(self, dialect, content_type):
        self.dialect = dialect
        self.content_type = content_type

    def written(self, *requests):
        """A batch of these requests: method, path, headers and text."""
        raise NotImplementedError

    def read(self, body):
        """The statuses and bodies of a reply."""
        raise NotImplementedError

    def post(self, app, *requests, headers=None, **options):
        wrapped = BatchMiddleware(app, PATH, dialects=(self.dialect,), **options)
        body = self.written(*[(*request, *({}, "")[len(request) - 2 :]) for request in requests])
        fields = {"Content-Type": self.content_type, **(headers or {})}
        return ask(wrapped, environ("POST", PATH, body, fields))

    def answers(self, app, *requests, **options):
        reply = self.post(app, *requests, **options)
        assert reply.status == 200, reply.body
        return self.read(reply.body)


class JSONFormat(Format):
    def __init__(self, dialect, url, status):
        super().__init__(dialect, "application/json")
        self.url = url
        self.status = status

    def written(self, *requests):
        items = []
        for number, (method, path, headers, text) in enumerate(requests):
            item = {"id": f"r{number}", "method": method, self.url: path, "headers": headers}
            items.append({**item, "body": text} if text else item)
        return json.dumps({"requests": items}).encode()

    def read(self, body):
        return [(int(entry[self.status]), entry["body"]) for entry in json.loads(body)["responses"]]


class MultipartFormat(Format):
    def __init__(self, dialect):
        super().__init__(dialect, MULTIPART)

    def written(self, *requests):
        parts = []
        for method, path, headers, text in requests:
            fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            content = json.dumps(text) if text else ""
            if text:
                fields += "Content-Type: application/json\r\n"
            head = "--b\r\nContent-Type: application/http\r\n\r\n"
            parts.append(f"{head}{method} {path} HTTP/1.1\r\n{fields}\r\n{content}\r\n")
        return "".join([*parts, "--b--\r\n"]).encode()

    def read(self, body):
        mark = body[: body.index(b"\r\n")]
        assert body.endswith(mark + b"--\r\n")
        found = []
        for part in body.split(mark + b"\r\n")[1:]:
            _, head, content = part.split(b"\r\n\r\n", 2)
            content = content.removesuffix(mark + b"--\r\n").removesuffix(b"\r\n")
            found.append((int(head.split(b" ")[1]), json.loads(content or b"null")))
        return found


FORMATS = {
    "native": JSONFormat(Native(), "uri", "status_code"),
    "odata_json": JSONFormat(ODataJSON(), "url", "status"),
    "odata_multipart": MultipartFormat(ODataMultipart()),
    "http_multipart": MultipartFormat(HTTPMultipart()),
}


@pytest.fixture(params=FORMATS)
def form(request):
    return FORMATS[request.param]


def numbered(count):
    return [("GET", f"/item/{n}?n={n}") for n in range(count)]


@pytest.mark.parametrize("threads", [0, 3])
def test_each_answers_its_request(form, threads):
    answers = form.answers(echo, *numbered(20), threads=threads)
    assert [body["PATH_INFO"] for _, body in answers] == [f"/item/{n}" for n in range(20)]


def test_who_asks_is_who_asked(form):
    headers = {"Authorization": "Bearer t", "Cookie": "a=1", "X-Forwarded-For": "203.0.113.5"}
    ((_, seen),) = form.answers(echo, ("GET", "/x", {"Accept-Language": "zh"}), headers=headers)
    assert seen["HTTP_AUTHORIZATION"] == "Bearer t"
    assert seen["HTTP_X_FORWARDED_FOR"] == "203.0.113.5"
    assert seen["HTTP_ACCEPT_LANGUAGE"] == "zh"
    assert seen["REMOTE_ADDR"] == "192.0.2.7"
    refused = form.post(echo, ("GET", "/x", {"X-Real-IP": "127.0.0.1"}))
    assert (refused.status, b"X-Real-IP can never be set" in refused.body) == (400, True)


def test_bodies(form):
    answers = form.answers(echo, ("POST", "/x", {}, "text é"), ("DELETE", "/x"))
    assert [body["body"] for _, body in answers] == [json.dumps("text é"), ""]


def test_cookies_reach_later_members_and_the_outer_reply(form):
    def app(request, start_response):
        fields = [("Content-Type", "application/json")]
        if request["PATH_INFO"] == "/login":
            fields.append(("Set-Cookie", "a=1; Path=/"))
        start_response("200 OK", fields)
        return [json.dumps(request.get("HTTP_COOKIE")).encode()]

    reply = form.post(app, ("POST", "/login"), ("GET", "/x"))
    assert reply.headers.getlist("Set-Cookie") == ["a=1; Path=/"]
    assert b"Set-Cookie" not in reply.body
    assert form.read(reply.body) == [(200, None), (200, "a=1")]


def test_limits(form):
    def app(request, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b'"%b"' % (b"x" * int(request["QUERY_STRING"]))]

    sizes = [("GET", f"/?{size}") for size in (500, 1000, 700, 900, 1)]
    limits = Limits(max_reply_size=2000, max_member_size=1000)
    found = [status for status, _ in form.answers(app, *sizes, limits=limits)]
    assert found == [200, 502, 200, 502, 503]
    assert form.post(echo, *numbered(21)).status == 413
    assert form.post(echo, ("GET", "/" + "x" * 5000)).status == 400
    long = form.post(echo, ("GET", "/", {"Accept": "x" * 8190}))
    assert (long.status, b"Limits.max_header_size" in long.body) == (400, True)


@pytest.mark.parametrize("seed", range(20))
def test_the_longest_that_an_entry_can_be(form, seed):
    """No entry is longer than its writer says, beyond what it repeats of the batch."""
    chance = random.Random(seed)
    kinds = ["application/json", "text/plain", "text/html; charset=utf-16", "image/png", "x"]

    def app(request, start_response):
        fields = [("Content-Type", chance.choice(kinds))]
        for _ in range(chance.randrange(30)):
            value = chance.choice(["", "\x7f", "é", '"' * 9, "x" * 50])
            fields.append((chance.choice("abc") * chance.randrange(1, 9), value))
        start_response(f"{chance.choice([200, 299, 404])} {'r' * chance.randrange(300)}", fields)
        return [bytes(chance.choices(range(256), k=chance.randrange(200)))]

    checked = Checked(form.dialect)
    body = form.written(*[(*request, {}, "") for request in numbered(20)])
    wrapped = BatchMiddleware(app, PATH, dialects=(checked,))
    reply = ask(wrapped, environ("POST", PATH, body, {"Content-Type": form.content_type}))
    assert reply.status == 200
    assert len(checked.spare) == 20
    assert min(checked.spare) >= 0


class Checked:
    """A dialect whose writer compares the length of each entry with what it said before."""

    def __init__(self, dialect):
        self.dialect = dialect
        self.media_type = dialect.media_type
        self.spare = []
        self.decode = dialect.decode
        self.refusal = dialect.refusal

    def writer(self, batch, outer):
        self.batch = batch
        self.made = made = self.dialect.writer(batch, outer)
        self.status, self.headers, self.streamed = made.status, made.headers, made.streamed
        self.longest, self.parts = made.longest, made.parts
        return self

    def entry(self, member):
        entry = self.made.entry(member)
        self.spare.append(self.longest(member.response) + self.batch.size - len(entry))
        return entry


def test_no_batch_inside_a_batch(form):
    assert form.post(echo, ("POST", PATH)).status == 400


@pytest.mark.parametrize("dialect", FORMATS)
def test_any_bytes_are_a_batch_or_a_batch_error(dialect):
    """Mutations of the golden batches: nothing else is raised, and nothing is slow."""
    golden = Path(__file__).with_name("golden") / dialect
    rules = Rules(PATH, Limits(), can_roll_back=True)
    chance = random.Random(7)
    bits = [b"\r\n", b"\n", b"--b", b"--", b'"', b"{", b"null", b" HTTP/1.1", b":", b"\xff", b"$1"]
    bits += [b"Content-Length: 9\r\n", b"\n\n", b"Content-ID: <>\n", b"a" * 5000, b"[" * 40]
    tried = 0
    for path in golden.glob("*.http"):
        text = path.read_text()
        posted = text[len("=== batch\n") :].partition("\n=== ")[0]
        head, _, body = posted.partition("\n\n")
        fields = dict(line.split(": ", 1) for line in head.split("\n")[1:])
        outer = environ("POST", PATH, b"", fields)
        outer = outer_request(outer)
        seed = body.encode()
        for _ in range(700):
            mutated = seed
            for _ in range(chance.randrange(1, 4)):
                at = chance.randrange(len(mutated) + 1)
                to = at + chance.choice([0, 0, 1, 3, 30])
                mutated = mutated[:at] + chance.choice([b"", *bits]) + mutated[to:]
            try:
                made = FORMATS[dialect].dialect.decode(mutated, outer, rules)
                assert isinstance(made, Batch)
                assert made.members
            except BatchError as error:
                FORMATS[dialect].dialect.refusal(error)
            tried += 1
    assert tried >= 700


@pytest.mark.parametrize("dialect", ["odata_multipart", "http_multipart"])
@pytest.mark.parametrize(
    "body",
    [
        b"--b" * 350_000,
        b"\r\n--b" * 200_000,
        b"\n--b\n" * 200_000,
        b"\n--b \t \t" * 130_000,
        b"--b\n" + b"\n" * 1_000_000,
        b"--b\n" + b" " * 1_000_000 + b"\n--b--",
        b"--b\n\nGET / " + b" HTTP/1.1" * 110_000 + b"\n--b--",
        b"--b\nContent-Type: application/http\n\n" + b"x:\n" * 300_000 + b"\n--b--",
        b"--b\nContent-Type: multipart/mixed; boundary=c\n\n" + b"\n--c" * 250_000 + b"\n--b--",
        b"--b\nContent-Type: application/http\n\nGET /\nContent-Length: " + b"9" * 900_000,
    ],
    ids=range(10),
)
def test_hostile_multipart_is_read_in_linear_time(dialect, body, memory, processor_time):
    dialect = FORMATS[dialect].dialect
    outer = OuterRequest(host="shop.test")
    outer = outer._replace(headers=type(outer.headers)({"Content-Type": MULTIPART}))
    with processor_time(below=20), memory(below=20 * 2**20), pytest.raises(BatchError):
        dialect.decode(body, outer, Rules(PATH, Limits()))


@pytest.mark.parametrize("dialect", ["odata_multipart", "http_multipart"])
def test_a_large_body_is_not_copied_often(dialect, memory):
    size = 8 * 2**20
    body = b"--b\nContent-Type: application/http\n\nPUT /x\nContent-Type: image/png\n\n"
    body += b"\r\n" * (size // 2) + b"\n--b--"
    outer = OuterRequest(host="shop.test")
    outer = outer._replace(headers=type(outer.headers)({"Content-Type": MULTIPART}))
    with memory(below=2 * size + 2**20):
        made = FORMATS[dialect].dialect.decode(body, outer, Rules(PATH, Limits()))
    assert len(made.members[0].request.body) == size


def test_a_url_of_the_host_is_within_the_mount():
    form = FORMATS["http_multipart"]
    wrapped = BatchMiddleware(echo, PATH, dialects=(form.dialect,))

    def ask_for(*paths):
        body = form.written(*[("GET", path, {}, "") for path in paths])
        fields = {"Content-Type": MULTIPART}
        return ask(wrapped, environ("POST", PATH, body, fields, SCRIPT_NAME="/mnt"))

    good = ask_for("/mnt/x", "/mnt", "/mnt?q=1", "http://localhost/mnt/y")
    assert [body["PATH_INFO"] for _, body in form.read(good.body)] == ["/x", "/", "/", "/y"]
    bad = ask_for("/x", "/mntx", "x", "", "http://localhost/x", "http://other.test/mnt/x")
    assert bad.pointers == [f"/{n}/url" for n in range(6)]


def test_a_dialect_is_told_by_its_media_type():
    dialects = (ODataJSON(), ODataMultipart())
    app = BatchMiddleware(echo, PATH, dialects=dialects, transaction=nullcontext)
    for name in ("odata_json", "odata_multipart"):
        form = FORMATS[name]
        body = form.written(("GET", "/x", {}, ""))
        reply = ask(app, environ("POST", PATH, body, {"Content-Type": form.content_type}))
        assert form.read(reply.body)[0][0] == 200
    reply = ask(app, environ("POST", PATH, b"{}", {"Content-Type": "multipart/form-data"}))
    assert reply.status == 415
    assert "a batch is application/json or multipart/mixed" in reply.json()["detail"]
    assert "error" not in reply.json()
