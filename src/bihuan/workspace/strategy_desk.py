"""Strategies of the workspace: cube, coverage, life cycle, key moments, marketing map, channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from numpy.typing import NDArray

from bihuan.audience import parse, tags_of, to_text
from bihuan.kernel import UserError, write_atomically
from bihuan.kernel.document import Document
from bihuan.strategy.cube import (
    CoverageReport,
    Cube,
    CubeDefinition,
    Proposal,
    build_cube,
    compare_cubes,
    draw_cube,
    load_cube,
    measure_coverage,
    propose_changes,
    read_rule,
)
from bihuan.strategy.lifecycle import (
    Ground,
    LifeCycle,
    LifeCycleReport,
    MarketingMap,
    MomentBook,
    MomentReport,
    WarningRecord,
    assign_strategies,
    detect,
    draw_map,
    draw_map_picture,
    follow_life_cycle,
    judge_warnings,
    load_life_cycle,
    load_map,
    load_moments,
    moment_factors,
    warn_of_decline,
    write_map_page,
)
from bihuan.strategy.policy import OrgTree
from bihuan.strategy.preference import (
    PreferenceRequest,
    WayPrior,
    channel_preference_matrix,
    fit_ways,
    preferred_channel,
)
from bihuan.strategy.preferred_ways import Mode
from bihuan.workspace.place import Day, day_of
from bihuan.workspace.strategy_sources import channel_kinds, cube_sources

if TYPE_CHECKING:
    from bihuan.workspace.workspace import Workspace

STANDARD = "standard"
MOMENT_LOG, WARNING_LOG = "key_moment", "decline_warning"
"""Lake tables ``<log>__<definition>``: each definition file has a log of its own."""


class StrategyDesk:
    """Where strategies are designed, held against the customers, and tuned.

    Parameters
    ----------
    workspace
        Where tags, offers, decisions, outcomes and definitions are.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._ws = workspace
        self._cubes: dict[tuple[object, ...], Cube] = {}

    # the cube

    def cube(self, as_of: Day, name: str = STANDARD, *, months: int = 1) -> Cube:
        """Count the cube of ``cubes/<name>.yaml`` over tags, decisions and their outcomes.

        Asked again, it is counted anew only if anything was published since.

        Parameters
        ----------
        as_of
            Date of the tags.
        name
            The cube's file.
        months
            Months of decisions looked at, 1 = those of the month of ``as_of``.
        """
        day, view = day_of(as_of), self._ws.view
        path = self._ws.layout.find_definition("cubes", name)
        key = (name, day, months, view.version, path.stat().st_mtime_ns)
        if key not in self._cubes:
            definition = self.definition(name)
            cube = build_cube(
                definition, cube_sources(self._ws, day, months), engine=self._ws.engine
            )
            self._cubes = {k: v for k, v in self._cubes.items() if k[3] == view.version}
            self._cubes[key] = cube
        return self._cubes[key]

    def definition(self, name: str = STANDARD) -> CubeDefinition:
        """Return the cube of ``cubes/<name>.yaml``, its strategies held against ``lifecycle/``."""
        cycles = self._life_cycles()
        return load_cube(
            self._ws.layout.find_definition("cubes", name),
            self._ws.dictionary,
            stages={cycle.name: cycle.bands for cycle in cycles},
            strategies={s.strategy_id for cycle in cycles for s in cycle.strategies},
        )

    def coverage(self, as_of: Day, name: str = STANDARD, *, months: int = 1) -> CoverageReport:
        """Say what share of all customers, businesses, stages, scenes, touchpoints is covered.

        Parameters
        ----------
        as_of
            Date of the tags.
        name
            The cube's file.
        months
            Months of decisions looked at.
        """
        cube = self.cube(as_of, name, months=months)
        return measure_coverage(cube, touchpoints=channel_kinds(self._ws.view, cube.as_of).values())

    def tune(
        self,
        as_of: Day,
        *axes: str,
        name: str = STANDARD,
        months: int = 1,
        minimum: int = 30,
    ) -> tuple[Proposal, ...]:
        """Propose changes where cells convert less or more than was promised.

        Parameters
        ----------
        as_of
            Date of the tags.
        *axes
            Of the cells; none: stage and channel.
        name, months
            As for :meth:`cube`.
        minimum
            Contacts that must have arrived in a cell.
        """
        cube = self.cube(as_of, name, months=months)
        wanted = axes or (*(a.name for a in cube.definition.in_group("life_cycle")), "channel")
        return propose_changes(cube, *wanted, minimum=minimum)

    def compare(self, before: Cube, after: Cube, *axes: str) -> pa.Table:
        """Hold two cubes against each other; see :func:`~bihuan.strategy.cube.compare_cubes`.

        Parameters
        ----------
        before, after
            Of the same axes.
        *axes
            Of the cells.
        """
        return compare_cubes(before, after, *axes)

    def customers(self, cube: Cube, **where: str) -> pa.Table:
        """List the customers of a cell of axes over customers, with the tags of its rule."""
        rule = cube.audience(**where)
        reading = read_rule(rule, self._ws.tags(cube.as_of))
        return self._ws.members(to_text(reading.node), cube.as_of, tags_of(reading.node))

    def draw(
        self, cube: Cube, rows: str, columns: str, *, measure: str = "coverage",
        language: str | None = None,
    ) -> Path:  # fmt: skip
        """Write a heat map of two axes under ``reports/`` and return its path.

        Parameters
        ----------
        cube
            Counted.
        rows, columns
            Names of two axes.
        measure
            What makes a cell dark: ``size``, ``coverage``, ``uncovered``, ``expected_value`` ...
        language
            ``zh`` or ``en``; None: the workspace's.
        """
        language = language or self._ws.settings.language
        svg = draw_cube(cube, rows, columns, measure=measure, language=language)
        name = f"cube-{rows}-{columns}-{measure}-{cube.as_of.isoformat()}.svg"
        return self._write(name, svg)

    # the life cycle

    def life_cycle(self, name: str = STANDARD) -> LifeCycle:
        """Return the stages, strategies and signs of ``lifecycle/<name>.yaml``."""
        return load_life_cycle(self._ws.layout.find_definition("lifecycle", name))

    def strategy_titles(self) -> dict[str, Mapping[str, str]]:
        """Return the titles by language of all strategies of ``lifecycle/``, by their id."""
        return {s.strategy_id: s.title for cycle in self._life_cycles() for s in cycle.strategies}

    def strategies(
        self, as_of: Day, name: str = STANDARD, *, columns: Sequence[str] = ()
    ) -> pa.Table:
        """Put every customer in his stage with the strategy that serves him.

        Parameters
        ----------
        as_of
            Date of the tags.
        name
            Name of the definition file.
        columns
            Tags to add.
        """
        tags = self._ws.tags(as_of)
        return assign_strategies(
            self.life_cycle(name), tags, engine=self._ws.engine, columns=columns
        )

    def follow(
        self, as_of: Day, name: str = STANDARD, *, earlier: Day | None = None
    ) -> LifeCycleReport:
        """Describe the stages: sizes, value, moves since an earlier date, how long they stay.

        Parameters
        ----------
        as_of
            Date of the tags.
        name
            Name of the definition file.
        earlier
            Date to compare with, whose tags have been derived; None: no moves and no rates.
        """
        before = None if earlier is None else self._ws.tags(earlier)
        tags = self._ws.tags(as_of)
        return follow_life_cycle(
            self.life_cycle(name), tags, engine=self._ws.engine, earlier=before
        )

    def warnings(self, as_of: Day, name: str = STANDARD) -> pa.Table:
        """List customers with signs of decline and log them, so that the next list knows the new.

        Returns
        -------
        pyarrow.Table
            See :func:`~bihuan.strategy.lifecycle.warn_of_decline`.
        """
        day = day_of(as_of)
        found = warn_of_decline(
            self.life_cycle(name), self._ws.tags(day), engine=self._ws.engine,
            earlier=self._before(f"{WARNING_LOG}__{name}", day),
        )  # fmt: skip
        self._log(WARNING_LOG, day, found, name)
        return found

    def check_warnings(
        self, as_of: Day, later: Day, name: str = STANDARD, *, level: str | None = None
    ) -> WarningRecord:
        """Hold the warnings logged at a date against who had left at a later one.

        Parameters
        ----------
        as_of, later
            Date of the warnings, and of the tags that show who left.
        name
            The life cycle's file.
        level
            The mildest level that counts as a warning; None: the mildest there is.
        """
        ws, day = self._ws, day_of(as_of)
        logged = ws.view.find(f"{WARNING_LOG}__{name}", day)
        if logged is None:
            raise UserError(
                f"No warnings of '{name}' are logged at {day}.",
                remedy=f"Log them first:  ws.strategy.warnings('{day}')  .",
                zh=f"{day} 没有 {name} 的衰退预警记录，请先运行 ws.strategy.warnings('{day}')。",
            )
        dates = (ws.tags(as_of), ws.tags(later))
        cycle = self.life_cycle(name)
        return judge_warnings(cycle, logged.read(), dates, engine=ws.engine, level=level)

    # key moments

    def moment_book(self, name: str = STANDARD) -> MomentBook:
        """Return the catalogue of key moments of ``moments/<name>.yaml``."""
        return load_moments(self._ws.layout.find_definition("moments", name))

    def moments(self, as_of: Day, name: str = STANDARD) -> MomentReport:
        """See who is at which key moment and log it, so that each keeps its first day."""
        day, ws = day_of(as_of), self._ws
        report = detect(
            self.moment_book(name), ws.tags(day), ws.view, ws.contracts, engine=ws.engine,
            earlier=self._before(f"{MOMENT_LOG}__{name}", day),
        )  # fmt: skip
        self._log(MOMENT_LOG, day, report.detected, name)
        return report

    def detected(self, as_of: Day, name: str = STANDARD) -> pa.Table:
        """Return ``customer_id``, ``moment_id``, ``since`` of a date.

        Parameters
        ----------
        as_of
            Date of the tags.
        name
            The catalogue's file.

        Returns
        -------
        pyarrow.Table
            Those logged, if by this catalogue and of the present tag values; else seen now.
        """
        logged = self._ws.view.find(f"{MOMENT_LOG}__{name}", day_of(as_of))
        if logged is not None and logged.lineage == self._lineage(name, day_of(as_of)):
            return logged.read()
        return self.moments(as_of, name).detected

    def moment_factors(
        self,
        as_of: Day,
        customer_id: pa.Array,
        candidates: Sequence[tuple[str, str]],
        name: str = STANDARD,
    ) -> NDArray[Any]:
        """Return the context factor of customers by (offer id, channel), shape ``(n, m)``.

        Parameters
        ----------
        as_of
            Date of the moments; see :meth:`detected`.
        customer_id, candidates
            Rows and columns.
        name
            The catalogue's file.
        """
        book, rows = self.moment_book(name), self.detected(as_of, name)
        return moment_factors(book, rows, customer_id, candidates, self._ws.catalogue)

    # the marketing map

    def map(self, as_of: Day, name: str = STANDARD, *, tier: str | None = None) -> MarketingMap:
        """Make the guide of ``maps/<name>.yaml`` for every unit of a tier.

        Parameters
        ----------
        as_of
            Date of the tags.
        name
            Name of the definition file.
        tier
            Tier of the org units; None: the file's.
        """
        day, ws = day_of(as_of), self._ws
        path = ws.layout.find_definition("maps", name)
        cycle = Document.read(path).text("life_cycle", STANDARD)
        plan = load_map(path, ws.dictionary, self.life_cycle(cycle))
        ground = Ground(
            tree=OrgTree.read(ws.view, day),
            staff=ws.view.get("staff", day).read(),
            channel_kinds=channel_kinds(ws.view, day),
            catalogue=ws.catalogue,
        )
        return draw_map(plan, ws.tags(day), ground, engine=ws.engine, tier=tier)

    def write_map(
        self, as_of: Day, name: str = STANDARD, *, tier: str | None = None,
        language: str | None = None,
    ) -> list[Path]:  # fmt: skip
        """Write the map's picture (SVG) and page (HTML) under ``reports/``.

        Parameters
        ----------
        as_of
            Date of the tags.
        name
            Name of the definition file.
        tier
            Tier of the org units; None: the file's.
        language
            ``zh`` or ``en``; None: the workspace's.
        """
        found, language = self.map(as_of, name, tier=tier), language or self._ws.settings.language
        stem = f"map-{found.plan.name}-{found.tier}-{found.as_of.isoformat()}"
        return [
            self._write(f"{stem}.svg", draw_map_picture(found, language)),
            self._write(f"{stem}.html", write_map_page(found, language)),
        ]

    # the preferred way of contact

    def ways(
        self, as_of: Day, *, segment: str | None = "age_band", months: int = 12
    ) -> tuple[WayPrior, ...]:
        """Learn how each way of contact succeeds in each segment.

        Parameters
        ----------
        as_of
            Date of the tags.
        segment
            Tag whose values are the segments; None: one segment.
        months
            Months of history.
        """
        request = PreferenceRequest(self._ws.tags(as_of), segment, months=months)
        return fit_ways(request, self._ws.view, engine=self._ws.engine)

    def preferred_channel(
        self,
        as_of: Day,
        *,
        within: str = "network = 'on_net' and not is_disconnected",
        segment: str | None = "age_band",
        months: int = 12,
        stated: pa.Table | None = None,
    ) -> pa.Table:
        """Rank the ways of contact for each customer by what he answered to.

        Parameters
        ----------
        as_of
            Date of the tags; the history is that of the months up to it.
        within
            Customers asked about.
        segment
            Tag whose values are the segments.
        months
            Months of history.
        stated
            What customers have said themselves: ``customer_id``, ``channel``.

        Returns
        -------
        pyarrow.Table
            ``customer_id``, ``channel``, ``rank``, ``chance``, ``contacts``, ``basis``.
        """
        request = PreferenceRequest(
            self._ws.tags(as_of), segment, within=parse(within), months=months, stated=stated
        )
        return preferred_channel(request, self._ws.view, engine=self._ws.engine)

    def preference_matrix(
        self,
        as_of: Day,
        customer_id: pa.Array,
        channels: Sequence[str],
        *,
        mode: Mode = "factor",
        keep: int = 2,
    ) -> NDArray[Any]:
        """Return what preferences mean for a decision, shape ``(n, m)``; see ``mode`` there.

        Parameters
        ----------
        as_of
            Date of the tags.
        customer_id, channels
            Rows and columns.
        mode, keep
            As for :func:`~bihuan.strategy.preference.channel_preference_matrix`.
        """
        table = self.preferred_channel(as_of)
        return channel_preference_matrix(table, customer_id, channels, mode=mode, keep=keep)

    # what everything needs

    def _life_cycles(self) -> list[LifeCycle]:
        folder = self._ws.layout.definitions("lifecycle")
        return [load_life_cycle(path) for path in sorted(folder.glob("*.yaml"))]

    def _before(self, table: str, day: date) -> pa.Table | None:
        """Read what was logged last before a day."""
        earlier = self._ws.view.upto(table, day - timedelta(days=1))
        return earlier[-1].read() if earlier else None

    def _log(self, log: str, day: date, rows: pa.Table, definition: str) -> None:
        with self._ws.lake.publication(self._ws.clock) as publication:
            table = f"{log}__{definition}"
            publication.add(table, day, rows, lineage=self._lineage(definition, day))

    def _lineage(self, definition: str, day: date) -> dict[str, Any]:
        """Name what rows were made from: the definition's file and the tag values."""
        snapshots = self._ws.tags(day).snapshots.values()
        return {"definition": definition, "tags": sorted(snapshot.id for snapshot in snapshots)}

    def _write(self, name: str, text: str) -> Path:
        path = self._ws.layout.reports / name
        write_atomically(path, text.encode())
        return path
