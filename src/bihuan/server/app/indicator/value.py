"""Numbers by the one dictionary, for the units that the caller may see, and the lists behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from bihuan.evaluation.indicator import (
    IndicatorCatalogue,
    IndicatorList,
    IndicatorValues,
    UnitTree,
    Wanted,
    World,
    compute,
    list_behind,
)
from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import RefusedError, missing
from bihuan.server.app.indicator.dictionary import approved_catalogue
from bihuan.server.app.service import Service
from bihuan.server.app.unit_scope import require_units
from bihuan.server.control import UnitOfWork

MOST_UNITS, MOST_ROWS = 2_000, 1_000


@dataclass(frozen=True, slots=True)
class Asked:
    """Which numbers are asked.

    Parameters
    ----------
    names
        Indicators, one or more.
    unit_id
        The unit; with ``children`` also those right below it.
    month
        Date of the data; None: the newest.
    by
        Dimensions besides the org unit.
    children
        Whether the units right below are wanted too.
    """

    names: tuple[str, ...]
    unit_id: str
    month: date | None = None
    by: tuple[str, ...] = ()
    children: bool = False


def unit_values(work: UnitOfWork, service: Service, asked: Asked) -> IndicatorValues:
    """Compute indicators for a unit (and those right below it).

    Parameters
    ----------
    work
        In the scope of ``indicator.read``.
    service
        Whose lake.
    asked
        Which numbers.

    Returns
    -------
    IndicatorValues
        With the version of every definition used; it is the same whoever asks.

    Raises
    ------
    NotFoundError
        If the unit is out of reach or not in the lake's tree of that month.
    UnknownIndicatorError, IndicatorError
        If an indicator or dimension is not there.
    """
    catalogue = approved_catalogue(work)
    month = asked.month or newest_month(service)
    require_units(work, [asked.unit_id])
    tree, world = _tree(service, month), _world(service)
    if asked.unit_id not in tree.parent:
        raise missing("org unit", "组织单元", asked.unit_id)
    units = [asked.unit_id, *(tree.children(asked.unit_id) if asked.children else ())]
    wanted = Wanted(asked.names, month, tuple(units), asked.by)
    return compute(catalogue, wanted, world, engine=service.workspace.engine, tree=tree)


def values_of(
    service: Service,
    catalogue: IndicatorCatalogue,
    wanted: Wanted,
) -> IndicatorValues:
    """Compute for units that were checked before, at the lake's tree of the month."""
    tree = _tree(service, wanted.month)
    return compute(catalogue, wanted, _world(service), engine=service.workspace.engine, tree=tree)


def tree_at(service: Service, month: date) -> UnitTree:
    """Return the org tree of the lake at a month."""
    return _tree(service, month)


def rows_behind(  # noqa: PLR0913 - a list hangs on all of these
    work: UnitOfWork,
    service: Service,
    actor: Actor,
    asked: Asked,
    *,
    where: Mapping[str, object],
    limit: int = 100,
    offset: int = 0,
) -> IndicatorList:
    """Return the rows behind one number; who looks is written down.

    Parameters
    ----------
    work
        In the scope of ``customer.read``: lists name customers.
    service, asked, where
        Which number; one indicator.
    actor
        Who looks.
    limit, offset
        Which rows.

    Raises
    ------
    NotFoundError
        If the unit is out of reach.
    RefusedError
        If more than one indicator is asked.
    """
    if len(asked.names) != 1 or limit > MOST_ROWS:
        raise RefusedError(
            f"A list is that of one indicator, at most {MOST_ROWS} rows at a time.",
            remedy="Ask for one indicator and fewer rows.",
            zh=f"明细每次只能查看一个指标，最多 {MOST_ROWS} 行。",
        )
    month = asked.month or newest_month(service)
    require_units(work, [asked.unit_id])
    found = list_behind(
        approved_catalogue(work), asked.names[0], asked.unit_id, _world(service), month=month,
        engine=service.workspace.engine, where=where, limit=limit, offset=offset,
        tree=_tree(service, month),
    )  # fmt: skip
    work.audit(
        "indicator.list", "unit", asked.unit_id, indicator=found.indicator, by=actor.account_id,
        month=month.isoformat(), rows=found.rows.num_rows,
    )  # fmt: skip
    return found


def newest_month(service: Service) -> date:
    """Return the newest date at which the lake has the org tree.

    Raises
    ------
    RefusedError
        If it has none.
    """
    dates = service.workspace.view.dates("org_unit")
    if not dates:
        raise RefusedError(
            "The lake has no org tree yet.",
            remedy="Ingest org_unit first.",
            zh="数据湖中尚无组织树，请先入湖 org_unit。",
        )
    return max(dates)


def _world(service: Service) -> World:
    ws = service.workspace
    return World(ws.view, ws.contracts, ws.dictionary)


def _tree(service: Service, month: date) -> UnitTree:
    return UnitTree.at(service.workspace.view, month)


def values_json(work: UnitOfWork, service: Service, asked: Asked) -> dict[str, Any]:
    """Return :func:`unit_values` in plain JSON."""
    found = unit_values(work, service, asked)
    return {
        "month": found.month,
        "rows": [{k: _plain(v) for k, v in row.items()} for row in found.rows.to_pylist()],
        "versions": dict(found.versions),
        "missing": {name: dict(reason) for name, reason in found.missing.items()},
        "unplaced": dict(found.unplaced),
    }


def list_json(  # noqa: PLR0913 - as for rows_behind
    work: UnitOfWork,
    service: Service,
    actor: Actor,
    asked: Asked,
    *,
    where: Mapping[str, object],
    limit: int,
    offset: int,
) -> dict[str, Any]:
    """Return :func:`rows_behind` in plain JSON."""
    found = rows_behind(work, service, actor, asked, where=where, limit=limit, offset=offset)
    return {
        "indicator": found.indicator,
        "version": found.version,
        "month": found.month,
        "unit_id": found.unit,
        "parts": dict(found.parts),
        "total": found.total,
        "rows": [{k: _plain(v) for k, v in row.items()} for row in found.rows.to_pylist()],
    }


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, date) else value
