"""Sorting the stock of tags out: which are unused, stale, double, without owner, or poor.

Every finding names the tags, the evidence in figures, and what is proposed. Nothing is changed
here; decisions are taken at the desk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

from bihuan.data import Engine, LakeView
from bihuan.kernel import hash_id
from bihuan.tag.definition import Refresh, State, Subject, TagDefinition
from bihuan.tag.derive import tag_table
from bihuan.tag.desk.likeness import Likeness, find_alike, value_facts
from bihuan.tag.desk.stock import LEVELS
from bihuan.tag.dictionary import TagDictionary
from bihuan.tag.table import TagNotDerivedError, TagTable, read_tags

KINDS = (
    *("changed_unrecorded", "same_calculation", "same_values", "poor", "not_derived", "stale"),
    *("unused", "no_owner", "thin_category", "uneven_path"),
)
"""Kinds of findings, the most urgent first."""
_KEEP_DAYS = {Refresh.DAILY: 2, Refresh.MONTHLY: 45}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to be sorted out.

    Parameters
    ----------
    kind
        One of :data:`KINDS`.
    tags
        The tags that it is about.
    evidence
        What was found, with the figures, by language.
    action
        What is proposed, by language.
    """

    kind: str
    tags: tuple[str, ...]
    evidence: Mapping[str, str]
    action: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SortingRules:
    """What counts as a finding.

    Parameters
    ----------
    correlation
        Two tags whose values correlate more than this, either way, are near-duplicates; 0..1.
    missing_share
        A tag without a value for more than this share of the subjects is poor; 0..1.
    few_tags
        A third-level category with fewer live tags than this is thin.
    nobody
        Owners who answer for nothing: of the samples, say.
    sample_rows
        Subjects on which values are compared.
    """

    correlation: float = 0.999
    missing_share: float = 0.95
    few_tags: int = 2
    nobody: frozenset[str] = frozenset({"sample", "示例"})
    sample_rows: int = 20_000


@dataclass(frozen=True, slots=True)
class Stock:
    """What is sorted out, and what is known about it.

    Parameters
    ----------
    dictionary
        The tags.
    view, engine
        Where their values are, and what reads them.
    uses
        Who uses a tag apart from other tags.
    changed
        Live tags that were changed without a new version.
    rules
        What counts as a finding.
    """

    dictionary: TagDictionary
    view: LakeView
    engine: Engine
    uses: Callable[[str], Sequence[str]]
    changed: Sequence[str] = ()
    rules: SortingRules = field(default_factory=SortingRules)


def sort_out(stock: Stock, as_of: date) -> tuple[Finding, ...]:
    """Look through all live tags and say what should be done about which.

    Parameters
    ----------
    stock
        The tags and what is known about them.
    as_of
        Date whose values are looked at.

    Returns
    -------
    tuple[Finding, ...]
        By kind, the most urgent first, then by name.
    """
    found = [*_changed(stock), *_same_calculation(stock), *_unused(stock), *_owners(stock)]
    found += [*_categories(stock)]
    for subject in Subject:
        if stock.dictionary.live(subject):
            found += _values(stock, subject, as_of)
    return tuple(sorted(found, key=lambda finding: (KINDS.index(finding.kind), finding.tags)))


def _changed(stock: Stock) -> list[Finding]:
    return [
        Finding(
            "changed_unrecorded",
            (name,),
            {
                "en": "Its file says something else than when this version went live.",
                "zh": "定义文件与该版本上线时的口径不同。",
            },
            {
                "en": "Put the old text back, or propose the change as a new version.",
                "zh": "恢复原口径，或以新版本提交变更。",
            },
        )
        for name in stock.changed
    ]


def _same_calculation(stock: Stock) -> list[Finding]:
    """Find live tags that differ in name only."""
    groups: dict[str, list[str]] = {}
    for tag in stock.dictionary.select(state=State.LIVE):
        key = replace(tag, name="any").calculation_id
        groups.setdefault(hash_id(key, tag.subject), []).append(tag.name)
    return [
        Finding(
            "same_calculation",
            tuple(sorted(names)),
            {
                "en": f"{len(names)} tags are counted in the same way from the same rows.",
                "zh": f"{len(names)} 个标签的数据来源与统计口径完全相同。",
            },
            {
                "en": f"Keep one of {', '.join(sorted(names))}, lead its users there, retire the "
                "rest.",
                "zh": f"在 {'、'.join(sorted(names))} 中保留一个，其余迁移后下线。",
            },
        )
        for names in groups.values()
        if len(names) > 1
    ]


