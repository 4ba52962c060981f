"""`homeport token`: tokens of users and of robots, which every client takes where it wants a password."""

from __future__ import annotations

from argparse import ArgumentTypeError
from dataclasses import replace
from typing import Any

from homeport.auth import tokens, users
from homeport.auth.actors import Limit, Right
from homeport.auth.tokens import Secret, Token
from homeport.cli.context import Context
from homeport.cli.options import duration
from homeport.cli.output import Exit, format_time
from homeport.cli.verbs import Verbs
from homeport.clock import Clock
from homeport.db.database import Transaction
from homeport.events import Origin


def add(verbs: Verbs) -> None:
    """Add the verbs."""
    token = verbs.family("token", "Tokens that log in instead of a password.")
    parser = token.verb(
        "create",
        "Make a token and print it, this once.",
        create,
        more="A user's token has the user's rights, or fewer where --allow says so. A robot is nobody but its token\n"
        "and has the rights of --allow and no others. Log in with the name and the token as the password.",
    )
    whose = parser.add_mutually_exclusive_group(required=True)
    whose.add_argument("--user", metavar="NAME", help="a token of this user")
    whose.add_argument("--robot", metavar="NAME", help="a token of a robot of this name")
    parser.add_argument(
        "--allow",
        metavar="REPOSITORIES=RIGHTS",
        type=_limit,
        action="append",
        help="such as 'team/**=pull,push'; may be given again",
    )
    parser.add_argument("--expires", metavar="DURATION", type=duration, help="such as 12h or 90d; never unless given")
    parser.add_argument("--description", metavar="TEXT", default="", help="what it is for")
    parser = token.verb("list", "List the tokens, without their secrets.", list_tokens)
    parser.add_argument("--owner", metavar="NAME", help="only those of this user or robot")
    parser = token.verb("revoke", "End a token at once.", revoke)
    parser.add_argument("id", metavar="ID", help="as `homeport token list` shows it")


async def create(context: Context) -> int:
    arguments = context.arguments
    secret = Secret.new(context.clock)
    now = context.clock.now()
    token = Token(
        id=secret.id,
        kind="robot" if arguments.robot else "personal",
        owner=users.check_name(arguments.robot or arguments.user),
        user_id=None,
        secret_hash=secret.hash(),
        limits=tuple(arguments.allow) if arguments.allow else None,
        description=arguments.description,
        created_at=now,
        expires_at=now + arguments.expires if arguments.expires is not None else None,
        used_at=None,
    )
    configured = token.owner in context.settings().access.users
    async with context.registry() as registry:
        await registry.db.write(_add, context.clock, context.origin, token, configured=configured)
    context.output.result({**_row(token), "token": str(secret)}, str(secret))
    context.output.note(
        f"the token {token.id} of {token.owner}, shown only now; log in as {token.owner} with it as the password"
    )
    return Exit.DONE


async def list_tokens(context: Context) -> int:
    async with context.registry() as registry:
        found = await registry.db.read(tokens.all_of, context.arguments.owner)
    columns = ("id", "kind", "owner", "allow", "created", "expires", "used", "description")
    context.output.table([_row(token) for token in found], *columns, empty="no tokens")
    return Exit.DONE


async def revoke(context: Context) -> int:
    async with context.registry() as registry:
        await registry.db.write(tokens.revoke, context.clock, context.origin, context.arguments.id)
    context.output.result({"id": context.arguments.id}, f"revoked {context.arguments.id}")
    return Exit.DONE


def _add(tx: Transaction, clock: Clock, origin: Origin, token: Token, *, configured: bool) -> None:
    """Keep the token, bound to the row of its user where the database has it: it goes when the user goes."""
    if token.kind == "personal" and not configured:
        token = replace(token, user_id=users.get(tx, token.owner).id)
    tokens.add(tx, clock, origin, token)


def _limit(text: str) -> Limit:
    pattern, equals, names = text.rpartition("=")
    try:
        rights = frozenset(Right(name.strip()) for name in names.split(","))
    except ValueError:
        rights = frozenset()
    if not equals or not pattern or not rights:
        raise ArgumentTypeError(f"'{text}' is not REPOSITORIES=RIGHTS, such as 'team/**=pull,push'")
    return Limit((pattern,), rights)


def _row(token: Token) -> dict[str, Any]:
    allow = None
    if token.limits is not None:
        allow = [f"{' '.join(limit.patterns)}={','.join(sorted(limit.rights))}" for limit in token.limits]
    return {
        "id": token.id,
        "kind": token.kind,
        "owner": token.owner,
        "allow": allow,
        "created": format_time(token.created_at),
        "expires": format_time(token.expires_at),
        "used": format_time(token.used_at),
        "description": token.description,
    }
