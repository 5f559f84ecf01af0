"""What the acceptance tests share: a small town with five systems, a simulated operator, a shell.

The *town* is eight customers whom the tests know by heart; its data lie in the formats and codings
in which such systems really export. The *operator* is the twin with four months of history. Both
are built once; tests that change a workspace work on a copy.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyreadstat
import pytest
import xlsxwriter

import bihuan as bh
from bihuan.data import DuckDBEngine, write_sav
from bihuan.delivery import GatePolicy
from bihuan.feedback import read_outcomes
from bihuan.kernel import FixedClock
from bihuan.loop import turn
from bihuan.step import load_score_order
from bihuan.tag import LIBRARY_FOLDER
from bihuan.twin import (
    SimulatedChannels,
    Truth,
    TwinSettings,
    generate_operator,
    next_month,
    publish_next_month,
)

AUGUST, SEPTEMBER, OCTOBER = date(2026, 8, 31), date(2026, 9, 30), date(2026, 10, 31)
NOW = datetime(2026, 11, 2, 6, tzinfo=UTC)  # 14:00 in the market: customers may be called
SCRIPT = Path(sys.executable).parent / "bihuan"

Rows = list[dict[str, Any]]


# ---------------------------------------------------------------------------------- workspaces


def open_at(folder: Path, now: datetime = NOW) -> bh.Workspace:
    """Open a workspace under a clock that stands still."""
    return bh.open_workspace(folder, clock=FixedClock(now), engine=DuckDBEngine(threads=1))


def define(ws: bh.Workspace, kind: str, name: str, text: str) -> Path:
    """Write a definition file as a planner does: into the folder of its kind."""
    path = ws.layout.root / kind / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def with_library(ws: bh.Workspace) -> None:
    """Copy the sample tags into the workspace, to be changed and added to."""
    for file in LIBRARY_FOLDER.glob("*.yaml"):
        shutil.copy(file, ws.layout.root / "tags" / file.name)


def extract(ws: bh.Workspace, rows: pa.Table, table: str, as_of: date) -> None:
    """Deliver a month's extract of one table as a Parquet file whose columns fit the contract."""
    file = ws.layout.root / "extracts" / f"{table}-{as_of}.parquet"
    file.parent.mkdir(exist_ok=True)
    pq.write_table(rows, file)
    columns = "\n".join(f"      {name}: {name}" for name in rows.column_names)
    define(ws, "mappings", f"extract_{table}", f"tables:\n  {table}:\n    columns:\n{columns}\n")
    report = ws.ingest(file, f"extract_{table}", as_of)
    assert report.rows_quarantined == 0, report


def read(ws: bh.Workspace, table: str, as_of: date | None = None) -> Rows:
    """Read the rows of one snapshot as plain Python values."""
    return ws.view.get(table, as_of).read().to_pylist()


@pytest.fixture(scope="session")
def tools() -> SimpleNamespace:
    """Give the tests what a user does by hand: open, define, deliver, read."""
    return SimpleNamespace(
        open_at=open_at,
        define=define,
        with_library=with_library,
        extract=extract,
        read=read,
        write_csv=write_csv,
        write_xlsx=write_xlsx,
        offers=OFFER_FILE,
        months=(AUGUST, SEPTEMBER, OCTOBER),
        now=NOW,
    )


@dataclass(frozen=True)
class Shell:
    """What a command left behind: exit code, the JSON document, the words for people."""

    code: int
    result: Any
    err: str


@pytest.fixture(scope="session")
def shell() -> Callable[..., Shell]:
    """Run the command line in a process of its own."""

    def run(*arguments: str, workspace: Path, language: str = "en") -> Shell:
        done = subprocess.run(
            [str(SCRIPT), *arguments, "--workspace", str(workspace), "--json"],
            capture_output=True,
            encoding="utf-8",
            env=os.environ | {"BIHUAN_LANG": language, "PYTHONUTF8": "1"},
            check=False,
            timeout=120,
        )
        lines = done.stdout.strip().splitlines()
        return Shell(done.returncode, json.loads(lines[-1]) if lines else None, done.stderr)

    return run


# ------------------------------------------------------------------------------------- the town

