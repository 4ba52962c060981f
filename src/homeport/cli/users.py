"""`homeport user`: the users of the data folder, beside a server that may be running on it."""

from __future__ import annotations

from pathlib import Path

from homeport.auth import imports, users
from homeport.auth.errors import UserConfigured, UserUnknown
from homeport.auth.users import check_name
from homeport.cli import passwords
from homeport.cli.context import Context
from homeport.cli.output import CommandError, Exit, format_time
from homeport.cli.verbs import Verbs
from homeport.clock import Clock
from homeport.db.database import Transaction
from homeport.events import Origin

_IMPORT_BYTES_MAX = 4 * 1024 * 1024

_ASKED = "A terminal is asked for the password. It is never an argument: those stand in the process list."


def add(verbs: Verbs) -> None:
    """Add the verbs."""
    user = verbs.family("user", "Users who log in with a password.")
    parser = user.verb("add", "Add a user.", add_user, more=_ASKED)
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--admin", action="store_true", help="the user may do everything")
    passwords.add_options(parser)
    user.verb("list", "List the users, those of the configuration too.", list_users)
    parser = user.verb(
        "passwd", "Give a user another password; logins with the old one end.", change_password, more=_ASKED
    )
    parser.add_argument("name", metavar="NAME")
    passwords.add_options(parser)
    parser = user.verb("remove", "Remove a user and its tokens.", remove_user)
    parser.add_argument("name", metavar="NAME")
    parser = user.verb(
        "import",
        "Add the users of an htpasswd file or a Caddyfile, with the passwords that they have.",
        import_users,
        more="Users that are here already are left as they are. Hashes must be bcrypt or argon2id.",
    )
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--format", choices=sorted(_FORMATS), help="what FILE is, where its name does not tell")


async def add_user(context: Context) -> int:
    name = _free_to_change(context, check_name(context.arguments.name))
    password, generated = passwords.choose(context, name)
    password_hash = await passwords.hash_new(context.clock, password)
    admin = context.arguments.admin
    async with context.registry(create=True) as registry:
        await registry.db.write(users.add, context.clock, context.origin, name, password_hash, admin=admin)
    _tell(context, "added", name, password if generated else None)
    return Exit.DONE


async def change_password(context: Context) -> int:
    name = _free_to_change(context, context.arguments.name)
    async with context.registry() as registry:
        await registry.db.read(users.get, name)  # Asking for a password that nobody can get would be rude.
        password, generated = passwords.choose(context, name)
        password_hash = await passwords.hash_new(context.clock, password)
        await registry.db.write(users.change_password, context.clock, context.origin, name, password_hash)
    _tell(context, "changed", name, password if generated else None)
    return Exit.DONE


async def remove_user(context: Context) -> int:
    name = _free_to_change(context, context.arguments.name)
    async with context.registry() as registry:
        await registry.db.write(users.remove, context.clock, context.origin, name)
    _tell(context, "removed", name, None)
    return Exit.DONE


async def list_users(context: Context) -> int:
    configured = context.settings().access.users
    async with context.registry() as registry:
        stored = await registry.db.read(users.everyone)
    rows = [
        {"name": name, "admin": user.admin, "from": "configuration", "created": None}
        for name, user in configured.items()
    ]
    rows += [
        {"name": user.name, "admin": user.admin, "from": "data folder", "created": format_time(user.created_at)}
        for user in stored
        if user.name not in configured
    ]
    rows.sort(key=lambda row: str(row["name"]))
    context.output.table(
        rows, "name", "admin", "from", "created", empty="no users; add one with: homeport user add NAME"
    )
    return Exit.DONE


async def import_users(context: Context) -> int:
    path = Path(context.arguments.file)
    kind = context.arguments.format or ("caddyfile" if "caddy" in path.name.lower() else "htpasswd")
    found = _FORMATS[kind](_read(path))
    configured = context.settings().access.users
    wanted = {name: password_hash for name, password_hash in found.users.items() if name not in configured}
    problems = [
        *found.problems,
        *(f"{name}: is in the configuration" for name in found.users.keys() & configured.keys()),
    ]
    async with context.registry(create=True) as registry:
        added = await registry.db.write(_add_missing, context.clock, context.origin, wanted)
    problems += [f"{name}: is here already and was left as it is" for name in sorted(wanted.keys() - set(added))]
    for problem in problems:
        context.output.note(f"{path}: {problem}")
    context.output.result({"added": added, "problems": problems}, f"added {len(added)} of {len(found.users)} users")
    if not problems:
        return Exit.DONE
    return Exit.PARTLY if added else Exit.FAILED


def _add_missing(tx: Transaction, clock: Clock, origin: Origin, hashes: dict[str, str]) -> list[str]:
    """Add those that are not here; their names."""
    added = []
    for name, password_hash in sorted(hashes.items()):
        try:
            users.get(tx, name)
        except UserUnknown:
            users.add(tx, clock, origin, name, password_hash)
            added.append(name)
    return added


def _read(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_IMPORT_BYTES_MAX + 1)
    if len(data) > _IMPORT_BYTES_MAX:
        raise CommandError(f"{path} is larger than {_IMPORT_BYTES_MAX // 1024**2} MiB, so it is no file of users")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise CommandError(f"{path} is not UTF-8 text") from None


def _free_to_change(context: Context, name: str) -> str:
    if name in context.settings().access.users:
        raise UserConfigured(name)
    return name


def _tell(context: Context, done: str, name: str, password: str | None) -> None:
    text = f"{done} {name}" if password is None else f"{done} {name}; its password, shown only now: {password}"
    shown = {} if password is None else {"password": password}
    context.output.result({"name": name, **shown}, text)


_FORMATS = {"htpasswd": imports.htpasswd, "caddyfile": imports.caddyfile}
