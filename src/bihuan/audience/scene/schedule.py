"""Running scenes by the clock: what is due, once each, and what is said of it.

A time is settled by exactly one final line, however many processes ask at once; a scene that
could not be taken says why; an old count is never shown without its date.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TypeAlias

from bihuan.audience.scene.definition import MAX_MISSED, Scene
from bihuan.audience.scene.log import GOOD, Resumed, SceneLog, SceneRun
from bihuan.audience.snapshot import AudienceSnapshot
from bihuan.kernel import BihuanError, Cancelled, UserError, hash_id

Dates: TypeAlias = Callable[[Scene], Sequence[date]]
"""Dates at which tags of the scene's subject were derived, oldest first."""
Take: TypeAlias = Callable[[Scene, date], AudienceSnapshot]
"""Freezes the scene's audience as of a date."""


@dataclass(frozen=True, slots=True)
class SceneStatus:
    """How a scene stands.

    Parameters
    ----------
    scene
        The scene.
    state
        ``good`` (the newest time is done), ``late`` (a time has passed without a good run),
        ``stopped`` (waits for a person), ``waiting`` (never due yet) or ``expired``.
    last
        The newest run, whatever became of it; None before the first.
    last_good
        The newest run that was done; its count is of its own date.
    late_by
        How long the first time after ``last_good`` has been waiting; zero if none has.
    data_age_days
        Days from the date of the good count to today; None without one.
    next_time
        When it is due next, UTC; None if never again.
    """

    scene: Scene
    state: str
    last: SceneRun | None
    last_good: SceneRun | None
    late_by: timedelta
    data_age_days: int | None
    next_time: datetime | None

    @property
    def said(self) -> str:
        """The count with its date, and how late it is, in one line."""
        if self.last_good is None:
            told = "no count yet"
        else:
            told = f"{self.last_good.count:,} as of {self.last_good.as_of}"
        if self.late_by:
            told += f", late by {self.late_by}"
        if self.last is not None and self.last.state != GOOD and self.last.reason:
            told += f": {self.last.state}: {self.last.reason['en']}"
        return told


def run_due(
    scene: Scene,
    log: SceneLog,
    now: datetime,
    dates: Dates,
    take: Take,
) -> list[SceneRun]:
    """Run what has become due since the scene was last settled.

    Parameters
    ----------
    scene, log
        The scene and its lines.
    now
        The present moment, aware.
    dates
        Tells at which dates there are tags.
    take
        Freezes the audience.

    Returns
    -------
    list[SceneRun]
        The lines added, oldest first; none if nothing is due, it was run already, it is stopped,
        or a failed time waits for its next attempt.
    """
    added: list[SceneRun] = []
    with log.locked():
        for entry in _due(scene, log, now, dates):
            run = entry if entry.state == "skipped" else _run(scene, entry, now, dates, take)
            log.append([run])
            added.append(run)
            if not run.is_final or is_stopped(scene, [run]):
                break
    return added


def scene_status(scene: Scene, log: SceneLog, now: datetime) -> SceneStatus:
    """Tell how a scene stands at a moment."""
    entries = log.entries()
    runs = [entry for entry in entries if isinstance(entry, SceneRun)]
    good = [run for run in runs if run.state == GOOD]
    last_good = max(good, key=lambda run: run.fire_time, default=None)
    since = last_good.fire_time if last_good else scene.before_start
    first = scene.next_time(since)
    late = now - first if first is not None and first <= now else timedelta(0)
    upcoming = scene.next_time(now)
    state = "late" if late else "good" if last_good else "waiting"
    if is_stopped(scene, entries):
        state = "stopped"
    elif upcoming is None and not late:
        state = "expired"
    age = None if last_good is None or last_good.as_of is None else scene.day(now) - last_good.as_of
    return SceneStatus(
        scene=scene,
        state=state,
        last=runs[-1] if runs else None,
        last_good=last_good,
        late_by=late,
        data_age_days=None if age is None else age.days,
        next_time=upcoming,
    )


def is_stopped(scene: Scene, entries: Sequence[SceneRun | Resumed]) -> bool:
    """Whether a scene waits for a person after a failure."""
    if scene.on_failure != "stop" or not entries:
        return False
    last = entries[-1]
    return isinstance(last, SceneRun) and last.state not in (GOOD, "skipped")


def resume_scene(log: SceneLog, scene: Scene, now: datetime, *, who: str, why: str) -> Resumed:
    """Let a stopped scene go on, on record; what it missed is caught up.

    Parameters
    ----------
    log, scene
        The scene and its lines.
    now
        The present moment, aware.
    who, why
        Who resumes it and why; both needed.

    Raises
    ------
    UserError
        If it is not stopped, or nobody is named.
    """
    with log.locked():
        if not is_stopped(scene, log.entries()) or not who.strip() or not why.strip():
            raise UserError(
                f"Scene '{scene.name}' is not stopped, or it is not said who resumes it and why.",
                remedy="Give who and why; look at the status first.",
                zh=f"固化场景 {scene.name} 未停止，或未说明恢复人与原因，请先查看状态。",
            )
        entry = Resumed(scene.name, now, who.strip(), why.strip())
        log.append([entry])
    return entry