CUSTOMERS: Sequence[tuple[str, str, str, int | None, str, str, str, str | None]] = (
    # id, name, sex, year of birth, kind, address, grid, account manager
    ("C001", "客户一", "女", 1988, "个人", "A1", "G1", None),
    ("C002", "客户二", "男", 1955, "个人", "A1", "G1", None),
    ("C003", "客户三", "女", 2001, "个人", "A2", "G1", None),
    ("C004", "客户四", "男", 1979, "个人", "A2", "G2", None),
    ("C005", "客户五", "女", 1990, "个人", "A3", "G2", None),
    ("C006", "甲公司", "", None, "政企", "A4", "G2", "M1"),
    ("C007", "乙学校", "", None, "政企", "A3", "G2", "M1"),
    ("C008", "丙医院", "", None, "政企", "A4", "G1", "M2"),
)
MOBILES: Sequence[tuple[str, str, str, str, str, float, str]] = (
    # user, customer, number, plan, status, fee in yuan, cell
    ("S001", "C001", "13900000001", "P59", "1", 59.0, "R1"),
    ("S002", "C002", "13900000002", "P19", "1", 19.0, "R1"),
    ("S003", "C003", "13900000003", "P99", "1", 99.0, "R2"),
    ("S004", "C004", "13900000004", "P59", "2", 59.0, "R2"),
    ("S005", "C005", "13900000005", "P99", "1", 99.0, "R3"),
    ("S006", "C001", "13900000006", "P19", "1", 19.0, "R1"),
    ("S007", "C006", "13900000007", "P99", "3", 99.0, "R4"),
)
LINES: Sequence[tuple[str, str, float, float, str | None, str, str, str]] = (
    # line, customer, Mbit/s, fee in yuan, end of contract, port, status, address
    ("L001", "C006", 100.0, 2000.0, "2026/12/15", "R5", "在用", "A4"),
    ("L002", "C006", 200.0, 3600.0, "2028/01/31", "R6", "在用", "A4"),
    ("L003", "C006", 50.0, 1200.0, None, "R5", "停用", "A4"),
    ("L004", "C008", 100.0, 1500.0, "2026/11/20", "R6", "在用", "A4"),
)
BILLS: dict[str, tuple[int, int, int]] = {  # fen, in August, September, October
    "S001": (6250, 6100, 6475),
    "S002": (1900, 1900, 2150),
    "S003": (12050, 11825, 10210),
    "S004": (5900, 5900, 0),
    "S005": (9900, 14300, 19800),
    "S006": (1900, 1900, 1900),
    "L001": (200000, 200000, 200000),
    "L002": (360000, 360000, 720000),
    "L003": (120000, 120000, 40000),
    "L004": (150000, 150000, 150000),
}
USAGE: dict[str, tuple[float, int]] = {  # minutes and KB of October
    "S001": (120.5, 8_388_608),
    "S002": (410.0, 102_400),
    "S003": (12.0, 31_457_280),
    "S004": (0.0, 0),
    "S005": (95.0, 20_971_520),
    "S006": (3.0, 51_200),
}
SURVEY: dict[str, int] = {"C001": 2, "C002": 5, "C003": 4, "C005": 1}
KEY_CUSTOMERS: Sequence[tuple[str, str]] = (("C002", "投诉升级"), ("C008", "重点客户"))


def write_csv(path: Path, rows: Iterable[Sequence[object]], encoding: str, sign: str = ",") -> Path:
    """Write rows, the header first, as another system exports them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=sign).writerows(rows)
    return path


def write_xlsx(path: Path, rows: Iterable[Sequence[object]]) -> Path:
    """Write rows into the first sheet of a workbook, as a person does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    book = xlsxwriter.Workbook(str(path))
    sheet = book.add_worksheet("清单")
    for number, row in enumerate(rows):
        sheet.write_row(number, 0, row)
    book.close()
    return path


