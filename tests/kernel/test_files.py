"""Atomic writes and locks, with a process killed in the middle and a defective twin."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from bihuan.kernel import file_lock, write_atomically

OLD, NEW = b"old" * 50_000, b"new!" * 50_000


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


# The writer is killed just before the n-th call that touches the disk.
KILLED_WRITER = """
    import os, signal, sys
    from pathlib import Path
    from bihuan.kernel import write_atomically

    path, step, mode = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    new = b"new!" * 50_000
    calls = 0

    def counted(function):
        def call(*arguments, **named):
            global calls
            calls += 1
            if calls == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)
        return call

    os.fsync = counted(os.fsync)
    Path.replace = counted(Path.replace)
    if mode == "naive":
        def write_atomically(path, content):
            with path.open("wb") as file:
                file.write(content[: len(content) // 2])
                file.flush()
                os.fsync(file.fileno())
                file.write(content[len(content) // 2 :])
    write_atomically(path, new)
    print("done")
"""


def contents_after_kills(path: Path, mode: str) -> list[bytes]:
    """Kill the writer at its first, second, ... step; return what the file held each time."""
    seen = []
    for step in range(1, 10):
        path.write_bytes(OLD)
        ended = run(KILLED_WRITER, path, step, mode)
        seen.append(path.read_bytes())
        if ended.stdout.strip() == "done":
            return seen
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    pytest.fail("the writer has more steps than the test tries")


class TestWriteAtomically:
    def test_it_writes_and_replaces(self, tmp_path):
        path = tmp_path / "new folder" / "a.json"
        write_atomically(path, OLD)
        write_atomically(path, NEW)
        assert path.read_bytes() == NEW
        assert [entry.name for entry in path.parent.iterdir()] == ["a.json"]

    def test_a_kill_at_any_step_leaves_the_old_or_the_new_whole(self, tmp_path):
        seen = contents_after_kills(tmp_path / "a.json", "atomic")
        assert len(seen) >= 4  # killed before: flush of the file, rename, flush of the folder
        assert set(seen) == {OLD, NEW}
        assert seen[0] == OLD
        assert seen[-1] == NEW

    def test_a_writer_that_is_not_atomic_would_be_caught(self, tmp_path):
        seen = contents_after_kills(tmp_path / "a.json", "naive")
        assert not set(seen) <= {OLD, NEW}

    def test_a_reader_never_sees_a_mixture(self, tmp_path):
        path = tmp_path / "a.json"
        path.write_bytes(OLD)
        writer = subprocess.Popen(
            [
                sys.executable,
                "-c",
                textwrap.dedent("""
                    import sys
                    from pathlib import Path
                    from bihuan.kernel import write_atomically
                    for turn in range(100):
                        content = b"new!" if turn % 2 else b"old"
                        write_atomically(Path(sys.argv[1]), content * 50_000)
                """),
                str(path),
            ]
        )
        seen = set()
        while writer.poll() is None:
            seen.add(path.read_bytes())
        assert writer.returncode == 0
        assert seen <= {OLD, NEW}


COUNTER = """
    import sys
    from contextlib import nullcontext
    from pathlib import Path
    from bihuan.kernel import file_lock

    path, locked = Path(sys.argv[1]), sys.argv[2] == "locked"
    for _ in range(200):
        with file_lock(path.with_suffix(".lock")) if locked else nullcontext():
            value = int(path.read_text() or 0)
            path.write_text(str(value + 1))
"""


def count_with_four_processes(path: Path, mode: str) -> int:
    path.write_text("0")
    code = textwrap.dedent(COUNTER)
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(path), mode], stderr=subprocess.DEVNULL)
        for _ in range(4)
    ]
    for process in processes:
        process.wait(60)
    return int(path.read_text() or 0)


class TestFileLock:
    def test_four_processes_lose_no_update(self, tmp_path):
        assert count_with_four_processes(tmp_path / "n", "locked") == 800

    def test_without_the_lock_updates_would_be_lost(self, tmp_path):
        assert count_with_four_processes(tmp_path / "n", "free") != 800

    def test_a_killed_process_frees_its_lock(self, tmp_path):
        lock = tmp_path / "lock"
        ended = run(
            """
            import os, signal, sys
            from pathlib import Path
            from bihuan.kernel import file_lock
            with file_lock(Path(sys.argv[1])):
                os.kill(os.getpid(), signal.SIGKILL)
            """,
            lock,
        )
        assert ended.returncode == -signal.SIGKILL
        with file_lock(lock):
            assert lock.exists()

    def test_an_error_inside_frees_the_lock(self, tmp_path):
        with pytest.raises(ValueError, match="inside"), file_lock(tmp_path / "lock"):
            raise ValueError("inside")
        with file_lock(tmp_path / "lock"):
            assert (tmp_path / "lock").exists()
