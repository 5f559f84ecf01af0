"""What a model learns from: customers, their features at a date, and what they did afterwards.

Features come as an Arrow table; the Arrow type says how a feature is treated:

=============  ============================================  =================================
kind           Arrow types                                   decoded to
=============  ============================================  =================================
numeric        integers, floats, decimals                    float64, NaN = missing
boolean        bool                                          1.0, 0.0, NaN = missing
date           date, timestamp                               days before ``as_of``, NaN = missing
categorical    string, dictionary of strings                 int32 codes, -1 = missing
=============  ============================================  =================================

A column of Arrow's null type is numeric and wholly missing.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.kernel import UserError

AsOf: TypeAlias = date | NDArray[np.datetime64] | None
"""The date at which features are seen: one for all rows, one per row, or not stated."""

_UNIX_EPOCH = np.datetime64(0, "D")


class FrameError(UserError):
    """The labelled rows do not fit together."""


class FeatureTypeError(UserError):
    """A feature's Arrow type is none that a model can read, or not the one it was built on."""


class MissingFeatureError(UserError):
    """A feature that the model needs is not among the columns given."""


class FeatureKind(enum.StrEnum):
    """How a feature is treated."""

    NUMERIC = "numeric"
    BOOLEAN = "boolean"
    DATE = "date"
    CATEGORICAL = "categorical"


@dataclass(frozen=True, slots=True)
class Levels:
    """A decoded categorical feature.

    Parameters
    ----------
    codes
        Position in ``vocabulary``, int32, shape ``(n,)``; -1 = missing.
    vocabulary
        The levels, sorted, so that codes do not depend on the order of rows.
    """

    codes: NDArray[np.int32]
    vocabulary: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Columns:
    """Features decoded into arrays, ready to be cut into folds.

    Parameters
    ----------
    numbers
        Numeric, boolean and date features, float64, each of shape ``(n,)``; NaN = missing.
    levels
        Categorical features.
    kinds
        Kind of every feature, in the order of the table.
    n
        Number of rows.
    """

    numbers: Mapping[str, NDArray[np.float64]]
    levels: Mapping[str, Levels]
    kinds: Mapping[str, FeatureKind]
    n: int

    def take(self, rows: NDArray[np.intp]) -> Columns:
        """Return the rows at the positions ``rows``, shape ``(m,)``, in that order."""
        return Columns(
            {name: values[rows] for name, values in self.numbers.items()},
            {name: Levels(x.codes[rows], x.vocabulary) for name, x in self.levels.items()},
            self.kinds,
            len(rows),
        )


@dataclass(frozen=True, eq=False)
class LabelledFrame:
    """Customers with features and a known answer.

    Parameters
    ----------
    ids
        Customer (or other subject) ids, shape ``(n,)``; need not be unique, because one customer
        may stand in several periods.
    features
        One column per feature, ``n`` rows.
    label
        Whether the thing to be predicted happened, bool, shape ``(n,)``; never missing.
    period
        Month of each row as an integer that grows with time, shape ``(n,)``, or None where rows
        have no order. Dates and ``datetime64`` arrays are turned into months since 1970.
    as_of
        Date at which the features were seen: one date, or ``datetime64[D]`` of shape ``(n,)``.
        Needed only if there are date features.
    lineage
        What the rows were made from (snapshot ids, file names); goes into the model card. Free of
        secrets.

    Raises
    ------
    FrameError
        If lengths differ or the label is missing somewhere.
    FeatureTypeError
        If a feature has a type that no kind covers.

    Examples
    --------
    >>> frame = LabelledFrame(
    ...     ids=pa.array(["a", "b"]),
    ...     features=pa.table({"arpu": [58.0, None], "city": ["x", "y"]}),
    ...     label=np.array([True, False]),
    ... )
    >>> {name: kind.value for name, kind in frame.kinds.items()}
    {'arpu': 'numeric', 'city': 'categorical'}
    """

    ids: pa.Array
    features: pa.Table
    label: NDArray[np.bool_]
    period: NDArray[np.int32] | None = None
    as_of: AsOf = None
    lineage: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", _plain_array(self.ids))
        object.__setattr__(self, "label", _label(self.label))
        object.__setattr__(self, "period", _period(self.period))
        lengths = {"ids": len(self.ids), "features": self.features.num_rows, "label": self.n}
        if self.period is not None:
            lengths["period"] = len(self.period)
        if isinstance(self.as_of, np.ndarray):
            lengths["as_of"] = len(self.as_of)
        if len(set(lengths.values())) != 1:
            raise FrameError(
                f"The parts of the frame have different lengths: {lengths}.",
                remedy="Give one id, one row of features and one label per customer.",
                zh=f"各部分的行数不一致：{lengths}。请保证每个客户有一个编号、一行特征和一个标签。",
            )
        _ = self.kinds

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.label)

    @property
    def kinds(self) -> dict[str, FeatureKind]:
        """Kind of every feature, in column order."""
        return feature_kinds(self.features)

    def decode(self) -> Columns:
        """Return the features as arrays."""
        return decode(self.features, as_of=self.as_of)


