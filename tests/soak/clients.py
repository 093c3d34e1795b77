"""Clients: each sends one batch after the other, holds the replies against what was foreseen, and
at times leaves before it has all of one."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from ..servers.harness import Server
from . import dialects
from .batches import PLAIN, Plan, Planner, allowed, foreseen, speakers, told
from .dialects import HOST, Result, Sent, Unreadable
from .items import Item
from .ledger import Claim, Claims

TIMEOUT = 30.0
"""Seconds that a client waits for anything."""
IDLE = 1.0
"""Seconds after which a client makes a new connection: less than the server keeps one open."""

DRAINED = 64 * 1024
"""Bytes of a body that nobody reads, of which gthread reads the rest; else it ends the connection,
and does not say so."""

UNKNOWN = "?"
"""The session where it is not known."""

LEAVES = {"": 92, "half a body": 2, "before the reply": 3, "during the reply": 3}
"""How many of a hundred batches are left, and when."""


class Broken(NamedTuple):
    """A connection that the server ended while a batch was under way."""

    server: str
    worker: int | None
    """The process at its other end; None if it had not answered on this connection."""
    sent: float
    """When the batch was sent, on the clock of `time.time`."""
    seen: float
    """When the end was seen."""
    error: str


class Counts:
    """What all clients have seen."""

    def __init__(self) -> None:
        self.batches: Counter[str] = Counter()
        self.members: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.left: Counter[str] = Counter()
        self.refused: Counter[int | str] = Counter()
        self.broken: list[Broken] = []
        self.mixed_up: list[str] = []
        """Answers that have something of another request in them."""
        self.wrong: list[str] = []
        """Other answers that are not what was foreseen."""
        self._lock = threading.Lock()

    def add(self, of: Counter[Any], *keys: Any, count: int = 1) -> None:
        with self._lock:
            for key in keys:
                of[key] += count


class Setting(NamedTuple):
    """What all clients share."""

    counts: Counts
    claims: Claims
    seed: str
    pause: float
    """Seconds between two batches of a client, on average."""


class Left(Exception):
    """The client has left."""


class Client(threading.Thread):
    """One client of one server, with a user and a session of its own."""

    def __init__(self, number: int, server: Server, setting: Setting) -> None:
        super().__init__(name=f"{server.name.replace(' ', '-')}-{number}")
        name, seed = self.name, setting.seed
        self._server = server
        self._counts = setting.counts
        self._claims = setting.claims
        self._pause = setting.pause
        self._rng = random.Random(f"{seed} {name}")
        self._planner = Planner(name, f"{seed} {name} plans")
        self._connection: http.client.HTTPConnection | None = None
        self._worker: int | None = None
        self._used = 0.0
        self._unread = (False, False)
        """Whether the server does not read the body of the batch before on this connection, and of
        this one."""
        self._cookies: dict[str, str] = {}
        self._session: str | None = None
        """The name that the server knows this client by: the token of its last login."""
        self._ended = threading.Event()

    def end(self) -> None:
        """Send nothing after the batch that is under way."""
        self._ended.set()

    def run(self) -> None:
        while not self._ended.is_set():
            self._try(self._planner.plan())
            self._ended.wait(self._rng.uniform(0, 2 * self._pause))
        self._disconnect()

    # --- One batch

    def _try(self, plan: Plan) -> None:
        """Send a batch, hold the reply against what was foreseen, and claim what it says."""
        results: dict[int, Result] = {}
        way = self._rng.choices([*LEAVES], [*LEAVES.values()])[0]
        untouched = way == "half a body" or bool(plan.flaw)
        session = self._session
        sent = time.time()
        self._counts.add(self._counts.batches, plan.dialect)
        self._counts.add(self._counts.members, plan.dialect, count=len(plan.items))
        try:
            if plan.dialect == PLAIN:
                untouched = False
                results[0] = self._plain(plan)
            else:
                untouched |= not self._batch(plan, way, results)
        except Left:
            self._counts.add(self._counts.left, way)
            self._disconnect()
        except (OSError, http.client.HTTPException) as error:
            self._note_broken(sent, error)
        except Exception as error:
            self._wrong(plan, f"unreadable: {error!r}")
            self._disconnect()
        self._check(plan, results, session)
        self._claim(plan, results, untouched)

    def _note_broken(self, sent: float, error: Exception) -> None:
        """Note that the server ended the connection.

        It may do so behind a body that it does not read (RFC 9110 §15.5.14), and gthread does.
        """
        if any(self._unread):
            self._counts.add(self._counts.refused, "connection closed behind a body not read")
        else:
            broken = Broken(self._server.name, self._worker, sent, time.time(), repr(error))
            self._counts.broken.append(broken)
        self._disconnect()

    def _plain(self, plan: Plan) -> Result:
        reply = self._asked(plan, dialects.alone(plan.items[0]))
        headers = {name.lower(): value for name, value in reply.headers.items()}
        return Result(reply.status, headers, reply.read())

    def _batch(self, plan: Plan, way: str, results: dict[int, Result]) -> bool:
        """Exchange a batch; False if it was refused. Raises `Left` where the client leaves."""
        sent = dialects.written(plan, self._rng)
        if way == "half a body":
            self._send_half(plan, sent)
        reply = self._asked(plan, sent, way)
        expected = foreseen(plan)
        if isinstance(expected, int) or reply.status != 200:
            return self._refused(plan, reply, expected)
        if plan.streamed:
            for count, (place, result) in enumerate(self._lines(reply)):
                if place in results:
                    raise Unreadable(f"two lines of {place}")
                results[place] = result
                if way == "during the reply" and count >= len(plan.items) // 2:
                    raise Left
        else:
            if way == "during the reply":
                reply.read(10)
                raise Left
            body = reply.read()
            results |= dialects.read(plan, reply.headers["Content-Type"], body)
            self._keep_cookies(plan, reply, results)
        if results.keys() != {*range(len(plan.items))}:
            self._wrong(plan, f"answered are {sorted(results)} of {len(plan.items)}")
        return True

    def _refused(self, plan: Plan, reply: http.client.HTTPResponse, expected: object) -> bool:
        """Note the refusal of a batch; gives False."""
        body = reply.read()
        if reply.status != expected:
            self._wrong(plan, f"{reply.status} and not {expected}: {body[:300]!r}")
        elif json.loads(body)["status"] != expected or b"Nothing was executed" not in body:
            self._wrong(plan, f"a refusal with {body[:300]!r}")
        self._counts.add(self._counts.refused, reply.status)
        return False

    def _lines(self, reply: http.client.HTTPResponse) -> Iterator[tuple[int, Result]]:
        """The lines of a streamed reply, as they come; at times read slowly.

        `read1` raises where the reply was cut off, which `readline` does not.
        """
        delay = self._rng.choice([0, 0, 0, 0.002, 0.01])
        rest = b""
        while piece := reply.read1(1000 if delay else -1):
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                yield dialects.line_read(line)
            time.sleep(delay)
        if rest:
            raise Unreadable(f"half a line: {rest[:100]!r}")

    # --- The connection

    def _asked(self, plan: Plan, sent: Sent, way: str = "") -> http.client.HTTPResponse:
        """The reply, of which the head has come. Raises `Left` where the client leaves before."""
        connection = self._connected()
        is_unread = len(sent.body) > DRAINED and foreseen(plan) in (413, 415)
        self._unread = self._unread[1], is_unread
        try:
            headers = {**self._own(plan), **sent.headers}
            connection.request(sent.method, sent.path, sent.body or None, headers)
        except (BrokenPipeError, ConnectionResetError):
            if not is_unread:  # else the refusal is there all the same
                raise
        if way == "before the reply":
            time.sleep(self._rng.uniform(0, 0.03))
            raise Left
        reply = connection.getresponse()
        self._used = time.monotonic()
        return reply

    def _send_half(self, plan: Plan, sent: Sent) -> None:
        connection = self._connected()
        connection.putrequest(sent.method, sent.path, skip_host=True, skip_accept_encoding=True)
        headers = {**self._own(plan), **sent.headers, "Content-Length": str(len(sent.body))}
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(sent.body[: len(sent.body) // 2])
        raise Left

    def _own(self, plan: Plan) -> dict[str, str]:
        """The headers by which this client and this batch are told from others."""
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        own = {
            "Host": HOST,
            "Authorization": f"Bearer {self.name}",
            "X-Request-Id": plan.token,
        }
        return {**own, "Cookie": cookies} if cookies else own

    def _connected(self) -> http.client.HTTPConnection:
        """The connection that was used last, or a new one."""
        is_old = time.monotonic() - self._used > IDLE
        has_ended = self._connection is None or self._connection.sock is None
        if has_ended or is_old or self._rng.random() < 0.05:
            self._disconnect(gently=True)
            server = self._server
            connection = http.client.HTTPConnection(server.host, server.port, timeout=TIMEOUT)
            connection.auto_open = 0  # one that ended is not to be made anew unseen
            connection.connect()
            self._connection = connection
            self._used = time.monotonic()
            self._unread = False, False
        assert self._connection is not None
        return self._connection

    def _disconnect(self, gently: bool = False) -> None:
        """End the connection; not gently: so that the other side sees a reset, half of the time."""
        connection, self._connection, self._worker = self._connection, None, None
        if connection is None:
            return
        if not gently and connection.sock is not None and self._rng.random() < 0.5:
            with suppress(OSError):
                linger = struct.pack("ii", 1, 0)
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.close()

    def _keep_cookies(
        self, plan: Plan, reply: http.client.HTTPResponse, results: dict[int, Result]
    ) -> None:
        """Keep the cookies of a whole reply; they have to be those of its logins."""
        logins = [
            None if item.path.startswith("/logout/") else item.token
            for place, item in enumerate(plan.items)
            if item.path.startswith(("/login/", "/logout/")) and results[place].outcome == "200"
        ]
        fields = reply.headers.get_all("Set-Cookie") or []
        cookies = dict(field.partition(";")[0].split("=", 1) for field in fields)
        names = [token for token in logins if token is not None]
        expected = names[-1] if names else None
        if cookies.get("last") != expected:
            self._mixed_up(plan, f"the cookie of {cookies.get('last')}, not of {expected}")
        if logins:
            self._session = logins[-1]
            self._cookies = {"session": cookies["session"]} if self._session else {}

    # --- What came of it

    def _check(self, plan: Plan, results: dict[int, Result], session: str | None) -> None:
        """Hold what was answered against what was foreseen; `session` is that before the batch."""
        expected = foreseen(plan)
        if isinstance(expected, int):
            return
        seen = {result.outcome for result in results.values()}
        sessions = self._sessions(plan, results, session)
        for place, speaker in enumerate(speakers(plan, expected)):
            if place not in results:
                continue
            outcome = results[place].outcome
            self._counts.add(self._counts.outcomes, outcome)
            item = plan.items[speaker]
            if outcome not in allowed(plan, expected[speaker], seen):
                self._wrong(plan, f"{place} is {outcome}, not {expected[speaker]}: {item.path}")
            elif outcome.isdigit() and not item.anonymous:
                self._compare(plan, item, results[place], sessions[speaker])

    def _sessions(
        self, plan: Plan, results: dict[int, Result], session: str | None
    ) -> list[str | None]:
        """The session that each item has to see: that of the last login before it.

        What was rolled back was executed, too. Behind an item of which nothing is known, no
        session is.
        """
        sessions: list[str | None] = []
        for place, item in enumerate(plan.items):
            sessions.append(session)
            if place not in results:
                session = UNKNOWN
            elif session != UNKNOWN and results[place].outcome in ("200", "rolled-back"):
                if item.path.startswith("/login/"):
                    session = item.token
                elif item.path.startswith("/logout/"):
                    session = None
        return sessions

    def _compare(self, plan: Plan, item: Item, result: Result, session: str | None) -> None:
        """Hold what the application answered against who asked for what."""
        if result.headers.get("x-token") != item.token:
            self._mixed_up(plan, f"the header of {result.headers.get('x-token')}: {item.path}")
        is_timed = plan.path != "/short" and plan.dialect != PLAIN
        if is_timed and "batchwsgi;start=" not in result.headers.get("server-timing", ""):
            self._wrong(plan, f"no Server-Timing: {item.path}")
        if item.body is not None:
            if result.body != item.body:
                self._mixed_up(plan, f"the body {result.body[:100]!r}: {item.path}")
            return
        said = json.loads(result.body)
        expected = {
            "token": item.token,
            "user": self.name,
            "trace": plan.token,
            "session": said["session"] if session == UNKNOWN else session,
            "digest": hashlib.sha256(item.content).hexdigest(),
            **item.says,
        }
        for name, value in expected.items():
            if said.get(name) != value:
                self._mixed_up(plan, f"{name} {said.get(name)!r}, not {value!r}: {item.path}")
        if self._connection is not None:
            self._worker = said["pid"]

    def _claim(self, plan: Plan, results: dict[int, Result], untouched: bool) -> None:
        """Put down what was said of each write; nothing is known of one without an answer."""
        claims = []
        for place, item in enumerate(plan.items):
            if item.key:
                unit = "" if item.group is None else f"{plan.token} {item.group}"
                answer = results.get(place)
                known = None if answer is None else told(item, answer.outcome)
                claims.append(Claim(item.key, False if untouched else known, unit))
        self._claims.add(claims)

    def _mixed_up(self, plan: Plan, what: str) -> None:
        self._counts.mixed_up.append(f"{self._server.name} {plan.dialect} {plan.token}: {what}")

    def _wrong(self, plan: Plan, what: str) -> None:
        self._counts.wrong.append(f"{self._server.name} {plan.dialect} {plan.token}: {what}")
