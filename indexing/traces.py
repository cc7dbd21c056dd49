"""
Where a piece of work comes from: the caller's request id and the trace, through calls, queue, logs and metrics.

Spans are made only below one that records: without tracing they cost a look at the context, and what nobody asked for
(polling, duties) makes none. OpenTelemetry is configured by its own standard variables.
"""

import contextlib
import time
from collections.abc import Iterator

import structlog
from opentelemetry import trace
from opentelemetry.trace.propagation import tracecontext

REQUEST = "request_id"
NONE = "-"
"""Stands for a request id that there is none of."""
_TRACER = trace.get_tracer("discord-channel-indexer")
_FORMAT = tracecontext.TraceContextTextMapPropagator()


def configure(service: str) -> None:
    """Send spans to where OTEL_EXPORTER_OTLP_ENDPOINT says; *service* is the name unless OTEL_SERVICE_NAME says one."""
    # The SDK takes longer to import than the rest of a small process, and is off by default.
    from opentelemetry.exporter.otlp.proto.http import trace_exporter  # noqa: PLC0415 -- see above
    from opentelemetry.sdk import resources  # noqa: PLC0415 -- see above
    from opentelemetry.sdk import trace as sdk  # noqa: PLC0415 -- see above
    from opentelemetry.sdk.trace import export  # noqa: PLC0415 -- see above

    named = resources.Resource.create()
    if str(named.attributes.get("service.name", "")).startswith("unknown_service"):
        named = named.merge(resources.Resource({"service.name": service}))
    provider = sdk.TracerProvider(resource=named)
    provider.add_span_processor(export.BatchSpanProcessor(trace_exporter.OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


@contextlib.contextmanager
def serving(name: str, carried: str = "", kind: trace.SpanKind = trace.SpanKind.SERVER) -> Iterator[None]:
    """Begin a piece of work that somebody asked for: *carried* is what `carry` gave there, or a traceparent."""
    request, _, parent = carried.rpartition(" ")
    above = _FORMAT.extract({"traceparent": parent}) if parent else None
    bound = {REQUEST: request} if request not in {"", NONE} else {}
    with (
        structlog.contextvars.bound_contextvars(**bound),
        _TRACER.start_as_current_span(name, context=above, kind=kind),
    ):
        yield


def carry() -> str:
    """Return what `serving` needs to go on elsewhere with the present work; empty when there is nothing."""
    request = structlog.contextvars.get_contextvars().get(REQUEST, "")
    carrier: dict[str, str] = {}
    _FORMAT.inject(carrier)
    parent = carrier.get("traceparent", "")
    return f"{request or NONE} {parent}" if request or parent else ""


@contextlib.contextmanager
def span(name: str, kind: trace.SpanKind = trace.SpanKind.CLIENT) -> Iterator[trace.Span]:
    """Make a span around a part of the present work."""
    present = trace.get_current_span()
    if not present.is_recording():
        yield present
        return
    with _TRACER.start_as_current_span(name, kind=kind) as made:
        yield made


def record(name: str, seconds: float) -> None:
    """Make a span of a part of the present work that has just ended."""
    if trace.get_current_span().is_recording():
        now = time.time_ns()
        _TRACER.start_span(name, kind=trace.SpanKind.CLIENT, start_time=now - int(seconds * 1e9)).end(now)


def exemplar() -> dict[str, str] | None:
    """Return what links a measurement to the present trace; None when it is not recorded."""
    present = trace.get_current_span().get_span_context()
    if not present.is_valid or not present.trace_flags.sampled:
        return None
    return {"trace_id": trace.format_trace_id(present.trace_id)}
