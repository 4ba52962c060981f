"""What runs somewhere, and so must stay. Owns `engines` and `protections`; retention and the sweep only read them.

Holds:
- A digest is protected by whoever uses it, under whatever name of the registry: names are many, digests are one.
- What an engine tells replaces what it told before, in one transaction. What it does not tell of any more ran once, and
  is protected while it is among the last that ran of its service or container.
- An engine that does not answer takes nothing away: it protects what it last ran until it answers again, or is taken
  out of the configuration. One that never answered is told by `unknown_engines`: nobody knows what must stay for it.
- What is named by a tag alone is protected as whatever the tag is, and was since it was first seen so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple, TypeAlias

from homeport import events
from homeport.clock import Clock, rfc3339
from homeport.db.database import Row, Transaction
from homeport.events import SYSTEM
from homeport.oci.digest import Digest
from homeport.oci.errors import RegistryError
from homeport.oci.reference import Reference

#: current: a service is meant to run it. previous: a service can be rolled back to it. task: a node was told to run it
#: for a service. container: an engine has a container of it.
Kind: TypeAlias = Literal["current", "previous", "task", "container"]

#: What ran is remembered of so many services and containers of an engine at most, the newest: `docker run` gives each
#: container a new name. Of services and of containers as many each, so that neither pushes the other out.
RAN_MAX: Final = 1_000
#: Of a tag that moves while a service is said to run it, so many digests are protected, the newest.
NAMED_MAX: Final = 100

_COLUMNS = "used_by, node, kind, digest, image_id, image, first_seen_at, last_seen_at"
#: Which use is named where there are many: the first of these.
_RANK: Final[Mapping[Kind, int]] = {"task": 0, "container": 1, "current": 2, "previous": 3}


@dataclass(frozen=True, slots=True)
class Use:
    """Somebody who uses an image, as an engine tells it."""

    #: Such as `service web_api`.
    used_by: str
    kind: Kind
    #: The name that it was started by.
    image: str
    #: None where it is named by a tag alone.
    digest: Digest | None
    #: What the engine calls the image, where it told; an image may have many digests.
    image_id: str = ""
    #: Where, if that is one place.
    node: str = ""
    #: Of what runs no more but is still there: about when it last ran.
    stopped_at: float | None = None


#: Who uses something where, and how, by which name.
_Named: TypeAlias = tuple[str, str, Kind, str]


class _Key(NamedTuple):
    used_by: str
    node: str
    kind: Kind
    digest: str


@dataclass(frozen=True, slots=True)
class Protection:
    """A digest that is protected, and by whom."""

    used_by: str
    node: str
    kind: Kind
    digest: str
    image_id: str
    image: str
    first_seen_at: float
    #: When it was last seen to run; None: it runs, as far as the engine last told.
    last_seen_at: float | None

    @property
    def key(self) -> _Key:
        return _Key(self.used_by, self.node, self.kind, self.digest)


@dataclass(frozen=True, slots=True)
class EngineState:
    """What is known of an engine itself. Times are seconds since 1970 UTC."""

    name: str
    #: When it last told all that it runs; None: it never did.
    succeeded_at: float | None
    #: Since when it does not tell, and why; None: it does.
    failing_since: float | None
    failure: str | None


@dataclass(frozen=True, slots=True)
class Listed:
    """A protection and the engine that told of it."""

    protection: Protection
    engine: EngineState

    @property
    def state(self) -> Literal["runs", "previous", "ran"]:
        """Whether it runs, is what a service can be rolled back to, or ran once."""
        if self.protection.last_seen_at is not None:
            return "ran"
        return "previous" if self.protection.kind == "previous" else "runs"

    @property
    def last_seen_at(self) -> float:
        """When it was last seen to be so."""
        if self.protection.last_seen_at is not None:
            return self.protection.last_seen_at
        return self.engine.succeeded_at or self.protection.first_seen_at

    @property
    def sentence(self) -> str:
        """Why the digest is protected, such as `service web_api runs it on node-2`."""
        found = self.protection
        where = f" on {found.node}" if found.node else ""
        is_previous = found.kind == "previous"
        if found.last_seen_at is None and self.engine.failure is None:
            return f"{found.used_by} {'can be rolled back to it' if is_previous else 'runs it'}{where}"
        when = f"last seen {rfc3339(int(self.last_seen_at))}"
        if found.last_seen_at is None:
            when += f", since when engine {self.engine.name} has not answered"
        return f"{found.used_by} {'could be rolled back to it' if is_previous else 'ran it'}{where} ({when})"

    @property
    def weight(self) -> tuple[bool, bool, int, float]:
        """What is told first of a digest has the least: what runs, what is known best, what ran last."""
        found = self.protection
        has_ended = found.last_seen_at is not None
        return has_ended, self.engine.failure is not None, 0 if has_ended else _RANK[found.kind], -self.last_seen_at


# --- facts: what engines tell -----------------------------------------------------------------------------------


def report(tx: Transaction, clock: Clock, engine: str, uses: Iterable[Use], keep_last: int) -> None:
    """Replace what the engine told before by all that it uses now.

    What it tells of no more stays as long as it is among the `keep_last` that ran last of its service or container.
    """
    now = clock.now()
    before = _state(tx, engine)
    seen_at = before.succeeded_at if before and before.succeeded_at is not None else now
    held = _held(tx, engine)
    running: dict[_Named, list[Protection]] = defaultdict(list)
    for each in held:
        if each.last_seen_at is None:
            running[each.used_by, each.node, each.kind, each.image].append(each)
    resolved = [use for each in uses for use in _resolved(tx, each, running)]
    _succeeded(tx, clock, engine, before)
    _replace(tx, engine, held, merged(held, resolved, keep_last, seen_at, now))


def failed(tx: Transaction, clock: Clock, engine: str, why: str) -> None:
    """The engine did not tell what it runs. Nothing is taken away; that it began to be so is an event."""
    before = _state(tx, engine)
    if before is not None and before.failure == why:
        return
    if before is None or before.failing_since is None:
        events.append(tx, clock, "engine.unreachable", SYSTEM, reason=f"{engine}: {why}", detail={"engine": engine})
    tx.run(
        "INSERT INTO engines (name, failing_since, failure) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE"
        " SET failing_since = coalesce(engines.failing_since, excluded.failing_since), failure = excluded.failure",
        (engine, clock.now(), why),
    )


def forget_engine(tx: Transaction, clock: Clock, engine: str) -> None:
    """The engine is none that we ask: what it ran is not protected by it any more."""
    tx.run("DELETE FROM protections WHERE engine = ?", (engine,))
    if tx.run("DELETE FROM engines WHERE name = ?", (engine,)):
        events.append(tx, clock, "engine.forgotten", SYSTEM, reason=engine, detail={"engine": engine})


def sync(tx: Transaction, clock: Clock, configured: Collection[str]) -> None:
    """Let these be the engines: others are forgotten."""
    for state in engines(tx):
        if state.name not in configured:
            forget_engine(tx, clock, state.name)


# --- facts: what is protected -----------------------------------------------------------------------------------


def why(tx: Transaction, digest: str) -> str | None:
    """Why the digest is protected, in a sentence; None if it is not. What names it may be protected all the same."""
    states = {state.name: state for state in engines(tx)}
    rows = tx.all(f"SELECT engine, {_COLUMNS} FROM protections WHERE digest = ?", (digest,))  # noqa: S608
    found = [_listed(states, row) for row in rows]
    return min(found, key=lambda each: each.weight).sentence if found else None


def reasons(tx: Transaction) -> dict[str, str]:
    """Every digest that is protected, and why, in a sentence."""
    found = sorted(listed(tx), key=lambda each: each.weight, reverse=True)
    return {each.protection.digest: each.sentence for each in found}


def listed(tx: Transaction) -> list[Listed]:
    """Every protection, by who uses what; what runs before what ran."""
    states = {state.name: state for state in engines(tx)}
    rows = tx.all(
        f"SELECT engine, {_COLUMNS} FROM protections"  # noqa: S608
        " ORDER BY used_by, engine, last_seen_at IS NOT NULL, last_seen_at DESC, kind, node, digest"
    )
    return [_listed(states, row) for row in rows]


def engines(tx: Transaction) -> list[EngineState]:
    """The engines that were asked, by name."""
    rows = tx.all("SELECT name, succeeded_at, failing_since, failure FROM engines ORDER BY name")
    return [EngineState(*row) for row in rows]


def unknown_engines(tx: Transaction, configured: Iterable[str]) -> list[str]:
    """Those of the configured engines that have never told what they run: nobody knows what must stay for them."""
    known = {state.name for state in engines(tx) if state.succeeded_at is not None}
    return sorted(set(configured) - known)


# --- decisions --------------------------------------------------------------------------------------------------


def merged(
    held: Iterable[Protection], uses: Iterable[Use], keep_last: int, seen_at: float, now: float
) -> dict[_Key, Protection]:
    """What is protected from now on by an engine that held `held` and tells `uses`, each of which has a digest.

    `seen_at`: when the engine told of it before.
    """
    before = {protection.key: protection for protection in held}
    found: dict[_Key, Protection] = {}
    for use in uses:
        assert use.digest is not None, use
        key = _Key(use.used_by, use.node, use.kind, use.digest)
        old = before.get(key)
        first_seen_at = old.first_seen_at if old else now
        stopped_at = None if use.stopped_at is None else min(use.stopped_at, now)
        if stopped_at is not None and old is not None:
            stopped_at = max(stopped_at, seen_at if old.last_seen_at is None else old.last_seen_at)
        if key not in found or stopped_at is None:
            image_id = use.image_id or use.digest
            found[key] = Protection(*key, image_id, use.image, first_seen_at, stopped_at)
    for key, old in before.items():
        if key not in found:
            ended_at = seen_at if old.last_seen_at is None else old.last_seen_at
            found[key] = replace(old, last_seen_at=ended_at)
    ran = [protection for protection in found.values() if protection.last_seen_at is not None]
    running = [protection for protection in found.values() if protection.last_seen_at is None]
    return {protection.key: protection for protection in (*running, *_last_that_ran(running, ran, keep_last))}


def _last_that_ran(running: list[Protection], ran: list[Protection], keep_last: int) -> Iterator[Protection]:
    """Of what ran, what is remembered: of each service and container its last images, once each."""
    told = {(protection.used_by, protection.digest) for protection in running}
    images: dict[tuple[str, bool], set[str]] = {}
    users: dict[bool, set[str]] = {True: set(), False: set()}
    for protection in sorted(ran, key=lambda each: (-(each.last_seen_at or 0.0), *each.key)):
        pair = (protection.used_by, protection.digest)
        is_container = protection.kind == "container"
        last = images.setdefault((protection.used_by, is_container), set())
        if pair in told or (protection.image_id not in last and len(last) == keep_last):
            continue
        if protection.used_by not in users[is_container] and len(users[is_container]) == RAN_MAX:
            continue
        told.add(pair)
        last.add(protection.image_id)
        users[is_container].add(protection.used_by)
        yield protection


# --- rows -------------------------------------------------------------------------------------------------------


def _resolved(tx: Transaction, use: Use, running: Mapping[_Named, list[Protection]]) -> Iterator[Use]:
    """The use with its digest. What is named by a tag alone is what the tag is, and was since it was first seen so."""
    if use.digest is not None:
        yield use
        return
    try:
        reference = Reference.parse(use.image)
    except RegistryError:
        return  # Nothing of ours can be called that.
    row = tx.one(
        "SELECT digest FROM tagged_manifests WHERE repository = ? AND tag = ?", (reference.repository, reference.tag)
    )
    digests = [row[0]] if row else []
    same = running.get((use.used_by, use.node, use.kind, use.image), ())
    same = sorted(same, key=lambda each: each.first_seen_at, reverse=True)
    digests += [each.digest for each in same if each.digest not in digests]
    yield from (replace(use, digest=Digest(digest)) for digest in digests[:NAMED_MAX])


def _replace(tx: Transaction, engine: str, held: Iterable[Protection], after: Mapping[_Key, Protection]) -> None:
    """Write what is different, which on most days is nothing."""
    before = {protection.key: protection for protection in held}
    for key in before.keys() - after.keys():
        tx.run(
            "DELETE FROM protections WHERE engine = ? AND used_by = ? AND node = ? AND kind = ? AND digest = ?",
            (engine, *key),
        )
    for key, protection in after.items():
        if before.get(key) != protection:
            tx.run(
                f"INSERT INTO protections (engine, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
                " ON CONFLICT (engine, used_by, node, kind, digest) DO UPDATE SET image_id = excluded.image_id,"
                " image = excluded.image, last_seen_at = excluded.last_seen_at",
                (
                    engine,
                    *key,
                    protection.image_id,
                    protection.image,
                    protection.first_seen_at,
                    protection.last_seen_at,
                ),
            )


def _succeeded(tx: Transaction, clock: Clock, engine: str, before: EngineState | None) -> None:
    if before is not None and before.failing_since is not None:
        events.append(tx, clock, "engine.reachable", SYSTEM, reason=engine, detail={"engine": engine})
    tx.run(
        "INSERT INTO engines (name, succeeded_at) VALUES (?, ?) ON CONFLICT (name) DO UPDATE"
        " SET succeeded_at = excluded.succeeded_at, failing_since = NULL, failure = NULL",
        (engine, clock.now()),
    )


def _state(tx: Transaction, engine: str) -> EngineState | None:
    return next((state for state in engines(tx) if state.name == engine), None)


def _held(tx: Transaction, engine: str) -> list[Protection]:
    rows = tx.all(f"SELECT {_COLUMNS} FROM protections WHERE engine = ?", (engine,))  # noqa: S608
    return [Protection(*row) for row in rows]


def _listed(states: Mapping[str, EngineState], row: Row) -> Listed:
    return Listed(Protection(*row[1:]), states[row[0]])
