"""A small town: eight customers of five systems, whom the tests know by heart.

Its data lie in the formats and codings in which such systems really export.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pyreadstat

from bihuan.data import write_sav

from .by_hand import (
    AUGUST,
    OCTOBER,
    SEPTEMBER,
    define,
    open_at,
    with_library,
    write_csv,
    write_xlsx,
)

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
