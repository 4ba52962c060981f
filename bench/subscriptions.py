"""What it costs a push that others are told of it: small images, without a subscription and with five."""

import contextlib
import json
import secrets
import time
from collections.abc import Iterator

from bench import client, pushes, servers
from bench.errors import UnexpectedAnswerError
from bench.lines import Bar, Line, Row
from bench.rounds import Bench, in_turn, noting_failure, say, settle
from bench.servers import Server

UNTOLD = "homeport, nobody told"
SUBSCRIBED = Line(
    "images-subscribed",
    "small images, 5 webhooks told (theirs: ours, none told)",
    "/s",
    Bar(0.95, at_least=True),
    peer=UNTOLD,
)
TARGETS = [f"target-{number}" for number in range(5)]
EVENTS_OF_AN_IMAGE = ("manifest.pushed", "tag.set")
#: As long as a delivery may keep us waiting after the one before it.
STALLED_SECONDS = 30.0
POLL_SECONDS = 0.05


def measure(bench: Bench) -> list[Row]:
    """The same pushes to two Homeports that differ only in their subscriptions.

    After each of them we wait, outside of what is timed, until every delivery has arrived: the rest of one measurement
    would weigh on the next.
    """
    if not bench.wants(SUBSCRIBED):
        return []
    row = Row(SUBSCRIBED)
    with noting_failure([row], servers.HOMEPORT), _receiver(bench) as receiver, _both(bench, receiver) as running:
        repositories = [f"bench/subscribed-{index}" for index in range(pushes.CLIENTS)]
        delays, images = [], 0
        for round_number in range(bench.rounds):
            say(f"{SUBSCRIBED.name}: round {round_number + 1} of {bench.rounds}")
            for name in in_turn(list(running), round_number):
                settle(running[name])
                pushed = pushes.push_images(
                    running[name], bench.size.images, seed=round_number, repositories=repositories
                )
                row.add(name, pushed.per_second)
                if name == servers.HOMEPORT:
                    images += pushed.done
                    delays.append(_wait_for_deliveries(receiver, images * len(EVENTS_OF_AN_IMAGE)))
        row.note = (
            f"{images * len(EVENTS_OF_AN_IMAGE) * len(TARGETS):,} deliveries at {len(TARGETS)} receivers, all that"
            f" there had to be; each round's last came at most {max(delays):.1f} s after its last push"
        )
    return [row]


@contextlib.contextmanager
def _receiver(bench: Bench) -> Iterator[Server]:
    with bench.place("receiver") as folder:
        receiver = servers.start_receiver(folder)
        try:
            yield receiver
        finally:
            receiver.stop()


@contextlib.contextmanager
def _both(bench: Bench, receiver: Server) -> Iterator[dict[str, Server]]:
    with contextlib.ExitStack() as stack:
        running = {}
        for name in (servers.HOMEPORT, UNTOLD):
            say(f"{SUBSCRIBED.name}: {name} gets ready")
            folder = stack.enter_context(bench.place(name))
            key = folder / "signing-key"
            key.write_text(secrets.token_urlsafe(24))
            targets = {
                target: {
                    "url": f"http://{receiver.address}/{target}",
                    "on": EVENTS_OF_AN_IMAGE,
                    "format": "standard",
                    "secret": f"file:{key}",
                }
                for target in (TARGETS if name == servers.HOMEPORT else [])
            }
            server = servers.start_homeport(folder, verb="up", more_settings=f"notify: {json.dumps(targets)}\n")
            stack.callback(server.stop)
            running[name] = server
        yield running


def _wait_for_deliveries(receiver: Server, expected: int) -> float:
    """Seconds until every target has had exactly so many messages."""
    started = changed = time.monotonic()
    seen: dict[str, int] = {}
    wanted = {f"/{target}": expected for target in TARGETS}
    while seen != wanted:
        counts = json.loads(client.ask(receiver.address, "GET", "/", expect=200).body)
        if counts != seen:
            seen, changed = counts, time.monotonic()
        if any(count > expected for count in seen.values()):
            raise UnexpectedAnswerError(f"deliveries of what never happened: {seen}, not {expected:,} each")
        if time.monotonic() - changed > STALLED_SECONDS:
            raise UnexpectedAnswerError(f"deliveries are missing: {seen}, not {expected:,} each")
        time.sleep(POLL_SECONDS)
    return time.monotonic() - started
