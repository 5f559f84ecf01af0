"""Scripts of the workspace: matched in one place for every channel."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.audience import read_flags
from bihuan.kernel import UserError
from bihuan.strategy import Campaign
from bihuan.strategy.script import ForbiddenWord, ScriptBook, ScriptChoice
from bihuan.tag import TagTable
from bihuan.workspace.place import Day, day_of

if TYPE_CHECKING:
    from bihuan.workspace.workspace import Workspace

NEEDED = ("customer_id", "offer_id", "channel")


class Scripts:
    """Scripts of ``scripts/``, matched by audience × offer × channel.

    Where the workspace has policies, a unit's customers hear the scripts its policy allows.

    Parameters
    ----------
    workspace
        Where definitions, tags and policies are.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._ws = workspace
        self._books: dict[tuple[object, ...], ScriptBook] = {}

    @property
    def files(self) -> tuple[Path, ...]:
        """The script files, sorted by name."""
        return tuple(sorted(self._ws.layout.definitions("scripts").glob("*.yaml")))

    @property
    def book(self) -> ScriptBook:
        """Every script, checked against the offers and the customer tags."""
        key = (
            id(self._ws.catalogue), id(self._ws.dictionary),
            tuple(map(_stamp, self.files)),
        )  # fmt: skip
        if key not in self._books:
            self._books.clear()
            self._books[key] = ScriptBook.load(
                self.files, self._ws.catalogue, dictionary=self._ws.dictionary,
                seed=self._ws.settings.seed,
            )  # fmt: skip
        return self._books[key]

    def match(
        self,
        offer_id: str,
        channel: str,
        customer_id: str,
        as_of: Day,
        *,
        profile: Mapping[str, object] | None = None,
    ) -> ScriptChoice | None:
        """Return what one customer hears, filled in, and why.

        Parameters
        ----------
        offer_id, channel
            What is offered, through which channel kind.
        customer_id
            Who hears it.
        as_of
            Date of the tags.
        profile
            Tag values, where they are at hand; None reads them.
        """
        known = self._ws.tags(as_of).profile(customer_id) if profile is None else profile
        return self.book.match(
            offer_id, channel, known, customer_id=customer_id,
            allowed=self._allowed_for(customer_id, offer_id, as_of),
        )  # fmt: skip

    def for_rows(self, rows: pa.Table, as_of: Day, *, language: str | None = None) -> pa.Table:
        """Match a script to each row, e.g. of assignments; all channels get theirs from here.

        Parameters
        ----------
        rows
            With columns ``customer_id``, ``offer_id``, ``channel``; others are kept. A row
            without an offer is left without a script.
        as_of
            Date of the tags.
        language
            ``zh`` or ``en`` of the text; None: the workspace's.

        Returns
        -------
        pyarrow.Table
            The rows with ``script_id``, ``version``, ``arm`` and ``text`` at the end; a column
            ``script_id`` that they had before is replaced. Missing where no script fits.

        Raises
        ------
        MissingTagError
            If a customer lacks a value and the script says nothing instead.
        """
        tags = self._ws.tags(as_of)
        choice: dict[str, NDArray[np.object_]] = {
            name: np.full(rows.num_rows, None, dtype=object)
            for name in ("script_id", "version", "arm", "text")
        }
        for offer_id, channel, at in _pairs(rows):
            found = self._match_part(rows, offer_id, channel, at, tags, language)
            for name, column in choice.items():
                column[at] = found[name].to_numpy(zero_copy_only=False)
        kept = [name for name in rows.column_names if name not in choice]
        types = {"version": pa.int32()}
        result = rows.select(kept)
        for name, column in choice.items():
            result = result.append_column(
                name, pa.array(column, types.get(name, pa.string()), from_pandas=True)
            )
        return result

    def list_details(self, rows: pa.Table, as_of: Day, *, language: str | None = None) -> pa.Table:
        """Return what is to be said as details of target lists, see ``bihuan.delivery.ListLayout``.

        Parameters
        ----------
        rows
            Assignments, one per customer.
        as_of, language
            See :meth:`for_rows`.

        Returns
        -------
        pyarrow.Table
            ``customer_id``, ``wording`` (script, version and arm, to be reported back) and
            ``spoken`` (the text), for the rows with a script.

        Raises
        ------
        UserError
            If a customer has several assignments: one line could not say which text is whose.
        """
        said = self.for_rows(rows, as_of, language=language)
        said = said.filter(pc.is_valid(said["script_id"]))
        repeated = said.num_rows - pc.count_distinct(said["customer_id"]).as_py()
        if repeated:
            raise UserError(
                f"{repeated} customers have several assignments.",
                remedy="Give the assignments of one step or one offer at a time.",
                zh=f"有 {repeated} 位客户有多条派单。请按步骤或产品分别处理。",
            )
        wording = pc.binary_join_element_wise(
            said["script_id"], said["version"].cast(pa.string()), said["arm"], "/"
        )
        return pa.table(
            {"customer_id": said["customer_id"], "wording": wording, "spoken": said["text"]}
        )

    def check_campaign(self, campaign: str | Campaign) -> dict[str, tuple[ForbiddenWord, ...]]:
        """Return the forbidden words in the texts that a campaign brings itself, by script id."""
        plan = self._ws.campaign(campaign) if isinstance(campaign, str) else campaign
        found = {name: self.book.forbidden_in(texts) for name, texts in plan.scripts.items()}
        return {name: words for name, words in found.items() if words}

    # inside

    def _match_part(
        self,
        rows: pa.Table,
        offer_id: str,
        channel: str,
        at: NDArray[np.int64],
        tags: TagTable,
        language: str | None,
    ) -> pa.Table:
        """Match the rows of one offer in one channel; the same number of rows, in their order."""
        ids = rows["customer_id"].take(pa.array(at)).combine_chunks()
        flags = self._flags(ids, offer_id, channel, tags)
        found: list[pa.Table] = []
        order: list[NDArray[np.int64]] = []
        for allowed, part in self._policy_groups(ids, offer_id, tags.as_of):
            mine = {name: flag[part] for name, flag in flags.items()}
            found.append(
                self.book.match_table(
                    ids.take(pa.array(part)), offer_id, channel, mine, allowed=allowed
                )
            )
            order.append(part)
        back = pa.array(np.argsort(np.concatenate(order), kind="stable"))
        chosen = pa.concat_tables(found).take(back)
        values = self._values(ids, self.book.tags_of(offer_id, channel), tags)
        spoken = language or self._ws.settings.language
        return chosen.append_column("text", self.book.fill_table(chosen, offer_id, values, spoken))

    def _flags(
        self, ids: pa.Array, offer_id: str, channel: str, tags: TagTable
    ) -> dict[str, NDArray[np.bool_]]:
        segments = self.book.segments(offer_id, channel)
        if not segments:
            return {}
        everyone, matrix = read_flags(list(segments.values()), tags, engine=self._ws.engine)
        at = pc.index_in(ids, value_set=everyone.combine_chunks())
        known = pc.fill_null(at, len(matrix)).to_numpy(zero_copy_only=False)
        padded = np.vstack([matrix, np.zeros((1, len(segments)), dtype=np.bool_)])
        return {name: padded[known, i] for i, name in enumerate(segments)}

    def _values(self, ids: pa.Array, names: tuple[str, ...], tags: TagTable) -> pa.Table:
        if not names:
            return pa.table({"customer_id": ids})
        table = tags.read(self._ws.engine, names)
        at = pc.index_in(ids, value_set=table[tags.id_column].combine_chunks())
        return table.take(at)

    def _policy_groups(
        self, ids: pa.Array, offer_id: str, as_of: Day
    ) -> Iterator[tuple[Collection[str] | None, NDArray[np.int64]]]:
        """Yield the scripts that a policy allows, and whom it is for."""
        book = self._ws.policies.find_book(as_of)
        if book is None or not len(ids):
            yield None, np.arange(len(ids))
            return
        customers = self._ws.view.get("customer", day_of(as_of)).read(
            ["customer_id", "org_unit_id"]
        )
        at = pc.index_in(ids, value_set=customers["customer_id"].combine_chunks())
        groups = book.groups(customers["org_unit_id"].take(at))
        for number, unit in enumerate(groups.units):
            rows = np.flatnonzero(groups.code == number)
            if len(rows):
                tops = book.tree.roots if unit is None else (unit,)
                policies = [book.resolve(top, offer_id).scripts for top in tops]
                stated = [scripts for scripts in policies if scripts is not None]
                yield frozenset.intersection(*stated) if stated else None, rows

    def _allowed_for(self, customer_id: str, offer_id: str, as_of: Day) -> Collection[str] | None:
        groups = self._policy_groups(pa.array([customer_id]), offer_id, as_of)
        return next(allowed for allowed, _ in groups)


def _pairs(rows: pa.Table) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
    """Yield each offer and channel with its rows."""
    pairs = pc.binary_join_element_wise(
        rows["offer_id"].cast(pa.string()), rows["channel"].cast(pa.string()), "\x00"
    ).combine_chunks()
    coded = pairs.dictionary_encode()
    code = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False)  # rows without an offer
    for number, pair in enumerate(coded.dictionary.to_pylist()):
        offer_id, _, channel = pair.partition("\x00")
        yield offer_id, channel, np.flatnonzero(code == number)


def _stamp(file: Path) -> tuple[Path, int, int, int]:
    """Return what is another one after every change of a file."""
    state = file.stat()
    return file, state.st_ino, state.st_mtime_ns, state.st_size
