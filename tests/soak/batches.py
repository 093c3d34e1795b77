"""Batches that are made at random, and what has to be answered to each.

`foreseen` says of every item of a batch what becomes of it, by the rules in the documentation and
by nothing that the package does. `Planner` makes batches. What is sent and what comes back is the
matter of `dialects`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from . import items
from .items import Item
from .ledger import POISON

NATIVE, LINES = "native", "native, in lines"
ODATA_JSON, ODATA_MULTIPART, HTTP_MULTIPART = "OData JSON", "OData multipart", "HTTP multipart"
PLAIN = "no batch"
DIALECTS = {
    NATIVE: 25,
    LINES: 25,
    ODATA_JSON: 16,
    ODATA_MULTIPART: 16,
    HTTP_MULTIPART: 16,
    PLAIN: 5,
}
"""How many of a hundred batches are in each."""
ODATA = (ODATA_JSON, ODATA_MULTIPART)

NOT_EXECUTED = frozenset(
    "stopped dependency-failed reference rolled-back unavailable deadline reply-limit".split()
)
OF_TIME, OF_SIZE = frozenset(["deadline", "timeout"]), frozenset(["too-large", "reply-limit"])


def failed(outcome: str) -> bool:
    """Whether that is the outcome of a request that failed: status 400 or above, or a problem."""
    return not outcome.isdigit() or int(outcome) >= 400


@dataclass(kw_only=True)
class Plan:
    """A batch: its items, how they are sent, and how the whole is answered."""

    token: str
    dialect: str
    items: list[Item]
    on_fail: str = "ignore"
    path: str = "/batch"
    fills: bool = False
    """The reply becomes too large, and which items are in it depends on how fast they are."""
    unavailable: bool = False
    """No transaction can be entered."""
    flaw: str = ""
    """What it is refused for, of `FLAWS`."""

    @property
    def streamed(self) -> bool:
        return self.dialect == LINES


TOO_LONG = "too long"
FLAWS = {"header": 400, "cut off": 400, "too many": 413, TOO_LONG: 413, "media type": 415}
"""What a batch can be refused for, and the status."""


# --- What has to become of a batch ------------------------------------------------------------


def foreseen(plan: Plan) -> list[str] | int:
    """The outcome of each item, or the status with which the batch is refused."""
    if plan.flaw:
        return FLAWS[plan.flaw]
    outcomes: list[str] = []
    stops = plan.on_fail == "stop"
    for group, unit in groupby(range(len(plan.items)), lambda place: plan.items[place].group):
        if group is None:
            for place in unit:
                ended = stops and any(map(failed, outcomes))
                outcomes.append(_of_one(plan.items[place], outcomes, ended))
            continue
        places = list(unit)
        if plan.unavailable and not _hindered(plan, places, outcomes, stops):
            if all(outcome in NOT_EXECUTED for outcome in outcomes):
                return 503
            outcomes += ["unavailable"] * len(places)
        else:
            outcomes += _of_group(plan, places, outcomes, stops)
    return outcomes


def _of_one(item: Item, outcomes: Sequence[str], ended: bool) -> str:
    if ended:
        return "stopped"
    if any(failed(outcomes[place]) for place in item.depends_on if place < len(outcomes)):
        return "dependency-failed"
    return item.outcome


def _hindered(plan: Plan, places: list[int], outcomes: list[str], stops: bool) -> list[str]:
    """The outcomes of a group that does not begin, because of something outside of it; or []."""
    ended = stops and any(map(failed, outcomes))
    for hindered in places:
        reason = _of_one(plan.items[hindered], outcomes, ended)
        if reason in ("stopped", "dependency-failed"):
            return [reason if place == hindered else "stopped" for place in places]
    return []


def _of_group(plan: Plan, places: list[int], outcomes: list[str], stops: bool) -> list[str]:
    if hindered := _hindered(plan, places, outcomes, stops):
        return hindered
    told: list[str] = []
    for place in places:
        ended = any(map(failed, told))
        told.append(_of_one(plan.items[place], [*outcomes, *told], ended))
    poisoned = any(plan.items[place].key.startswith(POISON) for place in places)
    if poisoned or any(map(failed, told)):
        told = [outcome if failed(outcome) else "rolled-back" for outcome in told]
    return told


def speakers(plan: Plan, outcomes: Sequence[str]) -> list[int]:
    """For each item, the one whose answer is shown for it.

    A change set that failed has one part: that of the request that failed first, or of its first.
    """
    shown = [*range(len(outcomes))]
    if plan.dialect == ODATA_MULTIPART:
        for group, unit in groupby(shown[:], lambda place: plan.items[place].group):
            places = list(unit)
            at_fault = [
                place
                for place in places
                if failed(outcomes[place]) and outcomes[place] not in ("rolled-back", "stopped")
            ]
            if group is not None and any(failed(outcomes[place]) for place in places):
                shown[places[0] : places[-1] + 1] = [[*at_fault, places[0]][0]] * len(places)
    return shown


def allowed(plan: Plan, expected: str, seen: set[str]) -> set[str]:
    """The outcomes that an item may have; `seen` are those of the whole batch.

    Where time or room was over, it depends on the speed of the machine what that was over for.
    """
    if plan.fills:
        return {expected, *OF_SIZE, *OF_TIME}
    if seen & OF_TIME:
        return {expected, *OF_TIME, "stopped", "dependency-failed", "rolled-back"}
    return {expected}


def told(item: Item, outcome: str) -> bool:
    """Whether that outcome says that the item was executed, and is not undone."""
    if item.group is not None:
        return not failed(outcome)
    return outcome not in NOT_EXECUTED


# --- Making batches ---------------------------------------------------------------------------


class Planner:
    """Makes the batches of one client, from its own random numbers."""

    def __init__(self, client: str, seed: str) -> None:
        self._client = client
        self._rng = random.Random(seed)
        self._batches = 0
        self._dialects = self._rng.sample([*DIALECTS], len(DIALECTS))
        """Those that the first batches are in: each once."""

    def plan(self) -> Plan:
        """The next batch."""
        rng = self._rng
        self._batches += 1
        (dialect,) = rng.choices([*DIALECTS], [*DIALECTS.values()])
        if self._dialects:
            dialect = self._dialects.pop()
        token = f"{self._client}.{self._batches}"
        path = "/$batch" if dialect in ODATA else "/batch"
        plan = Plan(token=token, dialect=dialect, items=[], path=path)
        if dialect == PLAIN:
            plan.items = [rng.choice(items.READS + items.WRITES)(f"{token}.0", rng)]
        elif dialect in (NATIVE, LINES) and rng.random() < 0.03:
            plan.path = "/short"
            plan.items = self._made(token, [items.make, items.stuck, items.make, items.echo])
        elif dialect not in ODATA and rng.random() < 0.02:
            plan.fills = True
            plan.items = self._made(token, [items.half_full] * 8 + [items.make])
        else:
            self._mix(plan)
        return plan

    def _made(self, token: str, kinds: Sequence[items.Make]) -> list[Item]:
        return [make(f"{token}.{place}", self._rng) for place, make in enumerate(kinds)]

    def _mix(self, plan: Plan) -> None:
        rng = self._rng
        sources: list[list[items.Make]] = [items.READS, items.WRITES, items.FAILURES, items.LOGINS]
        for place in range(rng.randrange(1, 13)):
            (source,) = rng.choices(sources, [55, 25, 12, 8])
            item = self._with_reference(plan, place) or rng.choice(source)(
                f"{plan.token}.{place}", rng
            )
            if plan.dialect in (NATIVE, LINES, ODATA_JSON) and place and rng.random() < 0.15:
                item.depends_on.append(rng.randrange(place))
            plan.items.append(item)
        if plan.dialect != HTTP_MULTIPART and rng.random() < 0.2:
            plan.on_fail = "stop"
        if plan.dialect in ODATA and rng.random() < 0.5:
            self._group(plan)
        if plan.dialect in (NATIVE, LINES) and rng.random() < 0.2:
            plan.on_fail = "rollback"
            self._all_in_one(plan)
        if any(item.group is not None for item in plan.items):
            plan.unavailable = rng.random() < 0.05
        if rng.random() < 0.05:
            plan.flaw = rng.choice([*FLAWS])

    def _with_reference(self, plan: Plan, place: int) -> Item | None:
        """An item that refers to what an earlier one has made; None if it is to be another."""
        made = [n for n, item in enumerate(plan.items) if item.path.startswith("/make/")]
        if not made or plan.dialect == HTTP_MULTIPART or self._rng.random() < 0.6:
            return None
        target = self._rng.choice(made)
        kinds = [items.at_location]
        if plan.dialect in (NATIVE, LINES):
            kinds += [items.referring, items.nowhere]
        return self._rng.choice(kinds)(f"{plan.token}.{place}", target, plan.items[target])

    def _group(self, plan: Plan) -> None:
        """Put writes behind the other items that are done all or none, and something after them."""
        rng = self._rng
        for group in range(rng.randrange(1, 3)):
            kinds = rng.choices([*items.WRITES, items.poison], k=rng.randrange(1, 4))
            if rng.random() < 0.3:
                kinds.append(rng.choice([items.write_and_fail, items.write_and_raise]))
            for make in kinds[: 18 - len(plan.items)]:
                item = make(f"{plan.token}.{len(plan.items)}", rng)
                item.group = group
                plan.items.append(item)
        last = len(plan.items) - 1
        if plan.dialect == ODATA_JSON:
            item = items.make(f"{plan.token}.{last + 1}", rng)
            item.depends_on.append(last)
            plan.items.append(item)

    def _all_in_one(self, plan: Plan) -> None:
        """Have most of these batches succeed: without the failures, at times with the poison."""
        rng = self._rng
        if rng.random() < 0.6:
            kept = [make(f"{plan.token}.{n}", rng) for n, make in enumerate(self._harmless())]
            plan.items = kept
        for item in plan.items:
            item.group = 0

    def _harmless(self) -> list[items.Make]:
        kinds = self._rng.choices(items.READS + items.WRITES, k=self._rng.randrange(1, 8))
        return [*kinds, items.poison] if self._rng.random() < 0.1 else kinds
