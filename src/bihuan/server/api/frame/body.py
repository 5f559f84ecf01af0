"""The models that cross the wire."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Body(BaseModel):
    """What a caller sends: unknown fields are refused, texts lose outer blanks."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, frozen=True)


class View(BaseModel):
    """What a caller gets."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class Criteria(BaseModel):
    """Query parameters of a list, beside those of its pages; the gate refuses unknown ones."""

    model_config = ConfigDict(str_strip_whitespace=True, frozen=True)
