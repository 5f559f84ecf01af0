"""Structured logs and traces of one process."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import TextIO

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from bihuan.server.settings import Settings


def set_up_telemetry(settings: Settings, process: str) -> None:
    """Log to standard error as settings say, and send traces where a collector is named.

    What libraries and the worker log by the standard library takes the same way and looks the
    same; of libraries only warnings are told. Calling it again replaces what was set up before.

    Parameters
    ----------
    settings
        ``log_level``, ``log_format``, ``otlp_endpoint``.
    process
        ``serve`` or ``worker``: stands in every line and span.
    """
    level = getattr(logging, settings.log_level.upper())
    stream = sys.stderr
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=stream.isatty())
    )
    chain: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _named(process),  # not by context: threads do not inherit it
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*chain, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    _take_in_standard_logs(stream, level, chain, renderer)
    if settings.otlp_endpoint:
        provider = TracerProvider(resource=Resource.create({"service.name": f"bihuan-{process}"}))
        provider.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.otlp_endpoint))
        )
        trace.set_tracer_provider(provider)


class _StandardLogs(logging.StreamHandler[TextIO]):
    """Our own handler, known by its class."""


def _take_in_standard_logs(
    stream: TextIO,
    level: int,
    chain: Sequence[structlog.typing.Processor],
    renderer: structlog.typing.Processor,
) -> None:
    handler = _StandardLogs(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*chain, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    for before in [one for one in root.handlers if isinstance(one, _StandardLogs)]:
        root.removeHandler(before)
    root.addHandler(handler)
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger("bihuan").setLevel(level)


def _named(process: str) -> structlog.typing.Processor:
    def name(
        logger: object, method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        del logger, method
        event["process"] = process
        return event

    return name
