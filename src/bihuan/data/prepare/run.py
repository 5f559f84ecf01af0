"""A recipe compiled into one query, checked without data, run over a snapshot, published."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from sqlglot import exp

from bihuan.data.contract import TableContract, load_contracts
from bihuan.data.engine import Engine, Source
from bihuan.data.lake import Lake, LakeView, Snapshot
from bihuan.data.prepare import clean, convert, extract
from bihuan.data.prepare.draft import Draft, Shape
from bihuan.data.prepare.recipe import Options, Recipe, RecipeError
from bihuan.kernel import Clock, hash_id

STEPS: Mapping[str, Callable[[Draft, Options], None]] = {
    "select": extract.select,
    "join": extract.join,
    "filter": extract.filter_rows,
    "keep": extract.keep_columns,
    "calculate": extract.calculate,
    "group": extract.group,
    "types": convert.change_types,
    "units": convert.change_units,
    "codes": convert.change_codes,
    "rename": convert.rename,
    "pivot": convert.pivot,
    "unpivot": convert.unpivot,
    "sort": convert.sort_rows,
    "trim": clean.trim,
    "drop_duplicates": clean.drop_duplicates,
    "fill_missing": clean.fill_missing,
    "cap": clean.cap,
}
"""What each kind of step does; its options are told in the function's docstring."""


def check_recipe(
    recipe: Recipe, contracts: Mapping[str, TableContract], engine: Engine
) -> pa.Schema:
    """Compile a recipe against the contracts and run it over empty tables.

    Returns
    -------
    pyarrow.Schema
        Columns and types of the result.

    Raises
    ------
    RecipeError
        If a step asks for something that is not there or types do not fit; the message names file,
        line, step and position.
    """

    def shape(table: str) -> Shape | None:
        contract = contracts.get(table)
        return None if contract is None else _contract_shape(contract, contract.names)

    day = date(2000, 1, 31)
    draft = _compile(recipe, day, shape)
    sources: dict[str, Source] = {}
    for source, (table, _) in draft.needs.items():
        dated = contracts[table].schema.append(pa.field("as_of", pa.date32()))
        sources[source] = dated.empty_table()
    return _run(recipe, draft, sources, lambda query: engine.query(query, sources), engine).schema


def prepare(
    recipe: Recipe,
    view: LakeView,
    as_of: date,
    engine: Engine,
    contracts: Mapping[str, TableContract] | None = None,
) -> pa.Table:
    """Run a recipe.

    Parameters
    ----------
    recipe
        What to do.
    view
        The lake as seen by the caller.
    as_of
        The snapshot date that is prepared.
    engine
        Runs the one query into which the recipe is compiled.
    contracts
        Tell units and keys of the tables; None takes the built-in ones.

    Returns
    -------
    pyarrow.Table
        The result of the last step.

    Raises
    ------
    RecipeError
        If a step cannot be done; the message names file, line and step.
    SnapshotNotFoundError
        If a table has no snapshot at ``as_of``.
    """
    draft, snapshots = _open(recipe, view, as_of, contracts)
    sources: dict[str, Source] = dict(snapshots)
    return _run(recipe, draft, sources, lambda query: engine.query(query, sources), engine)


def publish_prepared(
    recipe: Recipe,
    lake: Lake,
    as_of: date,
    engine: Engine,
    clock: Clock,
    contracts: Mapping[str, TableContract] | None = None,
) -> Snapshot:
    """Run a recipe and publish the result as the lake table ``prepared__<recipe>``.

    The rows go from the engine to Parquet without passing through this process's memory; the
    lineage names the recipe and every snapshot read.

    Parameters
    ----------
    recipe
        What to do.
    lake
        Read as it is at the start, and published to.
    as_of
        Date that the recipe is run for, and of the new snapshot.
    engine
        Runs the one query.
    clock
        Stamps the publication.
    contracts
        Contracts by table name; None takes the built-in ones.

    Returns
    -------
    Snapshot
        The new one.

    Raises
    ------
    RecipeError, SnapshotNotFoundError
        As :func:`prepare`; nothing is published then.
    """
    draft, snapshots = _open(recipe, lake.view(), as_of, contracts)
    sources: dict[str, Source] = dict(snapshots)
    table = f"prepared__{recipe.name}"
    lineage = {
        "recipe": hash_id(recipe.name, [[step.kind, step.options] for step in recipe.steps]),
        "snapshots": sorted({part.id for parts in snapshots.values() for part in parts}),
    }
    with (
        lake.publication(clock) as publication,
        publication.folder(table, as_of, lineage=lineage) as folder,
    ):
        _run(recipe, draft, sources, lambda query: engine.write(query, sources, folder), engine)
    return lake.view().get(table, as_of)