def feature_kinds(features: pa.Table) -> dict[str, FeatureKind]:
    """Return the kind of each column of ``features``.

    Raises
    ------
    FrameError
        If a column name occurs twice.
    FeatureTypeError
        If a column has a type that no kind covers.
    """
    names = features.column_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FrameError(
            f"Feature names occur more than once: {', '.join(twice)}.",
            remedy="Give every feature its own name.",
            zh=f"特征名重复：{'、'.join(twice)}。请为每个特征取不同的名字。",
        )
    return {column.name: _kind(column.name, column.type) for column in features.schema}


def decode(
    features: pa.Table,
    *,
    as_of: AsOf = None,
    kinds: Mapping[str, FeatureKind] | None = None,
) -> Columns:
    """Decode features into arrays.

    Parameters
    ----------
    features
        One column per feature; columns that ``kinds`` does not name are ignored.
    as_of
        Date from which date features count back.
    kinds
        The features wanted and the kind each must have (those a model was built on); None takes
        all of them as they are.

    Returns
    -------
    Columns

    Raises
    ------
    MissingFeatureError
        If a wanted feature is absent.
    FeatureTypeError
        If a wanted feature has another kind, or there are dates and no ``as_of``.
    """
    have = feature_kinds(features)
    wanted = have if kinds is None else kinds
    _require(wanted, have, features)
    numbers: dict[str, NDArray[np.float64]] = {}
    levels: dict[str, Levels] = {}
    for name, kind in wanted.items():
        column = features[name]
        if kind is FeatureKind.CATEGORICAL:
            levels[name] = _decode_levels(column)
        elif kind is FeatureKind.DATE:
            numbers[name] = _decode_days(name, column, as_of)
        else:
            numbers[name] = _decode_numbers(column)
    return Columns(numbers, levels, dict(wanted), features.num_rows)


def _require(
    wanted: Mapping[str, FeatureKind], have: Mapping[str, FeatureKind], features: pa.Table
) -> None:
    absent = [name for name in wanted if name not in have]
    if absent:
        raise MissingFeatureError(
            f"The model needs features that are not there: {', '.join(absent)}.",
            remedy="Derive these tags for the date, then score again.",
            zh=f"缺少模型需要的特征：{'、'.join(absent)}。请先派生这些标签再评分。",
        )
    for name, kind in wanted.items():
        is_empty = features.schema.field(name).type == pa.null()
        same = have[name] is kind or is_empty
        numberlike = {FeatureKind.NUMERIC, FeatureKind.BOOLEAN}
        if not same and not {have[name], kind} <= numberlike:
            raise FeatureTypeError(
                f"Feature '{name}' was {kind} when the model was built and is {have[name]} now.",
                remedy="Give it the type it had, or build the model again.",
                zh=f"特征 {name} 建模时是 {kind}，现在是 {have[name]}。请恢复类型或重新建模。",
            )


