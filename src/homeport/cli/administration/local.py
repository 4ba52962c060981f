"""The data folder of this machine, beside a server that may be running on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from homeport import administration, events
from homeport.administration import Found, Search
from homeport.cli.administration.contract import Administration, Page, Told
from homeport.cli.context import WORK, Context, Services
from homeport.config.errors import ConfigError
from homeport.db.database import Database, Transaction
from homeport.events import Position
from homeport.jobs import joblog, queue
from homeport.jobs.joblog import Line
from homeport.jobs.queue import Job, JobUnknown, State
from homeport.jobs.work import FORMS, Form
from homeport.kinds import JOB_SETTINGS
from homeport.storage import bell
from homeport.storage.datafolder import DataFolder, identity

#: How often is looked whether something has happened. It costs a point read.
_POLL_SECONDS = 0.02
_PAGE = 1_000


class _Opened(NamedTuple):
    """What is worked on."""

    folder: DataFolder
    path: Path
    database: Database


class LocalAdministration(Administration):
    """What a data folder holds, and what runs in this process for as long as this is open."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._clock = context.clock
        self._stack = AsyncExitStack()
        self._opened: _Opened | None = None
        self._services: Services | None = None
        self._attended: dict[int, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._attended.values():
            task.cancel()  # A job that runs is handed back to the queue by that.
        await asyncio.gather(*self._attended.values(), return_exceptions=True)
        await self._stack.aclose()

    async def _open(self) -> _Opened:
        if self._opened is None:
            folder, path = self._of_worker() or self._of_settings()
            folder.prepare_database(path, create=False)
            database = await self._stack.enter_async_context(self._context.doors.open_database(path))
            self._opened = _Opened(folder, path, database)
        return self._opened

    def _of_worker(self) -> tuple[DataFolder, Path] | None:
        """The folder, and the database of the process that works on it; None where none does or it does not tell.

        Nothing else of the settings is needed beside such a process, and it may have been started with others.
        """
        data = self._context.data_folder()
        if data is None or not data.is_dir():
            return None
        folder = DataFolder.open(data, create=False)
        worker = folder.running(WORK)
        if worker is None or not worker.database_file:
            return None
        path = data / worker.database
        return (folder, path) if identity(path) == worker.database_file else None

    def _of_settings(self) -> tuple[DataFolder, Path]:
        settings = self._context.settings()
        return DataFolder.open(settings.data, create=False), settings.database_path

    async def _database(self) -> Database:
        return (await self._open()).database

    async def _work(self) -> Services:
        """What runs jobs here, for where nobody else does: to open it takes longer than all else that is done here."""
        if self._services is None:
            opened, doors = await self._open(), self._context.doors
            settings = self._context.settings().model_copy(update={"database": opened.path})
            registry = await self._stack.enter_async_context(doors.open_registry(settings))
            self._services = await self._stack.enter_async_context(doors.open_services(settings, registry))
        return self._services

    # --- jobs ---------------------------------------------------------------------------------------------------

    async def jobs(self, *, kind: str | None, state: State | None, limit: int) -> list[Told]:
        return await (await self._database()).read(_list_jobs, kind, state, limit)

    async def job(self, job_id: int) -> Told:
        job, _ = await (await self._database()).read(_look, job_id, 0, 0)
        return job.told()

    async def log(self, job_id: int) -> list[Told]:
        _, lines = await (await self._database()).read(_look, job_id, 0, joblog.LINES_MAX)
        return [line.told() for line in lines]

    async def follow(self, job_id: int, after: int = 0) -> AsyncGenerator[Told, None]:
        database = await self._database()
        shown: Job | None = None
        while True:
            job, lines = await database.read(_look, job_id, after, _PAGE)
            if job != shown and job.state != "ended":
                shown = job
                yield {"job": job.told()}
            for line in lines:
                after = line.number
                yield {"line": line.told()}
            if len(lines) == _PAGE:
                continue
            if job.state == "ended":
                yield {"job": job.told()}
                return
            await self._see_to(job_id)
            await self._clock.sleep(_POLL_SECONDS)

    async def start(self, kind: str, arguments: Mapping[str, str], *, attend: bool) -> Told:
        opened = await self._open()
        forms: Mapping[str, Form] = FORMS
        if attend and opened.folder.running(WORK) is None:
            forms = (await self._work()).kinds
        origin = self._context.origin
        job = await opened.database.write(administration.request, self._clock, forms, kind, origin, arguments)
        bell.ring(opened.folder.path, WORK)
        if attend:
            self._attended[job.id] = asyncio.create_task(self._attend(job))
        return job.told()

    @property
    def works(self) -> bool:
        return self._services is not None and self._services.worker.active > 0

    async def has_worker(self) -> bool:
        return (await self._open()).folder.running(WORK) is not None

    async def loaded_otherwise(self, kind: str) -> list[str]:
        worker = (await self._open()).folder.running(WORK)
        if worker is None or worker.stamp == self._context.stamp():
            return []
        try:
            return self._context.loaded_otherwise(self._context.settings(), kind)
        except ConfigError:  # What cannot be read is not what was loaded.
            return list(JOB_SETTINGS.get(kind, ()))

    async def _attend(self, job: Job) -> None:
        """Run the job here whenever nobody else is there to run it: also when a worker dies, or it is to be retried.

        One of its kind whose worker has died stands in its way, so that is run as well.
        """
        opened = await self._open()
        while True:
            if opened.folder.running(WORK) is None:
                worker = (await self._work()).worker
                running = await opened.database.read(queue.listed, kind=job.kind, state="running")
                for job_id in (job.id, *(other.id for other in running)):
                    if await worker.run_one(only=job_id):
                        break
            await self._clock.sleep(_POLL_SECONDS)

    async def _see_to(self, job_id: int) -> None:
        """Raise what went wrong with running the job here, which would otherwise be waited for without end."""
        task = self._attended.get(job_id)
        if task is not None and task.done():
            await task

    async def cancel(self, job_id: int) -> Told:
        job = await (await self._database()).write(administration.cancel, self._clock, self._context.origin, job_id)
        return job.told()

    async def again(self, job_id: int) -> Told:
        opened = await self._open()
        job = await opened.database.write(administration.again, self._clock, self._context.origin, job_id)
        bell.ring(opened.folder.path, WORK)
        return job.told()

    # --- the audit log ------------------------------------------------------------------------------------------

    async def newest(self, search: Search, limit: int) -> Page:
        return _page(await administration.newest(await self._database(), self._clock, search, limit))

    async def since(self, search: Search, seconds: float, limit: int) -> Page:
        database = await self._database()
        position = await database.read(events.since, self._clock.now() - seconds)
        return _page(await administration.after(database, self._clock, search, position, limit))

    async def after(self, search: Search, position: str, limit: int) -> Page:
        database = await self._database()
        return _page(await administration.after(database, self._clock, search, Position.parse(position), limit))

    async def follow_events(self, search: Search, position: str) -> AsyncGenerator[Told, None]:
        while True:
            page = await self.after(search, position, _PAGE)
            for event in page.events:
                yield event
            position = page.next
            if len(page.events) < _PAGE:
                await self._clock.sleep(_POLL_SECONDS)

    # --- notifications and secrets ------------------------------------------------------------------------------

    async def test(self, target: str) -> Told:
        from homeport.notify import deliveries

        database, origin = await self._database(), self._context.origin
        async with self._context.doors.open_outgoing(self._context.settings()) as outgoing:
            sent = await outgoing.notifier.test(target, origin)
        await database.write(deliveries.tested, self._clock, origin, target, sent)
        return sent.told()

    async def deliveries(self, *, target: str | None, state: str | None, limit: int) -> list[Told]:
        from homeport.notify import deliveries

        found = await (await self._database()).read(deliveries.listed, target=target, state=state, limit=limit)
        return [delivery.told() for delivery in found]

    async def replay(self, delivery_id: int) -> Told:
        from homeport.notify import deliveries

        database = await self._database()
        delivery = await database.write(deliveries.replay, self._clock, delivery_id, self._context.origin)
        return delivery.told()

    async def secrets(self) -> list[Told]:
        async with self._context.doors.open_outgoing(self._context.settings()) as outgoing:
            checked = await outgoing.secrets.check([reference for _, reference in outgoing.references])
        names = (name for name, _ in outgoing.references)
        return [{"name": name, **asdict(one)} for name, one in zip(names, checked, strict=True)]


def _list_jobs(tx: Transaction, kind: str | None, state: State | None, limit: int) -> list[Told]:
    return [job.told() for job in queue.listed(tx, kind=kind, state=state, limit=limit)]


def _look(tx: Transaction, job_id: int, after: int, limit: int) -> tuple[Job, list[Line]]:
    """A job and its lines as they are at one moment: an ended one has all of them."""
    job = queue.get(tx, job_id)
    if job is None:
        raise JobUnknown(job_id)
    return job, joblog.lines(tx, job_id, after, limit)


def _page(found: Found) -> Page:
    return Page([events.told(event) for event in found.events], str(found.next))
