"""Scenes that are added while the service runs, with every version."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from bihuan.server.control.base import Shared, Table, Versioned


class SceneRecord(Versioned, Shared, Table):
    """A scene; seen by its unit and every unit below. ``status``: ``active`` or ``disabled``."""

    __tablename__ = "scene"

    scene_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    number: Mapped[int]
    title_zh: Mapped[str] = mapped_column(String(100))
    title_en: Mapped[str] = mapped_column(String(200))
    document: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(String(16), index=True)
    made_by: Mapped[str] = mapped_column(String(64))
    made_at: Mapped[datetime]
    changed_at: Mapped[datetime]


class SceneVersion(Shared, Table):
    """What a scene said, and who made it say so; rows are only ever added."""

    __tablename__ = "scene_version"

    scene_version_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    scene_id: Mapped[str] = mapped_column(ForeignKey("scene.scene_id"), index=True)
    number: Mapped[int]
    document: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(String(16))
    note: Mapped[str] = mapped_column(String(500))
    made_by: Mapped[str] = mapped_column(String(64))
    made_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("scene_id", "number"),)
