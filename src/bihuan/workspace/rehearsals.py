"""Rehearsals of the workspace: plans played through, filed, and put side by side."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from bihuan.decision.rehearsal import Comparison, Rehearsal, compare, rehearsal_text
from bihuan.kernel import Cancelled, ProgressTask, UserError, core_count, write_atomically
from bihuan.step.rehearse import Known, rehearse
from bihuan.step.rehearse_terms import RehearsalTerms, load_terms
from bihuan.step.rooms import Rooms
from bihuan.strategy import Campaign, load_campaign
from bihuan.workspace.place import Day, day_of

if TYPE_CHECKING:
    from bihuan.step.board import Acceptance
    from bihuan.twin import Truth
    from bihuan.workspace.workspace import Workspace

Plan: TypeAlias = str | Path | Campaign
"""The name of a campaign file of the workspace, a file elsewhere (a draft), or a campaign."""
FOLDER = "rehearsals"
TERMS = "rehearsal.yaml"


@dataclass(frozen=True, slots=True)
class FiledRehearsal:
    """One line of the file of rehearsals.

    Parameters
    ----------
    rehearsal_id, campaign_id, content_id
        Of the rehearsal, the campaign and exactly what it would do.
    as_of, rehearsed_at
        Date of the data, and when it was.
    sample, population
        Customers rehearsed, of how many.
    verdict
        ``pass``, ``warn`` or ``fail``.
    scores
        0..100 by judgement.
    """

    rehearsal_id: str
    campaign_id: str
    content_id: str
    as_of: date
    rehearsed_at: datetime
    sample: int
    population: int
    verdict: str
    scores: Mapping[str, float]


class Rehearsals:
    """Plans rehearsed before anybody is contacted (方案预演).

    Results are filed under ``rehearsals/<content id of the plan>/``; the terms (thresholds, daily
    capacities, groups to compare) stand in ``rehearsal.yaml`` where a workspace has one.

    Parameters
    ----------
    workspace
        Where data and definitions are.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._ws = workspace

    @property
    def folder(self) -> Path:
        """Where rehearsals are filed."""
        return self._ws.layout.root / FOLDER

    @property
    def terms(self) -> RehearsalTerms:
        """The terms of ``rehearsal.yaml``; the defaults where there is none."""
        path = self._ws.layout.root / TERMS
        return load_terms(path) if path.exists() else RehearsalTerms()

    def run(  # noqa: PLR0913 - a rehearsal hangs on all of these, and each has one plain name
        self,
        campaign: Plan,
        as_of: Day,
        *,
        sample: int | float | None = None,
        seed: int | None = None,
        against: Sequence[str] = ("history", "twin"),
        confirmed: frozenset[str] = frozenset(),
        truth: Truth | None = None,
        acceptance: Acceptance | None = None,
    ) -> Rehearsal:
        """Rehearse a plan and file the result; nothing is logged as a decision, nothing is sent.

        Parameters
        ----------
        campaign
            Name, file or campaign.
        as_of
            Date of the data.
        sample
            Customers (int) or share of them (float) to rehearse; None: all.
        seed
            Of the sample, ties, lots and draws; None: the workspace's.
        against
            ``history``, ``twin`` or both.
        confirmed
            Preconditions (English text) that a person has confirmed.
        truth
            The hidden response of a twin's customers, where there is a twin.
        acceptance
            What earlier turns have taught, by offer id and channel kind.

        Raises
        ------
        UserError
            If the plan may not run (an offer that is retired or not on sale, a policy that forbids
            it or is not approved, unfair prices) or its audience is empty; says which.
        """
        terms = replace(
            self.terms, sample=sample, seed=seed, against=tuple(against), confirmed=confirmed
        )
        known = self._known(day_of(as_of), truth, acceptance)
        plan = self._plan(campaign)
        return self._file(rehearse(self._ws.rooms, plan, day_of(as_of), terms=terms, known=known))

    def run_many(  # noqa: PLR0913 - as for one
        self,
        campaigns: Sequence[Plan],
        as_of: Day,
        *,
        sample: int | float | None = None,
        seed: int | None = None,
        against: Sequence[str] = ("history", "twin"),
        confirmed: frozenset[str] = frozenset(),
        truth: Truth | None = None,
        workers: int | None = None,
    ) -> tuple[Rehearsal, ...]:
        """Rehearse several plans at once; each gives the same result as alone.

        Parameters
        ----------
        campaigns
            Names, files or campaigns.
        as_of, sample, seed, against, confirmed, truth
            As in :meth:`run`.
        workers
            How many at once; None: one per core.

        Returns
        -------
        tuple of Rehearsal
            In the order given; all are filed, or none if one is refused or the work is stopped.
        """
        terms = replace(
            self.terms, sample=sample, seed=seed, against=tuple(against), confirmed=confirmed
        )
        known, day = self._known(day_of(as_of), truth, None), day_of(as_of)
        plans = [self._plan(campaign) for campaign in campaigns]
        rooms = self._ws.rooms  # definitions are read here, once, not by every thread
        with self._ws.progress.task("rehearse", total=len(plans), unit="plans") as task:
            relay = _Relay(task)

            def one(plan: Campaign) -> Rehearsal:
                return _guarded(relay, replace(rooms, progress=relay), plan, day, (terms, known))

            with ThreadPoolExecutor(workers or core_count(), "bihuan-rehearsal") as pool:
                running = [pool.submit(one, plan) for plan in plans]
            relay.raise_first([done.exception() for done in running])
            found = [done.result() for done in running]
        return tuple(self._file(rehearsal) for rehearsal in found)

    def compare(self, a: Rehearsal | str, b: Rehearsal | str) -> Comparison:
        """Put two rehearsals (or the filed ones of these ids) side by side."""
        first, second = (self.get(r) if isinstance(r, str) else r for r in (a, b))
        return compare(first, second)

    def text(self, rehearsal: Rehearsal | str, language: str | None = None) -> str:
        """Return a rehearsal (or the filed one of this id) as a Markdown document.

        Parameters
        ----------
        rehearsal
            The rehearsal, or its id.
        language
            ``zh`` or ``en``; None: the workspace's.
        """
        found = self.get(rehearsal) if isinstance(rehearsal, str) else rehearsal
        return rehearsal_text(found, language or self._ws.settings.language)

    def list(self, campaign_id: str | None = None) -> tuple[FiledRehearsal, ...]:
        """Return what is filed, newest first.

        Parameters
        ----------
        campaign_id
            Of this campaign; None: of all.
        """
        found = [_entry(path) for path in sorted(self.folder.glob("*/*.json"))]
        wanted = [entry for entry in found if campaign_id in (None, entry.campaign_id)]
        return tuple(sorted(wanted, key=lambda e: (e.rehearsed_at, e.rehearsal_id), reverse=True))

    def get(self, rehearsal_id: str) -> Rehearsal:
        """Return a filed rehearsal.

        Raises
        ------
        UserError
            If there is none of that id, or its file is damaged.
        """
        paths = sorted(self.folder.glob(f"*/{rehearsal_id}.json")) if rehearsal_id.isalnum() else ()
        if paths:
            return Rehearsal.from_json(paths[0].read_text(encoding="utf-8"))
        newest = ", ".join(entry.rehearsal_id for entry in self.list()[:3]) or "none"
        raise UserError(
            f"There is no rehearsal '{rehearsal_id}' (newest: {newest}).",
            remedy="Rehearse the plan, or choose one of the ids named.",
            zh=f"没有编号为 {rehearsal_id} 的预演（最近的：{newest}），请先预演或选用已有编号。",
        )

    def _plan(self, campaign: Plan) -> Campaign:
        if isinstance(campaign, Campaign):
            return campaign
        if isinstance(campaign, Path):
            return load_campaign(campaign, self._ws.catalogue)
        return self._ws.campaign(campaign)

    def _known(self, as_of: date, truth: Truth | None, acceptance: Acceptance | None) -> Known:
        return Known(
            rules=self._ws.recommender.rules(as_of),
            policies=self._ws.policies.find_book(as_of),
            truth=truth,
            acceptance=acceptance,
        )

    def _file(self, rehearsal: Rehearsal) -> Rehearsal:
        path = self.folder / rehearsal.content_id / f"{rehearsal.rehearsal_id}.json"
        if not path.exists():  # the id is a hash of what was found: the same is filed once
            write_atomically(path, rehearsal.to_json().encode())
        return rehearsal


