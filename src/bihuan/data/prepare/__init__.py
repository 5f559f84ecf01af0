"""Preparation of data for analysis: a recipe of steps, compiled into one query.

A recipe is a YAML file that an analyst writes, or the same written in Python. Its steps are of four
blocks (extraction, calculation, grouping, conversion) and cleaning; each works on the result of the
step before:

===========  ====================================================================================
extraction   ``select`` (table, columns, where, months), ``join``, ``filter``, ``keep``
calculation  ``calculate`` (new columns by expression)
grouping     ``group`` (by, aggregates)
conversion   ``types``, ``units``, ``codes``, ``rename``, ``pivot``, ``unpivot``, ``sort``
cleaning     ``trim``, ``drop_duplicates``, ``fill_missing``, ``cap``
===========  ====================================================================================

Example::

    recipe: arpu_by_city
    meaning: {zh: 各地市近三个月户均出账, en: Mean bill of three months by city}
    steps:
      - select: {table: bill, columns: [customer_id, amount], where: amount >= 0, months: 3}
      - join: {table: customer, on: [customer_id], columns: [city_code]}
      - cap: {columns: [amount], high: 0.999}
      - group:
          by: [city_code]
          aggregates: {arpu: avg(amount), customers: count(distinct customer_id)}
"""

from bihuan.data.prepare.expression import ExpressionError, parse_expression
from bihuan.data.prepare.recipe import Recipe, RecipeError, Step, load_recipe
from bihuan.data.prepare.run import check_recipe, prepare, publish_prepared

__all__ = [
    "Recipe",
    "Step",
    "load_recipe",
    "check_recipe",
    "prepare",
    "publish_prepared",
    "parse_expression",
    "RecipeError",
    "ExpressionError",
]
