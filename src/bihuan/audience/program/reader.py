"""Asking the planes: each question becomes a program or two, run once over the blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bihuan.audience.algebra import Everyone, Missing, Node, Not, all_of
from bihuan.audience.bind import TagTypeError, bind
from bihuan.audience.coverage import NotEstimable, Overlap
from bihuan.audience.literal import AudienceError, literal
from bihuan.audience.normalise import normalise
from bihuan.audience.program import run
from bihuan.audience.program.answer import CrossTable, Histogram, Threshold, share_out
from bihuan.audience.program.axis import axis_programs, axis_values
from bihuan.audience.program.compile import Compiler, Cuts, Op, Program
from bihuan.audience.program.run import Bits, Rows, Side
from bihuan.audience.text import parse
from bihuan.data import ColumnType
from bihuan.kernel import on_each_part, random_stream
from bihuan.tag import TagIndex, TagPlanes

_BY_PROGRAM = 5_000  # cells up to here are counted by AND, larger tables by reading codes
_ORDERED = (
    ColumnType.INTEGER,
    ColumnType.MONEY,
    ColumnType.NUMBER,
    ColumnType.DATE,
)
_SUMMED = (ColumnType.INTEGER, ColumnType.MONEY, ColumnType.NUMBER, ColumnType.BOOLEAN)


class TagRangeError(AudienceError):
    """A wanted value or size lies outside of what a tag's values allow."""