MAPPINGS: dict[str, str] = {
    "crm_customers": """
meaning: {zh: CRM 客户资料, en: Customers of the CRM}
tables:
  customer:
    columns:
      customer_id: 客户编号
      name: 客户名称
      gender: {column: 性别, codes: {男: M, 女: F}}
      birth_year: 出生年
      kind: {column: 客户类型, codes: {个人: individual, 政企: enterprise}}
      network: {constant: on_net}
      address_id: 地址编号
      org_unit_id: 网格
      manager_staff_id: 客户经理
      joined_on: {column: 入网日期, date_format: "%Y年%m月%d日"}
""",
    "crm_users": """
tables:
  subscription:
    columns:
      subscription_id: 用户编号
      account_id: {template: "AC-{客户编号}"}
      customer_id: 客户编号
      number: 号码
      service: {constant: mobile}
      product_id: 主套餐
      status: {column: 状态, codes: {"1": active, "2": suspended, "3": disconnected}}
      monthly_fee: 月费
      resource_id: 小区
      contract_kind: {constant: none}
""",
    "line_platform": """
meaning: {zh: 专线平台台账, en: Register of the leased-line platform}
source: {format: excel, sheet: 清单}
tables:
  subscription:
    columns:
      subscription_id: 专线号
      account_id: {template: "AC-{客户编号}"}
      customer_id: 客户编号
      number: 专线号
      service: {constant: leased_line}
      status: {column: 状态, codes: {在用: active, 停用: suspended}}
      monthly_fee: 月租(元)
      contract_ends_on: {column: 合同到期, date_format: "%Y/%m/%d"}
      address_id: 装机地址
      resource_id: 端口
""",
    "billing": """
meaning: {zh: 计费系统账单，金额以分计, en: "Bills of the billing system, in fen"}
source: {format: sql}
tables:
  bill:
    columns:
      account_id: acct
      subscription_id: user_no
      customer_id: cust_no
      amount: {column: fee_fen, factor: 0.01}
""",
    "network_usage": """
meaning: {zh: 网管话单汇总，流量以 KB 计, en: "Usage of the network platform, in KB"}
source: {delimiter: "|"}
tables:
  usage:
    columns:
      subscription_id: USER_NO
      customer_id: CUST_NO
      voice_minutes: MINUTES
      data_mb: {column: KB, factor: 0.0009765625}
""",
    "survey": """
meaning: {zh: 市场研究公司的满意度调查, en: Satisfaction survey of a research company}
source: {format: spss}
tables:
  survey:
    columns:
      customer_id: cust
      satisfaction: q1
""",
    "key_customers": """
meaning: {zh: 人工填写的重点客户清单, en: List of key customers typed by hand}
source: {format: excel, sheet: 清单}
tables:
  customer_list:
    columns:
      customer_id: 客户编号
      list_kind: {constant: red}
      reason: 原因
      since: {constant: "2026-10-01"}
""",
    "black_list": """
tables:
  customer_list:
    columns: {customer_id: id, list_kind: {constant: black}}
""",
    "addresses": """
tables:
  address:
    columns: {address_id: 地址, text: 标准地址, town: 乡镇, org_unit_id: 网格}
""",
    "resources": """
tables:
  resource:
    columns:
      resource_id: res
      kind: {column: kind, codes: {cell: cell, port: port}}
      address_id: addr
      capacity: cap
      used: used
      unit: {constant: Mbit/s}
      status: {constant: in_service}
""",
    "products": """
tables:
  product:
    columns: {product_id: code, name_zh: name, kind: {constant: plan}, monthly_price: price}
""",
    "organisation": """
source: {format: excel, sheet: 清单}
tables:
  org_unit:
    distinct: true
    columns: {org_unit_id: 网格, tier: {constant: grid}, name_zh: 网格名称}
  channel:
    distinct: true
    columns:
      channel_id: 渠道
      kind: {column: 渠道类型, codes: {营业厅: hall, 客户经理: account_manager}}
      org_unit_id: 网格
  staff:
    columns:
      staff_id: 工号
      org_unit_id: 网格
      channel_id: 渠道
      post: 岗位
      status: {constant: active}
""",
}
SURVEY_CONTRACT = """
table: survey
meaning: {zh: 满意度调查的一份答卷, en: One answer to the satisfaction survey}
group: survey
grain: state
key: [customer_id]
columns:
  customer_id: {type: string, nullable: false, meaning: {zh: 客户编号, en: Customer id}}
  satisfaction: {type: integer, range: [1, 5], meaning: {zh: 满意度, en: Satisfaction}}
"""
TOWN_TAGS = """
defaults: {library: customer, subject: customer, owner: 数据组, state: live, category: 调查/满意度}
tags:
  - name: satisfaction
    title: {zh: 满意度, en: Satisfaction}
    layer: base
    means: direct
    type: integer
    source: survey
    expression: satisfaction
    meaning: {zh: 客户在调查中给出的满意度, en: Satisfaction stated in the survey}
    definition: {zh: 调查问题一的答案，1 至 5, en: "Answer to question one, 1 to 5"}
"""
STAFF_SHEET: Sequence[Sequence[object]] = (
    ("工号", "岗位", "渠道", "渠道类型", "网格", "网格名称"),
    ("M1", "客户经理", "CH2", "客户经理", "G2", "二网格"),
    ("M2", "客户经理", "CH2", "客户经理", "G2", "二网格"),
    ("H1", "营业员", "CH1", "营业厅", "G1", "一网格"),
    ("H2", "营业员", "CH1", "营业厅", "G1", "一网格"),
)
ADDRESSES: Sequence[Sequence[object]] = (
    ("地址", "标准地址", "乡镇", "网格"),
    ("A1", "和平街道一号院", "和平", "G1"),
    ("A2", "和平街道二号院", "和平", "G1"),
    ("A3", "建设路十八号", "建设", "G2"),
    ("A4", "工业园区三号楼", "园区", "G2"),
)
RESOURCES: Sequence[tuple[str, str, str, float, float]] = (
    ("R1", "cell", "A1", 1000.0, 300.0),
    ("R2", "cell", "A2", 1000.0, 850.0),
    ("R3", "cell", "A3", 1000.0, 100.0),
    ("R4", "cell", "A4", 1000.0, 500.0),
    ("R5", "port", "A4", 100.0, 92.0),
    ("R6", "port", "A4", 1000.0, 40.0),
)
PRODUCTS: Sequence[Sequence[object]] = (
    ("code", "name", "price"),
    ("P19", "轻享套餐", 19),
    ("P59", "畅享套餐", 59),
    ("P99", "尊享套餐", 99),
)


