"""Job runs are counted and are spans; the log of the worker looks like the server's."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bihuan.kernel import FixedClock
from bihuan.server.api.frame.telemetry import set_up_telemetry
from bihuan.server.app import job as jobs
from bihuan.server.app.errors import RefusedError
from bihuan.server.app.service import Service
from bihuan.server.control import Control
from bihuan.server.settings import Settings
from bihuan.server.worker import JobMeasures, run_worker, runner
from bihuan.workspace import open_workspace

from .fleet import submit, wait_ended, wait_until


@pytest.fixture
def service(control: Control, database_url: str, clock: FixedClock, tmp_path: Path) -> Service:
    settings = Settings(workspace=tmp_path / "ws", database=database_url)
    return Service(settings, control, open_workspace(tmp_path / "ws", clock=clock), clock)


def fail(context: jobs.JobContext, arguments: jobs.Arguments) -> dict[str, bool]:
    raise RefusedError("no", remedy="never", zh="不行")


def test_runs_are_counted_by_kind_and_end_and_are_spans(service, monkeypatch):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(runner.trace, "get_tracer", provider.get_tracer)
    title = {"zh": "测试", "en": "test"}
    jobs.register(jobs.Kind("good", title, "job.run", jobs.Arguments, lambda c, a: {}))
    jobs.register(jobs.Kind("bad", title, "job.run", jobs.Arguments, fail))
    measures, stop = JobMeasures(), threading.Event()
    given = {"stop": stop, "measures": measures}
    thread = threading.Thread(target=run_worker, args=(service,), kwargs=given)
    thread.start()
    ids = [submit(service.control, kind) for kind in ("good", "good", "bad")]
    wait_ended(service.control, *ids)

    def counted(kind: str, state: str) -> float | None:
        labels = {"kind": kind, "state": state}
        return measures.registry.get_sample_value("bihuan_job_runs_total", labels)

    wait_until(lambda: counted("good", "succeeded") == 2 and counted("bad", "failed") == 1)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    seconds = measures.registry.get_sample_value("bihuan_job_run_seconds_count", {"kind": "good"})
    assert seconds == 2
    spans = [(s.name, s.attributes["job.state"]) for s in exporter.get_finished_spans()]
    assert sorted(spans) == [("job bad", "failed"), *[("job good", "succeeded")] * 2]
    assert {s.attributes["job.id"] for s in exporter.get_finished_spans()} == set(ids)


class TestLogs:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Iterator[Settings]:
        root, ours = logging.getLogger(), logging.getLogger("bihuan")
        before = (list(root.handlers), root.level, ours.level)
        yield Settings(workspace=tmp_path)
        root.handlers[:], root.level, ours.level = before
        structlog.reset_defaults()

    def lines(self, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    def test_both_ways_of_logging_look_alike(self, settings, capsys):
        set_up_telemetry(settings, "worker")
        structlog.get_logger("bihuan.api").info("one", job_id="j1")
        log = logging.getLogger("bihuan.worker")
        thread = threading.Thread(target=lambda: log.info("job %s", "j1"))
        thread.start()
        thread.join()
        first, second = self.lines(capsys)
        assert second["event"] == "job j1"
        for line in (first, second):
            assert (line["process"], line["level"]) == ("worker", "info")
            assert str(line["timestamp"]).endswith("Z")

    def test_an_error_carries_its_trace_on_one_line(self, settings, capsys):
        set_up_telemetry(settings, "worker")
        try:
            raise ValueError("deep")
        except ValueError as error:
            logging.getLogger("bihuan.worker").warning("failed", exc_info=error)
        [line] = self.lines(capsys)
        assert "ValueError: deep" in str(line["exception"])

    def test_of_libraries_only_warnings_are_told_and_twice_is_once(self, settings, capsys):
        set_up_telemetry(settings, "serve")
        set_up_telemetry(settings, "worker")
        logging.getLogger("somebody").info("talk")
        logging.getLogger("somebody").warning("heed")
        [line] = self.lines(capsys)
        assert (line["event"], line["process"]) == ("heed", "worker")

    def test_levels_hold(self, settings, capsys):
        set_up_telemetry(settings.model_copy(update={"log_level": "error"}), "worker")
        logging.getLogger("bihuan.worker").warning("silent")
        structlog.get_logger("bihuan.api").warning("silent")
        assert self.lines(capsys) == []