class ProgramReader:
    """Answers questions about audiences from one plane index, exactly.

    Safe to share between threads. Trees are bound and normalised here; text is parsed.

    Parameters
    ----------
    index
        The planes.
    saved
        Saved audiences that a tree may name, bound or not.
    """

    def __init__(self, index: TagIndex, saved: Mapping[str, Node] | None = None) -> None:
        self.index = index
        self._saved = saved or {}
        # a planner asks many questions about one audience: its tree is made ready once
        self._bound = lru_cache(maxsize=256)(self._bind)

    # sizes

    def count(self, audience: Node | str) -> int:
        """Count an audience.

        Raises
        ------
        UnknownTagError, TagTypeError
            If the audience does not fit the tags.
        TagNotIndexedError, DamagedIndexError
            If a tag cannot be answered from planes; names it.
        """
        compiler = self._compiler()
        return run.count(self.index, compiler, compiler.tree(self._bound(audience)))

    def counts(self, audiences: Sequence[Node | str]) -> NDArray[np.int64]:
        """Count several audiences in one run over the planes they share, shape ``(n,)``."""
        compiler = self._compiler()
        programs = [compiler.tree(self._bound(audience)) for audience in audiences]
        everyone = compiler.everyone()
        return run.cross(self.index, compiler, everyone, programs, [everyone])[:, 0]

    def overlap(self, audiences: Mapping[str, Node | str]) -> Overlap:
        """Count how audiences cover each other."""
        compiler = self._compiler()
        programs = [compiler.tree(self._bound(audience)) for audience in audiences.values()]
        once = np.zeros(self.index.words, np.uint64)
        twice = np.zeros(self.index.words, np.uint64)
        for program in programs:
            bits, _ = run.select(self.index, compiler, program)
            twice |= once & bits
            once |= bits
        return Overlap(
            names=tuple(audiences),
            counts=run.cross(self.index, compiler, compiler.everyone(), programs, programs),
            covered=int(np.bitwise_count(once).sum()),
            shared=int(np.bitwise_count(twice).sum()),
        )

    # members

    def rows(self, audience: Node | str | None) -> Rows:
        """Return the row numbers of an audience's members, ascending."""
        compiler = self._compiler()
        bits, size = run.select(self.index, compiler, compiler.tree(self._bound(audience)))
        return run.rows_of(self.index, bits, size)

    def members(self, audience: Node | str) -> pa.Array:
        """Return the ids of an audience's members, in the order of the ids."""
        return self.index.take_ids(self.rows(audience))

    def write_members(
        self, audience: Node | str, path: Path, *, ids: Literal["id", "row"] = "id"
    ) -> int:
        """Write an audience's members and return their number.

        Parameters
        ----------
        audience
            Whose members.
        path
            A ``.parquet``, ``.csv`` or ``.arrow`` file.
        ids
            ``id`` writes the subjects' ids, ``row`` their row numbers in this index.

        Raises
        ------
        AudienceError
            If the file's ending is none of these.
        """
        rows = self.rows(audience)
        if ids == "row":
            column, name = pa.array(rows.astype(np.uint32)), "row"
        else:
            column, name = self.index.take_ids(rows), f"{self.index.subject}_id"
        # nobody lacks an id; saying so spares Parquet a level per row
        table = pa.table([column], pa.schema([pa.field(name, column.type, nullable=False)]))
        match path.suffix:
            case ".parquet":
                # ids stand in ascending order and each once: neither dictionary nor zstd pays
                pq.write_table(
                    table, path, compression="none", use_dictionary=False, write_statistics=False
                )
            case ".csv":
                pacsv.write_csv(table, path)
            case ".arrow":
                with pa.ipc.new_file(str(path), table.schema) as writer:
                    writer.write_table(table)
            case ending:
                raise AudienceError(
                    f"Members cannot be written as '{ending}'.",
                    remedy="Name a .parquet, .csv or .arrow file.",
                    zh=f"不支持将成员写为 {ending} 文件，请使用 .parquet、.csv 或 .arrow。",
                )
        return len(rows)

    def sample(self, size: int, within: Node | str | None = None, *, seed: int) -> pa.Array:
        """Draw members at random, without replacement, in the order of the ids.

        Parameters
        ----------
        size
            How many; all of them if there are fewer.
        within
            The audience; None = everybody.
        seed
            The same seed draws the same members.
        """
        rows = self.rows(within)
        chance = random_stream(seed, "audience.sample")
        chosen = chance.choice(len(rows), min(size, len(rows)), replace=False, shuffle=False)
        return self.index.take_ids(rows[np.sort(chosen)])

    def stratified_sample(
        self, size: int, by: str, within: Node | str | None = None, *, seed: int
    ) -> pa.Array:
        """Draw members so that each value of a tag has its share, to the nearest whole member.

        Parameters
        ----------
        size
            How many in all; all of them if there are fewer.
        by
            Tag whose values are the strata; those without a value are one more.
        within, seed
            As in :meth:`sample`.
        """
        rows = self.rows(within)
        if size >= len(rows):
            return self.index.take_ids(rows)
        strata = self._codes(by, rows)
        _, first, counts = np.unique(np.sort(strata), return_index=True, return_counts=True)
        quota = share_out(size, counts)
        chance = random_stream(seed, "audience.stratified_sample").random(len(rows))
        order = np.lexsort((chance, strata))
        places = np.arange(len(rows)) - np.repeat(first, counts)
        chosen = order[places < np.repeat(quota, counts)]
        return self.index.take_ids(rows[np.sort(chosen)])

    # distributions

    def cross(self, tags: Sequence[str], within: Node | str | None = None) -> CrossTable:
        """Count an audience by the values of one, two or three tags.

        Raises
        ------
        AudienceError
            If there are none or more than three tags, or one has more than 1,000 values.
        """
        if not 1 <= len(tags) <= 3 or len(set(tags)) < len(tags):
            raise AudienceError(
                f"A cross table has one, two or three different tags, not {len(tags)}.",
                remedy="Name one to three different tags.",
                zh=f"交叉表需要一至三个不同的标签，当前为 {len(tags)} 个。",
            )
        values = tuple(axis_values(self.index.planes(tag)) for tag in tags)
        shape = tuple(len(axis) for axis in values)
        audience = self._bound(within)
        if int(np.prod(shape)) > _BY_PROGRAM:
            counts = self._cross_by_codes(tags, shape, audience)
        else:
            counts = self._cross_by_program(tags, audience)
        return CrossTable(tuple(tags), values, counts)

    def histogram(
        self,
        tag: str,
        within: Node | str | None = None,
        *,
        bins: int = 50,
        edges: Sequence[Any] | None = None,
    ) -> Histogram:
        """Count an audience by ranges of an ordered tag.

        Parameters
        ----------
        tag
            A number, money, integer or date tag.
        within
            The audience; None = everybody.
        bins
            Number of even ranges from the lowest to the highest value that occurs in the index.
        edges
            Bounds of the ranges instead, ascending.
        """
        encoding = self._ordered(tag).encoding
        end = encoding.first + encoding.count
        if encoding.count == 0:
            missing = len(self.rows(within))
            return Histogram(tag, (), np.zeros(0, np.int64), missing, 0)
        if edges is None:
            lowest = encoding.first + encoding.least
            width = end - 1 - lowest
            count = min(bins, max(width, 1))
            cuts = [lowest + -(-width * i // count) for i in range(count)]
            bounds = tuple(encoding.value(code) for code in [*cuts, end - 1])
        else:
            bounds = tuple(edges)
            cuts = [encoding.first_at_least(literal(edge)) for edge in bounds[:-1]]
        # the last range takes its upper edge in
        last = encoding.first_at_least(literal(bounds[-1]))
        last += encoding.find(literal(bounds[-1])) is not None
        starts = [encoding.first, *cuts, last]
        compiler = self._compiler()
        programs = [compiler.everyone()]
        programs += [compiler.codes(tag, _from(start, end)) for start in starts]
        inside = compiler.tree(self._bound(within))
        found = run.cross(self.index, compiler, inside, programs, [compiler.everyone()])[:, 0]
        everybody, known, at_least = int(found[0]), int(found[1]), found[2:]
        return Histogram(
            tag=tag,
            edges=bounds,
            counts=at_least[:-1] - at_least[1:],
            missing=everybody - known,
            outside=known - int(at_least[0] - at_least[-1]),
        )

    def quantiles(
        self, tag: str, shares: Sequence[float], within: Node | str | None = None
    ) -> list[Any]:
        """Return values below or at which given shares of the known lie; each occurs.

        Parameters
        ----------
        tag
            A number, money, integer or date tag.
        shares
            0..1; 0.5 is the lower median.
        within
            The audience; None = everybody.

        Returns
        -------
        list
            In the tag's own type; None if no member has a value.
        """
        planes = self._ordered(tag)
        bits, known = self._known(tag, within)
        if known == 0:
            return [None] * len(shares)
        found = []
        for share in shares:
            rank = min(max(int(np.ceil(share * known)), 1), known)
            code, _, _ = run.walk(self.index, planes, bits.copy(), known, rank, "bottom")
            found.append(planes.encoding.value(code))
        return found

    def threshold(
        self, tag: str, size: int, within: Node | str | None = None, *, side: Side = "top"
    ) -> Threshold:
        """Find where to cut a tag so that ``size`` members are left, exactly.

        Parameters
        ----------
        tag
            A number, money, integer or date tag.
        size
            Wanted members, >= 1.
        within
            The audience; None = everybody.
        side
            Whether the highest or the lowest values are left.

        Raises
        ------
        TagRangeError
            If fewer members have a value; says how many and the range of their values.
        """
        planes = self._ordered(tag)
        bits, known = self._known(tag, within)
        if not 1 <= size <= known:
            raise _no_such_size(planes, size, known)
        code, beyond, ties = run.walk(self.index, planes, bits, known, size, side)
        return Threshold(tag, side, size, planes.encoding.value(code), beyond, ties)

    def count_from(
        self, tag: str, value: Any, within: Node | str | None = None, *, side: Side = "top"
    ) -> int:
        """Count the members at a value or beyond it, as when a threshold is dragged.

        Raises
        ------
        TagRangeError
            If the value is outside of what occurs; says the range.
        """
        planes = self._ordered(tag)
        encoding = planes.encoding
        wanted = literal(value)
        low, high = encoding.lowest, encoding.highest
        if encoding.count == 0 or not low <= wanted <= high:
            raise TagRangeError(
                f"{value} is outside of '{tag}', whose values run from {low} to {high}.",
                remedy=f"Choose a threshold from {low} to {high}.",
                zh=f"阈值 {value} 超出标签 {tag} 的取值范围 {low} 至 {high}，请在该范围内选择。",
            )
        first, end = encoding.first, encoding.first + encoding.count
        at_least = encoding.first_at_least(wanted)
        above = at_least + (encoding.find(wanted) is not None)
        cuts = _from(at_least, end) if side == "top" else _from(first, above)
        compiler = self._compiler()
        chosen = both(compiler.tree(self._bound(within)), compiler.codes(tag, cuts))
        return run.count(self.index, compiler, chosen)

    def total(self, tag: str, within: Node | str | None = None) -> Decimal | int | float:
        """Sum a tag over the members who have a value: exact for money, integer and boolean.

        Raises
        ------
        TagTypeError
            If the tag is a text, a date or a moment.
        """
        planes = self._numeric(tag)
        encoding = planes.encoding
        bits, known = self._known(tag, within)
        if not encoding.is_linear:
            codes = self._codes(tag, run.rows_of(self.index, bits, known))
            return float(encoding.floats(codes).sum())
        ones = run.ones_in_planes(self.index, bits, planes.bit_addresses)
        codes_sum = sum(count << bit for bit, count in enumerate(ones))
        positions = known * encoding.low + (codes_sum - known * encoding.first) * encoding.step
        if encoding.type is ColumnType.MONEY:
            return Decimal(positions).scaleb(-2)
        return positions / encoding.scale if encoding.type is ColumnType.NUMBER else positions

    def mean(self, tag: str, within: Node | str | None = None) -> float | NotEstimable:
        """Return the mean of a tag over the members who have a value."""
        total = self.total(tag, within)
        _, known = self._known(tag, within)
        if known == 0:
            reason = {"zh": f"没有成员有标签 {tag} 的值。", "en": f"No member has a '{tag}'."}
            return NotEstimable(reason)
        return float(total) / known

    def profile(self, subject_id: str) -> dict[str, Any]:
        """Return every indexed tag of one subject; see :meth:`TagIndex.profile`."""
        return self.index.profile(subject_id)

    # programs

    def _bind(self, audience: Node | str | None) -> Node:
        """Return an audience bound and in normal form; None is everybody."""
        if audience is None:
            return Everyone()
        node = parse(audience) if isinstance(audience, str) else audience
        return normalise(bind(node, self.index.fields, saved=self._saved))

    def _compiler(self) -> Compiler:
        return Compiler(self.index.planes)

    def _known(self, tag: str, within: Node | str | None) -> tuple[Bits, int]:
        """Return an audience's members who have a value, and their number."""
        compiler = self._compiler()
        node = all_of((self._bound(within), Not(Missing(tag))))
        return run.select(self.index, compiler, compiler.tree(normalise(node)))

    def _codes(self, tag: str, rows: Rows) -> NDArray[np.uint64]:
        """Return the codes of some rows; one past the last where the value is missing."""
        encoding = self.index.planes(tag).encoding
        parts = on_each_part(lambda start, end: self.index.codes(rows[start:end], [tag]), len(rows))
        codes = np.concatenate([found[0][0] for found in parts])
        known = np.concatenate([found[1][0] for found in parts])
        codes[~known] = encoding.first + encoding.count
        return codes

    def _cross_by_program(self, tags: Sequence[str], audience: Node) -> NDArray[np.int64]:
        """Give each value a program; a third tag is an outer loop."""
        compiler = self._compiler()
        inside = compiler.tree(audience)
        axes = [axis_programs(compiler, tag) for tag in tags]
        if len(axes) == 1:
            return run.cross(self.index, compiler, inside, axes[0], [compiler.everyone()])[:, 0]
        if len(axes) == 2:
            return run.cross(self.index, compiler, inside, *axes)
        return np.stack(
            [run.cross(self.index, compiler, both(inside, layer), *axes[1:]) for layer in axes[0]]
        )

    def _cross_by_codes(
        self, tags: Sequence[str], shape: tuple[int, ...], audience: Node
    ) -> NDArray[np.int64]:
        """Read every member's codes: dearer per member, the same for any number of cells."""
        rows = self.rows(audience)
        cell = np.zeros(len(rows), np.int64)
        for tag, length in zip(tags, shape, strict=True):
            first = self.index.planes(tag).encoding.first
            cell = cell * length + (self._codes(tag, rows) - np.uint64(first)).astype(np.int64)
        return np.bincount(cell, minlength=int(np.prod(shape))).reshape(shape)

    def _ordered(self, tag: str) -> TagPlanes:
        return self._typed(
            tag, _ORDERED, "has no order that a threshold could cut", "没有可切分的顺序"
        )

    def _numeric(self, tag: str) -> TagPlanes:
        return self._typed(tag, _SUMMED, "cannot be summed", "不能求和")

    def _typed(self, tag: str, kinds: tuple[ColumnType, ...], en: str, zh: str) -> TagPlanes:
        planes = self.index.planes(tag)
        if planes.encoding.type not in kinds:
            raise TagTypeError(
                f"Tag '{tag}' is a {planes.encoding.type.value} and {en}.",
                remedy=f"Choose a tag of type {', '.join(kind.value for kind in kinds)}.",
                zh=f"标签 {tag} 的类型为 {planes.encoding.type.value}，{zh}，请选择数值类标签。",
            )
        return planes


def _no_such_size(planes: TagPlanes, size: int, known: int) -> TagRangeError:
    tag, low, high = planes.tag, planes.encoding.lowest, planes.encoding.highest
    return TagRangeError(
        f"No threshold of '{tag}' leaves {size:,}: {known:,} members have a value"
        f" (values run from {low} to {high}).",
        remedy=f"Ask for 1 to {known:,}." if known else "Choose another tag or audience.",
        zh=f"标签 {tag} 没有能留下 {size:,} 个成员的阈值：有值的成员共 {known:,} 个"
        f"（取值范围 {low} 至 {high}）。",
    )


def both(first: Program, second: Program) -> Program:
    """Return the program of what two programs both select."""
    steps = (*first.steps, *second.steps, (Op.AND, -1))
    return Program(steps, max(first.depth, second.depth + 1))


def _from(start: int, end: int) -> Cuts:
    return (start, end) if start < end else ()