# ------------------------------------------------------------------------------------------ inside


def _due(scene: Scene, log: SceneLog, now: datetime, dates: Dates) -> Iterator[SceneRun]:
    """Yield what must be run or given up, oldest first, as lines yet without a result."""
    entries = log.entries()
    if is_stopped(scene, entries):
        return
    runs = [entry for entry in entries if isinstance(entry, SceneRun)]
    settled = max((run.fire_time for run in runs if run.is_final), default=scene.before_start)
    missed = scene.times(settled, now)
    while len(missed) > MAX_MISSED:  # a scene found after years must not run for hours
        older = missed[:MAX_MISSED]
        yield _given_up(scene, older, now, "too many times were missed", "错过的时点过多")
        missed = scene.times(older[-1], now)
    wanted = _wanted(scene, missed, dates)
    given_up: list[datetime] = []
    for moment in missed:
        if moment not in wanted:
            given_up.append(moment)
            continue
        if given_up:
            yield _given_up(
                scene, given_up, now, "a newer time takes its place", "由更近的时点代替"
            )
            given_up = []
        tried = [run for run in runs if run.fire_time == moment]
        if tried and now < tried[-1].ran_at + timedelta(minutes=scene.retry_minutes):
            return
        yield SceneRun(scene.name, moment, "failed", now, attempt=len(tried) + 1)


def _wanted(scene: Scene, missed: Sequence[datetime], dates: Dates) -> set[datetime]:
    """Choose which of the missed times are run: the last one, or the last of each as-of date."""
    if scene.catch_up == "latest" or len(missed) < 2:
        return set(missed[-1:])
    have = dates(scene)
    last_of = {_as_of(scene, moment, have): moment for moment in missed}
    return set(last_of.values())


def _given_up(scene: Scene, times: Sequence[datetime], now: datetime, en: str, zh: str) -> SceneRun:
    n = len(times)
    return SceneRun(
        scene=scene.name,
        fire_time=times[-1],
        state="skipped",
        ran_at=now,
        reason={"en": f"{n} time(s) up to this one: {en}.", "zh": f"共 {n} 个时点：{zh}。"},
        fires=n,
    )


def _as_of(scene: Scene, moment: datetime, have: Sequence[date]) -> date | None:
    """Return the newest date of tags up to the day on which the scene was due."""
    return max((day for day in have if day <= scene.day(moment)), default=None)


def _run(scene: Scene, due: SceneRun, now: datetime, dates: Dates, take: Take) -> SceneRun:
    """Take the audience of one time, or say why it cannot be taken."""
    began = time.perf_counter()
    is_last = scene.on_failure != "retry" or due.attempt >= scene.attempts
    definition = hash_id("scene", scene.text, scene.subject, scene.cron, scene.time_zone)
    due = replace(due, definition=definition, is_final=is_last, ran_at=now)
    as_of = _as_of(scene, due.fire_time, dates(scene))
    due = replace(due, as_of=as_of)
    age = None if as_of is None else (scene.day(due.fire_time) - as_of).days
    if age is None or age > scene.maximum_age_days:
        return replace(due, state="stale", reason=_too_old(scene, as_of, age))
    try:
        snapshot = take(scene, as_of)  # type: ignore[arg-type]  # age is known, so it is
    except Cancelled:
        raise
    except Exception as error:  # noqa: BLE001 - whatever went wrong goes on record
        en = str(error) if isinstance(error, BihuanError) else f"{type(error).__name__}: {error}"
        zh = error.text("zh") if isinstance(error, UserError) else en
        return replace(due, reason={"en": en, "zh": zh}, seconds=_since(began))
    taken = replace(
        due,
        state=GOOD,
        is_final=True,
        count=snapshot.size,
        base=snapshot.count.base,
        snapshot_id=snapshot.id,
        seconds=_since(began),
    )
    if scene.is_plausible(snapshot.size):
        return taken
    low, high = scene.expected_size
    span = f"{low:,} to {high:,}" if high is not None else f"at least {low:,}"
    zh = f"{low:,} 至 {high:,}" if high is not None else f"不少于 {low:,}"
    reason = {
        "en": f"{snapshot.size:,} members; {span} were expected.",
        "zh": f"人数 {snapshot.size:,}，预期为 {zh}。",
    }
    return replace(taken, state="out_of_range", reason=reason)


def _too_old(scene: Scene, as_of: date | None, age: int | None) -> dict[str, str]:
    if as_of is None:
        return {
            "en": f"no {scene.subject} tags had been derived by then; derive them.",
            "zh": f"届时尚无 {scene.subject} 标签数据，请先派生标签。",
        }
    return {
        "en": f"the newest tags are of {as_of}, {age} days old; "
        f"at most {scene.maximum_age_days} are allowed.",
        "zh": f"最新标签日期为 {as_of}，已 {age} 天，超过允许的 {scene.maximum_age_days} 天。",
    }


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 3)
