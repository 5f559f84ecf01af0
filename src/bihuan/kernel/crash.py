"""Named places at which a process can be killed on purpose, to prove that nothing is lost there.

Code that moves from one durable state to the next names the moments in between::

    crash_point("lake.head.before_switch")

Nothing happens, unless the environment says ``BIHUAN_CRASH_AT=lake.head.before_switch`` (or
``...:3`` for the third time it is passed): then the process is killed with SIGKILL, as a power
switch would. Every name is declared in :data:`CRASH_POINTS`, so a test can walk through all of
them and a name that nobody passes is found out.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from bihuan.kernel.errors import DefectError

VARIABLE = "BIHUAN_CRASH_AT"
"""Environment variable with the name, and after a colon the time of passing, 1 = first."""
COUNT_VARIABLE = "BIHUAN_CRASH_COUNT"
"""Environment variable with a file into which the names passed are written, one a line."""

CRASH_POINTS: Mapping[str, str] = MappingProxyType(
    {
        # one small file replaced by another
        "file.before_write": "before the new content is written beside the old",
        "file.half_written": "half of the new content written, nothing flushed",
        "file.before_sync": "written, not flushed",
        "file.before_rename": "flushed, not yet in place of the old",
        "file.after_rename": "in place, the folder not flushed",
        "file.after_sync": "in place and flushed",
        # the lake's publication
        "lake.folder.before_make": "before a staging folder is made",
        "lake.folder.after_make": "staging folder made and empty",
        "lake.folder.filled": "staging folder filled by the caller",
        "lake.describe.before_sync": "before a staged Parquet file is flushed",
        "lake.describe.after_sync": "flushed, not hashed",
        "lake.describe.before_manifest": "all files hashed, no manifest yet",
        "lake.describe.after_manifest": "manifest beside the files",
        "lake.commit.before_lock": "everything staged, lock not taken",
        "lake.commit.locked": "lock taken, nothing moved",
        "lake.settle.before_rename": "before a staged folder is moved to its place",
        "lake.settle.after_rename": "moved, folders above not flushed",
        "lake.settle.after_sync": "moved and flushed, named by no head",
        "lake.head.before_switch": "all folders in place, old head",
        "lake.head.after_switch": "new head, lock still held",
        "lake.commit.released": "published, lock freed",
        # freezing decisions into assignments
        "freeze.before_check": "before the decisions are judged",
        "freeze.checked": "judged, not read",
        "freeze.block_read": "a block of rows hashed",
        "freeze.hashed": "all rows hashed",
        "freeze.before_lock": "content known, lock not taken",
        "freeze.locked": "lock taken, not looked up",
        "freeze.looked_up": "not there yet, about to write",
        "freeze.ranked": "ids and ranks known, no file yet",
        "freeze.part.before_open": "before a part is opened",
        "freeze.part.group_written": "a row group written",
        "freeze.part.before_close": "rows written, the file has no footer",
        "freeze.part.before_sync": "footer written, not flushed",
        "freeze.part.after_sync": "part flushed",
        "freeze.parts_written": "every part flushed",
        "freeze.registered": "row of the register staged",
        "freeze.published": "published in the lake",
        # a control transaction
        "work.before_flush": "before the rows are sent to the database",
        "work.before_commit": "rows and audit sent, not committed",
        "work.after_commit": "committed, nobody told",
        # the deployment of a plan
        "deploy.begin": "before anything is recorded",
        "deploy.prepared": "recorded as preparing",
        "deploy.frozen_in_lake": "the lake has it, the control database not yet",
        "deploy.counted": "counted in the lake, counts not recorded",
        "deploy.frozen": "recorded as frozen with its counts",
        "deploy.before_live": "before the row that makes it live",
        "deploy.live_unsealed": "row switched, transaction open",
        "deploy.live": "live, not yet reconciled",
        "deploy.before_reconcile": "counted again, not recorded",
        "deploy.reconciled": "reconciled",
        # stop and resume
        "stop.before_row": "before the stop is recorded",
        "stop.recorded": "recorded, transaction open",
        "stop.committed": "stopped",
        "resume.before_row": "before the stop is lifted",
        "resume.recorded": "lifted, transaction open",
        "resume.committed": "resumed",
        # strategies to all channels at once
        "release.before_items": "before the strategies of a release are recorded",
        "release.before_switch": "recorded, the channels still read the old",
        "release.switched": "switched, transaction open",
        "release.committed": "all channels read the new",
        "release.acknowledged": "a channel's acknowledgement recorded, transaction open",
    }
)
"""What each point stands between, by name."""

_guard = threading.Lock()
_passed: Counter[str] = Counter()


def crash_point(name: str) -> None:
    """Be a place where this process may be told to die; do nothing otherwise.

    Parameters
    ----------
    name
        A key of :data:`CRASH_POINTS`.

    Raises
    ------
    DefectError
        If crash points are in use and nobody declared the name.

    Examples
    --------
    >>> crash_point("lake.head.before_switch")
    """
    wanted, counting = os.environ.get(VARIABLE), os.environ.get(COUNT_VARIABLE)
    if wanted is None and counting is None:
        return
    if name not in CRASH_POINTS:
        raise DefectError(f"Crash point '{name}' is not declared.")
    with _guard:
        _passed[name] += 1
        time = _passed[name]
        if counting is not None:
            with Path(counting).open("a") as file:
                file.write(f"{name}\n")
    if wanted is not None:
        target, _, nth = wanted.partition(":")
        if target == name and time == int(nth or 1):
            os.kill(os.getpid(), signal.SIGKILL)
