"""The public face is documented: numpydoc holds every exported name against its standard."""

from __future__ import annotations

import importlib
import inspect
from enum import Enum
from typing import Any

import pytest
from numpydoc.validate import validate

ROOMS = (
    "kernel", "data", "tag", "audience", "model", "offer", "strategy", "decision", "delivery",
    "feedback", "evaluation", "twin",
)  # fmt: skip

# what must hold: a summary that ends with a point, parameters that match the signature,
# no wrong section names or order; types stand in the signature, examples where they help
CHECKED = {"GL01", "GL06", "GL07", "GL08", "SS01", "SS03", "PR01", "PR02", "PR03", "PR10"}


def exported() -> list[str]:
    names = []
    for room in ROOMS:
        module = importlib.import_module(f"bihuan.{room}")
        names += [
            f"bihuan.{room}.{name}" for name in module.__all__ if _is_checked(getattr(module, name))
        ]
    return names


def _is_checked(thing: object) -> bool:
    """Errors and enumerations take what their base takes; everything else says it itself."""
    if inspect.isclass(thing):
        return not issubclass(thing, (Exception, Enum))
    return inspect.isfunction(thing)


@pytest.mark.parametrize("name", exported())
def test_exported_name_is_documented(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    thing = getattr(importlib.import_module(module), attribute)
    home = f"{thing.__module__}.{thing.__qualname__}"
    errors = [error for error in validate(home)["errors"] if error[0] in checked(thing)]
    assert not errors


def checked(thing: Any) -> set[str]:
    """Let one sentence do where it can name all there is: up to three parameters."""
    is_sentence = "Parameters\n" not in (inspect.getdoc(thing) or "")
    if is_sentence and len(inspect.signature(thing).parameters) <= 3:
        return CHECKED - {"PR01"}
    return CHECKED


def test_check_catches_an_undocumented_function() -> None:
    errors = {code for code, _ in validate(f"{__name__}.exported")["errors"]}
    assert "GL08" in errors
