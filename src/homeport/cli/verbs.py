"""The tree of verbs: argparse, with the options that many verbs share said once."""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter, _SubParsersAction
from dataclasses import dataclass, field

from homeport.cli.context import CONFIG_FILE, Handler
from homeport.cli.options import server as server_option

SHARED = {
    "--config": f"the configuration; ./{CONFIG_FILE} if it is there",
    "--data": "the data folder; wins over the configuration",
    "--server": "ask the Homeport at this address instead of working on a data folder",
    "--token-file": "the file with an administrator's token for --server",
    "--json": "print JSON for scripts",
    "--debug": "show where in the program an error came from",
}


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb as it is typed, such as `user add`. `shared` are its options that many verbs have."""

    name: str
    parser: ArgumentParser
    shared: tuple[str, ...]


@dataclass(slots=True)
class Verbs:
    """A place of the tree where verbs are added; `all` has those of the whole tree, in order."""

    children: _SubParsersAction[ArgumentParser]
    prefix: str = ""
    all: list[Verb] = field(default_factory=list)

    def family(self, name: str, help_text: str) -> Verbs:
        """A noun whose verbs follow it: `homeport user add`."""
        parser = self.children.add_parser(name, help=help_text, description=help_text)
        children = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
        return Verbs(children, f"{self.prefix}{name} ", self.all)

    def verb(
        self,
        name: str,
        help_text: str,
        handler: Handler,
        *,
        more: str = "",
        data: bool = True,
        server: bool = False,
        as_json: bool = True,
    ) -> ArgumentParser:
        """A verb. `data`: it works on a data folder, with `server` also on a Homeport far away.

        `as_json`: a script might read what it prints.
        """
        parser = self.children.add_parser(
            name,
            help=help_text,
            description=f"{help_text}\n\n{more}" if more else help_text,
            formatter_class=RawDescriptionHelpFormatter,
        )
        parser.set_defaults(handler=handler, as_json=False)
        group = parser.add_argument_group("options that many verbs share")
        shared = [group.add_argument("--config", metavar="FILE", help=SHARED["--config"])]
        place = group.add_mutually_exclusive_group() if server else group
        if data:
            shared += [place.add_argument("--data", metavar="DIR", help=SHARED["--data"])]
        if server:
            shared += [place.add_argument("--server", metavar="URL", type=server_option, help=SHARED["--server"])]
            shared += [group.add_argument("--token-file", metavar="FILE", help=SHARED["--token-file"])]
        if as_json:
            shared += [group.add_argument("--json", action="store_true", dest="as_json", help=SHARED["--json"])]
        shared += [group.add_argument("--debug", action="store_true", help=SHARED["--debug"])]
        self.all.append(Verb(self.prefix + name, parser, tuple(option.option_strings[0] for option in shared)))
        return parser
