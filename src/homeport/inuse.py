"""What runs on container engines, so that it is not deleted: they are asked, and what they tell is written down.

Holds: an engine that does not answer, or answers what is not understood whole, takes nothing away and
holds up no other. `registry/protections.py` says what follows from what they tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from homeport.client import engines
from homeport.client.engines import Answers, Engine, Object
from homeport.client.errors import BadAnswer, ClientError
from homeport.clock import Clock
from homeport.config import settings as config
from homeport.db.database import Database
from homeport.observe import Log
from homeport.oci.digest import Digest
from homeport.oci.errors import DigestInvalid
from homeport.registry import protections
from homeport.registry.protections import Kind, Use

#: More uses than this of one engine are not written; what it last ran stays.
USES_MAX: Final = 20_000
#: How much of a name is kept.
NAME_CHARACTERS_MAX: Final = 128
IMAGE_CHARACTERS_MAX: Final = 512

#: How often it is looked whether the configuration has other engines.
_LOOK_SECONDS: Final = 1.0

#: A task in one of these states runs no more and never will. One that is orphaned may: its node is out of reach.
#: Source: swarmkit, api/types.proto, TaskState.
_ENDED_TASKS: Final = frozenset({"complete", "shutdown", "failed", "rejected", "remove"})
#: A container in one of these states does not run, but may be started again.
_STOPPED_CONTAINERS: Final = frozenset({"exited", "dead", "stopped", "removing"})
#: The label by which the container of a service knows it.
_SERVICE_LABEL: Final = "com.docker.swarm.service.name"
#: The names of an image without a name.
_NAMELESS: Final = frozenset({"<none>@<none>", "<none>"})


# --- decisions: what the answers mean ---------------------------------------------------------------------------


def uses(answers: Answers) -> list[Use]:
    """Who uses what, as an engine told it, each once. Raises `BadAnswer` if it told what cannot be understood."""
    node = _name(answers.info.get("Name"))
    services = {_text(service, "ID"): _name(_object(service, "Spec").get("Name")) for service in answers.services}
    nodes = {_text(each, "ID"): _name(_object(each, "Description").get("Hostname")) for each in answers.nodes}
    found: dict[Use, None] = {}
    for each in (
        *_of_services(answers.services),
        *_of_tasks(answers.tasks, services, nodes),
        *_of_containers(answers.containers, answers.images, node),
    ):
        found[each] = None
        if len(found) > USES_MAX:
            raise BadAnswer(f"it tells of more than {USES_MAX} uses of images")
    return list(found)


def _of_services(services: list[Object]) -> Iterator[Use]:
    for service in services:
        used_by = _service(_name(_object(service, "Spec").get("Name")) or _text(service, "ID")[:12])
        yield from _of_spec(_object(service, "Spec").get("TaskTemplate"), used_by, "current")
        if service.get("PreviousSpec") is not None:
            yield from _of_spec(_object(service, "PreviousSpec").get("TaskTemplate"), used_by, "previous")


def _of_tasks(tasks: list[Object], services: Mapping[str, str], nodes: Mapping[str, str]) -> Iterator[Use]:
    for task in tasks:
        if _text(_object(task, "Status"), "State") in _ENDED_TASKS:
            continue
        service_id, node_id = str(task.get("ServiceID") or ""), str(task.get("NodeID") or "")
        used_by = _service(services.get(service_id) or _name(service_id)[:12] or _text(task, "ID")[:12])
        yield from _of_spec(task.get("Spec"), used_by, "task", nodes.get(node_id) or _name(node_id)[:12])


def _of_spec(template: Any, used_by: str, kind: Kind, node: str = "") -> Iterator[Use]:
    """The image of a task's specification. A plugin has none, nor has a container that is attached to a network."""
    if template is None:
        return
    if not isinstance(template, dict):
        raise BadAnswer("it tells of a service whose specification is no object")
    if template.get("ContainerSpec") is None:
        return
    image = _text(_object(template, "ContainerSpec"), "Image")
    yield Use(used_by, kind, _short(image, IMAGE_CHARACTERS_MAX), _digest(image.partition("@")[2]), node=node)


def _of_containers(containers: list[Object], images: Mapping[str, Object], node: str) -> Iterator[Use]:
    for container in containers:
        image_id = _text(container, "ImageID")
        if not image_id:
            continue
        state = _text(container, "State").lower()
        stopped_at = _moment(container.get("Created")) if state in _STOPPED_CONTAINERS else None
        image = _short(str(container.get("Image") or image_id), IMAGE_CHARACTERS_MAX)
        for digest in _digests(image_id, images.get(image_id, {})):
            yield Use(_container_name(container), "container", image, digest, image_id, node, stopped_at)


def _digests(image_id: str, image: Object) -> Iterator[Digest]:
    """Every digest that the image is known by. Its id is one: its config's, or in a newer store its manifest's."""
    own = _digest(image_id) or _digest(f"sha256:{image_id}")
    if own is not None:
        yield own
    names = image.get("RepoDigests") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadAnswer("it tells of an image whose RepoDigests are no list of names")
    for name in names:
        if name not in _NAMELESS and (digest := _digest(name.rpartition("@")[2])) is not None:
            yield digest