class _Relay:
    """The progress of work in several threads, told to one task; stops all when one fails."""

    def __init__(self, task: ProgressTask) -> None:
        self._task = task
        self._lock = threading.Lock()
        self._failed = threading.Event()

    @contextmanager
    def task(
        self, label: str, *, total: float | None = None, unit: str = ""
    ) -> Iterator[ProgressTask]:
        """Open a piece of work that only listens whether to stop."""
        del label, total, unit
        self.advance(0)
        yield _Silent(self)

    def advance(self, amount: float = 1) -> None:
        """Report finished plans; raise :class:`Cancelled` if the work is to stop."""
        with self._lock:
            if self._failed.is_set():
                raise Cancelled(
                    "Stopped because another rehearsal failed.", remedy="Mend that plan first."
                )
            self._task.advance(amount)

    def fail(self) -> None:
        """Stop the others."""
        self._failed.set()

    def raise_first(self, errors: Sequence[BaseException | None]) -> None:
        """Raise the error that stopped the work, not those of the plans that it stopped."""
        raised = [error for error in errors if error is not None]
        raised.sort(key=lambda error: isinstance(error, Cancelled))
        if raised:
            raise raised[0]


class _Silent:
    def __init__(self, relay: _Relay) -> None:
        self._relay = relay

    def advance(self, amount: float = 1) -> None:
        del amount
        self._relay.advance(0)


def _guarded(
    relay: _Relay, rooms: Rooms, plan: Campaign, day: date, how: tuple[RehearsalTerms, Known]
) -> Rehearsal:
    try:
        found = rehearse(rooms, plan, day, terms=how[0], known=how[1])
        relay.advance(1)
    except BaseException:
        relay.fail()
        raise
    return found


def _entry(path: Path) -> FiledRehearsal:
    """Read the head of a filed rehearsal."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        verdicts = [judgement["verdict"] for judgement in plain["judgements"]]
        return FiledRehearsal(
            rehearsal_id=plain["rehearsal_id"],
            campaign_id=plain["campaign_id"],
            content_id=plain["content_id"],
            as_of=date.fromisoformat(plain["as_of"]),
            rehearsed_at=datetime.fromisoformat(plain["rehearsed_at"]),
            sample=plain["sample"]["size"],
            population=plain["sample"]["population"],
            verdict=max(verdicts, key=("pass", "warn", "fail").index),
            scores={j["name"]: j["score"] for j in plain["judgements"]},
        )
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path.name} in {FOLDER}/ is not a filed rehearsal: {error!r}.",
            remedy="Remove the file and rehearse the plan again.",
            zh=f"{FOLDER}/ 中的 {path.name} 不是有效的预演记录，请删除后重新预演。",
        ) from error
