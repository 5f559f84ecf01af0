"""The notebook face: a folder, and one method per stage of the loop."""

from bihuan.workspace.workspace import Workspace, open_workspace

__all__ = ["Workspace", "open_workspace"]
