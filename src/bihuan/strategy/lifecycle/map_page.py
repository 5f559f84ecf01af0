"""The marketing map for readers: a picture and a page that the front line can print."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bihuan.strategy.cube import NOWHERE, Tile, draw_tiles
from bihuan.strategy.lifecycle.map import MapRow, MarketingMap

_WORDS = {
    "zh": {"size": "客户", "target": "目标", "wanted": "应触达", "strategy": "策略",
           "offers": "商品", "channel": "渠道", "script": "话术", "staff": "人员",
           "segment": "客群", "stage": "阶段", "expected": "预计成交",
           "guide": "各阶段指引", "units": "各单元任务", "none": "未归类",
           "homeless": "未落到单元的客户", "aim": "要点", "among": "共 {size} 户",
           "legend": "目标客户数（下方为该格客户总数）"},
    "en": {"size": "Customers", "target": "Target", "wanted": "To approach", "strategy": "Strategy",
           "offers": "Offers", "channel": "Channel", "script": "Script", "staff": "Staff",
           "segment": "Segment", "stage": "Stage", "expected": "Expected sales",
           "guide": "Guide by stage", "units": "Tasks by unit", "none": "None of them",
           "homeless": "Customers without a unit", "aim": "Aim",
           "among": "of {size}", "legend": "Customers to approach, of all in the cell"},
}  # fmt: skip
_STYLE = (
    "body{font:14px/1.5 'Noto Sans SC','PingFang SC','Microsoft YaHei',sans-serif;color:#22313f;"
    "margin:28px;max-width:1180px}table{border-collapse:collapse;width:100%;margin:8px 0 24px}"
    "th,td{border-bottom:1px solid #edf1f4;padding:5px 8px;text-align:left;vertical-align:top}"
    "td.n{text-align:right}h1{font-size:22px}h2{font-size:17px;margin-top:32px}"
    "h3{font-size:15px;margin:20px 0 4px}svg{max-width:100%;height:auto}.faint{color:#8795a1}"
    "@media print{h3{break-after:avoid}}"
)


def draw_map_picture(map_: MarketingMap, language: str = "zh", *, titled: bool = True) -> str:
    """Draw units by life-cycle stage: how many to approach of how many, darker where more.

    Parameters
    ----------
    map_
        The map.
    language
        ``zh`` or ``en``.
    titled
        Whether the map's title stands above; a page has its own.

    Returns
    -------
    str
        A self-contained SVG document.
    """
    words = _WORDS[language]
    stages = [stage.code for stage in map_.life_cycle.in_order]
    if any(row.stage == NOWHERE for row in map_.rows):
        stages.append(NOWHERE)
    units = list(map_.units)
    sums: dict[tuple[int, int], list[MapRow]] = {}
    for row in map_.rows:
        sums.setdefault((units.index(row.unit_id), stages.index(row.stage)), []).append(row)
    most = max([sum(row.target for row in rows) for rows in sums.values()] + [1])
    tiles = {}
    for place, rows in sums.items():
        target, size = sum(row.target for row in rows), sum(row.size for row in rows)
        names = sorted({row.strategy_id for row in rows if row.strategy_id})
        titles = [map_.life_cycle.strategy(name).title[language] for name in names]
        note = words["among"].format(size=f"{size:,}")
        tiles[place] = Tile(f"{target:,}", note, target / most, "; ".join(titles))
    heads = [
        words["none"] if code == NOWHERE else map_.life_cycle.stage(code).title[language]
        for code in stages
    ]
    subtitle = f"{words['legend']} · {map_.as_of.isoformat()}"
    rows_ = [map_.units[unit][language] for unit in units]
    return draw_tiles(map_.plan.title[language] if titled else "", subtitle, rows_, heads, tiles)


def write_map_page(map_: MarketingMap, language: str = "zh") -> str:
    """Write the map as one HTML page without scripts: picture, guide by stage, tasks by unit.

    Parameters
    ----------
    map_
        The map.
    language
        ``zh`` or ``en``.
    """
    words = _WORDS[language]
    title = escape(map_.plan.title[language])
    parts = [
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>",
        draw_map_picture(map_, language, titled=False),
        f"<h2>{words['guide']}</h2>",
    ]
    for stage in map_.life_cycle.in_order:
        parts.append(
            f"<h3>{escape(stage.title[language])}</h3><p>{escape(stage.aim[language])}</p>"
        )
        guide = [
            (s.title[language], s.aim[language], ", ".join(s.channels), s.script[language])
            for s in map_.life_cycle.of_stage(stage.code)
        ]
        heads = [words[name] for name in ("strategy", "aim", "channel", "script")]
        parts.append(_table(heads, guide))
    parts.append(f"<h2>{words['units']}</h2>")
    names = ("stage", "segment", "strategy", "size", "wanted", "target", "expected", "channel",
             "staff", "offers")  # fmt: skip
    for unit_id, unit in map_.units.items():
        parts.append(f"<h3>{escape(unit[language])}</h3>")
        cells = [_cells(map_, row, language) for row in map_.of_unit(unit_id)]
        parts.append(_table([words[name] for name in names], cells))
    if map_.homeless:
        parts.append(f'<p class="faint">{words["homeless"]}: {map_.homeless:,}</p>')
    return "".join([*parts, "</body></html>"])


def _cells(map_: MarketingMap, row: MapRow, language: str) -> list[object]:
    strategy = map_.life_cycle.strategy(row.strategy_id).title[language] if row.strategy_id else "—"
    stage = (
        _WORDS[language]["none"]
        if row.stage == NOWHERE
        else map_.life_cycle.stage(row.stage).title[language]
    )
    segment = map_.plan.segments.title_of(row.segment)[language]
    staff = "—" if row.staff is None else row.staff
    return [stage, segment, strategy, row.size, row.wanted, row.target, round(row.expected, 1),
            row.channel or "—", staff, ", ".join(row.offers) or "—"]  # fmt: skip


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["<table><tr>", *(f"<th>{escape(head)}</th>" for head in heads), "</tr>"]
    for row in rows:
        lines.append("<tr>")
        for value in row:
            if isinstance(value, (int, float)):
                lines.append(f'<td class="n">{value:,}</td>')
            else:
                lines.append(f"<td>{escape(str(value))}</td>")
        lines.append("</tr>")
    return "".join([*lines, "</table>"])
