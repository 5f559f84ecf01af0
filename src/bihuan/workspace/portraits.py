"""The workspace's portraits: of one customer, of a period, of how all customers are made up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bihuan.kernel import UserError
from bihuan.tag import (
    PeriodPortrait,
    Portrait,
    Structure,
    TagDefinition,
    TagDictionary,
    draw_period,
    draw_portrait,
    draw_structure,
    match_plan_lists,
)
from bihuan.tag.definition import Layer, State
from bihuan.workspace.place import Day, day_of

if TYPE_CHECKING:
    from bihuan.audience import Relevance
    from bihuan.evaluation.report import Report
    from bihuan.workspace.workspace import Workspace


class Portraits:
    """Portraits that follow the data: each is brought up to date before it is shown.

    Parameters
    ----------
    workspace
        Whose customers.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._ws = workspace
        self._drawn: dict[tuple[str, date], tuple[int, TagDictionary, PeriodPortrait]] = {}

    def period(self, as_of: Day, *, subject: str = "customer") -> PeriodPortrait:
        """Return the portrait of a period: every subject's tags as of its last date.

        A past month that was never derived is derived now, from the snapshots up to that date
        alone, by the tag dictionary of today. What has not changed is not derived again. Plan
        lists are matched first, so that a new list shows.

        Parameters
        ----------
        as_of
            The period's last date; the lake must have the subjects of that date.
        subject
            A kind of subject, e.g. ``customer``, ``leased_line``.

        Raises
        ------
        SnapshotNotFoundError
            If the lake does not have them; names the dates that it has.
        """
        ws, day = self._ws, day_of(as_of)
        before = self._drawn.get((subject, day))
        if before is not None and before[0] == ws.view.version and before[1] is ws.dictionary:
            return before[2]  # neither data nor definitions have changed since
        match_plan_lists(ws.lake, day, engine=ws.engine, clock=ws.clock, contracts=ws.contracts)
        found = draw_period(
            ws.dictionary, ws.lake, day, engine=ws.engine, clock=ws.clock,
            progress=ws.progress, contracts=ws.contracts, subject=subject,
        )  # fmt: skip
        self._drawn[subject, day] = (ws.view.version, ws.dictionary, found)
        return found

    def of(self, subject_id: str, as_of: Day, *, subject: str = "customer") -> Portrait:
        """Return the portrait of one customer, or of one subject of another kind.

        Raises
        ------
        UnknownSubjectError
            If there is nobody of that id at that date.
        """
        table = self.period(as_of, subject=subject).table
        return draw_portrait(self._ws.dictionary, table, subject_id)

    def structure(
        self,
        tags: Sequence[str],
        as_of: Day,
        *,
        since: Day | None = None,
        subject: str = "customer",
        cuts: Mapping[str, Sequence[float]] | None = None,
    ) -> Structure:
        """Lay out all customers by one to three tags, with the movement since an earlier date.

        Parameters
        ----------
        tags
            Names of the dimensions.
        as_of
            For when.
        since
            The earlier date; None takes the newest one of the month before, if there is any.
        subject
            A kind of subject.
        cuts
            Edges of bands for numbers; see :func:`bihuan.tag.draw_structure`.
        """
        day = day_of(as_of)
        earlier = self._month_before(day, subject) if since is None else day_of(since)
        if earlier is not None and earlier >= day:
            raise UserError(
                f"The movement up to {day} cannot begin on {earlier}.",
                remedy="Take an earlier date for 'since'.",
                zh=f"截至 {day} 的变动不能从 {earlier} 算起，请选择更早的日期。",
            )
        return draw_structure(
            self._ws.dictionary,
            self.period(day, subject=subject).table,
            tags,
            engine=self._ws.engine,
            earlier=None if earlier is None else self.period(earlier, subject=subject).table,
            cuts=cuts,
        )

    def compare(
        self,
        earlier: Day,
        later: Day,
        tags: Sequence[str] = (),
        *,
        subject: str = "customer",
    ) -> tuple[Structure, ...]:
        """Compare two periods tag by tag; the tag whose subjects moved most comes first.

        Parameters
        ----------
        earlier, later
            Last dates of the two periods.
        tags
            Names; none takes every coded and boolean tag of the portrait and marketing layers
            that both periods have.
        subject
            A kind of subject.

        Returns
        -------
        tuple[Structure, ...]
            One per tag, each with its movement.
        """
        old = self.period(earlier, subject=subject).table
        new = self.period(later, subject=subject).table
        names = list(tags) or [
            tag.name
            for tag in self._ws.dictionary.select(subject=subject, state=State.LIVE)
            if _is_facet(tag) and tag.name in old.fields and tag.name in new.fields
        ]
        found = [self.structure([name], later, since=earlier, subject=subject) for name in names]
        return tuple(sorted(found, key=lambda each: -(each.moved_share or 0.0)))

    def rank(
        self,
        goal: str,
        as_of: Day,
        later: Day,
        *,
        category: str = "",
        tags: Iterable[str] = (),
    ) -> Relevance:
        """Mine the value of tags: rank them by what they tell about what customers did later.

        Parameters
        ----------
        goal
            A boolean tag read at ``later``, e.g. ``channel_ordered_broadband``. It may not look
            back to ``as_of`` or before: otherwise it would partly foretell what had been.
        as_of
            Date of the tags that are ranked.
        later
            Date of the answer.
        category
            Rank the tags of this branch of the tag tree.
        tags
            Further names.

        Returns
        -------
        Relevance
            Per tag information value, lift of the best bin, counts, and warnings of leaks.
        """
        from bihuan.audience import Flag, Goal, rank_tags

        ws, first, last = self._ws, day_of(as_of), day_of(later)
        self._refuse_overlap(goal, first, last)
        names = [
            tag.name
            for tag in ws.dictionary.live("customer")
            if category and f"{tag.category}/".startswith(f"{category.strip('/')}/")
        ]
        answers = self.period(last).table
        return rank_tags(
            Goal(Flag(goal), answers),
            self.period(first).table,
            list(dict.fromkeys((*names, *tags))),
            engine=ws.engine,
            dictionary=ws.dictionary,
        )

    def html(self, picture: Portrait | Structure | Sequence[Structure]) -> str:
        """Draw a portrait, a structure or a comparison as one HTML page in both languages."""
        from bihuan.evaluation.report import to_html

        return to_html(self._report(picture), language=_language(self._ws))

    def write(self, picture: Portrait | Structure | Sequence[Structure], name: str) -> Path:
        """Write the page of :meth:`html` as ``reports/<name>.html`` and return its path."""
        from bihuan.evaluation.report import write_html

        path = self._ws.layout.reports / f"{Path(name).name}.html"
        write_html(self._report(picture), path, language=_language(self._ws))
        return path

    def _report(self, picture: Portrait | Structure | Sequence[Structure]) -> Report:
        # drawing takes a second to import; nobody pays it for a number
        from bihuan.workspace.portrait_page import portrait_page, structure_page

        currency = self._ws.settings.currency
        if isinstance(picture, Portrait):
            return portrait_page(picture, currency)
        several = (picture,) if isinstance(picture, Structure) else tuple(picture)
        return structure_page(several, currency)

    def _month_before(self, day: date, subject: str) -> date | None:
        last = day.replace(day=1) - timedelta(days=1)
        dates = self._ws.view.dates(subject)
        return max((d for d in dates if last.replace(day=1) <= d <= last), default=None)

    def _refuse_overlap(self, goal: str, first: date, last: date) -> None:
        dictionary = self._ws.dictionary
        below = (goal, *dictionary.lineage(goal).all_tags)
        window = max(dictionary.get(name).window_months for name in below)
        apart = (last.year - first.year) * 12 + last.month - first.month
        if apart < window:
            raise UserError(
                f"'{goal}' looks back {window} months, and {last} is {apart} months after {first}.",
                remedy=f"Take an answer at least {window} months later, or a goal of a shorter "
                "window.",
                zh=f"标签 {goal} 回看 {window} 个月，而 {last} 仅晚于 {first} {apart} 个月，"
                "答案会混入当时已知的内容。请选择更晚的日期或窗口更短的目标标签。",
            )


def _is_facet(tag: TagDefinition) -> bool:
    return tag.layer is not Layer.BASE and (tag.codes is not None or tag.type == "boolean")


def _language(workspace: Workspace) -> Literal["zh", "en"]:
    return "en" if workspace.settings.language == "en" else "zh"
