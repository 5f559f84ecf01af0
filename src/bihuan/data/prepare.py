"""Preparation of data for analysis: a recipe of steps, compiled into one query.

A recipe is a YAML file that an analyst writes, or the same written in Python. Its steps are of four
blocks (extraction, calculation, grouping, conversion) and cleaning; each works on the result of the
step before:

====================  =========================================================================
extraction            ``select`` (table, columns, where, months), ``join``, ``filter``, ``keep``
calculation           ``calculate`` (new columns by expression)
grouping              ``group`` (by, aggregates)
conversion            ``types``, ``units``, ``codes``, ``rename``, ``pivot``, ``unpivot``, ``sort``
cleaning              ``trim``, ``drop_duplicates``, ``fill_missing``, ``cap``
====================  =========================================================================

Example::

    recipe: arpu_by_city
    meaning: {zh: 各地市近三个月户均出账, en: Mean bill of three months by city}
    steps:
      - select: {table: bill, columns: [customer_id, amount], where: amount >= 0, months: 3}
      - join: {table: customer, on: [customer_id], columns: [city_code]}
      - cap: {columns: [amount], high: 0.999}
      - group: {by: [city_code], aggregates: {arpu: avg(amount), customers: count(distinct customer_id)}}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from sqlglot import exp

from bihuan.data.contract import TableContract, load_contracts
from bihuan.data.engine import Engine, Source
from bihuan.data.lake import Lake, LakeView, Snapshot
from bihuan.data.step import STEPS, Draft, RecipeError, Step
from bihuan.kernel import Clock, canonical_json, hash_id
