"""Kinds of jobs: what can be submitted, by whom, with which arguments."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bihuan.server.app.errors import RefusedError
from bihuan.server.app.permission import ACTIONS

if TYPE_CHECKING:
    from bihuan.server.app.job.context import JobContext

KINDS_MODULE = "bihuan.server.app.work_kinds"
"""Where the service's kinds are registered. They call use cases that submit jobs themselves, so
they stand above this room, which names them only when the first one is looked up."""

MAX_ATTEMPTS = 5
"""How often a job is tried after its worker died; one that kills its worker must end some day."""


class UnknownKindError(RefusedError):
    """There is no such kind of job."""


class ArgumentsError(RefusedError):
    """The arguments of a job are not what its kind takes."""


class Arguments(BaseModel):
    """Arguments of a kind of job: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of job.

    Parameters
    ----------
    name
        Lower-case, at most 32 characters.
    title
        ``{"zh": ..., "en": ...}``.
    permission
        Named action that the owner needs when the job is submitted, and still when it runs.
    arguments
        What it takes.
    run
        Does it; returns what is shown as the result, plain JSON.
    steps
        Into how many steps it reports that it is divided.
    attempts
        How often it is tried when its worker dies.
    """

    name: str
    title: Mapping[str, str]
    permission: str
    arguments: type[Arguments]
    run: Callable[[JobContext, Any], Mapping[str, Any]]
    steps: int = 1
    attempts: int = MAX_ATTEMPTS

    def read(self, arguments: Mapping[str, Any]) -> Arguments:
        """Return checked arguments.

        Raises
        ------
        ArgumentsError
            Naming every field that is wrong.
        """
        try:
            return self.arguments.model_validate(dict(arguments))
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(str(part) for part in problem['loc']) or '-'}: {problem['msg']}"
                for problem in error.errors(include_url=False, include_input=False)
            )
            raise ArgumentsError(
                f"A job '{self.name}' does not take these arguments: {wrong}.",
                remedy=f"It takes: {', '.join(self.arguments.model_fields) or 'none'}.",
                zh=f"作业“{self.title['zh']}”的参数有误：{wrong}。"
                f"可用参数：{'、'.join(self.arguments.model_fields) or '无'}。",
            ) from error


_KINDS: dict[str, Kind] = {}


def register(kind: Kind) -> Kind:
    """Make a kind known to this process; a second one of that name replaces the first.

    Raises
    ------
    KeyError
        If its permission is no named action.
    """
    ACTIONS[kind.permission]
    _KINDS[kind.name] = kind
    return kind


def find_kind(name: str) -> Kind | None:
    """Return the kind of that name, None if there is none."""
    importlib.import_module(KINDS_MODULE)
    return _KINDS.get(name)


def get_kind(name: str) -> Kind:
    """Return the kind of that name.

    Raises
    ------
    UnknownKindError
        If there is none; lists those that there are.
    """
    kind = find_kind(name)
    if kind is None:
        have = ", ".join(sorted(_KINDS))
        raise UnknownKindError(
            f"There is no kind of job '{name}'.",
            remedy=f"Choose from: {have}.",
            zh=f"没有名为 {name} 的作业类型，可选：{have}。",
        )
    return kind


def list_kinds() -> list[Kind]:
    """Return every kind, in order of name."""
    importlib.import_module(KINDS_MODULE)
    return [_KINDS[name] for name in sorted(_KINDS)]