def _container_name(container: Object) -> str:
    labels = container.get("Labels")
    service = _name(labels.get(_SERVICE_LABEL)) if isinstance(labels, dict) else ""
    if service:
        return _service(service)
    names = container.get("Names")
    first = _name(names[0]) if isinstance(names, list) and names else ""
    return f"container {first.removeprefix('/') or _text(container, 'Id')[:12]}"


def _service(name: str) -> str:
    return f"service {name}"


def _object(parent: Object, key: str) -> Object:
    found = parent.get(key)
    if not isinstance(found, dict):
        raise BadAnswer(f"it tells of something whose {key} is no object")
    return found


def _text(parent: Object, key: str) -> str:
    found = parent.get(key)
    if not isinstance(found, str):
        raise BadAnswer(f"it tells of something whose {key} is no text")
    return found


def _name(value: object) -> str:
    """A name that can be shown; empty where there is none."""
    return _short(value, NAME_CHARACTERS_MAX) if isinstance(value, str) else ""


def _short(text: str, characters_max: int) -> str:
    """The text on one line, cut, and without what would move a cursor."""
    # Half a pair of UTF-16, which JSON can hold, is no text that a database takes; it is not printable either.
    return "".join(character if character.isprintable() else "?" for character in text[:characters_max])


def _digest(text: str) -> Digest | None:
    with contextlib.suppress(DigestInvalid):
        return Digest.parse(text)
    return None


def _moment(value: object) -> float:
    """Seconds since 1970; what is no such time was long ago."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0:
        return float(value)
    return 0.0


# --- flows ------------------------------------------------------------------------------------------------------


def engine_of(settings: config.Engine) -> Engine:
    """The engine as the configuration has it."""
    return Engine(settings.url, settings.ca, settings.certificate, settings.key)


async def refresh(database: Database, clock: Clock, name: str, engine: Engine, keep_last: int) -> str | None:
    """Ask one engine and write down what it told; None, or why it did not tell."""
    try:
        found = uses(await engines.ask(engine, clock))
    except ClientError as error:
        text = str(error)
        why = text if text.startswith(engine.url) else f"{engine.url}: {text}"
        await database.write(protections.failed, clock, name, why)
        return why
    await database.write(protections.report, clock, name, found, keep_last)
    return None


class _Plan(NamedTuple):
    """How one engine is asked. One that changes is asked at once."""

    engine: Engine
    keep_last: int
    refresh_seconds: float


def _plans(settings: config.InUse) -> dict[str, _Plan]:
    return {
        name: _Plan(engine_of(engine), settings.keep_last, settings.refresh_seconds)
        for name, engine in settings.engines.items()
    }


class Watcher:
    """Asks every engine of the configuration again and again, each at its own pace."""

    def __init__(self, database: Database, clock: Clock, log: Log, settings: config.InUse) -> None:
        self._database = database
        self._clock = clock
        self._log = log
        self._settings = settings

    def reconfigure(self, settings: config.InUse) -> None:
        """Go by other settings from now on."""
        self._settings = settings

    async def run(self) -> None:
        """Do so until cancelled."""
        loops: dict[str, tuple[_Plan, asyncio.Task[None]]] = {}
        known: set[str] | None = None
        try:
            while True:
                wanted = _plans(self._settings)
                for name in [name for name, (plan, _) in loops.items() if wanted.get(name) != plan]:
                    await _end(loops.pop(name)[1])
                if wanted.keys() != known and await self._sync(set(wanted)):
                    known = set(wanted)
                for name, plan in wanted.items():
                    if name not in loops:
                        loops[name] = plan, asyncio.create_task(self._watch(name, plan))
                await self._clock.sleep(_LOOK_SECONDS)
        finally:
            for _, loop in loops.values():
                await _end(loop)

    async def _sync(self, names: set[str]) -> bool:
        """Forget the engines that are not configured any more; whether that could be written."""
        try:
            await self._database.write(protections.sync, self._clock, names)
        except Exception as error:  # noqa: BLE001 (it is tried again, and the engines are asked all the same)
            self._log.error("in_use.failed", error=repr(error))
            return False
        return True

    async def _watch(self, name: str, plan: _Plan) -> None:
        failing: str | None = None
        while True:
            before = failing
            try:
                failing = await refresh(self._database, self._clock, name, plan.engine, plan.keep_last)
            except Exception as error:  # noqa: BLE001 (a loop that died would be missed by nobody until it is needed)
                self._log.error("in_use.failed", engine=name, error=repr(error))
            if failing is not None and before is None:
                self._log.warning("engine.unreachable", engine=name, error=failing)
            elif failing is None and before is not None:
                self._log.info("engine.reachable", engine=name)
            await self._clock.sleep(plan.refresh_seconds)


async def _end(loop: asyncio.Task[None]) -> None:
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
