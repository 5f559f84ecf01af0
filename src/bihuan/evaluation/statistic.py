"""Sufficient statistics: fifty million customers become a few rows, and those can be added.

:func:`tally` lets the engine condense decisions and responses into one :class:`Moments` per
stratum and arm. Inference (:mod:`bihuan.evaluation.effect`) works on these and never sees a row;
only the leverages of the robust standard error need a second pass, made here too
(:func:`residual_squares`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlglot import exp

from bihuan.data import DuckDBEngine, Engine
from bihuan.evaluation.intake import EvaluationInputError, clean_decisions, clean_numbers


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, means and scatter of ``d`` variables; two of them add to the moments of both.

    Kept centred because raw sums of squares lose their digits when the mean is large beside the
    spread [1]_; the raw sums are properties.

    Parameters
    ----------
    n
        Rows, >= 0.
    mean
        Means, length d.
    scatter
        Sums of ``(z - mean)(z - mean)'``, d by d, symmetric.

    References
    ----------
    .. [1] Chan, Golub and LeVeque (1983), Algorithms for Computing the Sample Variance,
       The American Statistician 37(3).

    Examples
    --------
    >>> a, b = Moments.of([[1.0], [2.0]]), Moments.of([[6.0]])
    >>> (a + b).mean, (a + b).variance()
    ((3.0,), 7.0)
    """

    n: int
    mean: tuple[float, ...]
    scatter: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, rows: NDArray[np.float64] | Sequence[Sequence[float]]) -> Moments:
        """Condense rows, shape ``(n, d)``, without missing values."""
        values = np.asarray(rows, dtype=np.float64)
        n, d = values.shape
        if n == 0:
            return cls.empty(d)
        mean = values.mean(axis=0)
        centred = values - mean
        return cls(n, tuple(mean.tolist()), _matrix(centred.T @ centred))

    @classmethod
    def from_sums(cls, n: int, total: float, squares: float) -> Moments:
        """Take count, sum and sum of squares of one variable, as other systems report them.

        Examples
        --------
        >>> Moments.from_sums(4, 2.0, 2.0).variance()
        0.3333333333333333
        """
        mean = total / n if n else 0.0
        return cls(n, (mean,), ((max(squares - n * mean * mean, 0.0),),))

    @classmethod
    def empty(cls, d: int) -> Moments:
        """Return the moments of no rows; the neutral element of addition."""
        return cls(0, (0.0,) * d, ((0.0,) * d,) * d)

    def __add__(self, other: Moments) -> Moments:
        if not (self.n and other.n):
            return self if self.n else other
        n = self.n + other.n
        a, b = np.array(self.mean), np.array(other.mean)
        gap = b - a
        mean = a + gap * (other.n / n)
        scatter = (
            np.array(self.scatter)
            + np.array(other.scatter)
            + np.outer(gap, gap) * (self.n * other.n / n)
        )
        return Moments(n, tuple(mean.tolist()), _matrix(scatter))

    @property
    def total(self) -> float:
        """Sum of the first variable."""
        return self.n * self.mean[0]

    @property
    def squares(self) -> float:
        """Sum of squares of the first variable."""
        return self.scatter[0][0] + self.n * self.mean[0] ** 2

    def variance(self, index: int = 0) -> float:
        """Return the sample variance (divisor n - 1) of one variable; NaN below two rows."""
        return self.scatter[index][index] / (self.n - 1) if self.n > 1 else float("nan")


@dataclass(frozen=True, slots=True)
class Cell:
    """One stratum with one logged probability of treatment.

    Parameters
    ----------
    stratum
        The logged stratum; blank where the log has none.
    probability
        Logged probability of treatment, 0..1.
    treatment, control
        Moments of (response, covariates...) over the customers whose response is known.
    unobserved_treatment, unobserved_control
        Planned customers whose response is not known.
    """

    stratum: str
    probability: float
    treatment: Moments
    control: Moments
    unobserved_treatment: int = 0
    unobserved_control: int = 0

    @property
    def n(self) -> int:
        """Customers whose response is known."""
        return self.treatment.n + self.control.n

    def __add__(self, other: Cell) -> Cell:
        return replace(
            self,
            treatment=self.treatment + other.treatment,
            control=self.control + other.control,
            unobserved_treatment=self.unobserved_treatment + other.unobserved_treatment,
            unobserved_control=self.unobserved_control + other.unobserved_control,
        )


@dataclass(frozen=True, slots=True)
class Tally:
    """The statistics of one campaign's randomised part; tallies of separate customers add.

    Parameters
    ----------
    cells
        One per stratum and logged probability, ordered by these.
    covariates
        Names of the variables after the response in every :class:`Moments`.
    """

    cells: tuple[Cell, ...]
    covariates: tuple[str, ...] = ()

    def __add__(self, other: Tally) -> Tally:
        if self.covariates != other.covariates:
            raise EvaluationInputError(
                f"Cannot add tallies with covariates {self.covariates} and {other.covariates}.",
                remedy="Tally both parts with the same covariates.",
                zh="两份统计量的协变量不同，不能相加；请用相同的协变量重新统计。",
            )
        merged: dict[tuple[str, float], Cell] = {}
        for cell in (*self.cells, *other.cells):
            key = (cell.stratum, cell.probability)
            merged[key] = merged[key] + cell if key in merged else cell
        return Tally(tuple(merged[key] for key in sorted(merged)), self.covariates)


