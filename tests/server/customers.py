"""A lake with customers of two cities, for tests of what may be seen of them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from bihuan.kernel import Clock, random_stream
from bihuan.server.app.actor import Actor, Post
from bihuan.server.app.personal import prepare_keys, sealer_of
from bihuan.server.app.service import Service
from bihuan.server.control import Control, with_sealer
from bihuan.server.settings import Settings
from bihuan.workspace import open_workspace

OCTOBER = date(2026, 10, 31)
NOW = datetime(2026, 11, 2, 1, tzinfo=UTC)
CUSTOMERS = 3_000
NUMBERS = {f"c{n}": f"1389{n:07d}" for n in range(CUSTOMERS)}
UNITS = ("grid-a11", "grid-b11")
TAGS = """
tags:
""" + "".join(
    f"""  - name: {name}
    title: {{zh: {name}, en: {name}}}
    layer: base
    library: customer
    subject: customer
    means: direct
    type: {kind}
    source: customer
    expression: "{expression}"
    meaning: {{zh: 测试, en: Test}}
    definition: {{zh: 测试, en: Test}}
    owner: data team
    refresh: monthly
    version: 1
    state: live
    category: 基本属性/自然属性
"""
    for name, kind, expression in (
        ("born", "integer", "birth_year"),
        ("senior", "boolean", "is_senior"),
        ("sex", "string", "gender"),
        ("city", "string", "city_code"),
    )
)


def in_contract(service: Service, table: str, columns: dict[str, list[Any]]) -> pa.Table:
    contract = service.workspace.contracts[table]
    size = len(next(iter(columns.values())))
    whole = {name: columns.get(name, [None] * size) for name in contract.names}
    return pa.table(whole, schema=contract.schema)


def open_house(control: Control, database_url: str, clock: Clock, folder: Path) -> Service:
    """Return a service over a lake with 3,000 customers, half of them in city b."""
    settings = Settings(
        workspace=folder, database=database_url, rate_per_minute=1_000_000, sign_in_per_minute=9999
    )
    workspace = open_workspace(folder, clock=clock)
    prepare_keys(settings, workspace)
    service = Service(settings, control, workspace, clock)
    sealed = Control(with_sealer(control.engine, sealer_of(service)), clock)
    service = Service(settings, sealed, workspace, clock)
    chance = random_stream(3, "customers")
    ids = [*NUMBERS]
    tables = {
        "customer": {
            "customer_id": ids,
            "name": [f"金丝雀{n:05d}号" for n in range(CUSTOMERS)],
            "kind": ["individual"] * CUSTOMERS,
            "gender": chance.choice(["F", "M"], CUSTOMERS).tolist(),
            "is_senior": (chance.random(CUSTOMERS) < 0.1).tolist(),
            "birth_year": (2026 - chance.integers(18, 80, CUSTOMERS)).tolist(),
            "city_code": chance.choice(list("abcdef"), CUSTOMERS, p=[.4, .3, .2, .07, .02, .01])
            .tolist(),
            "org_unit_id": [UNITS[n % 2] if n != 9 else None for n in range(CUSTOMERS)],
        },
        "subscription": {
            "subscription_id": [f"s{n}" for n in range(CUSTOMERS)],
            "customer_id": ids,
            "number": [*NUMBERS.values()],
            "service": ["mobile"] * CUSTOMERS,
            "status": ["active"] * CUSTOMERS,
        },
    }  # fmt: skip
    with workspace.lake.publication(clock) as publication:
        for table, columns in tables.items():
            publication.add(table, OCTOBER, in_contract(service, table, columns))
    workspace.protect()
    return service


def with_tags(service: Service) -> Service:
    path = service.workspace.layout.definitions("tags") / "few.yaml"
    path.write_text(TAGS, encoding="utf-8")
    service.workspace.refresh_tags(OCTOBER)
    return service


def actor(role: str, unit: str = "grid-a11", name: str = "") -> Actor:
    return Actor(name or f"{role}-{unit}", unit, (Post(role, unit),))