def _kind(name: str, type_: pa.DataType) -> FeatureKind:
    types = pa.types
    if types.is_boolean(type_):
        return FeatureKind.BOOLEAN
    if types.is_null(type_) or types.is_integer(type_) or types.is_floating(type_):
        return FeatureKind.NUMERIC
    if types.is_decimal(type_):
        return FeatureKind.NUMERIC
    if types.is_date(type_) or types.is_timestamp(type_):
        return FeatureKind.DATE
    value = type_.value_type if types.is_dictionary(type_) else type_
    if types.is_string(value) or types.is_large_string(value) or types.is_string_view(value):
        return FeatureKind.CATEGORICAL
    raise FeatureTypeError(
        f"Feature '{name}' has type {type_}, which no model can read.",
        remedy="Turn it into a number, a boolean, a string or a date first.",
        zh=f"特征 {name} 的类型 {type_} 无法建模，请先转换为数值、布尔、字符串或日期。",
    )


def _decode_numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    values = np.array(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
    values[np.isinf(values)] = np.nan  # a division by zero upstream says nothing about anyone
    return values


def _decode_days(name: str, column: pa.ChunkedArray, as_of: AsOf) -> NDArray[np.float64]:
    if as_of is None:
        raise FeatureTypeError(
            f"Feature '{name}' is a date, and no as_of says from which day to count back.",
            remedy="Pass as_of, the snapshot date of the features.",
            zh=f"特征 {name} 是日期，但没有给出数据日期 as_of，无法换算天数。",
        )
    days = np.asarray(
        pc.cast(column, pa.date32()).cast(pa.int32()).cast(pa.float64()).to_numpy(),
        dtype=np.float64,
    )
    today = np.asarray(as_of, dtype="datetime64[D]") - _UNIX_EPOCH
    return np.asarray(today.astype(np.float64) - days, dtype=np.float64)


def _decode_levels(column: pa.ChunkedArray) -> Levels:
    if pa.types.is_null(column.type):
        return Levels(np.full(len(column), -1, dtype=np.int32), ())
    encoded = column.cast(pa.string()).combine_chunks().dictionary_encode()
    words = encoded.dictionary.to_pylist()
    order = sorted(range(len(words)), key=words.__getitem__)
    rank = np.empty(len(words) + 1, dtype=np.int32)
    rank[order] = np.arange(len(words), dtype=np.int32)
    rank[-1] = -1
    codes = np.asarray(encoded.indices.fill_null(len(words)).to_numpy(), dtype=np.intp)
    return Levels(rank[codes], tuple(words[i] for i in order))


def _plain_array(ids: Any) -> pa.Array:
    if isinstance(ids, pa.ChunkedArray):
        return ids.combine_chunks()
    return ids if isinstance(ids, pa.Array) else pa.array(ids)


def _label(label: Any) -> NDArray[np.bool_]:
    if isinstance(label, (pa.Array, pa.ChunkedArray)):
        if label.null_count:
            raise FrameError(
                f"The label is missing in {label.null_count} rows.",
                remedy="Leave out the customers whose answer is not known.",
                zh=f"有 {label.null_count} 行没有标签，请剔除结果未知的客户。",
            )
        label = label.to_numpy(zero_copy_only=False)
    values = np.asarray(label)
    if values.dtype != np.bool_:
        raise FrameError(
            f"The label has type {values.dtype}; it must be true or false.",
            remedy="Compare it with the value that means yes, for example churn == 'Yes'.",
            zh=f"标签类型为 {values.dtype}，应为真或假。请先与“是”的取值比较。",
        )
    return values


def _period(period: Any) -> NDArray[np.int32] | None:
    if period is None:
        return None
    if isinstance(period, (pa.Array, pa.ChunkedArray)):
        period = period.to_numpy(zero_copy_only=False)
    values = np.asarray(period)
    if values.dtype == np.object_:
        values = values.astype("datetime64[D]")
    if np.issubdtype(values.dtype, np.datetime64):
        if np.isnat(values).any():
            raise FrameError(
                "The period is missing in some rows.",
                remedy="Give every row its month.",
                zh="部分行没有月份，请补全。",
            )
        values = values.astype("datetime64[M]").astype(np.int64)
    return values.astype(np.int32)
