"""What `homeport up` says to who starts a registry for the first time: where it is, who may use it, what to try."""

from __future__ import annotations

from homeport.auth import users
from homeport.cli import passwords
from homeport.cli.context import Context
from homeport.config.settings import Settings
from homeport.storage.datafolder import DataFolder

ADMINISTRATOR = "admin"
PASSWORD_FILE = "first-password.txt"  # noqa: S105 (a file's name)


async def make_administrator(context: Context, settings: Settings, folder: DataFolder) -> str:
    """The name of somebody who can log in. Where nobody could, add an administrator and tell its password, this once.

    A terminal is told. Anything else may be a log that is kept, so there the password goes to a file of the data
    folder, which is written before the administrator is there.
    """
    if settings.access.users:
        return next(iter(settings.access.users))
    async with context.doors.open_registry(settings) as registry:
        if known := await registry.db.read(users.everyone):
            return next((user.name for user in known if user.admin), known[0].name)
        password = passwords.generate(context.clock)
        if context.output.to_terminal:
            told = f"is  {password}\nIt is shown only now."
        else:
            path = folder.write_private(PASSWORD_FILE, password + "\n")
            told = f"is in the file {path}\nDelete it when you have read it."
        password_hash = await passwords.hash_new(context.clock, password)
        await registry.db.write(users.add, context.clock, context.origin, ADMINISTRATOR, password_hash, admin=True)
    context.output.line(f"The first administrator is '{ADMINISTRATOR}', its password {told}\n")
    return ADMINISTRATOR


def text(settings: Settings, url: str, login: str) -> str:
    """What is said once the server answers at `url`."""
    address = (settings.server.url or url).partition("://")[2]
    host, _, port = address.rpartition(":")
    if host in ("0.0.0.0", "[::]"):  # noqa: S104 (compared, not bound)
        address = f"localhost:{port}"
    lines = [
        f"Serving from {settings.data.resolve()}. {_openness(settings)}",
        "",
        "Try:",
        f"  docker login {address} -u {login}",
        f"  docker pull busybox && docker tag busybox {address}/busybox",
        f"  docker push {address}/busybox",
        f"  docker pull {address}/busybox",
        "",
        "Ctrl-C stops it; the next start finds everything again.",
    ]
    return "\n".join(lines)


def _openness(settings: Settings) -> str:
    access = settings.access
    if access.anonymous:
        return f"Anybody may {', '.join(access.anonymous)}, without a login."
    if any(rule.visibility == "public" or "anonymous" in rule.allow for rule in access.rules):
        return "Some repositories are public; the others need a login."
    return "It is private: nobody pulls or pushes without a login."
