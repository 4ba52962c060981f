"""Telling the targets: each at its own pace, in the order of the log, until it was taken or given up.

Holds:
- An event is told after it is durable, and marked as told after the receiver took it. So a crash may repeat what was
  told last, with the same message id, and neither loses an event nor tells one that is undone.
- Each target has a loop of its own: one that is slow or dead holds up nobody else.
- While requests are answered, all targets together get a turn `_PAUSE_SECONDS` apart: pushes and pulls come first.
- What cannot be delivered is tried for three days after its event, then given up; so is at once what is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from homeport import events
from homeport.client.transport import Transport
from homeport.clock import Clock
from homeport.config.references import SecretReference
from homeport.db.database import Database, DatabaseError, Transaction
from homeport.events import Event, Origin, Position
from homeport.notify import chat, deliveries, payloads, webhooks
from homeport.notify.deliveries import Delivery, Subject
from homeport.notify.errors import TargetUnknown
from homeport.notify.messages import message
from homeport.notify.receivers import Receiver, ReceiverError, recognise
from homeport.notify.sent import Sent, shortened
from homeport.notify.targets import Target, chosen, matches
from homeport.observe import Log
from homeport.secretstore.errors import SecretUnavailable
from homeport.secretstore.store import SecretStore

#: For so long after its event a notification is tried.
TRIED_SECONDS: Final = 3 * 86400.0
#: Between two tries, doubling from the first to the second of these.
_BACKOFF_SECONDS_FIRST: Final = 2.0
_BACKOFF_SECONDS_MAX: Final = 600.0
#: A receiver that asks us to stay away for longer is asked again after this.
_RETRY_AFTER_SECONDS_MAX: Final = 3600.0

#: How often the log is looked at.
_LOOK_SECONDS: Final = 0.5
#: How many events a target takes from the log at once; fewer while requests are answered, which wait meanwhile.
_EVENTS_MAX: Final = 500
_EVENTS_MAX_BUSY: Final = 50
#: A turn takes about a thousandth of a second, so this leaves all but a few hundredths of the time to requests.
_PAUSE_SECONDS: Final = 0.05
#: How long a target rests after something of ours failed it: the database, most likely.
_REST_SECONDS: Final = 5.0


class Notifier:
    """Tells targets what happens. Without a database it can only `test` and `send_once`.

    One process of a registry `follows` the log for them. Another that only tests them leaves their positions alone: it
    may have read another configuration.
    """

    def __init__(
        self,
        database: Database | None,
        clock: Clock,
        transport: Transport,
        secrets: SecretStore,
        log: Log,
        *,
        server_url: Callable[[], str],
        busy: Callable[[], bool],
        environ: Mapping[str, str],
        follows: bool = True,
    ) -> None:
        self._database = database
        self._follows = follows
        self._clock = clock
        self._transport = transport
        self._secrets = secrets
        self._log = log
        self._server_url = server_url
        self._busy = busy
        self._environ = environ
        self._instance = clock.new_id()
        self._targets: dict[str, Target] = {}
        #: Those whose last try failed.
        self._failing: set[str] = set()
        #: What came of a target's last try, until it is written down: while the database refuses, nobody is told again.
        self._unwritten: dict[str, tuple[Delivery, Sent]] = {}
        #: When a target is to be looked after again by itself (monotonic).
        self._due: dict[str, float] = {}
        self._turns = asyncio.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the targets, in the order of the configuration."""
        return tuple(self._targets)

    @property
    def targets(self) -> tuple[Target, ...]:
        """The targets, in the order of the configuration."""
        return tuple(self._targets.values())

    async def reconfigure(self, targets: Iterable[Target]) -> None:
        """Let these be the targets from now on; those that were changed are tried at once."""
        new = {target.name: target for target in targets}
        changed = [name for name, target in new.items() if self._targets.get(name, target) != target]
        if self._database is not None and self._follows:
            await self._database.write(_reconfigure, self._clock, list(new), changed)
        self._targets = new
        self._failing.difference_update(changed)
        self._due.update(dict.fromkeys(changed, 0.0))

    # --- the log, target by target ------------------------------------------------------------------------------

    async def step(self, name: str) -> bool:
        """Do the next thing for one target; whether there was anything to do now."""
        await self._turn()
        target = self._targets.get(name)
        if target is None:
            return False
        delivery = await self._facts.read(deliveries.head, name)
        if delivery is None:
            return await self._look_ahead(target)
        wait = delivery.due_at - self._clock.now()
        if 0 < wait <= _RETRY_AFTER_SECONDS_MAX:  # Longer was never asked for: the clock was set back.
            self._due[name] = self._clock.monotonic() + wait
            return False
        await self._deliver(target, delivery)
        return True

    async def run_until_idle(self) -> None:
        """Until no target has anything to do now."""
        while any([await self.step(name) for name in self.names]):
            pass

    async def run(self) -> None:
        """Tell the targets until cancelled."""
        wakes: dict[str, asyncio.Event] = {}
        loops: dict[str, asyncio.Task[None]] = {}
        end: Position | None = None
        try:
            while True:
                for name in [name for name in loops if name not in self._targets]:
                    loops.pop(name).cancel()
                for name in self._targets:
                    if name not in loops:
                        wakes[name] = asyncio.Event()
                        loops[name] = asyncio.create_task(self._serve(name, wakes[name]))
                before, end = end, await self._end()
                now = self._clock.monotonic()
                for name in loops:
                    if end != before or self._due.get(name, now + 1) <= now:
                        wakes[name].set()
                await self._clock.sleep(_LOOK_SECONDS)
        finally:
            for loop in loops.values():
                loop.cancel()
            await asyncio.gather(*loops.values(), return_exceptions=True)

    async def _serve(self, name: str, wake: asyncio.Event) -> None:
        """Tell one target whenever there is something to tell."""
        while True:
            wake.clear()
            self._due.pop(name, None)
            try:
                while await self.step(name):
                    pass
            except Exception as error:  # noqa: BLE001 (a loop that died would be missed by nobody until it is needed)
                self._log.error("notify.waiting", target=name, error=repr(error))
                self._due[name] = self._clock.monotonic() + _REST_SECONDS
            await wake.wait()

    async def _end(self) -> Position | None:
        try:
            return await self._facts.read(events.end)
        except DatabaseError:
            return None  # The targets find out for themselves.

    async def _turn(self) -> None:
        async with self._turns:
            if self._busy():
                await self._clock.sleep(_PAUSE_SECONDS)

    @property
    def _facts(self) -> Database:
        assert self._database is not None, "without a database there is no log to follow"
        return self._database

    async def _look_ahead(self, target: Target) -> bool:
        """Take the next events from the log; whether there were any."""
        limit = _EVENTS_MAX_BUSY if self._busy() else _EVENTS_MAX
        found = await self._facts.read(deliveries.ahead, target.name, limit + 1)
        if found is None or not found[1]:
            return False
        at, log = found
        to = log[:limit][-1].position
        # One more than is taken is looked at: it may belong to the last one.
        told = [event for event in chosen(target, log) if event.position <= to]
        # Durable, so that all that came before it is as well: nobody is told what a power cut undoes. That nothing is
        # to be told may be found out again.
        keep = self._facts.write if told else self._facts.jot
        return await keep(deliveries.fan_out, target.name, at, to, told)

    async def _deliver(self, target: Target, delivery: Delivery) -> None:
        tried, outcome = self._unwritten.get(target.name, (None, None))
        if outcome is None or tried != delivery:
            outcome = await self._outcome(target, delivery)
            self._unwritten[target.name] = delivery, outcome
        due_at = next_try(delivery, outcome, self._clock.now(), self._clock.random())
        if outcome.outcome == "sent":
            await self._facts.jot(deliveries.sent, self._clock, delivery, outcome)
        elif due_at is not None:
            await self._facts.jot(deliveries.failed, self._clock, delivery, outcome, due_at)
        else:
            self._log.warning("notify.given_up", target=target.name, delivery=delivery.id, answer=outcome.words)
            await self._facts.jot(deliveries.give_up, self._clock, delivery, outcome)
        self._unwritten.pop(target.name, None)

    async def _outcome(self, target: Target, delivery: Delivery) -> Sent:
        event, subject = await self._facts.read(_told, delivery.event_id)
        if event is None:
            return Sent(None, "what it was to tell is not in the audit log any more", "refused")
        if target.name in self._failing and is_overdue(delivery, self._clock.now()):
            return Sent(None, "three days went by while what came before it could not be delivered", "refused")
        outcome = await self._try(target, event, subject, delivery.message_id)
        (self._failing.add if outcome.outcome == "retry" else self._failing.discard)(target.name)
        return outcome

    # --- one try ------------------------------------------------------------------------------------------------

    async def test(self, name: str, origin: Origin) -> Sent:
        """Send a sample, once. Raises `TargetUnknown`."""
        target = self._targets.get(name)
        if target is None:
            there_are = f"there are {', '.join(self.names)}" if self._targets else "the configuration has none"
            raise TargetUnknown(f"no target of notifications is called '{name}': {there_are}")
        sample = Event(
            0,
            self._clock.now(),
            deliveries.TESTED,
            origin.actor,
            origin.address,
            repository=None,
            digest=None,
            tag=None,
            reason=name,
            run=origin.run,
            detail={"sample": True, "target": name},
        )
        outcome = await self._try(target, sample, None, f"msg_{self._clock.new_id()}")
        if self._database is not None:
            await self._database.write(deliveries.tested, self._clock, origin, name, outcome)
        return outcome

    async def send_once(self, event: Event) -> list[tuple[str, Sent]]:
        """Tell the targets that match of an event that is in no database, once, all at the same time."""
        told = [target for target in self._targets.values() if matches(target, event)]
        tries = (self._try(target, event, None, f"msg_{self._clock.new_id()}") for target in told)
        return list(zip((target.name for target in told), await asyncio.gather(*tries), strict=True))

    async def _try(self, target: Target, event: Event, subject: Subject | None, message_id: str) -> Sent:
        """One try, whatever goes wrong with it."""
        hidden: set[str] = set()
        name = target.format
        try:
            url = await self._text(target.url)
            hidden |= webhooks.secrets_of(url) if target.hides_url else set()
            receiver = recognise(url, target.format)
            name = receiver.name
            if receiver.is_chat:
                outcome = await self._tell_people(target, receiver, event)
            else:
                outcome = await self._post(target, receiver, event, subject, message_id)
        except (SecretUnavailable, ReceiverError, payloads.BadSecret) as error:
            outcome = Sent(None, str(error), "retry")
        except Exception as error:  # noqa: BLE001 (a fault of ours ends no loop, and blocks nobody for ever)
            why = shortened(repr(error), hidden | self._secrets.values())
            self._log.error("notify.failed", target=target.name, kind=event.kind, error=why)
            outcome = Sent(None, "a fault in Homeport kept it from being sent; the program's log has more", "retry")
        return replace(outcome, answer=shortened(outcome.answer, hidden | self._secrets.values()), receiver=name)

    async def _post(
        self, target: Target, receiver: Receiver, event: Event, subject: Subject | None, message_id: str
    ) -> Sent:
        assert receiver.format is not None
        content_type, body = payloads.payload(
            receiver.format, event, subject, self._server_url(), message_id=message_id, instance=self._instance
        )
        headers = {} if content_type is None else {"Content-Type": content_type}
        if receiver.format == "standard":
            key = None if target.secret is None else await self._secrets.get(target.secret)
            headers |= payloads.signature_headers(message_id, self._clock.now(), body, key)
        for header, reference in target.headers.items():
            headers[header] = payloads.header_value(header, await self._secrets.get(reference))
        method = target.method or ("PUT" if receiver.format == "empty" else "POST")
        return await webhooks.send(
            self._transport, method, receiver.address, headers, body, seconds=target.timeout_seconds
        )

    async def _tell_people(self, target: Target, receiver: Receiver, event: Event) -> Sent:
        return await chat.send(
            self._clock,
            self._environ,
            receiver,
            message(event, self._server_url()),
            seconds=target.timeout_seconds,
            settings=self._transport.settings,
        )

    async def _text(self, value: str | SecretReference) -> str:
        return await self._secrets.get(value) if isinstance(value, SecretReference) else value


