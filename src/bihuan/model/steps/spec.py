"""The order form of a model: what it predicts, for whom, and within which rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

from bihuan.kernel import UserError
from bihuan.kernel.document import read_yaml
from bihuan.model.card import Text
from bihuan.model.steps.features import FeatureRules
from bihuan.model.steps.learner import BoostedSettings, LogisticSettings
from bihuan.model.steps.sampling import SamplingRules, ValidationRules

LEARNERS = ("auto", "logistic", "lightgbm", "blend")
CALIBRATIONS = ("auto", "platt", "isotonic", "none")
SELECTIONS = ("importance", "l1", "none")

T = TypeVar("T")


class ModelSpecError(UserError):
    """An order form has a field that is unknown or does not make sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What to build.

    Parameters
    ----------
    name
        Id of the model: lower-case letters, digits, underscores; names ``score__<name>``.
    title, label
        Title of the model and definition of what it predicts, by language.
    owner
        Who answers for it.
    intended_use, limits
        What it is for and what it is not for, by language.
    learner
        ``logistic``, ``lightgbm``, ``blend`` (mean of both in log-odds) or ``auto`` (the best of
        the three on inner folds).
    calibration
        ``platt``, ``isotonic``, ``none`` or ``auto`` (the better of the first two).
    features, sampling, validation
        Rules of steps 1 to 4, 5 and 7.
    logistic, boosted
        Settings of the learners, where tuning starts from.
    trials
        Further settings tried per learner by random search; 0 takes the settings as given.
    threads
        Threads of LightGBM.
    titles, code_titles
        Titles of features, and of the codes of categorical features, by language.

    Examples
    --------
    >>> ModelSpec(name="churn", learner="logistic").trials
    0
    """

    name: str
    title: Text = field(default_factory=dict)
    label: Text = field(default_factory=dict)
    owner: str = ""
    intended_use: Text = field(default_factory=dict)
    limits: Text = field(default_factory=dict)
    learner: str = "auto"
    calibration: str = "auto"
    features: FeatureRules = field(default_factory=FeatureRules)
    sampling: SamplingRules = field(default_factory=SamplingRules)
    validation: ValidationRules = field(default_factory=ValidationRules)
    logistic: LogisticSettings = field(default_factory=LogisticSettings)
    boosted: BoostedSettings = field(default_factory=BoostedSettings)
    trials: int = 0
    threads: int = 1
    titles: Mapping[str, Text] = field(default_factory=dict)
    code_titles: Mapping[str, Mapping[str, Text]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _one_of("learner", self.learner, LEARNERS)
        _one_of("calibration", self.calibration, CALIBRATIONS)
        _one_of("features.selection", self.features.selection, SELECTIONS)
        _within("features.max_correlation", self.features.max_correlation, 0, 1)
        _within("features.leak_auc", self.features.leak_auc, 0.5, 1)
        _within("features.winsor_share", self.features.winsor_share, 0, 0.1)
        _within("validation.holdout_share", self.validation.holdout_share, 0, 0.5)
        _within("validation.inner_folds", self.validation.inner_folds, 2, 20)
        _within("trials", self.trials, 0, 1000)
        _within("threads", self.threads, 1, 1024)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def parse(cls, raw: Any, where: str) -> ModelSpec:
        """Read an order form from plain values; nested rules are nested fields.

        Parameters
        ----------
        raw
            A mapping of the fields of this class.
        where
            File (and field) that it comes from, for messages.

        Raises
        ------
        ModelSpecError
            If a field is unknown, missing, or has a wrong type or value; names file and field.
        """
        try:
            return _read(cls, raw, "")
        except ModelSpecError as error:
            raise ModelSpecError(
                f"{where}: {error.message}",
                remedy=error.remedy,
                zh=f"{where}:{error.zh}" if error.zh else "",
            ) from error

    @classmethod
    def load(cls, path: Path) -> ModelSpec:
        """Read an order form from a YAML file; see :meth:`parse`."""
        try:
            raw = read_yaml(path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ModelSpecError(
                f"{path.name} cannot be read: {error}.",
                remedy="Save it as YAML in UTF-8.",
                zh=f"{path.name} 无法读取：{error}。请保存为 UTF-8 编码的 YAML 文件。",
            ) from error
        return cls.parse(raw, path.name)


def _read(kind: type[T], raw: Any, where: str) -> T:
    """Make a dataclass from plain values; every complaint names the field's full path."""
    if not isinstance(raw, dict):
        raise _wrong(where or "the file", raw, "a list of fields")
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in raw.items():
        path = f"{where}.{key}" if where else str(key)
        if key not in known:
            close = get_close_matches(str(key), known, n=1)
            raise ModelSpecError(
                f"there is no field '{path}'.",
                remedy=f"Did you mean '{close[0]}'?" if close else f"Known: {sorted(known)}.",
                zh=f"没有字段 {path}。" + (f"是否应为 {close[0]}?" if close else ""),
            )
        hint = hints[key]
        is_nested = isinstance(hint, type) and is_dataclass(hint)
        values[key] = _read(hint, value, path) if is_nested else _plain(value, hint, path)
    try:
        return kind(**values)
    except TypeError as error:
        raise ModelSpecError(
            f"a field is missing: {error}.", remedy="Add it.", zh=f"缺少字段：{error}。"
        ) from error


def _plain(value: Any, hint: Any, path: str) -> Any:
    shape = str(hint)
    if value is None and "None" in shape:
        return None
    if hint is str and isinstance(value, str):
        return value
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if (hint is int or shape == "int | None") and is_number and isinstance(value, int):
        return value
    if (hint is float or "float" in shape) and is_number:
        return float(value)
    if shape.startswith("tuple") and isinstance(value, (list, tuple)):
        return tuple(value)
    if "Mapping" in shape and isinstance(value, dict):
        return value
    raise _wrong(path, value, getattr(hint, "__name__", shape))


def _wrong(path: str, value: Any, expected: str) -> ModelSpecError:
    return ModelSpecError(
        f"'{path}' is {value!r}, expected {expected}.",
        remedy="Compare it with the fields of ModelSpec.",
        zh=f"{path} 的值 {value!r} 类型不对，应为 {expected}。",
    )


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ModelSpecError(
            f"'{name}' is '{value}'.",
            remedy=f"Choose one of: {', '.join(allowed)}.",
            zh=f"{name} 不能是 {value}，请从 {'、'.join(allowed)} 中选择。",
        )


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ModelSpecError(
            f"'{name}' is {value:g}.",
            remedy=f"Choose a value from {low:g} to {high:g}.",
            zh=f"{name} 为 {value:g}，应在 {low:g} 到 {high:g} 之间。",
        )