def _unused(stock: Stock) -> list[Finding]:
    asked = _asked_for(stock.view)
    found = []
    for tag in stock.dictionary.select(state=State.LIVE):
        users = stock.dictionary.lineage(tag.name).users
        live = [name for name in users if stock.dictionary.get(name).state is State.LIVE]
        if live or tag.name in asked or stock.uses(tag.name):
            continue
        found.append(
            Finding(
                "unused",
                (tag.name,),
                {
                    "en": "No live tag, audience, scene, campaign, rule or model uses it, and no "
                    "stored audience was selected by it.",
                    "zh": "没有在用标签、客户群、场景、方案、规则或模型使用，"
                    "也没有按它筛选过的客户群。",
                },
                {
                    "en": f"Ask {tag.owner} what it is for; retire it if nobody needs it.",
                    "zh": f"请 {tag.owner} 确认用途，无需求则下线。",
                },
            )
        )
    return found


def _asked_for(view: LakeView) -> frozenset[str]:
    """Return the tags by which a stored audience was selected."""
    tables = [name for name in view.tables if name.startswith("audience__")]
    stored = [view.find(name) for name in tables]
    return frozenset(tag for s in stored if s is not None for tag in s.lineage.get("versions", {}))


def _owners(stock: Stock) -> list[Finding]:
    by_owner: dict[str, list[str]] = {}
    for tag in stock.dictionary.select(state=State.LIVE):
        if tag.owner.strip().casefold() in stock.rules.nobody:
            by_owner.setdefault(tag.owner, []).append(tag.name)
    return [
        Finding(
            "no_owner",
            tuple(sorted(names)),
            {
                "en": f"{len(names)} tags belong to '{owner}', who answers for nothing.",
                "zh": f"{len(names)} 个标签的责任人为“{owner}”，无人实际负责。",
            },
            {
                "en": "Name a person or a group of yours as owner.",
                "zh": "请指定本单位的责任人或责任班组。",
            },
        )
        for owner, names in sorted(by_owner.items())
    ]


def _categories(stock: Stock) -> list[Finding]:
    """Find branches of the tree with few tags, and tags that hang at another level."""
    found, by_path = [], dict[tuple[str, str], list[str]]()
    for tag in stock.dictionary.select(state=State.LIVE):
        path = tag.category.strip("/")
        by_path.setdefault((tag.subject.value, path), []).append(tag.name)
        if path.count("/") + 1 != LEVELS:
            found.append(
                Finding(
                    "uneven_path",
                    (tag.name,),
                    {
                        "en": f"Its category '{path}' has {path.count('/') + 1} level(s), not "
                        f"{LEVELS}.",
                        "zh": f"类目“{path}”为 {path.count('/') + 1} 级，应为 {LEVELS} 级。",
                    },
                    {
                        "en": "Propose it with a category of three levels.",
                        "zh": "请以三级类目重新提交。",
                    },
                )
            )
    for (subject, path), names in by_path.items():
        if len(names) < stock.rules.few_tags:
            found.append(
                Finding(
                    "thin_category",
                    tuple(sorted(names)),
                    {
                        "en": f"'{path}' ({subject}) has {len(names)} live tag(s).",
                        "zh": f"类目“{path}”（{subject}）只有 {len(names)} 个在用标签。",
                    },
                    {
                        "en": "Add the tags that this facet needs, or move it into a neighbour.",
                        "zh": "补充该维度所需标签，或并入相邻类目。",
                    },
                )
            )
    return found


def _values(stock: Stock, subject: Subject, as_of: date) -> list[Finding]:
    """Look at the values of one subject's tags."""
    try:
        tags = read_tags(stock.view, stock.dictionary, subject, as_of)
    except TagNotDerivedError:
        return [_old_values(stock, subject, as_of)]
    found = [
        Finding(
            "not_derived",
            (name,),
            {
                "en": f"It has no values at {as_of}: {reason['en']}",
                "zh": f"{as_of} 没有值：{reason['zh']}",
            },
            {
                "en": "Take in what it needs and derive again, or take it out of force.",
                "zh": "补齐数据后重新生成，或下线。",
            },
        )
        for name, reason in tags.pending.items()
    ]
    found += _stale(stock, tags, as_of)
    found += _poor(stock, tags)
    alike = find_alike(
        tags, stock.engine, above=stock.rules.correlation, sample_rows=stock.rules.sample_rows
    )
    double = {f.tags for f in _same_calculation(stock)}
    return found + [
        _double(pair) for pair in alike
        if not any({pair.first, pair.second} <= set(names) for names in double)
    ]  # fmt: skip


