"""Fixed scenes (固化场景): audiences that are taken by the clock, and when they are due."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bihuan.audience.algebra import Node
from bihuan.audience.literal import AudienceError
from bihuan.audience.text import parse
from bihuan.kernel.document import Document

_FIELDS = (
    "title", "audience", "subject", "cron", "time_zone", "owner", "starts_on", "valid_until",
    "expected_size", "maximum_age_days", "catch_up", "on_failure", "attempts", "retry_minutes",
)  # fmt: skip
CATCH_UP = ("each", "latest")
ON_FAILURE = ("retry", "skip", "stop")
MAX_MISSED = 1_000


class SceneError(AudienceError):
    """A scene does not say when it is due, or whom it takes."""


@dataclass(frozen=True, slots=True)
class Scene:
    """An audience taken by the clock.

    Parameters
    ----------
    name
        Name of its file.
    title
        By language.
    audience, text
        Whom it takes, as a tree and as written.
    cron
        Five fields: minute, hour, day of the month, month, day of the week.
    owner
        Who answers for it.
    starts_on
        First day on which it is due, in its time zone.
    subject
        Kind of subject (``customer``).
    time_zone
        In which the fields are read (``Asia/Shanghai``).
    valid_until
        Last day on which it is due; None has no end.
    expected_size
        Least and greatest number of members that are plausible; others need a look.
    maximum_age_days
        How old the tags may be when it is due.
    catch_up
        What becomes of times missed: ``each`` takes every as-of date once, ``latest`` the last.
    on_failure
        ``retry`` tries a failed time again, ``skip`` gives it up, ``stop`` gives up until a person
        resumes the scene.
    attempts, retry_minutes
        With ``retry``: how often in all, and how long between.
    """

    name: str
    title: Mapping[str, str]
    audience: Node
    text: str
    cron: str
    owner: str
    starts_on: date
    subject: str = "customer"
    time_zone: str = "Asia/Shanghai"
    valid_until: date | None = None
    expected_size: tuple[int, int | None] = (0, None)
    maximum_age_days: int = 35
    catch_up: str = "latest"
    on_failure: str = "retry"
    attempts: int = 3
    retry_minutes: int = 60

    def __post_init__(self) -> None:
        from croniter import croniter  # only scenes need it

        problem = ""
        if len(self.cron.split()) != 5 or not croniter.is_valid(self.cron):
            problem = f"cron '{self.cron}' is not five fields of a schedule"
        elif self.valid_until is not None and self.valid_until < self.starts_on:
            problem = "valid_until lies before starts_on"
        elif self.expected_size[1] is not None and self.expected_size[1] < self.expected_size[0]:
            problem = "expected_size has its bounds the wrong way round"
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError):
            problem = f"there is no time zone '{self.time_zone}'"
        if problem:
            raise SceneError(
                f"Scene '{self.name}': {problem}.",
                remedy="Write for example  cron: 0 6 1 * *  and  time_zone: Asia/Shanghai.",
                zh=f"固化场景 {self.name} 有误({problem})。示例：cron: 0 6 1 * *。",
            )

    @property
    def zone(self) -> ZoneInfo:
        """The time zone."""
        return ZoneInfo(self.time_zone)

    def day(self, moment: datetime) -> date:
        """Return the day on which a moment falls in the scene's time zone."""
        return moment.astimezone(self.zone).date()

    def is_plausible(self, size: int) -> bool:
        """Whether a number of members lies within the expected ones."""
        low, high = self.expected_size
        return low <= size <= (math.inf if high is None else high)

    def next_time(self, after: datetime) -> datetime | None:
        """Return the first time after a moment at which it is due, in UTC; None if never again.

        The fields are read on the wall clock. A time that the clock skips in spring is due when
        it would have been, an hour that comes twice in autumn is due the first time.
        """
        from croniter import CroniterBadDateError, croniter

        start = datetime.combine(self.starts_on, datetime.min.time())
        local = after.astimezone(self.zone).replace(tzinfo=None)
        wall = max(local, start - timedelta(seconds=1))
        while True:
            try:
                wall = croniter(self.cron, wall).get_next(datetime)
            except CroniterBadDateError:  # the 30th of February
                return None
            if self.valid_until is not None and wall.date() > self.valid_until:
                return None
            moment: datetime = wall.replace(tzinfo=self.zone, fold=0).astimezone(UTC)
            if moment > after:  # not the second pass of a repeated hour
                return moment

    def times(self, after: datetime, until: datetime) -> list[datetime]:
        """Return the times after one moment up to another, oldest first, at most 1,001."""
        found: list[datetime] = []
        moment = self.next_time(after)
        while moment is not None and moment <= until and len(found) <= MAX_MISSED:
            found.append(moment)
            moment = self.next_time(moment)
        return found

    @property
    def before_start(self) -> datetime:
        """A moment before the first time."""
        midnight = datetime.combine(self.starts_on, datetime.min.time(), self.zone)
        return midnight.astimezone(UTC) - timedelta(seconds=1)


def load_scene(path: Path) -> Scene:
    """Read a scene from a YAML file.

    ::

        title: {zh: 合约到期前, en: Before the contract ends}
        audience: contract_ends_within_90 and not has_contract
        cron: 0 6 2 * *
        time_zone: Asia/Shanghai
        owner: 市场部
        starts_on: 2026-10-01
        valid_until: 2027-12-31
        expected_size: [1000, 50000]
        maximum_age_days: 35
        catch_up: latest
        on_failure: retry

    Raises
    ------
    DocumentError
        Naming file and field.
    SceneError
        If the schedule or the audience cannot be read.
    """
    top = Document.read(path).allow(*_FIELDS)
    text = top.text("audience")
    try:
        audience = parse(text)
    except AudienceError as error:
        raise SceneError(
            f"{path.name}: audience: {error.message}", remedy=error.remedy, zh=error.zh
        ) from error
    return Scene(
        name=path.stem,
        title=top.titles("title"),
        audience=audience,
        text=text,
        subject=top.text("subject", "customer"),
        cron=top.text("cron"),
        time_zone=top.text("time_zone", "Asia/Shanghai"),
        owner=top.text("owner"),
        starts_on=top.day("starts_on"),
        valid_until=top.day("valid_until") if top.has("valid_until") else None,
        expected_size=_size(top),
        maximum_age_days=top.whole("maximum_age_days", 35),
        catch_up=top.choice("catch_up", CATCH_UP, "latest"),
        on_failure=top.choice("on_failure", ON_FAILURE, "retry"),
        attempts=top.whole("attempts", 3, low=1),
        retry_minutes=top.whole("retry_minutes", 60),
    )


def _size(top: Document) -> tuple[int, int | None]:
    if not top.has("expected_size"):
        return (0, None)
    value = top.raw("expected_size")
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(n is None or (type(n) is int and n >= 0) for n in value)
    ):
        raise top.refuse("expected_size", f"is {value!r}", "Write  [least, greatest].")
    return (value[0] or 0, value[1])