@dataclass(frozen=True, slots=True)
class Rows:
    """The customers behind a tally, for the one pass that moments cannot replace.

    Parameters
    ----------
    cell
        Index into ``tally.cells``, shape ``(n,)``.
    treated
        Whether the customer is in treatment, shape ``(n,)``.
    response
        Shape ``(n,)``.
    covariates
        Shape ``(n, k)``; missing values already replaced as in the tally.
    """

    cell: NDArray[np.int64]
    treated: NDArray[np.bool_]
    response: NDArray[np.float64]
    covariates: NDArray[np.float64]


def tally(
    decisions: pa.Table,
    response: pa.Table,
    *,
    covariates: pa.Table | None = None,
    when_absent: float | None = None,
    engine: Engine | None = None,
) -> Tally:
    """Condense one campaign's decisions and responses in the engine.

    Parameters
    ----------
    decisions
        The decision log of one campaign: ``campaign_id, customer_id, arm,
        treatment_probability, stratum``. Rows whose arm is neither treatment nor control were
        not planned and are left out.
    response
        ``customer_id, response`` (number or boolean), at most one row per customer.
    covariates
        ``customer_id`` and numeric columns known before the campaign. A missing value is
        replaced by the mean over all planned customers, which keeps the comparison fair because
        it does not look at the arm.
    when_absent
        Response of planned customers without a response row or with a missing one: 0 when the
        table lists buyers only. None: their response is not known; they are counted and left out.
    engine
        Where the query runs; DuckDB if None.

    Raises
    ------
    EvaluationInputError
        If a column is missing, a customer appears twice, a probability is outside 0..1 or a
        number is infinite.
    """
    joined, sources, names = _joined(decisions, response, covariates, when_absent)
    table = (engine or DuckDBEngine()).query(_condense(joined, len(names)), sources)
    return Tally(_cells(table.to_pylist(), len(names) + 1), names)


def tally_with_rows(
    decisions: pa.Table,
    response: pa.Table,
    *,
    covariates: pa.Table,
    when_absent: float | None = None,
    engine: Engine | None = None,
) -> tuple[Tally, Rows]:
    """Condense as :func:`tally` and also return the rows, for the robust standard error."""
    joined, sources, names = _joined(decisions, response, covariates, when_absent)
    runner = engine or DuckDBEngine()
    result = Tally(
        _cells(runner.query(_condense(joined, len(names)), sources).to_pylist(), len(names) + 1),
        names,
    )
    table = runner.query(joined, sources)
    table = table.filter(pc.is_valid(table["v0"]))
    columns = [table[f"v{i}"].to_numpy() for i in range(len(names) + 1)]
    return result, Rows(
        cell=_cell_of(table, result),
        treated=table["treated"].to_numpy(),
        response=columns[0],
        covariates=np.column_stack(columns[1:]),
    )


