"""The access log: its lines, its fields, and the README's recipes for both."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from batchwsgi import BatchMiddleware, Limits

from .servers import client
from .servers.harness import HOST, SERVERS, Command, Kind, start
from .support import batch, echo, post
from .test_middleware import sized
from .test_readme import README, code, run

FIELDS = ["client", "method", "target", "status", "size", "duration", "index", "count"]


# --- Lines and fields --------------------------------------------------------------------------


def test_access_log(caplog):
    caplog.set_level(logging.INFO, "batchwsgi.access")
    items = [{"uri": "/100?q=é"}, {"uri": "/5", "method": "delete"}]
    batch(BatchMiddleware(sized), *items, SCRIPT_NAME="/mnt", REMOTE_ADDR="2001:db8::1")
    lines = [record.getMessage() for record in caplog.records]
    assert [re.sub(r"[\d.]+ ms", "T ms", line) for line in lines] == [
        '2001:db8::1 "GET /mnt/100?q=%C3%A9" 200 100 T ms, member 1 of 2',
        '2001:db8::1 "DELETE /mnt/5" 200 5 T ms, member 2 of 2',
    ]
    assert {record.name for record in caplog.records} == {"batchwsgi.access"}


def test_access_log_without_an_address(caplog):
    """A server that listens on a Unix socket has none: gunicorn says "", others nothing."""
    caplog.set_level(logging.INFO, "batchwsgi.access")
    batch(BatchMiddleware(sized), {"uri": "/1"}, REMOTE_ADDR="")
    (record,) = caplog.records
    assert record.getMessage().startswith('- "GET /1" 200 1 ')
    assert vars(record)["client"] == "-"


def test_access_log_tells_what_the_application_gave(caplog):
    caplog.set_level(logging.INFO, "batchwsgi.access")
    document = {"on-fail": "stop", "requests": [{"uri": "/999"}, {"uri": "/1"}]}
    post(BatchMiddleware(sized, limits=Limits(max_member_size=500)), document)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith('192.0.2.7 "GET /999" 200 ')


def test_access_log_has_no_line_for_what_was_not_sent(caplog):
    caplog.set_level(logging.INFO, "batchwsgi.access")
    items = [{"uri": "/1"}, {"uri": "{$responses.0.location}"}, {"uri": "/2"}]
    reply = batch(BatchMiddleware(sized), *items)
    assert reply.entries[1]["status_code"] == "424"
    lines = [record.getMessage().split()[2] for record in caplog.records]
    assert lines == ['/1"', '/2"']


def test_access_log_is_silent_unless_enabled(caplog):
    caplog.set_level(logging.WARNING, "batchwsgi.access")
    batch(BatchMiddleware(sized), "/1")
    assert not caplog.records


def own(record: logging.LogRecord) -> dict[str, object]:
    """What a record has beside what every record has."""
    usual = {*vars(logging.makeLogRecord({})), "message", "asctime"}
    return {name: value for name, value in vars(record).items() if name not in usual}


def test_fields(caplog):
    caplog.set_level(logging.INFO, "batchwsgi.access")
    items = [{"uri": "/100?q=é"}, {"uri": "/5", "method": "delete"}]
    batch(BatchMiddleware(sized), *items, SCRIPT_NAME="/mnt", REMOTE_ADDR="2001:db8::1")
    fields = [own(record) for record in caplog.records]
    assert [list(found) for found in fields] == [FIELDS, FIELDS]
    for found, record in zip(fields, caplog.records, strict=True):
        duration = found.pop("duration")
        assert type(duration) is float
        assert f" {duration * 1000:.3f} ms," in record.getMessage()
    assert [list(found.values()) for found in fields] == [
        ["2001:db8::1", "GET", "/mnt/100?q=%C3%A9", 200, 100, 0, 2],
        ["2001:db8::1", "DELETE", "/mnt/5", 200, 5, 1, 2],
    ]


def test_fields_have_no_secrets(caplog):
    caplog.set_level(logging.INFO, "batchwsgi.access")
    own_headers = {"Authorization": "s3cr3t", "Traceparent": "s3cr3t"}
    item = {"method": "post", "uri": "/", "headers": own_headers, "body": "s3cr3t"}
    batch(BatchMiddleware(echo), item, headers={"Cookie": "s3cr3t"}, REMOTE_USER="")
    (record,) = caplog.records
    assert record.status == 200
    assert "s3cr3t" not in repr(vars(record))


def test_fields_of_members_side_by_side(caplog):
    caplog.set_level(logging.INFO, "batchwsgi.access")
    batch(BatchMiddleware(sized, threads=3), *[f"/{n}" for n in range(12)])
    found = {record.index: (record.target, record.size) for record in caplog.records}
    assert found == {n: (f"/{n}", n) for n in range(12)}
    assert {record.count for record in caplog.records} == {12}


# --- How to see them ---------------------------------------------------------------------------

APP = """\
from batchwsgi import BatchMiddleware
from flask import Flask
from tests.support import echo

def authorize(environ):
    if environ["PATH_INFO"] == "/fails":
        raise LookupError("the hook fails")

