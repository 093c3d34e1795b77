"""Fixtures: a headless browser, the application on real servers, and a page of it."""

from __future__ import annotations

import json
import shutil
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..servers.harness import Server, start

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
SWITCHES = (
    "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    "disable-component-update disable-sync"
).split()
TIMEOUT = 6.0
"""Seconds that a script in a page may take."""

HELPERS = """
const own = ["date", "server", "connection", "via", "keep-alive", "transfer-encoding"];
window.bytes = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
window.base64 = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)));
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
window.load = (path) => import(window.mount + path);
"""


@dataclass(frozen=True)
class Site:
    """The application on a running server."""

    server: Server

    @property
    def url(self) -> str:
        return f"http://{self.server.host}:{self.server.port}{self.server.mount}"

    def log(self, *, clear: bool = False) -> list[dict[str, str]]:
        """What arrived at the server, and at the application."""
        with urllib.request.urlopen(f"{self.url}/log{'?clear' * clear}", timeout=TIMEOUT) as reply:
            return json.load(reply)

    def posted(self, path: str = "/batch") -> int:
        """How many batches arrived."""
        return sum(line["path"] == path and line["method"] == "POST" for line in self.log())

    def arrived(self, side: str = "application") -> list[str]:
        """The requests that arrived there, in order."""
        return [f"{line['method']} {line['path']}" for line in self.log() if line["side"] == side]


class Page:
    """A page of the application in the browser, with `fetch` and, once asked for, `batching`."""

    def __init__(self, driver: Any, site: Site) -> None:
        self._driver = driver
        self.site = site
        driver.get(f"{site.url}/page")
        driver.execute_script(f"window.mount = {json.dumps(site.server.mount)};\n{HELPERS}")
        site.log(clear=True)

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
        answer = self._driver.execute_async_script(whole, [*arguments], module)
        assert "error" not in answer, answer["error"]
        return answer["result"]


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium with an empty profile."""
    for program in (CHROMIUM, DRIVER):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}: the browser's tests need chromium and its driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile: Path = tmp_path_factory.mktemp("chromium")
    for switch in [*SWITCHES, f"user-data-dir={profile}"]:
        options.add_argument(f"--{switch}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(TIMEOUT)
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(
    scope="session",
    params=[("waitress", ""), ("gunicorn_gthread", "/company")],
    ids=["waitress", "gunicorn-mounted"],
)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """The application on a server, at the root or under a mount."""
    name, mount = request.param
    with start(name, "tests.browser.app:application", mount=mount) as server:
        yield Site(server)


@pytest.fixture
def page(driver: Any, site: Site) -> Iterator[Page]:
    """A new page; nothing has arrived yet."""
    yield Page(driver, site)
    if any("/slow" in line["path"] for line in site.log()):
        time.sleep(2.5)  # a batch that was left goes on for as long; what it logs is not the next's