def write_sources(folder: Path) -> SimpleNamespace:
    """Write the exports of the town's systems, each in its own form and coding."""
    folder.mkdir(parents=True, exist_ok=True)
    crm = [
        (
            "客户编号",
            "客户名称",
            "性别",
            "出生年",
            "客户类型",
            "地址编号",
            "网格",
            "客户经理",
            "入网日期",
        )
    ]
    crm += [
        (*(v or "" for v in row[:8]), f"20{10 + i}年03月05日") for i, row in enumerate(CUSTOMERS)
    ]
    users = [("用户编号", "客户编号", "号码", "主套餐", "状态", "月费", "小区"), *MOBILES]
    lines = [("专线号", "客户编号", "带宽", "月租(元)", "合同到期", "端口", "状态", "装机地址")]
    lines += [tuple("" if v is None else v for v in row) for row in LINES]
    usage = [("USER_NO", "CUST_NO", "MINUTES", "KB")]
    owner = {row[0]: row[1] for row in (*MOBILES, *LINES)}
    usage += [(user, owner[user], minutes, kb) for user, (minutes, kb) in USAGE.items()]
    billing = folder / "billing.db"
    with sqlite3.connect(billing) as db:
        db.execute(
            "create table t_bill (acct text, user_no text, cust_no text, mon text, fee_fen int)"
        )
        db.executemany(
            "insert into t_bill values (?, ?, ?, ?, ?)",
            [
                (f"AC-{owner[user]}", user, owner[user], month, fen)
                for user, fees in BILLS.items()
                for month, fen in zip(("202608", "202609", "202610"), fees, strict=True)
            ],
        )
        for month in ("202608", "202609", "202610"):
            db.execute(f"create view v_{month} as select * from t_bill where mon = '{month}'")
    db.close()
    survey = pa.table({"cust": list(SURVEY), "q1": pa.array(SURVEY.values(), pa.float64())})
    write_sav(survey, folder / "survey.sav")
    assert pyreadstat.read_sav(str(folder / "survey.sav"), output_format="dict")[1].number_rows == 4
    resources = folder / "resources.parquet"
    names = ("res", "kind", "addr", "cap", "used")
    pq.write_table(
        pa.table({n: list(c) for n, c in zip(names, zip(*RESOURCES, strict=True), strict=True)}),
        resources,
    )
    return SimpleNamespace(
        crm=write_csv(folder / "crm.csv", crm, "gbk"),
        users=write_csv(folder / "users.csv", users, "gbk"),
        lines=write_xlsx(folder / "lines.xlsx", lines),
        usage=write_csv(folder / "usage.txt", usage, "utf-8", "|"),
        billing=f"sqlite:///{billing}",
        survey=folder / "survey.sav",
        key=write_xlsx(folder / "key.xlsx", [("客户编号", "原因"), *KEY_CUSTOMERS]),
        black=write_csv(folder / "black.csv", [("id",), ("C004",)], "utf-8"),
        addresses=write_csv(folder / "addresses.csv", ADDRESSES, "gb18030"),
        resources=resources,
        products=write_csv(folder / "products.csv", PRODUCTS, "utf-8-sig"),
        staff=write_xlsx(folder / "staff.xlsx", STAFF_SHEET),
    )


