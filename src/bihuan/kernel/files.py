"""Files that are either the old or the new, never half of one."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bihuan.kernel.crash import crash_point


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content`` so that a crash leaves the old or the new whole.

    Written beside the target, flushed to disk, renamed over it, and the folder flushed, so that
    the rename itself survives a power cut.

    Parameters
    ----------
    path
        Target; its folder is made if needed.
    content
        The whole new content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # the thread's id too: two threads may write the same file
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        crash_point("file.before_write")
        with temporary.open("wb") as file:
            half = len(content) // 2
            file.write(content[:half])
            crash_point("file.half_written")
            file.write(content[half:])
            file.flush()
            crash_point("file.before_sync")
            os.fsync(file.fileno())
        crash_point("file.before_rename")
        temporary.replace(path)
        crash_point("file.after_rename")
    except BaseException:  # a full disk must not be filled further
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    crash_point("file.after_sync")


def sync_folder(folder: Path) -> None:
    """Flush a folder's own entry list to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` between processes; freed when the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
