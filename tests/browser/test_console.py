"""The console in headless Chromium, against real servers."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from base64 import b64encode
from hashlib import sha256
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import pytest

import batchwsgi.browser
from batchwsgi import demo

from .conftest import offline
from .console_app import EVIL, JSON, PIXEL, PROBLEMS

PAGE = Path(batchwsgi.browser.__file__).with_name("console.html")
APP = "tests.browser.console_app:application"
EXAMPLE = '{"requests": [\n  {"uri": "/"}\n]}'
names = count()

both_servers = pytest.mark.parametrize("served", ["gunicorn_gthread", "waitress"], indirect=True)
"""For what a server has to do with; the page itself is tried on one."""


@pytest.fixture
def served(request, servers):
    return servers(getattr(request, "param", "gunicorn_gthread"), APP)


class Console:
    """The page as a person uses it."""

    def __init__(self, driver, server):
        self.driver = driver
        self.origin = f"http://{server.host}:{server.port}"
        self.url = f"{self.origin}/batch"

    def get(self):
        self.driver.get(self.url)
        return self

    def __getitem__(self, element_id):
        return self.driver.find_element("id", element_id)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def until(self, true, seconds=15):
        deadline = time.monotonic() + seconds
        while not (value := true()):
            assert time.monotonic() < deadline, self["see"].find_element("xpath", "..").text
            time.sleep(0.02)
        return value

    def write(self, batch, field="batch"):
        text = batch if isinstance(batch, str) else json.dumps(batch)
        self.run(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
            self[field],
            text,
        )

    def outcome(self):
        self.until(lambda: self["outcome"].text and not self["progress"].text)
        return self["outcome"].text

    def send(self, *items, headers="", stream=False, **more):
        """Send a batch of these items, and what is said of it."""
        requests = [{"uri": item} if isinstance(item, str) else item for item in items]
        return self.submit({"requests": requests, **more}, headers, stream)

    def submit(self, batch, headers="", stream=False):
        self.write(batch)
        self.write(headers, "headers")
        if self["stream"].is_selected() != stream:
            self["stream"].click()
        self["send"].click()
        return self.outcome()

    def rows(self):
        """What each row says, by the names of its columns."""
        found = self.run(
            """
            const words = (text) => text.split(/\\s+/).join(" ").trim();
            return [...document.querySelectorAll("#members tbody tr")].map((row) => ({
              row, tone: row.className,
              button: row.querySelector("button"), bars: [...row.querySelectorAll("[role=img]")],
              ...Object.fromEntries(["number", "method", "uri", "status", "size", "time"].map(
                (name) => [name, words(row.querySelector(`.${name}`).innerText)])),
            }));
            """
        )
        return [SimpleNamespace(**row) for row in found]

    def open_all(self):
        self.run("document.querySelectorAll('#rows .open').forEach((button) => button.click())")

    def opened(self, n=0):
        """What the nth row opens to."""
        row = self.rows()[n]
        row.button.click()
        assert row.button.get_attribute("aria-expanded") == "true"
        return self[row.button.get_attribute("aria-controls")]

    def facts(self):
        terms = [term.text for term in self.all("#facts dt")]
        return dict(zip(terms, [fact.text for fact in self.all("#facts dd")], strict=True))

    def posts(self):
        with urlopen(f"{self.origin}/posts", timeout=5) as reply:
            return int(reply.read())


@pytest.fixture
def console(driver, served):
    console = Console(driver, served)
    stored = {"origin": console.origin, "storageTypes": "local_storage"}
    driver.execute_cdp_cmd("Storage.clearDataForOrigin", stored)
    driver.get_log("browser")
    yield console.get()
    log = " ".join(line["message"] for line in driver.get_log("browser"))
    assert "Content Security Policy" not in log
    assert "Uncaught" not in log
    assert not console.run("return Boolean(window.pwned)")


def milliseconds(text):
    number, unit = text.split()
    return float(number) * {"ms": 1, "s": 1000}[unit]


# --- the page ---


def test_one_file_without_anything_from_outside():
    page = PAGE.read_text()
    assert len(re.findall(r"<style\b", page)) == len(re.findall(r"<script\b", page)) == 1
    markup = re.sub(r"(?s)<(script|style)\b.*?</\1>", "", page)
    assert not re.search(r"\s(style|on\w+)\s*=", markup)
    assert re.findall(r'(?:src|href)="([^"]*)"', markup) == ["data:,"]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", page)
    assert max(map(len, page.splitlines())) <= 120


def test_its_policy(console):
    with urlopen(console.url, timeout=5) as reply:
        page, policy = reply.read().decode(), reply.headers["Content-Security-Policy"]

    def hashed(name):
        text = re.search(rf"(?s)<{name}\b[^>]*>(.*?)</{name}>", page)[1].encode()
        return f"'sha256-{b64encode(sha256(text).digest()).decode()}'"

    assert policy == (
        f"default-src 'none'; script-src {hashed('script')}; style-src {hashed('style')}; "
        "connect-src 'self'; img-src data: blob:; frame-ancestors 'none'"
    )


def test_it_sends_nothing_until_asked_to(console):
    before = console.posts()
    console.get()
    assert console["batch"].get_property("value") == EXAMPLE
    console["batch"].send_keys(" ")
    assert console.run("return performance.getEntriesByType('resource').length") == 0
    assert console.posts() == before
    assert console["endpoint"].text == "POST /batch"


def test_labels(console):
    for field in ("batch", "headers", "stream", "history"):
        assert console[field].accessible_name == field
        assert not console[field].get_attribute("placeholder")
    assert console["send"].accessible_name == "Send"
    assert console["copy"].accessible_name == "copy as curl"
    assert console["outcome"].get_attribute("role") == "status"
    assert console["syntax"].get_attribute("aria-live") == "polite"
    assert "mono" in console["batch"].value_of_css_property("font-family")


# --- write ---


def keys():
    from selenium.webdriver.common.keys import Keys

    return Keys


def press(console, *pressed):
    from selenium.webdriver import ActionChains

    ActionChains(console.driver).send_keys(*pressed).perform()


def chord(console, modifier, key):
    from selenium.webdriver import ActionChains

    ActionChains(console.driver).key_down(modifier).send_keys(key).key_up(modifier).perform()


def focused(console):
    return console.driver.switch_to.active_element.get_attribute("id")


@pytest.mark.parametrize(
    ("begin", "end", "indented", "back"),
    [
        (0, 0, "  a\nb\n", "a\nb\n"),
        (0, 3, "  a\n  b\n", "a\nb\n"),
        (0, 2, "  a\nb\n", "a\nb\n"),
    ],
)
def test_tab_indents(console, begin, end, indented, back):
    console.write("a\nb\n")
    console["batch"].click()
    console.run("document.activeElement.setSelectionRange(...arguments)", begin, end)
    press(console, keys().TAB)
    assert console["batch"].get_property("value") == indented
    assert focused(console) == "batch"
    chord(console, keys().SHIFT, keys().TAB)
    assert console["batch"].get_property("value") == back
    chord(console, keys().SHIFT, keys().TAB)
    assert console["batch"].get_property("value") == back


def test_what_tab_did_is_undone(console):
    console.write("a")
    console["batch"].click()
    press(console, keys().TAB)
    assert len(console["batch"].get_property("value")) == 3
    chord(console, keys().CONTROL, "z")
    assert console["batch"].get_property("value") == "a"


def test_escape_and_tab_leaves_the_editor(console):
    for modifier, place in ((None, "help"), (keys().SHIFT, "history")):
        console["batch"].click()
        press(console, keys().ESCAPE)
        chord(console, modifier, keys().TAB) if modifier else press(console, keys().TAB)
        assert focused(console) == place
        assert console["batch"].get_property("value") == EXAMPLE
    console["batch"].click()
    press(console, keys().ESCAPE, "x", keys().TAB)  # Escape holds for the next key alone
    assert focused(console) == "batch"


SYNTAX = [
    ('{"requests": [\n  {"uri": "/"},\n]}', "line 3, column 1: a comma"),
    ('{"requests": [\n  {"uri" "/"}\n]}', "line 2, column 10: a colon is missing"),
    ('{"requests": [\n\n  {uri: "/"}\n]}', "line 3, column 4: a name in double quotes"),
    ('{"requests": [\n  {"uri": "/}\n]}', "line 2, column 11: this string does not end"),
    ('{"a": "\\x"}', "line 1, column 8: this is no escape"),
    ('{"a": "\t"}', "line 1, column 8: a control character"),
    ('{"a": 01}', "line 1, column 8: a comma or “}” is missing"),
    ('{"a": [1 2]}', "line 1, column 10: a comma or “]” is missing"),
    ('{"a": NaN}', "line 1, column 7: no value"),
    ("{}\n{}", "line 2, column 1: nothing may come after"),
    ('{"a":\n', "line 2, column 1: the document ends too early"),
    ("[1,\n2", "line 2, column 2: a comma or “]” is missing"),
    ("\nx", "line 2, column 1: no value"),
    ("[" * 100_000, "line 1, column 1001: this nests too deep"),
    ("  \n", "line 1: the batch is empty"),
]


def test_errors_of_syntax_say_their_line(console):
    before = console.posts()
    for text, said in SYNTAX:
        console.write(text)
        shown = console["syntax"].text
        assert said in shown
        assert shown.startswith("line ")
        assert console["batch"].get_attribute("aria-invalid") == "true"
        console["send"].click()
        assert console.outcome() == f"Not sent: {shown}"
        assert focused(console) == "batch"
        console.write(EXAMPLE)
        assert console["syntax"].text == ""
        assert console["batch"].get_attribute("aria-invalid") == "false"
    assert console.posts() == before


def test_errors_of_syntax_are_shown_as_one_types(console):
    console["batch"].click()
    chord(console, keys().CONTROL, keys().END)
    press(console, "x")
    assert console["syntax"].text == "line 3, column 3: nothing may come after the document"
    press(console, keys().BACKSPACE)
    assert console["syntax"].text == ""


def test_what_is_json_is_not_wrong(console):
    console.write('\n[-0.5e+10, "\\u00e9\\"\\\\\u2028", {"": [true, false, null, {}, []]}, 1E5]\n ')
    assert console["syntax"].text == ""


def test_headers_go_with_the_outer_request(console):
    console.send("/echo", headers="Authorization: Bearer a:b\n\nAccept-Language:zh\n")
    shown = console.opened().text
    assert '"Authorization": "Bearer a:b"' in shown
    assert '"Accept-Language": "zh"' in shown


def test_headers_that_cannot_be(console):
    before = console.posts()
    for text in ("X-A: 1\nno colon", "X-A: 1\n: x", "X-A: 1\nX A: 2", "\nX: 好"):
        assert console.send("/json", headers=text).startswith("Not sent: line 2: ")
        assert console["headers"].get_attribute("aria-invalid") == "true"
        assert focused(console) == "headers"
    assert console.posts() == before


def test_headers_that_the_browser_keeps_for_itself(console):
    assert "1 fine" in console.send("/json", headers="Cookie: a=b")
    assert "lets no page set cookie" in console["header-syntax"].text


@pytest.mark.parametrize(("modifier", "field"), [("CONTROL", "batch"), ("META", "headers")])
def test_enter_with_control_or_command_sends(console, modifier, field):
    before = console.posts()
    console[field].click()
    chord(console, getattr(keys(), modifier), keys().ENTER)
    assert console.outcome() == "1 request: 1 failed."
    assert console.posts() == before + 1
    assert console["batch"].get_property("value") == EXAMPLE


# --- history ---


def picked(console, n):
    from selenium.webdriver.support.ui import Select

    Select(console["history"]).select_by_index(n)
    return console["batch"].get_property("value")


def test_the_last_ten_batches_are_kept(console):
    for n in [*range(12), 5]:
        console.send(f"/json?{n}", headers="Authorization: Bearer s3cret")
    kept = console.run("return Object.values(localStorage).join()")
    assert "s3cret" not in kept
    assert "Authorization" not in kept
    console.get()
    before = console.posts()
    options = [option.text for option in console.all("#history option")][1:]
    assert [text.split("?")[1] for text in options] == "5 11 10 9 8 7 6 4 3 2".split()
    console.write("what I wrote")
    assert json.loads(picked(console, 2)) == {"requests": [{"uri": "/json?11"}]}
    assert console["syntax"].text == ""
    assert console["headers"].get_property("value") == ""
    assert picked(console, 0) == "what I wrote"
    assert console.posts() == before


@pytest.mark.parametrize("kept", ["{", "{}", "[1, null]", '["not a batch", "[]"]'])
def test_a_history_that_somebody_else_wrote(console, kept):
    console.run("localStorage.setItem('batchwsgi:/batch', arguments[0])", kept)
    console.get()
    assert "1 fine" in console.send("/json")
    assert "/json" in console.all("#history option")[1].text


FAILING = {
    "setItem": "Storage.prototype.setItem = () => { throw new DOMException('', 'QuotaExceeded') }",
    "localStorage": "Object.defineProperty(window, 'localStorage', "
    "{get() { throw new DOMException('', 'SecurityError') }})",
}


@pytest.mark.parametrize("failing", FAILING)
def test_a_local_storage_that_fails_is_said(console, failing):
    driver = console.driver
    add, remove = (
        "Page.addScriptToEvaluateOnNewDocument",
        "Page.removeScriptToEvaluateOnNewDocument",
    )
    script = driver.execute_cdp_cmd(add, {"source": FAILING[failing]})
    try:
        console.get()
        assert "1 fine" in console.send("/json")
        assert "keeps no history" in console["storage"].text
        console.send("/text")
        assert "/text" in picked(console, 1)
        assert "/json" in picked(console, 2)
    finally:
        driver.execute_cdp_cmd(remove, {"identifier": script["identifier"]})


# --- see ---


@both_servers
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_row_for_each_member(console, stream):
    said = console.send(
        "/json",
        {"uri": "/echo", "method": "post", "body": 1},
        "/moved",
        "/nothing",
        "/error",
        "/binary",
        {"uri": "/json?7", "depends-on": [3]},
        "/{$responses.1.body#/nothing}",
        stream=stream,
    )
    assert said == "8 requests: 4 fine, 2 failed, 2 not executed."
    rows = console.rows()
    assert [(row.number, row.method, row.uri) for row in rows] == [
        ("1", "GET", "/json"),
        ("2", "POST", "/echo"),
        ("3", "GET", "/moved"),
        ("4", "GET", "/nothing"),
        ("5", "GET", "/error"),
        ("6", "GET", "/binary"),
        ("7", "GET", "/json?7"),
        ("8", "GET", "/{$responses.1.body#/nothing}"),
    ]
    assert [row.status for row in rows] == [
        "200",
        "200",
        "302",
        "404",
        "500",
        "200",
        "424 not executed: dependency-failed",
        "424 not executed: reference",
    ]
    tones = [row.tone for row in rows]
    assert tones == ["good", "good", "moved", "bad", "broken", "good", "idle", "idle"]
    assert rows[0].size == f"{len(JSON)} B"
    assert rows[5].size == "256 B"
    assert [bool(row.bars) for row in rows] == [True] * 6 + [False] * 2
    assert rows[6].time == "–"
    assert milliseconds(rows[0].time) >= 0
    assert len(console.all("table")) == 1
    headings = [head.text.split("\n")[0] for head in console.all("thead th")]
    assert headings == "number method uri status size time waterfall".split()
    assert {row.row.aria_role for row in rows} == {"row"}


def test_words_for_those_that_did_not_run(console):
    batch = ["/json", {"uri": "/nothing"}, "/text"]
    console.send(*batch, **{"on-fail": "stop"})
    assert console.rows()[2].status == "424 not executed: stopped"
    said = console.send(*batch, **{"on-fail": "rollback"})
    assert said == "3 requests: 1 failed, 1 undone, 1 not executed."
    assert console.rows()[0].status == "424 undone: rolled-back"
    assert console.rows()[0].bars


WORDS = {
    **dict.fromkeys(["stopped", "dependency-failed", "reference"], "not executed: "),
    **dict.fromkeys(["unavailable", "deadline", "reply-limit"], "not executed: "),
    **dict.fromkeys(["timeout", "offloaded", "incomplete", "too-large"], "reply lost: "),
    "rolled-back": "undone: ",
    "application-error": "",
}


def test_words_for_all_that_can_become_of_a_member(console):
    said = console.send(*["/x"] * len(PROBLEMS), headers="X-Answer: problems")
    assert said == "12 requests: 5 failed, 1 undone, 6 not executed."
    assert {row.uri: row.status for row in console.rows()} == {
        f"/{name}": f"{status} {WORDS[name]}{name}" for name, status in PROBLEMS.items()
    }
    idle = [row.uri for row in console.rows() if row.tone == "idle"]
    assert len(idle) == 7


def test_a_reply_that_is_too_large(console):
    """One that the endpoint itself cut off: it has a bar, because it ran."""
    console.send("/large", "/json")
    row = console.rows()[0]
    assert row.status == "502 reply lost: too-large"
    assert row.bars
    assert "Limits.max_member_size" in console.opened().text


@pytest.fixture
def gated(console):
    """A console, and a gate that holds a member up until it is opened.

    The server hands on each entry as it is made; waitress keeps back 18,000 bytes.
    """
    gate = f"g{next(names)}"

    def open_gate():
        urlopen(f"{console.origin}/open/{gate}", timeout=5).close()

    yield console, gate, open_gate
    open_gate()


def test_streamed_rows_come_as_they_are_done(gated):
    console, gate, open_gate = gated
    uris = ["/text", f"/wait/{gate}", "/json"]
    console.write({"on-fail": "stop", "requests": [{"uri": uri} for uri in uris]})
    console["stream"].click()
    console["send"].click()
    console.until(lambda: console["progress"].text == "1 of 3 done…")
    assert [row.uri for row in console.rows()] == uris[:1]
    assert console["send"].get_attribute("aria-disabled") == "true"
    console["send"].click()  # nothing: one is under way
    open_gate()
    assert console.outcome() == "3 requests: 3 fine."
    assert [row.uri for row in console.rows()] == uris
    assert console["send"].get_attribute("aria-disabled") is None


def test_streamed_rows_are_in_the_order_of_the_batch(gated):
    console, gate, open_gate = gated
    console.write({"requests": [{"uri": f"/{n}"} for n in range(4)]})
    console.write(f"X-Answer: {gate}", "headers")
    console["stream"].click()
    console["send"].click()
    console.until(lambda: console["progress"].text == "3 of 4 done…")
    assert [row.uri for row in console.rows()] == ["/0", "/2", "/3"]
    open_gate()
    assert console.outcome() == "4 requests: 4 fine."
    assert [row.number for row in console.rows()] == ["1", "2", "3", "4"]


def test_a_batch_is_cancelled(gated):
    console, gate, _ = gated
    console.write({"requests": [{"uri": f"/wait/{gate}"}]})
    console["send"].click()
    console.until(console["cancel"].is_displayed)
    console["cancel"].click()
    assert console.outcome() == "Cancelled. The server may have run some of it."
    assert focused(console) == "send"
    assert not console["cancel"].is_displayed()


def test_a_stream_is_cancelled_half_way(gated):
    """What came of it stays, and nothing has moved to make room for the button."""
    console, gate, _ = gated
    console.write({"requests": [{"uri": "/text"}, {"uri": f"/wait/{gate}"}, {"uri": "/json"}]})
    console["stream"].click()
    place = console["copy"].rect
    console["send"].click()
    console.until(lambda: console["progress"].text == "1 of 3 done…")
    assert console["copy"].rect == place
    console["cancel"].click()
    said = "Cancelled. 1 of 3 requests are answered; the server may have run others."
    assert console.outcome() == said
    assert [row.uri for row in console.rows()] == ["/text"]
    assert "two" in console.opened().text


@both_servers
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_waterfall(console, stream):
    console.send(
        "/slow?s=0.06", {"uri": "/slow?s=0.03", "depends-on": [0]}, "/timed", stream=stream
    )
    whole = milliseconds(console["scale"].text)
    for n, row in enumerate(console.rows()):
        field = re.search(r"batchwsgi;start=([0-9.]+);dur=([0-9.]+)$", console.opened(n).text, re.M)
        start, duration = float(field[1]), float(field[2])
        track = console.run("return arguments[0].parentNode.getBoundingClientRect()", row.bars[0])
        bar = console.run("return arguments[0].getBoundingClientRect()", row.bars[0])
        width = track["width"]
        wide = max(duration / whole * width, 4)
        assert bar["width"] == pytest.approx(wide, abs=1.5)
        left = min(start / whole * width, width - 4)
        assert bar["left"] - track["left"] == pytest.approx(left, abs=1.5)
        said = re.fullmatch(r"starts at (\S+ m?s), takes (\S+ m?s)", row.bars[0].accessible_name)
        assert milliseconds(said[1]) == pytest.approx(start, abs=0.6)
        assert milliseconds(said[2]) == pytest.approx(duration, abs=0.6)
        assert row.time == said[2]


@both_servers
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_what_it_took(console, stream):
    console.send("/slow?s=0.05", "/slow?s=0.04", "/nothing", stream=stream)
    facts = console.facts()
    assert list(facts) == ["status", "round trip", "server", "bytes", "one by one"]
    assert facts["status"] == "200"
    assert int(facts["bytes"].replace(",", "")) > 300
    trip, server = milliseconds(facts["round trip"]), milliseconds(facts["server"])
    assert trip > server > 45
    members = sum(milliseconds(row.time) for row in console.rows())
    expected = members + 3 * (trip - server)
    assert milliseconds(facts["one by one"]) == pytest.approx(expected, abs=4)
    assert console["explained"].is_displayed()


def test_a_row_opens_and_closes(console):
    console.send({"id": "me", "uri": "/text"}, "/json")
    row = console.rows()[0]
    assert row.button.get_attribute("aria-expanded") == "false"
    assert row.button.accessible_name == "1: details of GET /text"
    detail = console.opened()
    assert "id me" in detail.text
    assert "Content-Type\ntext/plain; charset=utf-8" in detail.text
    row.button.click()
    assert row.button.get_attribute("aria-expanded") == "false"
    assert not detail.is_displayed()
    assert len(console.rows()) == 2


INDENTED = """\
{
  "n": 123456789012345678901234567890,
  "f": 1.10,
  "e": [],
  "o": {},
  "a": [
    1,
    {
      "b": "x\\n\\u00e9"
    }
  ]
}"""

HEX = "\n".join(bytes(range(at, at + 16)).hex(" ") for at in range(0, 64, 16)) + "\n…"


BODIES = {
    "/json": [INDENTED],
    "/null": ["null"],
    "/text": ["Größe\n  two"],
    "/html": [EVIL],
    "/binary": [HEX],
    "/empty": [],
    "/escapes": ['"' + "\\n" * 400_000 + '"'],
}


@both_servers
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_bodies(console, stream):
    console.send(*BODIES, stream=stream)
    console.open_all()
    shown = console.run(
        """
        return [...document.querySelectorAll(".detail")].map((detail) => (
          [...detail.querySelectorAll("pre")].map((block) => block.textContent)));
        """
    )
    assert dict(zip(BODIES, shown, strict=True)) == BODIES
    assert "256 bytes, binary" in console["detail-5"].text
    assert console["detail-6"].text.endswith("empty")


def test_a_head_has_no_body(console):
    console.send({"method": "head", "uri": "/null"})
    assert console.opened().text.endswith("empty")
    assert console.rows()[0].size == "0 B"


def test_sizes_are_of_what_was_sent(console):
    console.send("/cookie", "/text", "/latin")
    assert [row.size for row in console.rows()] == ["3 B", "13 B", "5 B"]
    assert console.opened(2).text.endswith("Größe")


def test_a_large_body(console):
    """Its beginning, until one asks for all: that takes a browser seconds."""
    console.send("/big.json")
    detail = console.opened()
    block = detail.find_element("tag name", "pre")
    assert 5_000 < block.get_property("textContent").count("\n") < 10_000
    button = detail.find_element("tag name", "button")
    assert button.accessible_name == "show all of it"
    button.send_keys(keys().ENTER)
    assert block.get_property("textContent").count("\n") == 4_000 * 4 + 2
    assert console.driver.switch_to.active_element == block
    assert not detail.find_elements("tag name", "button")


@pytest.mark.parametrize(("uri", "width"), [("/png", 1), ("/svg", 40)])
def test_pictures(console, uri, width):
    console.send(uri)
    picture = console.opened().find_element("tag name", "img")
    assert console.until(lambda: picture.get_property("naturalWidth")) == width
    assert picture.get_property("src").startswith("data:image/")
    assert picture.accessible_name == f"picture: {uri}"
    if uri == "/png":
        assert PIXEL[:16].hex(" ") in console["detail-1"].text
        assert f"{len(PIXEL)} bytes" in console["detail-1"].text
    assert not console.all("#rows svg")


def test_a_picture_that_is_none(console):
    console.send("/broken.png")
    detail = console.opened()
    console.until(lambda: "cannot show this picture" in detail.text)


def test_cookies_that_a_stream_cannot_carry(console):
    console.send("/cookie", stream=True)
    assert "cookies were not kept" in console.opened().text


# --- faults ---


def test_each_fault_puts_the_cursor_on_its_place(console):
    text = (
        '{"on-fail": "never", "requests": [\n'
        + '  {"uri": "/json"},\n' * 20
        + '  {"uri": "/json", "args": {"a/b": {}}},\n'
        '  {"method": "get"},\n  {"uri": "nowhere"}\n]}'
    )
    assert console.submit(text).startswith("Refused: The batch has 4 faults.")
    assert console.facts()["status"] == "400"
    assert not console["members"].is_displayed()
    places = {}
    for button in console.all("#faults button"):
        button.click()
        assert focused(console) == "batch"
        begin, end, top = console.run(
            "const e = document.activeElement;"
            "return [e.selectionStart, e.selectionEnd, e.scrollTop]"
        )
        places[button.text] = text[begin:end]
        line = text[:begin].count("\n") * 20
        assert top <= line <= top + 300
    assert places == {
        "/on-fail": '"never"',
        "/requests/20/args/a~1b": "{}",
        "/requests/21": '{"method": "get"}',
        "/requests/22/uri": '"nowhere"',
    }
    details = [one.text for one in console.all("#faults span")]
    assert "uri is missing" in details


def test_faults_of_a_batch_that_was_changed_since(console):
    console.send("nowhere")
    console.write('{"requests": []}')
    console.all("#faults button")[0].click()
    begin, end = console.run(
        "return [document.activeElement.selectionStart, document.activeElement.selectionEnd]"
    )
    assert '{"requests": []}'[begin:end] == "[]"
    console.write("{")
    console.all("#faults button")[0].click()
    assert focused(console) == "batch"


def test_a_refusal_without_faults(console):
    said = console.send(*["/json"] * 26)
    assert said.startswith("Refused: ")
    assert "25" in said
    assert console.facts()["status"] in ("400", "413")


# --- what is no batch reply ---


def test_somebody_else_answers(console):
    said = console.send("/json", headers="X-Answer: 401")
    assert said == "This is no batch reply: 401 text/html."
    assert console["other"].get_property("textContent") == EVIL
    assert console.facts()["status"] == "401"


def test_garbage_is_said(console):
    said = console.send("/json", headers="X-Answer: garbage")
    assert said == "This is no batch reply: 200 application/json."


def test_a_line_that_is_no_entry_is_said(console):
    said = console.send("/json", stream=True, headers="X-Answer: no-entry")
    assert said == (
        "The reply ended early: 0 of 1 requests are answered (a line of it is no entry)."
    )


def test_a_refused_stream_lists_its_faults(console):
    assert console.send("nowhere", stream=True).startswith("Refused: ")
    assert [button.text for button in console.all("#faults button")] == ["/requests/0/uri"]


def test_a_stream_that_ends_early_is_said(console):
    said = console.send("/json", "/text", stream=True, headers="X-Answer: cut")
    assert said == "The reply ended early: 1 of 2 requests are answered."
    assert len(console.rows()) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("broken-stream", "The reply ended early: 1 of 2 requests are answered (network error)."),
        ("broken-at-once", "The reply ended early: 0 of 2 requests are answered (network error)."),
        ("broken-document", "The reply broke off after [0-9]+ bytes (network error)."),
    ],
)
def test_a_connection_that_breaks_is_said(gated, answer, said):
    """What came until then is shown."""
    console, gate, open_gate = gated
    console.write({"requests": [{"uri": "/json"}, {"uri": "/text"}]})
    console.write(f"X-Answer: {answer}\nX-Gate: {gate}", "headers")
    console["stream"].click()
    console["send"].click()
    if answer == "broken-stream":
        console.until(lambda: console["progress"].text == "1 of 2 done…")
    open_gate()
    assert re.fullmatch(said.replace("(", r"\(").replace(")", r"\)"), console.outcome())
    assert console.facts()["status"] == "200"
    shown = [row.uri for row in console.rows()]
    assert shown == ["/json"] * (answer == "broken-stream")


def test_without_times(console):
    console.send("/json", headers="X-Answer: untimed")
    assert console.facts()["one by one"] == console.facts()["server"] == "–"
    assert console.rows()[0].time == "–"
    assert not console["explained"].is_displayed()


def test_no_network_is_said(console):
    with offline(console.driver):
        assert console.send("/json").startswith("No answer: ")
    assert "1 fine" in console.send("/json")


# --- no reply runs script ---


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_replies_run_no_script(console, stream):
    console.send(
        "/html",
        "/evil.json",
        "/svg",
        f"/nothing?{EVIL}",
        {"uri": "/echo", "method": "post", "body": EVIL, "id": "javascript"},
        stream=stream,
    )
    console.open_all()
    time.sleep(0.2)
    assert not console.run("return Boolean(window.pwned)")
    assert not console.all("#rows script, #rows b b, #rows a, #rows svg, #rows iframe, [onerror]")
    assert EVIL in console["detail-1"].text
    assert "javascript:1" in console["detail-1"].text
    assert console.rows()[3].uri == f"/nothing?{EVIL}"
    assert len(console.all("script")) == 1


def test_refusals_and_the_history_run_no_script(console):
    console.send({"uri": EVIL, EVIL: 1})
    console.get()
    assert console.send({"uri": f"/{EVIL}", EVIL: 1}).startswith("Refused")
    assert EVIL.replace("/", "~1") in console.all("#faults button")[0].text
    console.send("/json", headers="X-Answer: untimed")
    assert console.rows()[0].uri == "javascript:top.pwned=1"
    assert not console.all("main script, main b:not(.status b), main a, [onerror]")


# --- take along ---


def copied(console):
    grant = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    console.driver.execute_cdp_cmd("Browser.grantPermissions", {**grant, "origin": console.origin})
    console["copy"].click()
    console.until(lambda: console["copied"].text)
    return console.driver.execute_async_script(
        "const done = arguments[0]; navigator.clipboard.readText().then(done, e => done(String(e)))"
    )


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_copied_as_curl(console, stream):
    body = 'it\'s $HOME `id` \\ "!" \n\u00e9好'
    batch = {"requests": [{"method": "post", "uri": "/echo?a=[1-3]", "body": body}]}
    console.write(json.dumps(batch, indent="\t", ensure_ascii=False))
    console.write("X-Empty:\nAuthorization: it's", "headers")
    if stream:
        console["stream"].click()
    line = copied(console)
    assert "\n" not in line
    assert "\t" not in line
    assert console["copied"].text.startswith("Copied")
    assert not console["line"].is_displayed()
    reply = subprocess.run(
        ["sh", "-c", line.replace("curl ", "curl -sS --max-time 10 ", 1)],
        capture_output=True,
        timeout=20,
        check=True,
    )
    assert not reply.stderr
    found = json.loads(reply.stdout)
    entry = found if stream else found["responses"][0]
    assert json.loads(entry["body"]["body"]) == body
    assert entry["body"]["headers"]["Authorization"] == "it's"
    assert ("index" in entry) == stream


def test_copied_though_it_is_no_json(console):
    console.write("{'not'")
    assert shlex.split(copied(console))[-1] == "{'not'"
    console.write("no header", "headers")
    console["copy"].click()
    console.until(lambda: console["copied"].text.startswith("Not copied: line 1"))


@pytest.mark.parametrize("works", [True, False], ids=["command", "by-hand"])
def test_copied_without_a_clipboard(console, works):
    console.run(
        "Object.defineProperty(navigator, 'clipboard', {value: undefined});"
        "if (!arguments[0]) document.execCommand = () => false",
        works,
    )
    console["copy"].click()
    console.until(lambda: console["copied"].text)
    assert console["copied"].text.startswith("Copied" if works else "The browser does not let")
    assert console["line"].is_displayed() != works
    assert console["line"].get_property("value").startswith("curl -g 'http://127.0.0.1:")


# --- everybody ---


def test_by_keyboard_alone(console):
    order = []
    console.run("document.activeElement.blur()")
    for _ in range(7):
        press(console, keys().ESCAPE, keys().TAB)
        order.append(focused(console))
        outline = console.run(
            "const s = getComputedStyle(document.activeElement);"
            "return [s.outlineStyle, parseFloat(s.outlineWidth)]"
        )
        assert outline == ["solid", 3]
    assert order == ["history", "batch", "help", "headers", "send", "stream", "copy"]
    console.write({"requests": [{"uri": "/json"}, {"uri": "/text"}]})
    console.run("document.getElementById('send').focus()")
    press(console, keys().SPACE)
    assert console.outcome() == "2 requests: 2 fine."
    assert focused(console) == "send"
    press(console, keys().TAB, keys().TAB, keys().TAB, keys().ENTER)
    assert console["detail-1"].is_displayed()
    press(console, keys().TAB)  # the body, which scrolls
    assert console.driver.switch_to.active_element.tag_name == "pre"
    press(console, keys().TAB, keys().ENTER)
    assert console["detail-2"].is_displayed()


CONTRASTS = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
function pixel(...colours) {
  canvas.clearRect(0, 0, 1, 1);
  for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
  return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
}
function light([r, g, b]) {
  const [x, y, z] = [r, g, b].map((c) => c / 255).map(
    (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
}
const low = [];
let seen = 0;
for (const one of document.body.querySelectorAll("*")) {
  const own = [...one.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  const field = one.matches("textarea, select");
  if (!(own || field) || !one.checkVisibility() || one.matches("option, script")) continue;
  const backs = [];
  for (let e = one; e; e = e.parentElement) backs.unshift(getComputedStyle(e).backgroundColor);
  const back = pixel("#fff", ...backs);
  const [a, b] = [light(pixel(getComputedStyle(one).color)), light(back)];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  seen += 1;
  if (ratio < 4.5) low.push([one.tagName, one.className, one.textContent.slice(0, 20), ratio]);
}
return [seen, low];
"""