def build_town(folder: Path) -> SimpleNamespace:
    """Lay out a workspace and take all of the town's systems in."""
    ws = open_at(folder / "ws")
    for name, text in MAPPINGS.items():
        define(ws, "mappings", name, f"mapping: {name}\n{text}")
    define(ws, "contracts", "survey", SURVEY_CONTRACT)
    with_library(ws)
    define(ws, "tags", "town", TOWN_TAGS)
    sources = write_sources(folder / "sources")
    reports = {
        "crm": ws.ingest(sources.crm, "crm_customers", OCTOBER),
        "users": ws.ingest(sources.users, "crm_users", OCTOBER),
        "lines": ws.ingest(sources.lines, "line_platform", OCTOBER, append=True),
        "usage": ws.ingest(sources.usage, "network_usage", OCTOBER),
        "survey": ws.ingest(sources.survey, "survey", OCTOBER),
        "black": ws.ingest(sources.black, "black_list", OCTOBER),
        "key": ws.ingest(sources.key, "key_customers", OCTOBER, append=True),
        "addresses": ws.ingest(sources.addresses, "addresses", OCTOBER),
        "resources": ws.ingest(sources.resources, "resources", OCTOBER),
        "products": ws.ingest(sources.products, "products", OCTOBER),
        "staff": ws.ingest(sources.staff, "organisation", OCTOBER),
    }
    for month in (AUGUST, SEPTEMBER, OCTOBER):
        reports[f"bill{month:%m}"] = ws.ingest(
            f"{sources.billing}#v_{month:%Y%m}", "billing", month
        )
    for subject in ("customer", "subscription"):
        ws.refresh_tags(OCTOBER, subject=subject)
    return SimpleNamespace(
        ws=ws,
        folder=folder,
        sources=sources,
        reports=reports,
        customers=CUSTOMERS,
        mobiles=MOBILES,
        lines=LINES,
        bills=BILLS,
        usage=USAGE,
        survey=SURVEY,
        key=KEY_CUSTOMERS,
        addresses=ADDRESSES,
        resources=RESOURCES,
        staff=STAFF_SHEET,
    )


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Eight customers of five systems in one workspace; read only."""
    return build_town(tmp_path_factory.mktemp("town"))


@pytest.fixture
def own_town(town: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    """A copy of the town that a test may change."""
    shutil.copytree(town.folder, tmp_path / "town")
    changed = SimpleNamespace(**vars(town))
    changed.folder = tmp_path / "town"
    changed.ws = open_at(changed.folder / "ws")
    return changed


# --------------------------------------------------------------------------------- the operator

TWIN = TwinSettings(customers=2500, months=4, seed=7)
OFFERS = ("keep_12", "keep_24", "data_pack")


@pytest.fixture(scope="session")
def operator(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The simulated operator with its tags at every month; read only.

    The twin gives the state of its customers once; an operator's CRM delivers it every month.
    """
    folder = tmp_path_factory.mktemp("operator")
    ws = open_at(folder / "ws")
    with_library(ws)
    twin = generate_operator(
        TWIN, ws.lake, ws.contracts, offer_ids=OFFERS, clock=ws.clock, progress=ws.progress
    )
    months = TWIN.month_ends()
    for table in ("customer", "account", "customer_list", "opt_out"):
        rows = ws.view.get(table, months[-1]).read()
        for month in months[:-1]:
            if month not in ws.view.dates(table):
                extract(ws, rows, table, month)
    for month in months[1:]:
        ws.refresh_tags(month)
    truth: Truth = twin.truth
    return SimpleNamespace(ws=ws, folder=folder, months=months, last=months[-1], truth=truth)


