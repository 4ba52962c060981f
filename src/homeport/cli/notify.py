"""`homeport notify`: whether a target can be told, what was sent, what waits and what was given up."""

from __future__ import annotations

from typing import get_args

from homeport.cli.administration.opening import opened
from homeport.cli.context import Context
from homeport.cli.options import positive
from homeport.cli.output import Exit
from homeport.cli.verbs import Verbs
from homeport.notify.deliveries import State
from homeport.notify.sent import in_words


def add(verbs: Verbs) -> None:
    """Add the verbs."""
    notify = verbs.family("notify", "Who is told what happens, and what came of it.")
    parser = notify.verb(
        "test",
        "Send a sample to a target and print what it answers.",
        test_target,
        more="NAME is one under 'notify' in the configuration; of a list of addresses, NAME/1 is the first.",
        server=True,
    )
    parser.add_argument("name", metavar="NAME")
    parser = notify.verb(
        "deliveries",
        "List what was sent, what waits, and what was given up; the newest first.",
        list_deliveries,
        server=True,
    )
    parser.add_argument("--target", metavar="NAME", help="only those for this target")
    parser.add_argument("--state", choices=get_args(State), help="only those in this state")
    parser.add_argument("--limit", metavar="N", type=positive, default=50, help="at most so many; 50 unless given")
    parser = notify.verb("replay", "Send something again that was sent or given up.", replay_delivery, server=True)
    parser.add_argument("id", metavar="ID", type=positive, help="as `homeport notify deliveries` shows it")


async def test_target(context: Context) -> int:
    name = context.arguments.name
    async with opened(context) as administration:
        sent = await administration.test(name)
    words = {"sent": "took it", "retry": "did not take it now", "refused": "refused it"}
    answer = in_words(sent["status"], sent["answer"])
    text = f"{name} ({sent['receiver']}) {words[sent['outcome']]}" + (f": {answer}" if answer else "")
    context.output.result({"target": name, **sent}, text)
    return Exit.DONE if sent["outcome"] == "sent" else Exit.FAILED


async def list_deliveries(context: Context) -> int:
    arguments = context.arguments
    async with opened(context) as administration:
        rows = await administration.deliveries(target=arguments.target, state=arguments.state, limit=arguments.limit)
    columns = ("id", "target", "kind", "state", "time", "attempts", "due", "status", "answer")
    context.output.table(rows, *columns, empty="no deliveries")
    return Exit.DONE


async def replay_delivery(context: Context) -> int:
    async with opened(context) as administration:
        delivery = await administration.replay(context.arguments.id)
    context.output.result(
        delivery, f"delivery {delivery['id']} of {delivery['kind']} to {delivery['target']} waits again"
    )
    return Exit.DONE
