"""How a workspace is opened, or laid out where there is none."""

from __future__ import annotations

from pathlib import Path

from bihuan.data import DuckDBEngine, Engine
from bihuan.kernel import Clock, Progress, SilentProgress, SystemClock
from bihuan.workspace.layout import make_folders
from bihuan.workspace.workspace import Workspace


def open_workspace(
    path: Path | str,
    *,
    create: bool = True,
    clock: Clock | None = None,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> Workspace:
    """Open a workspace, or lay out a new one in an empty or new folder.

    Parameters
    ----------
    path
        The workspace's folder.
    create
        Whether a folder that does not exist or is empty becomes a workspace.
    clock, progress, engine
        The machine's clock, silence and DuckDB unless given.

    Returns
    -------
    Workspace

    Raises
    ------
    UserError
        If the folder holds something else, or there is none and ``create`` is false.

    Examples
    --------
    >>> import tempfile
    >>> ws = open_workspace(Path(tempfile.mkdtemp()) / "demo")
    >>> ws.view.tables
    ()
    """
    layout = make_folders(Path(path), create=create)
    return Workspace(
        layout.root,
        clock=clock or SystemClock(),
        progress=progress or SilentProgress(),
        engine=engine or DuckDBEngine(),
    )
