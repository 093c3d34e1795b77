"""What was done, and what clients were told about it.

Each worker writes what it does into a `Ledger` of its own, a SQLite file: what a killed worker had
not committed is undone when the file is read. `Claims` are what the clients were told; at the end
they are compared with all ledgers. This module makes nothing when it is imported, because gunicorn
may import it before gevent patches `threading`.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

POISON = "poison"
"""A transaction in which a key that begins with this was written cannot be committed."""

unavailable: ContextVar[bool] = ContextVar("unavailable", default=False)
"""Whether no transaction can be entered."""


class Expected(Exception):
    """A failure that the soak has asked for."""


class Ledger:
    """The keys of what one worker has done, in the order in which it was done.

    One thread at a time uses the connection; a transaction keeps it until its end.
    """

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA synchronous = OFF")  # a killed process loses nothing
        self._connection.execute("PRAGMA cache_size = -200")  # 200 KiB: it is not to grow
        self._connection.execute("CREATE TABLE done (key TEXT)")
        self._connection.execute("CREATE INDEX by_key ON done (key)")
        self._lock = threading.Lock()
        self._inside: ContextVar[bool] = ContextVar("inside", default=False)
        self._keys: list[str] = []
        self.begun = 0
        """Transactions that were entered."""
        self.ended = 0
        """Transactions that were left."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is added inside is kept whole or not at all; the middleware's `transaction`."""
        if unavailable.get():
            raise Expected("no transaction can be entered")
        with self._lock:
            self.begun += 1
            self._keys = []
            self._connection.execute("BEGIN")
            token = self._inside.set(True)
            try:
                yield
                if any(key.startswith(POISON) for key in self._keys):
                    raise Expected("the transaction cannot be committed")
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            finally:
                self._inside.reset(token)
                self.ended += 1

    def add(self, key: str) -> None:
        """Write down that `key` was done."""
        with self._turn():
            self._connection.execute("INSERT INTO done VALUES (?)", (key,))
            if self._inside.get():
                self._keys.append(key)

    def has(self, key: str) -> bool:
        """Whether `key` was done."""
        with self._turn():
            found = self._connection.execute("SELECT 1 FROM done WHERE key = ?", (key,))
            return found.fetchone() is not None

    def _turn(self) -> AbstractContextManager[object]:
        return nullcontext() if self._inside.get() else self._lock


class Claim(NamedTuple):
    """What a client was told about one write."""

    key: str
    told: bool | None
    """Whether it was done; None where the client does not know."""
    unit: str
    """Writes of one unit are done all or none; empty for one that stands alone."""


class Verdict(NamedTuple):
    """What came of comparing the claims with the ledgers, in numbers of writes."""

    done: int
    """Told as executed, and executed once."""
    not_done: int
    """Told as not executed or undone, and rightly."""
    in_doubt: int
    """Of which the client was told nothing: it left, or its worker was killed."""
    done_in_doubt: int
    """Those in doubt that were executed."""
    lost: list[str]
    """Told as executed, and not in a ledger."""
    twice: list[str]
    """In the ledgers more than once."""
    untold: list[str]
    """Executed, though told as not executed, or never sent."""
    halves: list[str]
    """Units of which some were done and others not."""


class Claims:
    """What all clients were told, in a SQLite file, so that a long soak needs no more memory."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute("CREATE TABLE claims (key TEXT PRIMARY KEY, told, unit TEXT)")
        self._lock = threading.Lock()

    def add(self, claims: Iterable[Claim]) -> None:
        with self._lock:
            self._connection.executemany("INSERT INTO claims VALUES (?, ?, ?)", claims)

    def compared(self, ledgers: Iterable[Path]) -> Verdict:
        """Compare with these ledgers, whose workers have ended."""
        execute = self._connection.execute
        execute("CREATE TEMP TABLE all_done (key TEXT)")
        for ledger in ledgers:
            execute("ATTACH ? AS ledger", (str(ledger),))
            if execute("SELECT 1 FROM ledger.sqlite_master").fetchone():  # not killed before that
                execute("INSERT INTO all_done SELECT key FROM ledger.done")
            execute("DETACH ledger")
        execute("CREATE TEMP TABLE times AS SELECT key, count(*) n FROM all_done GROUP BY key")
        execute("CREATE UNIQUE INDEX temp.by_key ON times (key)")
        execute(
            "CREATE TEMP VIEW both AS SELECT claims.key, told, unit, coalesce(n, 0) n"
            " FROM claims LEFT JOIN times USING (key)"
        )
        return Verdict(
            done=self._count("told AND n = 1"),
            not_done=self._count("NOT told AND n = 0"),
            in_doubt=self._count("told IS NULL"),
            done_in_doubt=self._count("told IS NULL AND n > 0"),
            lost=self._keys("SELECT key FROM both WHERE told AND n = 0"),
            twice=self._keys("SELECT key FROM times WHERE n > 1"),
            untold=self._keys(
                "SELECT key FROM both WHERE NOT told AND n > 0 UNION ALL"
                " SELECT key FROM times WHERE key NOT IN (SELECT key FROM claims)"
            ),
            halves=self._keys(
                "SELECT unit FROM both WHERE unit != '' GROUP BY unit HAVING min(n) != max(n)"
            ),
        )

    def _count(self, condition: str) -> int:
        (count,) = self._connection.execute(
            f"SELECT count(*) FROM both WHERE {condition}"
        ).fetchone()
        return int(count)

    def _keys(self, query: str) -> list[str]:
        return [key for (key,) in self._connection.execute(query)]
