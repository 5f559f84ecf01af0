"""Touchpoints of the workspace: what each offers first, and to whom."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.audience import Node, bind, read_flags
from bihuan.strategy import (
    Touchpoint,
    TouchpointBook,
    TouchpointCustomers,
    TouchpointDeployment,
    deploy_touchpoints,
    preference_shares,
)
from bihuan.tag import TagTable
from bihuan.workspace.place import Day, day_of

if TYPE_CHECKING:
    from bihuan.workspace.workspace import Workspace


class Touchpoints:
    """Touchpoints and their strategies, of ``touchpoints/`` and the outlets of the lake.

    Parameters
    ----------
    workspace
        Where definitions, outlets, customers, tags and policies are.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._ws = workspace

    @property
    def book(self) -> TouchpointBook:
        """Kinds, listed touchpoints and strategies, as they stand in the files now."""
        return TouchpointBook.load(self._ws.layout.definitions("touchpoints"), self._ws.catalogue)

    def all(self, as_of: Day) -> tuple[Touchpoint, ...]:
        """Return every touchpoint of a date with its degree of digitisation."""
        outlets = self._ws.view.upto("outlet", day_of(as_of))
        return self.book.touchpoints(outlets[-1].read() if outlets else None)

    def deploy(
        self, as_of: Day, audience: str = "everyone", *, suppress: bool = True
    ) -> TouchpointDeployment:
        """Give each touchpoint its strategies and customers; nothing is sent.

        Preference is the share of the scores that ``touchpoints/`` names under ``preference:``;
        policies of the workspace are kept.

        Parameters
        ----------
        as_of
            Date of customers, tags and outlets.
        audience
            Whom to look at.
        suppress
            Whether the standard exclusions (lists, opt-outs, recent contacts, ...) are left out.
        """
        ws, book, tags = self._ws, self.book, self._ws.tags(as_of)
        kept = ws.suppress(audience, as_of).kept if suppress else ws.members(audience, as_of)
        ids = kept[tags.id_column].combine_chunks()
        policies = ws.policies.find_book(as_of)
        return deploy_touchpoints(
            book,
            self.all(as_of),
            self._customers(book, ids, tags),
            ws.policies.tree(as_of),
            permits=None if policies is None else policies.permits,
            seed=ws.settings.seed,
        )

    def _customers(
        self, book: TouchpointBook, ids: pa.Array, tags: TagTable
    ) -> TouchpointCustomers:
        rows = self._ws.view.get("customer", tags.as_of).read(["customer_id", "org_unit_id"])
        at = pc.index_in(ids, value_set=rows["customer_id"].combine_chunks())
        units = rows["org_unit_id"].take(at)
        audiences = {s.strategy_id: s.audience for s in book.strategies}
        offers = {o for s in book.strategies for o in s.offers}
        eligible = {o: self._ws.catalogue.get(o).eligibility for o in sorted(offers)}
        flags = self._flags({**{f"s {k}": v for k, v in audiences.items()},
                             **{f"o {k}": v for k, v in eligible.items()}}, ids, tags)  # fmt: skip
        return TouchpointCustomers(
            ids, units, self._preference(book, ids, tags),
            audiences={name: flags[f"s {name}"] for name in audiences},
            eligible={name: flags[f"o {name}"] for name in eligible},
        )  # fmt: skip

    def _preference(
        self, book: TouchpointBook, ids: pa.Array, tags: TagTable
    ) -> dict[str, NDArray[np.float64]]:
        if not book.preference:
            return {}
        table = tags.read(self._ws.engine, sorted(set(book.preference.values())))
        table = table.take(pc.index_in(ids, value_set=table[tags.id_column].combine_chunks()))
        number = partial(pc.cast, target_type=pa.float64())
        return preference_shares(
            {
                channel: pc.fill_null(number(table[tag]), float("nan")).to_numpy()
                for channel, tag in book.preference.items()
            }
        )

    def _flags(
        self, nodes: dict[str, Node], ids: pa.Array, tags: TagTable
    ) -> dict[str, NDArray[np.bool_]]:
        bound = [bind(node, tags.fields) for node in nodes.values()]
        everyone, matrix = read_flags(bound, tags, engine=self._ws.engine)
        at = pc.index_in(ids, value_set=everyone.combine_chunks()).to_numpy(zero_copy_only=False)
        return {name: matrix[at, i] for i, name in enumerate(nodes)}