@pytest.fixture
def own_operator(operator: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    """A copy of the operator that a test may change."""
    shutil.copytree(operator.folder, tmp_path / "operator")
    changed = SimpleNamespace(**vars(operator))
    changed.folder = tmp_path / "operator"
    changed.ws = open_at(changed.folder / "ws")
    return changed


CHURN_FILE = """
label: left_in_month
lead_months: 1
population: not is_disconnected
features:
  [arpu, arpu_trend, dou, tenure_months, has_contract, contract_days_left, complaint_count_3m]
model:
  name: churn
  title: {zh: 离网概率, en: Probability to leave}
  label: {zh: 次月离网, en: Leaves next month}
  owner: data team
  learner: logistic
"""


@pytest.fixture(scope="session")
def scored(operator: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The operator after its churn model has been learnt and has spoken; read only."""
    folder = tmp_path_factory.mktemp("scored") / "operator"
    shutil.copytree(operator.folder, folder)
    ws = open_at(folder / "ws")
    define(ws, "models", "churn", CHURN_FILE)
    model, metrics = ws.learn("churn", operator.last)
    found = SimpleNamespace(**vars(operator))
    found.ws, found.folder, found.model, found.metrics = ws, folder, model, metrics
    return found


NEWSPAPER_TAGS = """
defaults: {subject: customer, owner: 增值业务组, state: live, category: 增值/手机报}
tags:
  - name: mms_count
    title: {zh: 当月彩信条数, en: "Multimedia messages, this month"}
    layer: base
    means: statistics
    type: integer
    source: usage
    expression: sum(mms_count)
    default: 0
    meaning: {zh: 当月发送的彩信条数, en: Multimedia messages sent this month}
    definition: {zh: 当月彩信条数之和, en: Sum of the month's multimedia messages}
  - name: has_newspaper
    title: {zh: 已订手机报, en: Has the mobile newspaper}
    layer: base
    means: statistics
    type: boolean
    source: holding
    expression: bool_or(product_id = 'newspaper' and status = 'active')
    default: false
    meaning: {zh: 是否已订制手机报, en: Whether the mobile newspaper is subscribed}
    definition: {zh: 有生效的手机报订购, en: An active holding of the newspaper}
  - name: brand
    title: {zh: 品牌, en: Brand}
    layer: portrait
    means: experience
    type: string
    expression: "case when main_product in $gotone then 'gotone' else 'other' end"
    thresholds: {gotone: [plan_129, plan_199]}
    codes:
      gotone: {zh: 全球通, en: GoTone}
      other: {zh: 其他, en: other}
    meaning: {zh: 客户品牌, en: Brand of the customer}
    definition: {zh: 主套餐为 129 元及以上的为全球通, en: "GoTone if the plan is 129 or more"}
  - name: newspaper_points
    title: {zh: 手机报意向分, en: Points for the newspaper}
    layer: marketing
    means: mining
    type: number
    model: newspaper
    meaning: {zh: 由显性属性组合而成的意向分, en: Interest combined from explicit attributes}
    definition: {zh: 评分卡 newspaper 的总分, en: Points of the scorecard newspaper}
"""


@pytest.fixture(scope="session")
def newspaper(
    operator: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """The operator with a mobile newspaper, held by about a fifth of the customers."""
    folder = tmp_path_factory.mktemp("newspaper") / "operator"
    shutil.copytree(operator.folder, folder)
    ws = open_at(folder / "ws")
    define(ws, "tags", "newspaper", NEWSPAPER_TAGS)
    ws = open_at(folder / "ws")
    holders = []
    for row in read(ws, "usage", operator.last):
        number = int(row["customer_id"][1:])
        # who sends pictures or uses much data holds it more often
        often = 2 if row["mms_count"] else 4 if row["data_mb"] > 6000 else 9
        if number % often == 0:
            holders.append((row["subscription_id"], row["customer_id"]))
    held = pa.table(
        {
            "subscription_id": [line for line, _ in holders],
            "product_id": ["newspaper"] * len(holders),
            "customer_id": [customer for _, customer in holders],
            "status": ["active"] * len(holders),
        }
    )
    extract(ws, held, "holding", operator.last)
    ws.refresh_tags(operator.last)
    holding = {customer for _, customer in holders}
    found = SimpleNamespace(**vars(operator))
    found.ws, found.folder, found.holders = ws, folder, holding
    return found


# ------------------------------------------------------------------------------------ campaigns

OFFER_FILE = """
offers:
  - offer_id: keep_12
    title: {zh: 话费合约 12 个月, en: "Bill-credit contract, 12 months"}
    kind: contract
    products: [contract_12]
    price: 0
    months: 12
    margin: 60
    cost: 20
    eligibility: "not has_contract"
    channels: [outbound, sms, app]
  - offer_id: keep_24
    title: {zh: 购机合约 24 个月, en: "Handset contract, 24 months"}
    kind: contract
    products: [contract_24, handset]
    price: 10
    months: 24
    margin: 150
    cost: 80
    eligibility: "not has_contract and tenure_months >= 12 and arpu >= 60"
    channels: [outbound, app]
  - offer_id: data_pack
    title: {zh: 5G 流量包, en: 5G data pack}
    kind: addon
    products: [data_5g, video_pass]
    price: 20
    months: 6
    margin: 40
    cost: 5
    eligibility: "dou >= 4000"
    channels: [sms, app]
"""
CAMPAIGN_FILE = """
campaign_id: {campaign_id}
title: {{zh: 存量客户保有, en: Keeping customers}}
goal:
  metric: {metric}
  target: 0.01
  reason: {{zh: 上季度离网率上升, en: More customers left last quarter}}
  needs: {{zh: 实惠与流量, en: Savings and data}}
  starts_on: {starts_on}
  ends_on: {ends_on}
audience: "{audience}"
control_share: {control_share}
budget: 12000
{more}
channels:
  outbound: {{capacity: 220, unit_cost: 2.0}}
  sms: {{capacity: 500, unit_cost: 0.05}}
  app: {{capacity: 300, unit_cost: 0.01}}
scripts:
  call: {{zh: 您好，这里是客户服务。, en: "Hello, this is customer care."}}
  text: {{zh: 专属优惠已为您预留，拒收请回复 R, en: "Reserved for you. Reply R to refuse."}}
  push: {{zh: 专属优惠，点击查看, en: Tap to see your offer.}}
mix:
  - offer: keep_12
    promotion: {{zh: 每月返还话费, en: credit on every bill}}
    channels:
      outbound: {{script: call, acceptance: 0.3}}
      sms: {{script: text, acceptance: 0.1}}
  - offer: keep_24
    promotion: {{zh: 购机立减, en: handset discount}}
    channels:
      outbound: {{script: call, acceptance: 0.25}}
      app: {{script: push, acceptance: 0.12}}
    maximum: 150
  - offer: data_pack
    promotion: {{zh: 首月半价, en: first month half price}}
    channels:
      sms: {{script: text, acceptance: 0.15}}
      app: {{script: push, acceptance: 0.18}}
action_plan:
  - what: {{zh: 下发清单并培训, en: Issue lists and brief}}
    post: planner
    starts_on: {starts_on}
    ends_on: {starts_on}
  - what: {{zh: 渠道执行并回单, en: Carry out and report}}
    post: channel_operator
    starts_on: {starts_on}
    ends_on: {ends_on}
requirements:
  - text: {{zh: 剔除后不少于 300 户, en: At least 300 customers remain}}
    check: audience_at_least
    value: 300
  - text: {{zh: 数据不超过 45 天, en: Data not older than 45 days}}
    check: data_age_at_most
    value: 45
"""


def campaign_text(**changes: object) -> str:
    """Return a campaign file; what is not given is as for the hand-reported campaign."""
    fields: dict[str, object] = {
        "campaign_id": "orders-2026-11",
        "metric": "ordered",
        "starts_on": "2026-11-01",
        "ends_on": "2026-11-30",
        "audience": "arpu >= 20 and not is_disconnected",
        "control_share": 0.3,
        "more": "",
    }
    return CAMPAIGN_FILE.format(**fields | changes)


@pytest.fixture(scope="session")
def campaign_file() -> Callable[..., str]:
    """Writes the text of a campaign file, with changes."""
    return campaign_text


@pytest.fixture(scope="session")
def carried(operator: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A campaign on paper lists, reported back by hand in a GBK file; read only.

    The tests know what was reported, because it was written here row by row.
    """
    folder = tmp_path_factory.mktemp("carried") / "operator"
    shutil.copytree(operator.folder, folder)
    ws = open_at(folder / "ws")
    define(ws, "offers", "offers", OFFER_FILE)
    define(ws, "campaigns", "orders-2026-11", campaign_text())
    plan = ws.decide("orders-2026-11", OCTOBER)
    deployment = ws.deploy("orders-2026-11", OCTOBER)
    lists = ws.write_lists("orders-2026-11", columns=["arpu", "tenure_months"])
    assignments = deployment.assignments(ws.view).read().sort_by("assignment_id").to_pylist()
    reported = report_by_hand(assignments)
    header = list(reported[0])
    file = write_csv(folder / "回单.csv", [header, *(row.values() for row in reported)], "gbk")
    ws = open_at(folder / "ws", datetime(2026, 11, 12, 6, tzinfo=UTC))
    outcome_report = ws.record_outcomes("orders-2026-11", file)
    return SimpleNamespace(
        ws=ws,
        folder=folder,
        campaign_id="orders-2026-11",
        last=OCTOBER,
        plan=plan,
        deployment=deployment,
        lists=lists,
        assignments=assignments,
        reported=reported,
        file=file,
        outcome_report=outcome_report,
    )


def report_by_hand(assignments: Rows) -> Rows:
    """Write what seats report: of ten each ends in its own way, of one nothing is heard."""
    ways: Sequence[tuple[tuple[str, str], ...]] = (
        (("failed", "wrong_number"),),
        (("delivered", ""),),
        (("delivered", ""), ("connected", ""), ("refused", "wrong_tag:arpu")),
        (("delivered", ""), ("connected", ""), ("refused", "price")),
        (("delivered", ""), ("connected", "interested")),
        (("delivered", ""), ("connected", ""), ("accepted", "")),
        (("delivered", ""), ("connected", ""), ("accepted", ""), ("ordered", "")),
        (("delivered", ""), ("connected", ""), ("accepted", ""), ("ordered", "")),
        (("delivered", ""), ("connected", ""), ("accepted", ""), ("ordered", "")),
        (),
    )
    rows = []
    for number, assignment in enumerate(assignments):
        for hour, (stage, reason) in enumerate(ways[number % len(ways)]):
            is_call = assignment["channel"] == "outbound" and stage == "delivered"
            rows.append(
                {
                    "outcome_id": f"{assignment['assignment_id']}-{stage}",
                    "assignment_id": assignment["assignment_id"],
                    "customer_id": assignment["customer_id"],
                    "stage": stage,
                    "occurred_at": f"2026-11-05 {10 + hour}:00:00",
                    "channel": assignment["channel"],
                    "cost": "2.50" if is_call else "",  # the call centre bills what a call took
                    "reason": reason,
                    "source": "回单",
                }
            )
    return rows


RETENTION_OFFERS = """
offers:
  - offer_id: keep_12
    title: {zh: 话费合约 12 个月, en: "Bill-credit contract, 12 months"}
    kind: contract
    products: [contract_12]
    months: 12
    margin: {per_unit: 5.4, of: monthly_fee}
    cost: 3
    eligibility: "not has_contract"
    channels: [outbound, sms, app]
  - offer_id: keep_24
    title: {zh: 购机合约 24 个月, en: "Handset contract, 24 months"}
    kind: contract
    products: [contract_24, handset]
    price: 10
    months: 24
    margin: {per_unit: 10.8, of: monthly_fee}
    cost: 8
    eligibility: "not has_contract and tenure_months >= 12"
    channels: [outbound, app]
  - offer_id: data_pack
    title: {zh: 5G 流量包, en: 5G data pack}
    kind: vas
    products: [data_5g, video_pass]
    price: 20
    months: 6
    margin: {per_unit: 4.0, of: monthly_fee}
    cost: 2
    eligibility: "dou >= 4000"
    channels: [sms, app]
"""
NOVEMBER, DECEMBER = date(2026, 11, 30), date(2026, 12, 31)


def month_passes(
    turned: SimpleNamespace, deployment: Any, before: date, after: date, seed: int
) -> None:
    """Let customers stay or leave, and deliver the new month's extracts as every month."""
    ws, view = turned.ws, turned.ws.view
    assignments = deployment.assignments(view).read()
    outcomes = read_outcomes(view, deployment.deployment_id)
    reached = pc.is_in(assignments["assignment_id"], value_set=outcomes["assignment_id"])
    left = next_month(turned.truth, outcomes, assignments.filter(reached), seed=seed)
    publish_next_month(ws.lake, left, before, after, clock=ws.clock)
    here = ws.view.get("subscription", after).read()
    here = here.filter(pc.not_equal(here["status"], "disconnected"))["customer_id"]
    for table in ("customer", "account", "customer_list", "opt_out", "usage", "bill"):
        rows = view.get(table, before).read()
        if table in ("usage", "bill"):
            rows = rows.filter(pc.is_in(rows["customer_id"], value_set=here))
        extract(ws, rows, table, after)


@pytest.fixture(scope="session")
def turned(scored: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Two turns of the loop on the simulated operator; read only.

    The first step by step, as planner, seat and analyst do it; the second in one call.
    """
    folder = tmp_path_factory.mktemp("turned") / "operator"
    shutil.copytree(scored.folder, folder)
    found = SimpleNamespace(truth=scored.truth, folder=folder, ws=open_at(folder / "ws"))
    ws, first = found.ws, "keep-2026-11"
    define(ws, "offers", "offers", RETENTION_OFFERS)
    risk = "risk_tag: churn_score\nkept_share: 0.6"
    keep = {
        "metric": "retained",
        "audience": "churn_score >= 0.015 and not is_disconnected",
        "more": risk,
    }
    define(ws, "campaigns", first, campaign_text(campaign_id=first, **keep))
    december = {"starts_on": "2026-12-01", "ends_on": "2026-12-31"}
    define(
        ws,
        "campaigns",
        "keep-2026-12",
        campaign_text(campaign_id="keep-2026-12", **keep, **december),
    )
    ws = found.ws = open_at(folder / "ws")
    channels = SimulatedChannels(
        truth=scored.truth,
        unit_costs={"outbound": 2.0, "sms": 0.05, "app": 0.01},
        prices={"keep_24": 10.0, "data_pack": 20.0},
        seed=11,
        clock=ws.clock,
    )
    found.target = ws.target(first, OCTOBER)
    found.plan = ws.decide(first, OCTOBER)
    found.deployment = ws.deploy(first, OCTOBER)
    found.stopped = ws.send(first, channels, policy=GatePolicy(stop_all=True))
    found.sent = ws.send(first, channels)
    found.again = ws.send(first, channels)
    ws.clock.advance(timedelta(days=29))  # 1 December
    month_passes(found, found.deployment, OCTOBER, NOVEMBER, seed=11)
    found.judgement = ws.evaluate(first, OCTOBER, NOVEMBER)
    learnt = (scored.model.card, scored.metrics)
    found.report = ws.report(first, OCTOBER, NOVEMBER, learnt=learnt)

    def wait(carried: Any) -> date:
        ws.clock.advance(timedelta(days=31))
        month_passes(found, carried.deployment, NOVEMBER, DECEMBER, seed=12)
        return DECEMBER

    order = load_score_order(ws.layout.root / "models" / "churn.yaml")
    found.second = turn(
        ws.rooms, ws.campaign("keep-2026-12"), order, NOVEMBER, channel=channels, wait=wait
    )
    found.campaign_id, found.channels = first, channels
    return found
