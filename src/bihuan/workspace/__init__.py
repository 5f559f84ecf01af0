"""The notebook face: a folder, and one method per stage of the loop."""

from bihuan.workspace.customer_view import CustomerView, Record
from bihuan.workspace.opening import open_workspace
from bihuan.workspace.view360 import UnknownCustomerError
from bihuan.workspace.workspace import Workspace

__all__ = ["Workspace", "open_workspace", "CustomerView", "Record", "UnknownCustomerError"]