def _old_values(stock: Stock, subject: Subject, as_of: date) -> Finding:
    tags = stock.dictionary.live(subject)
    tables = {tag_table(subject, stock.dictionary.group(tag.name)) for tag in tags}
    days = sorted({day for table in tables for day in stock.view.dates(table)})
    newest = days[-1].isoformat() if days else "never"
    return Finding(
        "stale" if days else "not_derived",
        tuple(sorted(tag.name for tag in tags)),
        {
            "en": f"No {subject} tag has values at {as_of}; last derived: {newest}.",
            "zh": f"{subject} 标签在 {as_of} 均无值，最近一期：{newest if days else '从未生成'}。",
        },
        {"en": f"Derive the {subject} tags.", "zh": f"请生成 {subject} 标签。"},
    )


def _stale(stock: Stock, tags: TagTable, as_of: date) -> list[Finding]:
    """Find tags whose source has had no newer rows for longer than their refresh period."""
    old: dict[tuple[str, date], list[str]] = {}
    for name in tags.fields:
        tag = stock.dictionary.get(name)
        if tag.table is None or tag.model is not None:
            continue
        newest = _newest(stock.view, tag, as_of)
        if newest is not None and as_of - newest > timedelta(days=_KEEP_DAYS[tag.refresh]):
            old.setdefault((tag.table, newest), []).append(name)
    return [
        Finding(
            "stale",
            tuple(sorted(names)),
            {
                "en": f"'{table}' has had no rows since {newest}, {(as_of - newest).days} days "
                f"before {as_of}.",
                "zh": f"数据表 {table} 自 {newest} 起无新数据，距 {as_of} 已 "
                f"{(as_of - newest).days} 天。",
            },
            {
                "en": "Take in the newer extract; until then do not select by these tags.",
                "zh": "补齐最新数据，在此之前不要使用这些标签筛选。",
            },
        )
        for (table, newest), names in sorted(old.items())
    ]


def _newest(view: LakeView, tag: TagDefinition, as_of: date) -> date | None:
    days = [day for day in view.dates(tag.table or "") if day <= as_of]
    return days[-1] if days else None


def _poor(stock: Stock, tags: TagTable) -> list[Finding]:
    found = []
    for name, facts in value_facts(tags, stock.engine).items():
        if facts.outside_codes:
            evidence = {
                "en": f"{facts.outside_codes:,} values are none of its codes.",
                "zh": f"有 {facts.outside_codes} 个值不在编码内。",
            }
        elif tags.rows and facts.missing / tags.rows > stock.rules.missing_share:
            evidence = {
                "en": f"{facts.missing / tags.rows:.1%} of {tags.rows:,} subjects have no value.",
                "zh": f"{tags.rows} 个对象中 {facts.missing / tags.rows:.1%} 无值。",
            }
        elif facts.is_constant:
            evidence = {
                "en": f"All {tags.rows - facts.missing:,} known values are the same.",
                "zh": f"{tags.rows - facts.missing} 个已知值全部相同。",
            }
        else:
            continue
        found.append(
            Finding(
                "poor",
                (name,),
                evidence,
                {
                    "en": "Check its source and calculation; propose a better one, or retire it.",
                    "zh": "核对数据来源与口径，改进后提交新版本或下线。",
                },
            )
        )
    return found


def _double(pair: Likeness) -> Finding:
    return Finding(
        "same_values",
        (pair.first, pair.second),
        {
            "en": f"Over {pair.rows:,} subjects their values go together "
            f"(correlation {pair.correlation:.4f}).",
            "zh": f"在 {pair.rows} 个对象上取值一致（相关系数 {pair.correlation:.4f}）。",
        },
        {
            "en": f"Keep {pair.first} or {pair.second}; retire the other when nobody uses it.",
            "zh": f"保留 {pair.first} 或 {pair.second} 之一，另一个无人使用后下线。",
        },
    )