def _open(
    recipe: Recipe,
    view: LakeView,
    as_of: date,
    contracts: Mapping[str, TableContract] | None,
) -> tuple[Draft, dict[str, tuple[Snapshot, ...]]]:
    known = load_contracts() if contracts is None else contracts

    def shape(table: str) -> Shape | None:
        snapshot = view.find(table)
        if snapshot is None:
            return None
        stored = tuple(pq.read_schema(snapshot.files[0]).names)
        contract = known.get(table)
        if contract is None:
            return Shape(dict.fromkeys(stored, ""))
        return _contract_shape(contract, stored)

    draft = _compile(recipe, as_of, shape)
    snapshots = {}
    for source, (table, months) in draft.needs.items():
        view.get(table, as_of)  # the month that is prepared must be there, earlier ones may lack
        snapshots[source] = view.upto(table, as_of, months=months)
    return draft, snapshots


def _contract_shape(contract: TableContract, stored: tuple[str, ...]) -> Shape:
    units = {name: contract[name].unit if name in contract else "" for name in stored}
    return Shape(units, contract.key)


def _compile(recipe: Recipe, as_of: date, shape: Callable[[str], Shape | None]) -> Draft:
    draft = Draft(as_of, shape)
    for number, step in enumerate(recipe.steps, start=1):
        place = _place(recipe, number)
        if step.kind not in STEPS:
            raise RecipeError(
                f"{place}: there is no such step.",
                remedy=f"Steps: {', '.join(STEPS)}.",
                zh=f"{place}：没有这种步骤，可用：{'、'.join(STEPS)}。",
            )
        last = recipe.steps[-1]
        if (step.kind == "select") != (number == 1) or (step.kind == "sort" and step is not last):
            raise RecipeError(
                f"{place}: a recipe begins with select, and only its last step may be sort.",
                remedy="Use join to bring in another table, and move sort to the end.",
                zh=f"{place}：select 只能是第一步，sort 只能是最后一步，其他表请用 join。",
            )
        STEPS[step.kind](draft, Options(step.options, place, tuple(draft.units)))
        draft.mark(number)
    return draft


def _place(recipe: Recipe, number: int) -> str:
    step = recipe.steps[number - 1]
    line = f" line {step.line}" if step.line else ""
    return f"{recipe.file or recipe.name}{line}, step {number} ({step.kind})"


def _run(
    recipe: Recipe,
    draft: Draft,
    sources: Mapping[str, Source],
    run: Callable[[exp.Query], pa.Table],
    engine: Engine,
) -> pa.Table:
    try:
        return run(draft.query())
    except duckdb.Error as error:
        told = str(error).splitlines()[0]
        for number in range(1, len(recipe.steps) + 1):  # which step does not even bind?
            try:
                engine.query(draft.query(draft.marks[number]).limit(0), sources)
            except duckdb.Error as first:
                told = str(first).splitlines()[0]
                raise RecipeError(
                    f"{_place(recipe, number)}: {told}",
                    remedy="Check the types of its columns; a types step can change them.",
                    zh=f"{_place(recipe, number)}：{told}。请检查字段类型，可用 types 步骤转换。",
                ) from error
        raise RecipeError(
            f"Recipe '{recipe.name}' stopped at a value: {told}",
            remedy="Filter such values out, or write 'lenient: true' where types are changed.",
            zh=f"配方 {recipe.name} 遇到无法处理的值：{told}。可先过滤，或写 lenient: true。",
        ) from error
