"""`homeport copy`: an image from one registry to another, whatever registries they are."""

from __future__ import annotations

from homeport.cli.context import Context
from homeport.cli.verbs import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.verb(
        "copy",
        "Copy an image from one registry to another: all platforms, every digest kept.",
        copy_image,
        more="SRC and DST are image names as docker takes them; without a tag it is 'latest'. Logins are those of\n"
        "`docker login`; authorities and exceptions of TLS stand in the configuration under 'client'.",
        data=False,
    )
    parser.add_argument("source", metavar="SRC", help="such as alpine:3.20 or quay.io/org/app@sha256:…")
    parser.add_argument("destination", metavar="DST", help="such as localhost:5000/mirror/alpine:3.20")
    parser.add_argument("--referrers", action="store_true", help="signatures, SBOMs and what else refers to it as well")


async def copy_image(context: Context) -> int:
    # The one import that waits until it is needed: a server would carry the client's libraries around for nothing.
    from homeport.cli import copies  # noqa: PLC0415

    return await copies.copy_image(context)
