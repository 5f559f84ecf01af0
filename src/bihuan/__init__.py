"""Bihuan (闭环): closed-loop precision marketing for operators.

The notebook face::

    import bihuan as bh

    ws = bh.open_workspace("my-workspace")
    ws.ingest("customers.csv", "crm_customers", as_of="2026-10-31")
    ws.refresh_tags("2026-10-31")
    ws.count("arpu >= 80 and not has_contract", "2026-10-31")

The rooms of the loop are the sub-packages (``bihuan.audience``, ``bihuan.decision`` ...); one turn
of it is told in :mod:`bihuan.loop`.
"""

from typing import TYPE_CHECKING, Any

from bihuan.kernel import BihuanError, DefectError, UserError

if TYPE_CHECKING:
    from bihuan.workspace import Workspace, open_workspace

__version__ = "0.1.0"

__all__ = ["open_workspace", "Workspace", "BihuanError", "UserError", "DefectError", "__version__"]


def __getattr__(name: str) -> Any:
    """Load the notebook face when it is first asked for, so that one room does not load all."""
    if name in ("open_workspace", "Workspace"):
        from bihuan import workspace

        return getattr(workspace, name)
    msg = f"module 'bihuan' has no attribute '{name}'"
    raise AttributeError(msg)