def _cell_of(table: pa.Table, result: Tally) -> NDArray[np.int64]:
    """Find the index of every row's cell."""
    stratum = table["stratum"].combine_chunks().dictionary_encode()
    probability, p_code = np.unique(table["probability"].to_numpy(), return_inverse=True)
    pair = stratum.indices.to_numpy().astype(np.int64) * len(probability) + p_code
    pairs, code = np.unique(pair, return_inverse=True)
    index = {(cell.stratum, cell.probability): i for i, cell in enumerate(result.cells)}
    names = stratum.dictionary.to_pylist()
    keys = ((names[k // len(probability)], probability[k % len(probability)]) for k in pairs)
    return np.array([index[key] for key in keys], dtype=np.int64)[code]


def _joined(
    decisions: pa.Table,
    response: pa.Table,
    covariates: pa.Table | None,
    when_absent: float | None,
) -> tuple[exp.Select, dict[str, Any], tuple[str, ...]]:
    """Build the query that gives one row per planned customer: stratum, probability, v0, v1..."""
    sources: dict[str, Any] = {
        "decision": clean_decisions(decisions),
        "response": clean_numbers(response, ["response"], "response"),
    }
    value: exp.Expr = exp.column("response", "r", quoted=True)
    if when_absent is not None:
        value = exp.func("COALESCE", value, exp.Literal.number(repr(float(when_absent))))
    names = tuple(name for name in _columns(covariates) if name != "customer_id")
    query = (
        exp.select("d.stratum", "d.probability", "d.treated", value.as_("v0"))
        .from_(exp.to_table("decision").as_("d"))
        .join(
            exp.to_table("response").as_("r"), on="d.customer_id = r.customer_id", join_type="left"
        )
    )
    if covariates is not None and names:
        sources["covariate"] = clean_numbers(covariates, names, "covariates")
        query = query.join(
            exp.to_table("covariate").as_("c"), on="d.customer_id = c.customer_id", join_type="left"
        )
        for i, name in enumerate(names, start=1):
            column = exp.column(name, "c", quoted=True)
            average = exp.Window(this=exp.func("AVG", column.copy()))
            query = query.select(
                exp.func("COALESCE", column, average, exp.Literal.number(0)).as_(f"v{i}")
            )
    return query, sources, names


def _columns(table: pa.Table | None) -> list[str]:
    return [] if table is None else list(table.column_names)


def _condense(joined: exp.Select, n_covariates: int) -> exp.Select:
    known = exp.Not(this=exp.Is(this=exp.column("v0"), expression=exp.Null()))

    def over_known(function: str, *arguments: str) -> exp.Expression:
        call = exp.func(function, *(exp.column(name) for name in arguments))
        return exp.Filter(this=call, expression=exp.Where(this=known.copy()))

    variables = [f"v{i}" for i in range(n_covariates + 1)]
    keys = ("stratum", "probability", "treated")
    query = exp.select(
        *keys,
        exp.func("COUNT", exp.Star()).as_("n_planned"),
        exp.func("COUNT", exp.column("v0")).as_("n"),
        *(over_known("AVG", name).as_(f"m_{name}") for name in variables),
        *(
            over_known("COVAR_POP", a, b).as_(f"c_{a}_{b}")
            for a, b in combinations_with_replacement(variables, 2)
        ),
    )
    return query.from_(joined.subquery("planned")).group_by(*keys).order_by(*keys)


def _cells(rows: Iterable[dict[str, Any]], d: int) -> tuple[Cell, ...]:
    cells: dict[tuple[str, float], Cell] = {}
    for row in rows:
        key = (row["stratum"], row["probability"])
        cell = cells.get(key) or Cell(*key, Moments.empty(d), Moments.empty(d))
        moments, unobserved = _moments(row, d), row["n_planned"] - row["n"]
        cells[key] = (
            replace(cell, treatment=moments, unobserved_treatment=unobserved)
            if row["treated"]
            else replace(cell, control=moments, unobserved_control=unobserved)
        )
    return tuple(cells[key] for key in sorted(cells))


def _moments(row: dict[str, Any], d: int) -> Moments:
    n = int(row["n"])
    if n == 0:
        return Moments.empty(d)
    scatter = np.zeros((d, d))
    for i, j in combinations_with_replacement(range(d), 2):
        scatter[i, j] = scatter[j, i] = row[f"c_v{i}_v{j}"] * n
    return Moments(n, tuple(row[f"m_v{i}"] for i in range(d)), _matrix(scatter))


@dataclass(frozen=True, slots=True)
class Fit:
    """One arm's regression: an intercept per group of strata, slopes common to the arm.

    Parameters
    ----------
    slopes
        Slopes of the response on the ``k`` covariates, shape ``(k,)``.
    inverse
        Inverse of the covariates' scatter within groups, shape ``(k, k)``.
    shift
        Weighted distance from the arm's covariate means to those of all planned customers,
        shape ``(k,)``.
    """

    slopes: NDArray[np.float64]
    inverse: NDArray[np.float64]
    shift: NDArray[np.float64]


def residual_squares(
    rows: Rows, group: NDArray[np.int64], weight: NDArray[np.float64], arm: bool, fit: Fit
) -> NDArray[np.float64]:
    """Sum squared weighted residuals over ``1 - leverage`` per group: one arm's HC2 variance.

    Customer i of group g has leverage ``h = 1/n_g + u'Au``, with ``u`` its covariates centred on
    the group and ``A`` the inverse scatter, and enters the estimated mean with weight
    ``c = weight_g/n_g + shift'Au``. The result is the sum of ``c^2 e^2 / (1 - h)``.

    Parameters
    ----------
    rows
        The customers of both arms.
    group
        Group of every cell, shape ``(n_cells,)``; -1 = left out.
    weight
        Weight of every group, shape ``(n_groups,)``.
    arm
        True for treatment.
    fit
        The arm's regression.

    Returns
    -------
    numpy.ndarray
        Shape ``(n_groups,)``.
    """
    chosen = (rows.treated == arm) & (group[rows.cell] >= 0)
    of = group[rows.cell[chosen]]
    count = np.bincount(of, minlength=len(weight))

    def centred(values: NDArray[np.float64]) -> NDArray[np.float64]:
        means = np.bincount(of, values, len(weight)) / np.maximum(count, 1)
        return np.asarray(values - means[of])

    x = np.column_stack([centred(column) for column in rows.covariates[chosen].T])
    residual = centred(rows.response[chosen]) - x @ fit.slopes
    projected = x @ fit.inverse
    leverage = 1 / count[of] + np.einsum("ij,ij->i", projected, x)
    influence = (weight / np.maximum(count, 1))[of] + projected @ fit.shift
    # leverage 1 means that the fit passes through the point: its residual is 0 and says nothing
    spread = np.where(leverage < 1 - 1e-9, 1 - leverage, np.inf)
    sums = np.bincount(of, influence**2 * residual**2 / spread, len(weight))
    return np.asarray(sums, dtype=np.float64)


def _matrix(values: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in values.tolist())