app = Flask(__name__)
app.wsgi_app = BatchMiddleware(echo, authorize=authorize)
"""
SITE = {
    "mysite/__init__.py": "",
    "mysite/urls.py": "from django.http import HttpResponse\n"
    "from django.urls import path\n"
    "urlpatterns = [path('hello/x', lambda request: HttpResponse('hello'))]\n",
}
SETTINGS = """
SECRET_KEY = "for tests only"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "mysite.urls"
WSGI_APPLICATION = "mysite.wsgi.application"
"""
FLASK_RUN = ["-m", "flask", "--app=app", "run", f"--host={HOST}"]
RUNSERVER = ["-m", "django", "runserver", "--noreload"]


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def shown(name: str, app: str | None, **environment: str) -> str:
    """What a server shows of a batch of two members, of which the second fails."""
    with start(name, app, **environment) as server:
        reply = client.batch(server, "/hello/x", "/fails")
        assert reply.status == 200
        return server.output()


def check(output: str) -> None:
    line = re.search(r'127\.0\.0\.1 "GET /hello/x" 200 \d+ [\d.]+ ms, member 1 of 2\n', output)
    assert line, output
    assert output.count("GET /hello/x") == 1
    assert output.count("LookupError: the hook fails\n") == 1


def test_gunicorn(tmp_path):
    write(tmp_path, {"gunicorn.conf.py": code("Logs 1"), "app.py": APP})
    config = f"--config={tmp_path}/gunicorn.conf.py"
    check(shown("gunicorn_sync", "app:app", GUNICORN_CMD_ARGS=config, PYTHONPATH=str(tmp_path)))


def test_flask_run(tmp_path, monkeypatch):
    write(tmp_path, {"app.py": code("Logs 1") + APP})
    kind = Kind(command=lambda place: Command([*FLASK_RUN, f"--port={place.port}"], {}))
    monkeypatch.setitem(SERVERS, "flask_run", kind)
    check(shown("flask_run", "app:app", PYTHONPATH=str(tmp_path)))


@pytest.mark.parametrize("name", ["gunicorn_sync", "runserver"])
def test_django(tmp_path, monkeypatch, name):
    """gunicorn imports `batchwsgi` before Django configures logging, `runserver` does it after."""
    hook = APP[APP.index("def authorize") : APP.index("app = ")]
    wsgi = code("Elsewhere 1").replace("application())", "application(), authorize=authorize)")
    assert "authorize=authorize" in wsgi
    settings = SETTINGS + code("Logs 2")
    write(tmp_path, SITE | {"mysite/wsgi.py": hook + wsgi, "mysite/settings.py": settings})
    kind = Kind(command=lambda place: Command([*RUNSERVER, f"{HOST}:{place.port}"], {}))
    monkeypatch.setitem(SERVERS, "runserver", kind)
    path = {"PYTHONPATH": str(tmp_path), "DJANGO_SETTINGS_MODULE": "mysite.settings"}
    check(shown(name, "mysite.wsgi:application", **path))


# --- What can be made of them ------------------------------------------------------------------


@pytest.fixture
def access() -> Iterator[logging.Logger]:
    """The logger, which is afterwards as it was."""
    logger = logging.getLogger("batchwsgi.access")
    before = logger.handlers[:], logger.level, logger.propagate
    yield logger
    logger.handlers[:] = before[0]
    logger.setLevel(before[1])
    logger.propagate = before[2]


def test_json(access, capsys):
    run("Logs, Logs as JSON 1")
    batch(BatchMiddleware(sized), "/7", '/5?"\n', SCRIPT_NAME="/mnt")
    batch(BatchMiddleware(sized), "/7", '/5?"é', SCRIPT_NAME="/mnt")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [list(line) for line in lines] == [["time", *FIELDS]] * 2
    assert [line["target"] for line in lines] == ["/mnt/7", "/mnt/5?%22%C3%A9"]
    assert all(0 <= line["duration"] < 60 for line in lines)


def test_metrics(access):
    run("Logs, Metrics 1")
    items = [{"uri": f"/{n}", "method": method} for n, method in enumerate(["get", "get", "X-1"])]
    batch(BatchMiddleware(sized), *items)

    def value(name, method):
        labels = {"method": method, "status": "200"}
        return REGISTRY.get_sample_value(f"batch_member_seconds_{name}", labels)

    assert (value("count", "GET"), value("count", "other")) == (2, 1)
    assert 0 < value("sum", "GET") < 60
    assert value("count", "X-1") is None


@pytest.mark.parametrize(
    "name", ["Traceparent", "Tracestate", "Baggage", "X-Request-Id", "X-Correlation-Id"]
)
def test_traces(name):
    items = [{"uri": "/"}, {"uri": "/", "headers": {name: "own"}}]
    entries = batch(BatchMiddleware(echo), *items, headers={name: "outer"}).entries
    key = f"HTTP_{name.upper().replace('-', '_')}"
    assert [entry["body"][key] for entry in entries] == ["outer", "own"]


def test_the_readme_has_all_fields():
    table = README[README.index("### Logs\n") : README.index("### Traces")]
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", table, re.MULTILINE)
    assert re.findall(r"\w+", " ".join(rows)) == FIELDS
