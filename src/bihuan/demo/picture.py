"""The replay as a chapter of the report."""

from __future__ import annotations

from bihuan.demo.replay import Replay
from bihuan.evaluation import Kind, Text
from bihuan.evaluation.report import (
    Axis,
    Bar,
    Bars,
    Column,
    Lines,
    Section,
    Series,
    Table,
    Tone,
)

_NAMES = {
    "model": Text("模型", "Model"),
    "bank": Text("银行原顺序", "The bank's order"),
    "random": Text("随机", "Random"),
    "perfect": Text("完美顺序", "Perfect order"),
}


def replay_sections(replay: Replay) -> tuple[Section, ...]:
    """Return the chapter on the replayed campaign: shares captured and how they grew."""
    model, bank = replay.policies["model"], replay.policies["bank"]
    gain, low, high = replay.gain
    finding = Text(
        "席位只够一半外呼时，模型按过往数据选人抓住 {m} 的成交，银行原顺序为 {b}："
        "多 {g}（95% 区间 {lo} 至 {hi}）。",
        "With seats for half the calls, choosing by a model of the past captures {m} of the sales, "
        "the bank's order {b}: {g} more (95 % interval {lo} to {hi}).",
    ).fill(
        m=f"{model.share:.1%}", b=f"{bank.share:.1%}", g=f"{gain:.1%}", lo=f"{low:.1%}",
        hi=f"{high:.1%}",
    )  # fmt: skip
    return (
        Section(
            id="replay",
            title=Text("真实外呼活动重放", "A real outbound campaign, replayed"),
            finding=finding,
            chart=(_bars(replay), _curve(replay)),
            table=_table(replay),
            notes=(
                Text(
                    "{c:,} 次外呼、{s:,} 笔成交、{n} 个月；首月只用于学习。",
                    "{c:,} calls, {s:,} sales, {n} months; the first month is for learning only.",
                ).fill(c=replay.calls, s=replay.sales, n=replay.months),
                Text(
                    "逐月重放：每月仅用此前各月的通话学习，未使用通话时长与宏观指标。"
                    "区间为按月重抽样外呼所得，选择固定。",
                    "Month by month, learning from the months before alone, without the length of "
                    "calls and without macro figures. Intervals resample calls within months, the "
                    "choice held fixed.",
                ),
            ),
        ),
    )


def _bars(replay: Replay) -> Bars:
    return Bars(
        title=Text("席位减半时抓住的成交占比", "Share of sales captured with half the seats"),
        description=Text("按选择方式", "By order of calling"),
        kind=Kind.SHARE,
        bars=tuple(
            Bar(
                label=_NAMES[name],
                value=policy.share,
                tone=Tone.ACCENT if name == "model" else Tone.PLAIN,
                low=policy.low,
                high=policy.high,
            )
            for name, policy in replay.policies.items()
        ),
    )


def _curve(replay: Replay) -> Lines:
    tones = {"model": Tone.ACCENT, "bank": Tone.PLAIN, "random": Tone.FAINT, "perfect": Tone.FAINT}
    return Lines(
        title=Text("累计成交", "Sales captured, cumulated"),
        description=Text("随月份增长", "Over the months"),
        x=Axis(Text("月份序号", "Month number"), Kind.COUNT),
        y=Axis(Text("成交笔数", "Sales"), Kind.COUNT, low=0),
        series=tuple(
            Series(
                name=_NAMES[name],
                points=((0.0, 0.0), *((float(i + 1), float(y)) for i, y in enumerate(curve))),
                tone=tones[name],
            )
            for name, curve in replay.curve.items()
            if name != "random"  # it runs along the bank's order and would hide it
        ),
    )


def _table(replay: Replay) -> Table:
    return Table(
        columns=(
            Column(Text("选择方式", "Order of calling")),
            Column(Text("抓住的成交", "Sales captured"), Kind.COUNT),
            Column(Text("占比", "Share"), Kind.SHARE),
            Column(Text("下限", "Low"), Kind.SHARE),
            Column(Text("上限", "High"), Kind.SHARE),
        ),
        rows=tuple(
            (_NAMES[name], round(policy.captured), policy.share, policy.low, policy.high)
            for name, policy in replay.policies.items()
        ),
    )
