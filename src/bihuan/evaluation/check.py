"""Can the log be believed? Checks of the randomisation that come before every estimate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, ndtr

from bihuan.evaluation.statistic import Cell, Tally
from bihuan.evaluation.text import Text, not_estimable
from bihuan.kernel import NotEstimable

SUSPECT_P = 0.001  # below: a warning; intact logs raise it once in a thousand campaigns
CONTRADICTION_P = 1e-6  # below: the log and the data disagree, no estimate
ENOUGH = 5  # expected counts below this do not enter a chi-square test (Cochran 1954)
FEW_RESPONSES = 10  # sums of a 0/1 response below this make normal intervals rough


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """Whether as many customers are in treatment as the logged probabilities say.

    Parameters
    ----------
    expected_treatment, observed_treatment
        Customers with a known response, expected and found in treatment.
    p_value
        Chance of a mismatch at least as large if nothing was lost: normal test of the total,
        chi-square test of the strata, and test of equal shares of unknown responses, joined by
        Bonferroni's inequality.
    is_exact
        Whether every stratum of the log holds exactly the number in treatment that its
        probability states, as complete randomisation must.
    """

    expected_treatment: float
    observed_treatment: int
    p_value: float
    is_exact: bool

    @property
    def is_suspect(self) -> bool:
        """Whether the mismatch is too large for chance."""
        return self.p_value < SUSPECT_P


@dataclass(frozen=True, slots=True)
class Balance:
    """Whether treatment and control looked alike before the campaign.

    Parameters
    ----------
    differences
        (covariate, stratified difference of means in standard deviations).
    p_value
        Omnibus test over all covariates (Hansen and Bowers 2008).
    """

    differences: tuple[tuple[str, float], ...]
    p_value: float

    @property
    def is_suspect(self) -> bool:
        """Whether the arms differ more than random assignment allows."""
        return self.p_value < SUSPECT_P


NO_CUSTOMER = Text("没有计划接触的客户。", "No customer was planned.")
NO_CONTROL = Text(
    "没有对照组：没有随机留出客户，无法区分活动的作用与自然发生。",
    "There is no control group: nobody was held out at random.",
)
NO_TREATMENT = Text("实验组没有客户。", "Nobody is in treatment.")
NO_RESPONSE = Text("计划客户的响应全部未知。", "No response is known for any planned customer.")
NOTHING_TO_COMPARE = Text(
    "没有任何一层在两组中各有至少两名客户。", "No stratum has two customers in each arm."
)
NO_VARIATION = Text(
    "两组内的响应都没有变化，无法估计误差。",
    "The response does not vary inside either arm, so its error cannot be estimated.",
)
_CONTRADICTION = Text(
    "日志与数据不符：按记录的概率，实验组应有 {expected:,.0f} 人，实有 {seen:,} 人（p < {p:g}）。",
    "The log and the data disagree: {seen:,} customers in treatment where the logged "
    "probabilities expect {expected:,.0f} (p < {p:g}).",
)
_ABSENCE = Text(
    "有 {n:,} 名计划客户没有响应记录；若响应表只列出购买者，请设 when_absent=0。",
    " {n:,} planned customers have no response row; if the table lists buyers only, "
    "set when_absent=0.",
)


def refuse(reason: Text, counts: Tally) -> NotEstimable:
    """Make a refusal, with a hint if responses are missing."""
    missing = sum(c.unobserved_treatment + c.unobserved_control for c in counts.cells)
    if not missing:
        return not_estimable(reason)
    hint = _ABSENCE.fill(n=missing)
    return not_estimable(Text(reason.zh + hint.zh, reason.en + hint.en))


def find_refusal(counts: Tally, ratio: SampleRatio) -> NotEstimable | None:
    """Return why nothing can be estimated from these counts, or None."""
    if ratio.p_value < CONTRADICTION_P:
        reason = _CONTRADICTION.fill(
            expected=ratio.expected_treatment, seen=ratio.observed_treatment, p=CONTRADICTION_P
        )
        return refuse(reason, counts)
    treated = sum(c.treatment.n + c.unobserved_treatment for c in counts.cells)
    held = sum(c.control.n + c.unobserved_control for c in counts.cells)
    known = sum(c.n for c in counts.cells)
    for absent, reason in (
        (treated + held == 0, NO_CUSTOMER),
        (held == 0, NO_CONTROL),
        (treated == 0, NO_TREATMENT),
        (known == 0, NO_RESPONSE),
    ):
        if absent:
            return refuse(reason, counts)
    return None


def check_ratio(counts: Tally) -> SampleRatio:
    """Hold the counts against the logged probabilities, and the unknown responses too."""
    open_cells = [cell for cell in counts.cells if 0 < cell.probability < 1]
    impossible = sum(
        cell.control.n if cell.probability == 1 else cell.treatment.n
        for cell in counts.cells
        if cell.probability in (0, 1)
    )
    p = np.array([cell.probability for cell in open_cells])
    known = np.array([(c.treatment.n, c.control.n) for c in open_cells], float).reshape(-1, 2)
    lost = np.array([(c.unobserved_treatment, c.unobserved_control) for c in open_cells], float)
    planned = known + lost.reshape(-1, 2)
    tests = [*_mismatch_tests(planned, p), *_attrition_test(planned, lost.reshape(-1, 2))]
    p_value = min(1.0, len(tests) * min(tests)) if tests else 1.0  # Bonferroni
    return SampleRatio(
        expected_treatment=float(known.sum(axis=1) @ p),
        observed_treatment=int(known[:, 0].sum()),
        p_value=0.0 if impossible else p_value,
        is_exact=_is_exact(open_cells),
    )


def _mismatch_tests(planned: NDArray[np.float64], p: NDArray[np.float64]) -> list[float]:
    """Test the total (a loss everywhere) and the strata (losses that cancel)."""
    n = planned.sum(axis=1)
    gap, spread = planned[:, 0] - n * p, n * p * (1 - p)
    if not spread.sum() > 0:
        return []
    tests = [_two_sided(gap.sum() / math.sqrt(spread.sum()))]
    large = np.minimum(n * p, n * (1 - p)) >= ENOUGH
    if large.sum() > 1:
        tests.append(float(chdtrc(large.sum(), np.sum(gap[large] ** 2 / spread[large]))))
    return tests


def _attrition_test(planned: NDArray[np.float64], lost: NDArray[np.float64]) -> list[float]:
    """Test whether responses are unknown equally often in both arms (Cochran 1954)."""
    n, unknown = planned.sum(axis=1), lost.sum(axis=1)
    some = (n > 1) & (unknown > 0)
    n, unknown, treated = n[some], unknown[some], planned[some, 0]
    expected = unknown * treated / n
    if min(expected.sum(), (unknown - expected).sum()) < ENOUGH:
        return []
    spread = expected * (1 - treated / n) * (n - unknown) / (n - 1)
    if not spread.sum() > 0:
        return []
    return [_two_sided((lost[some, 0] - expected).sum() / math.sqrt(spread.sum()))]


def _two_sided(score: float) -> float:
    return 2 * float(ndtr(-abs(score)))


def _is_exact(cells: Sequence[Cell]) -> bool:
    def gap(cell: Cell) -> float:
        treated = cell.treatment.n + cell.unobserved_treatment
        planned = treated + cell.control.n + cell.unobserved_control
        return abs(treated - planned * cell.probability) - 1e-6 * planned  # rounded logs

    return all(gap(cell) < 0.5 for cell in cells)


def check_balance(
    groups: Sequence[Cell], weight: NDArray[np.float64], names: tuple[str, ...]
) -> Balance | None:
    """Compare the covariates of the two arms; None if there are none."""
    if not names:
        return None
    k = len(names)
    gap, spread, within, n = np.zeros(k), np.zeros((k, k)), np.zeros(k), 0
    for cell, w in zip(groups, weight, strict=True):
        a, b = cell.treatment, cell.control
        gap += w * (np.array(a.mean[1:]) - np.array(b.mean[1:]))
        # one spread for both arms: under random assignment they share it
        both = np.array(a.scatter)[1:, 1:] + np.array(b.scatter)[1:, 1:]
        spread += w**2 * both / (cell.n - 2) * (1 / a.n + 1 / b.n)
        within += np.diag(both)
        n += cell.n - 2
    inverse = np.linalg.pinv(spread, hermitian=True)
    rank = int(np.linalg.matrix_rank(spread, hermitian=True))
    p_value = float(chdtrc(rank, gap @ inverse @ gap)) if rank else 1.0
    deviation = np.sqrt(within / n)
    scaled = np.divide(gap, deviation, out=np.zeros(k), where=deviation > 0)
    return Balance(tuple(zip(names, scaled.tolist(), strict=True)), p_value)


def list_warnings(
    counts: Tally, groups: Sequence[Cell], ratio: SampleRatio, balance: Balance | None
) -> list[Text]:
    """Say what the reader must know before believing the estimate."""
    found = []
    if ratio.is_suspect:
        found.append(
            Text(
                f"样本比例不符：实验组应约 {ratio.expected_treatment:,.0f} 人，"
                f"实际 {ratio.observed_treatment:,} 人（p = {ratio.p_value:.1e}），请先查明原因。",
                f"Sample ratio mismatch: expected about {ratio.expected_treatment:,.0f} customers "
                f"in treatment, found {ratio.observed_treatment:,} (p = {ratio.p_value:.1e}). "
                "Find the cause before using the estimate.",
            )
        )
    if not ratio.is_exact:
        found.append(
            Text(
                "日志中的人数与记录的分组概率不完全一致：可能缺行，或只是日志的一部分。",
                "The counts in the log are not exactly those that its probabilities state: rows "
                "may be missing, or this is a part of the log.",
            )
        )
    if balance is not None and balance.is_suspect:
        worst = max(balance.differences, key=lambda pair: abs(pair[1]))
        found.append(
            Text(
                f"两组在活动前就不同（p = {balance.p_value:.1e}，差异最大：{worst[0]} "
                f"{worst[1]:+.2f} 个标准差），分组可能不是随机的。",
                f"The arms differed before the campaign (p = {balance.p_value:.1e}; most in "
                f"{worst[0]}, {worst[1]:+.2f} standard deviations): assignment may not have been "
                "random.",
            )
        )
    found.extend(_data_notes(counts, groups))
    return found


def _data_notes(counts: Tally, groups: Sequence[Cell]) -> list[Text]:
    found = []
    treated = sum(cell.unobserved_treatment for cell in counts.cells)
    held = sum(cell.unobserved_control for cell in counts.cells)
    if treated + held:
        found.append(
            Text(
                f"{treated + held:,} 名计划客户的响应未知，未计入"
                f"（实验组 {treated:,}，对照组 {held:,}）。",
                f"The response of {treated + held:,} planned customers is not known; they are "
                f"left out ({treated:,} in treatment, {held:,} in control).",
            )
        )
    fewest = min(
        sum(cell.treatment.total for cell in groups), sum(cell.control.total for cell in groups)
    )
    if _is_binary(groups) and fewest < FEW_RESPONSES:
        found.append(
            Text(
                f"响应很少（某一组仅 {fewest:.0f} 个），区间只是近似。",
                f"Responses are few (only {fewest:.0f} in one arm); the interval is rough.",
            )
        )
    return found


def _is_binary(groups: Sequence[Cell]) -> bool:
    """Whether the response is 0/1: there sum and sum of squares are the same."""
    arms = [arm for cell in groups for arm in (cell.treatment, cell.control)]
    return all(math.isclose(a.total, a.squares, rel_tol=1e-9, abs_tol=1e-9) for a in arms)
