"""Tags: marks on customers, lines, units and staff, defined by people and derived from the lake.

In come YAML definitions and snapshots of contracted tables. A base tag is one objective attribute
or count; a portrait tag describes a facet by rules over base tags; a marketing tag is a segment
for a scene, combined from both or given by a model. Out go one tag table per group and date, in
which every subject stands once, and a dictionary that says of each tag what it means, how it is
counted, where it comes from and who answers for it.

Read in this order: ``definition`` (what a tag is), ``load`` (from YAML), ``expression`` and
``check`` (what its SQL may say), ``bind`` (tags against each other), ``dictionary`` and ``tree``,
``listing`` (plan lists matched), ``query`` and ``derive`` (values), ``table`` (their readers),
``plane`` (the same values as bit planes), ``portrait`` and ``structure`` (what they say of one
customer, and of all); then ``desk`` (how tags come in, change and go).
"""

from bihuan.tag.definition import Subject, TagDefinition, TagDefinitionError
from bihuan.tag.derive import DeriveReport, GroupReport, TagDerivationError, derive, tag_table
from bihuan.tag.desk import (
    Desk,
    DeskStore,
    Finding,
    SortingRules,
    Stock,
    TagHistory,
    TagStock,
    TagTransitionError,
    Transition,
    TrialReport,
    require_who_and_why,
    sort_out,
    take_stock,
    transition,
    try_tag,
)
from bihuan.tag.dictionary import (
    LIBRARY_FOLDER,
    Lineage,
    TagDictionary,
    TagField,
    UnknownTagError,
)
from bihuan.tag.expression import (
    AGGREGATE_TYPES,
    AS_OF,
    ExpressionError,
    TagExpression,
    at_date,
    check_aggregation,
    check_columns,
    nearest,
    parse_expression,
)
from bihuan.tag.listing import match_plan_lists
from bihuan.tag.load import load_definitions, parse_definition
from bihuan.tag.plane import (
    DamagedIndexError,
    Encoding,
    IndexNotBuiltError,
    IndexReport,
    TagIndex,
    TagNotIndexedError,
    TagPlanes,
    build_index,
    open_index,
)
from bihuan.tag.portrait import (
    FACETS,
    PeriodPortrait,
    Portrait,
    PortraitTag,
    draw_period,
    draw_portrait,
    show_value,
)
from bihuan.tag.structure import Segment, Structure, StructureError, draw_structure
from bihuan.tag.table import TagNotDerivedError, TagTable, UnknownSubjectError, read_tags
from bihuan.tag.tree import TagBranch

__all__ = [
    "TagDefinition",
    "TagDictionary",
    "TagField",
    "TagBranch",
    "Subject",
    "Lineage",
    "LIBRARY_FOLDER",
    "load_definitions",
    "parse_definition",
    "parse_expression",
    "TagExpression",
    "ExpressionError",
    "check_columns",
    "check_aggregation",
    "at_date",
    "nearest",
    "AGGREGATE_TYPES",
    "AS_OF",
    "derive",
    "DeriveReport",
    "GroupReport",
    "tag_table",
    "read_tags",
    "match_plan_lists",
    "FACETS",
    "Portrait",
    "PortraitTag",
    "PeriodPortrait",
    "draw_portrait",
    "draw_period",
    "show_value",
    "Structure",
    "Segment",
    "draw_structure",
    "StructureError",
    "TagTable",
    "build_index",
    "IndexReport",
    "open_index",
    "TagIndex",
    "TagPlanes",
    "Encoding",
    "DamagedIndexError",
    "IndexNotBuiltError",
    "TagNotIndexedError",
    "transition",
    "Transition",
    "TagHistory",
    "require_who_and_why",
    "Desk",
    "DeskStore",
    "TrialReport",
    "try_tag",
    "TagStock",
    "take_stock",
    "Stock",
    "SortingRules",
    "Finding",
    "sort_out",
    "TagDefinitionError",
    "TagDerivationError",
    "TagNotDerivedError",
    "TagTransitionError",
    "UnknownTagError",
    "UnknownSubjectError",
]
