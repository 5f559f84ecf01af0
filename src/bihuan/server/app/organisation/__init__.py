"""The organisation: the territory tree, places on the ground, layers, and import of all of it.

In come units and people, by hand or by import; out go a tree in which everybody stands somewhere,
its history, and the rows that did not fit, with the reason.
"""

from bihuan.server.app.organisation.check import REASONS, BrokenTreeError, RefusedRow
from bihuan.server.app.organisation.import_record import find_imports, find_refused, get_import
from bihuan.server.app.organisation.intake import (
    ImportReport,
    Rows,
    import_from_lake,
    import_rows,
    replay_import,
)
from bihuan.server.app.organisation.layer import (
    PostPlace,
    layer_of,
    may_report,
    natural_superiors,
)
from bihuan.server.app.organisation.places import (
    PLACES,
    NewPlace,
    change_place,
    covered_units,
    crew_members,
    find_places,
    get_place,
    open_place,
    set_covered_units,
    set_crew_members,
)
from bihuan.server.app.organisation.staff_intake import release
from bihuan.server.app.organisation.tree import (
    NewUnit,
    NotEmptyError,
    RingError,
    TierOrderError,
    close_unit,
    find_changes,
    find_subtree,
    find_units,
    get_unit,
    is_taken,
    managed_unit,
    move_unit,
    open_below,
    open_unit,
    path_of,
    rename_unit,
    reopen_unit,
)

__all__ = [
    "NewUnit",
    "find_units",
    "find_subtree",
    "find_changes",
    "get_unit",
    "managed_unit",
    "path_of",
    "open_unit",
    "rename_unit",
    "move_unit",
    "close_unit",
    "reopen_unit",
    "open_below",
    "TierOrderError",
    "RingError",
    "NotEmptyError",
    "NewPlace",
    "PLACES",
    "find_places",
    "get_place",
    "open_place",
    "change_place",
    "crew_members",
    "set_crew_members",
    "covered_units",
    "set_covered_units",
    "PostPlace",
    "layer_of",
    "may_report",
    "natural_superiors",
    "Rows",
    "ImportReport",
    "RefusedRow",
    "REASONS",
    "BrokenTreeError",
    "import_rows",
    "import_from_lake",
    "find_imports",
    "find_refused",
    "get_import",
    "replay_import",
    "release",
    "is_taken",
]
