"""`homeport mirror`: run it now, see what a run would do and cost, how it stands, and whose tags these are.

What a verb works with is imported when it is asked for: a run beside a server is over sooner than that takes.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import Final

from homeport.cli.context import Context
from homeport.cli.jobs import EXITS, run_kind
from homeport.cli.options import host, positive, server
from homeport.cli.verbs import Verbs

#: The kind of job that a run is.
_KIND: Final = "mirror"
#: What files are made for; `mirror.nodes` has how.
ENGINES: Final = ("docker", "containerd", "podman", "buildkit")


def add(verbs: Verbs) -> None:
    """Add the verbs."""
    mirror = verbs.family("mirror", "Upstream images that are here before anybody asks.")
    exits = ", ".join(f"{outcome} {code:d}" for outcome, code in EXITS.items())
    parser = mirror.verb(
        "run",
        "Bring the mirrored images in step with their upstreams, and follow that; the exit code is its outcome.",
        run,
        more=f"NAME is an image's name or source in the configuration; else it is all of them.\n\nExit codes: {exits}.",
        server=True,
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="only this image")
    parser.add_argument("--detach", action="store_true", help="start it and do not follow")
    parser = mirror.verb(
        "plan",
        "Show what a run would copy, move and remove now, why, and what that costs.",
        print_plan,
        more="Nothing is changed, and no pull is spent unless --sizes is given or tags are\n"
        "chosen 'by: created'; what is read for that, the run need not read again.",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="only this image")
    parser.add_argument("--sizes", action="store_true", help="read manifests that are not here to tell their sizes")
    mirror.verb("status", "Show the last run, what is behind, what is about to go, and what quotas are left.", status)
    parser = mirror.verb(
        "adopt",
        "Find out which tags that nobody wrote down are an upstream's, by name and digest, and write it down.",
        adopt,
        more="They are followed from then on where 'mirror.follow' is set. It spends no pull.",
    )
    parser.add_argument("--plan", action="store_true", help="only show what would be written down")
    mirror.verb(
        "export",
        "Print what is mirrored and followed as a configuration by which an empty registry refills itself.",
        print_export,
        more="Each run writes it beside the data folder as well, or where 'mirror.export' says.",
        as_json=False,
    )
    _add_files(mirror)
    parser = mirror.verb(
        "release",
        "Believe the lists of tags that a run did not, so that what is gone from them may go.",
        release,
        more="Each tag still has its whole grace.",
    )
    parser.add_argument("run", metavar="RUN", type=positive, help="the number of its job")


def _add_files(mirror: Verbs) -> None:
    parser = mirror.verb(
        "import",
        "Print the configuration that says what a mirror.json, a regsync.yaml or a file of skopeo sync says.",
        import_file,
        more="Nothing is changed: put what is printed into homeport.yaml. What could not be carried over is told on\n"
        "standard error with its place and what to do; then the exit code is 3. No password is taken over.",
        data=False,
    )
    parser.add_argument("file", metavar="FILE")
    parser.add_argument(
        "--target",
        metavar="TEMPLATE",
        help="where images of skopeo sync are put: {name} unless it is given, {host}/{repository} for --scoped",
    )
    parser = mirror.verb(
        "client-config",
        "Print the files that make a node pull through this Homeport.",
        client_config,
        more="Where each goes, and what else to do, is said on standard error. A node needs no login for it: it pulls\n"
        "from a network of cache.networks.",
        data=False,
    )
    parser.add_argument("which", metavar="|".join(ENGINES), choices=ENGINES)
    parser.add_argument(
        "--upstream", metavar="HOST", type=host, action="append", help="for this one; without it, for cache.upstreams"
    )
    parser.add_argument("--url", metavar="URL", type=server, help="the address at which the node reaches this Homeport")
    parser.add_argument(
        "--ca", metavar="PATH", type=_absolute, help="where the authority of its certificate is on the node"
    )


async def run(context: Context) -> int:
    name = context.arguments.name
    return await run_kind(context, _KIND, {} if name is None else {"name": name})


async def print_plan(context: Context) -> int:
    from homeport.cli import mirror_plan

    return await mirror_plan.print_plan(context)


async def adopt(context: Context) -> int:
    from homeport.cli import mirror_plan

    return await mirror_plan.adopt(context)


async def status(context: Context) -> int:
    from homeport.cli import mirror_standing

    return await mirror_standing.status(context)


async def print_export(context: Context) -> int:
    from homeport.cli import mirror_standing

    return await mirror_standing.print_export(context)


async def release(context: Context) -> int:
    from homeport.cli import mirror_standing

    return await mirror_standing.release(context)


async def import_file(context: Context) -> int:
    from homeport.cli import mirror_files

    return await mirror_files.import_file(context)


async def client_config(context: Context) -> int:
    from homeport.cli import mirror_files

    return await mirror_files.client_config(context)


def _absolute(text: str) -> str:
    if not text.startswith("/") or not text.isprintable():
        raise ArgumentTypeError(f"'{text}' must be a path from the root, such as /etc/ssl/registry-ca.crt")
    return text
