"""Fixtures: a headless browser, the application on real servers, and a page of it."""

from __future__ import annotations

import json
import shutil
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..servers.harness import Server, start

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
SWITCHES = (
    "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-dev-shm-usage "
    "disable-background-networking disable-component-update disable-sync window-size=1280,900"
).split()
TIMEOUT = 30.0
"""Seconds that a script in a page may take."""

HELPERS = """
const own = ["date", "server", "connection", "via", "keep-alive", "transfer-encoding"];
window.bytes = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
window.base64 = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)));
window.sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
window.show = async (promise) => {
  try {
    const response = await promise;
    const { status, ok, url, redirected, type } = response;
    const headers = [...response.headers].filter(([name]) => !own.includes(name));
    const clone = response.clone();
    const cloned = [clone.status, clone.ok, clone.url, clone.redirected, clone.type,
      await clone.text()];
    const isReal = response instanceof Response, isNull = response.body === null;
    const body = base64(await response.arrayBuffer());
    return { status, ok, url, redirected, type, headers, isReal, isNull, body, cloned };
  } catch (error) {
    return { error: error?.name ?? error };
  }
};
window.load = (path) => import(path.startsWith("http") ? path : mount + path);
// What becomes of each case, alone and in a batch with another call.
window.compare = async (batching, cases) => {
  const found = { alone: {}, batched: {}, beside: [] };
  for (const [name, call] of Object.entries(cases)) {
    const batch = batching();
    const [batched, beside] = await Promise.all([call(batch), batch(mount + "/echo")].map(show));
    found.batched[name] = batched;
    found.beside.push(beside.status);
    found.alone[name] = await show(call(fetch));
  }
  return found;
};
// Wait until a path has arrived at the application.
window.arrival = async (path) => {
  while (!(await (await fetch(mount + "/log")).json()).some((line) => line.path === path
    && line.side === "application")) await sleep(10);
};
"""


@dataclass(frozen=True)
class Site:
    """The application on a running server."""

    server: Server

    @property
    def url(self) -> str:
        return f"http://{self.server.host}:{self.server.port}{self.server.mount}"

    def get(self, path: str) -> Any:
        """What the application answers, by itself."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=TIMEOUT) as reply:
            return json.load(reply)

    def log(self) -> list[dict[str, str]]:
        """What arrived at the server, and at the application."""
        log: list[dict[str, str]] = self.get("/log")
        return log

    def posted(self, path: str = "/batch") -> int:
        """How many batches arrived."""
        return sum(line["path"] == path and line["method"] == "POST" for line in self.log())

    def arrived(self, side: str = "application") -> list[str]:
        """The requests that arrived there, in order."""
        return [f"{line['method']} {line['path']}" for line in self.log() if line["side"] == side]

    def end(self) -> None:
        """Let go what waits, and wait until nothing runs: a batch that was left goes on."""
        deadline = time.monotonic() + TIMEOUT
        while self.get("/end")["running"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)


class Page:
    """A page of the application in the browser, with `fetch` and, once asked for, `batching`."""

    def __init__(self, driver: Any, site: Site, path: str = "/page") -> None:
        self.driver = driver
        self.site = site
        driver.get(f"{site.url}{path}")
        driver.execute_script(f"window.mount = {json.dumps(site.server.mount)};\n{HELPERS}")
        site.get("/log?clear")

    def run(self, script: str, *arguments: Any, module: str = "/batch.js") -> Any:
        """What the body of an asynchronous function returns.

        It has `batching` from the module, `fetch` as the browser's own, and `given`, the arguments.
        """
        whole = f"""
            const [given, module, done] = arguments;
            (async () => {{
              const {{ batching }} = await load(module);
              {script}
            }})().then((result) => done({{ result }}), (error) => done({{ error: `${{error}}` }}));
        """
        answer = self.driver.execute_async_script(whole, [*arguments], module)
        assert "error" not in answer, answer["error"]
        return answer["result"]


@contextmanager
def browser(profile: Path) -> Iterator[Any]:
    """A headless Chromium with an empty profile."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in [*SWITCHES, f"user-data-dir={profile}"]:
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(TIMEOUT)
    driver.set_page_load_timeout(TIMEOUT)
    try:
        yield driver
    finally:
        driver.quit()


@contextmanager
def offline(driver: Any) -> Iterator[None]:
    """The browser has no network."""
    off = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", off)
    try:
        yield
    finally:
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", {**off, "offline": False})


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The one browser of all these tests."""
    for program in (CHROMIUM, DRIVER):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}: the browser's tests need chromium and its driver")
    with browser(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture(scope="session")
def servers() -> Iterator[Any]:
    """A server with an application at a mount: started when it is first asked for."""
    with ExitStack() as stack:
        started: dict[tuple[str, ...], Server] = {}

        def running(name: str, app: str, mount: str = "") -> Server:
            key = name, app, mount
            if key not in started:
                started[key] = stack.enter_context(start(name, app, mount=mount))
            return started[key]

        yield running


@pytest.fixture(
    params=[("waitress", ""), ("gunicorn_gthread", "/company")],
    ids=["waitress", "gunicorn-mounted"],
)
def site(request: pytest.FixtureRequest, servers: Any) -> Iterator[Site]:
    """The application on a server, at the root or under a mount."""
    name, mount = request.param
    site = Site(servers(name, "tests.browser.app:application", mount))
    yield site
    site.end()


@pytest.fixture
def page(driver: Any, site: Site) -> Page:
    """A new page; nothing has arrived yet."""
    return Page(driver, site)