def next_try(delivery: Delivery, outcome: Sent, now: float, random: float) -> float | None:
    """When to try again what came to this; None: not at all. The last try is when its three days are over."""
    last = delivery.happened_at + TRIED_SECONDS
    if outcome.outcome != "retry" or now >= last:
        return None
    longest = min(_BACKOFF_SECONDS_MAX, _BACKOFF_SECONDS_FIRST * 2.0 ** min(delivery.attempts, 30))
    asked = min(outcome.retry_after or 0.0, _RETRY_AFTER_SECONDS_MAX)
    # Spread, so that not all who wait for the same receiver come at once.
    return min(now + max(asked, longest * (0.5 + random / 2)), last)


def is_overdue(delivery: Delivery, now: float) -> bool:
    """Whether its three days went by before its turn came. One that is to be sent again is due later than that."""
    return delivery.attempts == 0 and delivery.due_at < delivery.happened_at + TRIED_SECONDS <= now


def _reconfigure(tx: Transaction, clock: Clock, names: list[str], changed: list[str]) -> None:
    deliveries.sync(tx, names)
    for name in changed:
        deliveries.hasten(tx, clock, name)


def _told(tx: Transaction, event_id: int) -> tuple[Event | None, Subject | None]:
    event = events.get(tx, event_id)
    return event, None if event is None else deliveries.subject(tx, event)
