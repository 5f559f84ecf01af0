"""``bihuan``: the entry point and its error handling."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from typer.models import CommandInfo

from bihuan.cli import (
    act,
    audit,
    explore,
    know,
    offers,
    policy,
    recommend,
    rehearse,
    service,
    strategy,
    worker,
)
from bihuan.cli.app import app, screen_of
from bihuan.cli.show import Screen
from bihuan.kernel import BihuanError, UserError


def main() -> None:
    """Run the command line; errors that a user can mend end in one message, not in a trace."""
    try:
        app(standalone_mode=False)
    except BihuanError as error:
        _tell(error, screen_of())
        sys.exit(error.exit_code)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except Exception as error:
        if error.__class__.__module__.startswith(("click", "typer")):
            error.show()  # type: ignore[attr-defined]  # a usage error of the parser
            sys.exit(2)
        raise


def command_names() -> list[str]:
    """Return every command as it is typed, e.g. ``tags derive``."""
    names = [_name(command) for command in app.registered_commands]
    for group in app.registered_groups:
        inner = group.typer_instance
        if inner is not None:
            names += [f"{group.name} {_name(command)}" for command in inner.registered_commands]
    return sorted(names)


def _name(command: CommandInfo) -> str:
    return command.name or command.callback.__name__  # type: ignore[union-attr]


def _tell(error: BihuanError, screen: Screen | None) -> None:
    language = "en" if screen is None else screen.language
    text = error.text(language) if isinstance(error, UserError) else str(error)
    if screen is not None and screen.as_json:
        screen.result({"error": type(error).__name__, "message": text})
    Console(stderr=True).print(text, style="red", highlight=False, markup=False, soft_wrap=True)


# imported because they hang their commands on the tree
_ = (act, audit, explore, know, offers, policy, recommend, rehearse, service, strategy, worker)
