"""Tags: marks on customers, lines, units and staff, defined by people and derived from the lake.

In come YAML definitions and snapshots of contracted tables. A base tag is one objective attribute
or count; a portrait tag describes a facet by rules over base tags; a marketing tag is a segment
for a scene, combined from both or given by a model. Out go one tag table per group and date, in
which every subject stands once, and a dictionary that says of each tag what it means, how it is
counted, where it comes from and who answers for it.

Read in this order: ``definition`` (what a tag is), ``load`` (from YAML), ``expression`` and
``check`` (what its SQL may say), ``bind`` (tags against each other), ``dictionary``, ``life``,
``query`` and ``derive`` (values), ``table`` (their readers).
"""

from bihuan.tag.definition import Subject, TagDefinition, TagDefinitionError
from bihuan.tag.derive import DeriveReport, GroupReport, TagDerivationError, derive, tag_table
from bihuan.tag.dictionary import (
    LIBRARY_FOLDER,
    Lineage,
    TagDictionary,
    TagField,
    UnknownTagError,
)
from bihuan.tag.life import TagHistory, TagTransitionError, Transition, transition
from bihuan.tag.load import load_definitions, parse_definition
from bihuan.tag.table import TagNotDerivedError, TagTable, UnknownSubjectError, read_tags

__all__ = [
    "TagDefinition",
    "TagDictionary",
    "TagField",
    "Subject",
    "Lineage",
    "LIBRARY_FOLDER",
    "load_definitions",
    "parse_definition",
    "derive",
    "DeriveReport",
    "GroupReport",
    "tag_table",
    "read_tags",
    "TagTable",
    "transition",
    "Transition",
    "TagHistory",
    "TagDefinitionError",
    "TagDerivationError",
    "TagNotDerivedError",
    "TagTransitionError",
    "UnknownTagError",
    "UnknownSubjectError",
]
