"""The notebook face: a folder, and one method per stage of the loop."""

from bihuan.workspace.opening import open_workspace
from bihuan.workspace.workspace import Workspace

__all__ = ["Workspace", "open_workspace"]
