"""Tag management: how tags come in, are tried out, change and go, on record.

In come proposals and decisions by name; out go changed definition files and a record that is only
added to. Read in this order: ``life`` (the states and who may decide), ``trial`` (a tag derived
beside the lake), ``pages`` (one tag's lines in a YAML file), ``store`` (files and record change
together), ``desk`` (the steps); ``stock``, ``likeness`` and ``sorting`` tell how many tags there
are and what is wrong with which.
"""

from bihuan.tag.desk.desk import (
    Desk,
)
from bihuan.tag.desk.life import (
    TagHistory,
    TagTransitionError,
    Transition,
    require_who_and_why,
    transition,
)
from bihuan.tag.desk.sorting import (
    Finding,
    SortingRules,
    Stock,
    sort_out,
)
from bihuan.tag.desk.stock import (
    TagStock,
    take_stock,
)
from bihuan.tag.desk.store import (
    DeskStore,
)
from bihuan.tag.desk.trial import (
    TrialReport,
    try_tag,
)

__all__ = [
    "Desk",
    "DeskStore",
    "Finding",
    "SortingRules",
    "Stock",
    "TagHistory",
    "TagStock",
    "TagTransitionError",
    "Transition",
    "TrialReport",
    "require_who_and_why",
    "sort_out",
    "take_stock",
    "transition",
    "try_tag",
]