@pytest.fixture(params=[False, True], ids=["light", "dark"])
def coloured(request, driver):
    def emulate(features):
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    scheme = "dark" if request.param else "light"
    emulate([{"name": "prefers-color-scheme", "value": scheme}])
    yield scheme
    emulate([{"name": "prefers-color-scheme", "value": "light"}])


@pytest.fixture(params=[1280, 360], ids=["wide", "narrow"])
def width(request, driver):
    metrics = {"width": request.param, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    yield request.param
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_contrast_and_width(console, coloured, width):
    def fine():
        seen, low = console.run(CONTRASTS)
        assert low == []
        assert console.run("return document.documentElement.scrollWidth") <= width
        for field in ("batch", "headers", "send", "stream", "copy", "history"):
            box = console[field].rect
            assert 0 <= box["x"] <= box["x"] + box["width"] <= width, field
        return seen

    assert fine() > 10
    page = console.run("return getComputedStyle(document.body).backgroundColor")
    dark = max(map(int, re.findall(r"\d+", page))) < 128
    assert dark == (coloured == "dark")
    long = "/" + "nothing" * 60
    console.send("/json", "/moved", "/error", long, {"uri": "/png", "depends-on": [3]}, "/html")
    console.open_all()
    assert fine() > 60
    console.send({"uri": "x" * 300, "n" * 300: 1}, {"method": "x" * 300, "uri": 1})
    assert fine() > 20
    console.write("{")
    console["send"].click()
    fine()


def test_narrow_what_came_of_it_is_in_sight(console, driver):
    metrics = {"width": 360, "height": 640, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        console.send("/json")
        box = console.run("return document.getElementById('outcome').getBoundingClientRect()")
        assert 0 <= box["top"] < 640
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_under_a_mount(driver, servers):
    console = Console(driver, servers("waitress", APP, "/api"))
    console.url = f"{console.origin}/api/batch"
    console.get()
    assert console.send("/json") == "1 request: 1 fine."


def test_the_demo(driver):
    """What a newcomer sees first: everything is there to press the button."""
    command = [sys.executable, "-m", "batchwsgi", "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        port = int(re.search(r"127\.0\.0\.1:([0-9]+)", process.stdout.readline())[1])
        console = Console(driver, SimpleNamespace(host="127.0.0.1", port=port)).get()
        assert console["batch"].get_property("value") == demo.BATCH
        console["send"].click()
        assert console.outcome() == "9 requests: 7 fine, 2 failed."
        statuses = [row.status for row in console.rows()]
        assert statuses == "200 200 201 200 302 200 200 404".split() + ["500 application-error"]
        picture = console.opened(6).find_element("tag name", "img")
        assert console.until(lambda: picture.get_property("naturalWidth")) == 8
    finally:
        process.terminate()
        process.communicate(timeout=20)
