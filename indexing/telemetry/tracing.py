"""
Where a piece of work comes from: the caller's request id and the trace, through calls, queue, logs and metrics.

Spans are made only below one that records: without tracing they cost a look at the context, and what nobody asked for
(polling, duties) makes none. OpenTelemetry is configured by its own standard variables.
"""

import contextlib
import contextvars
import time
from collections.abc import Iterator, Mapping
from types import TracebackType

from opentelemetry import trace
from opentelemetry.trace.propagation import tracecontext

REQUEST = "request_id"
NONE = "-"
"""Stands for a request id that there is none of."""
_FIELDS: contextvars.ContextVar[Mapping[str, object]] = contextvars.ContextVar("fields", default={})  # noqa: B039 -- read only
_TRACER = trace.get_tracer("discord-channel-indexer")
_FORMAT = tracecontext.TraceContextTextMapPropagator()
_NOTHING = contextlib.nullcontext()


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


class bound:  # noqa: N801 -- used like the functions beside it; a generator would cost a short call a tenth
    """Add fields to what is known of the present work, in the block and in tasks that it starts."""

    __slots__ = ("_fields", "_token")

    def __init__(self, **fields: object) -> None:
        self._fields = fields

    def __enter__(self) -> None:
        """Begin."""
        self._token = _FIELDS.set({**_FIELDS.get(), **self._fields})

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, where: TracebackType | None
    ) -> None:
        """Forget them."""
        _FIELDS.reset(self._token)


def fields() -> Mapping[str, object]:
    """Return what is known of the present work."""
    return _FIELDS.get()


def is_enabled() -> bool:
    """Return whether spans may be recorded at all."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@contextlib.contextmanager
def continue_trace(name: str, carried: str = "", kind: trace.SpanKind = trace.SpanKind.SERVER) -> Iterator[None]:
    """Begin a piece of work that somebody asked for: *carried* is what `carry` gave there."""
    request, _, parent = carried.rpartition(" ")
    known = {REQUEST: request} if request not in {"", NONE} else {}
    with bound(**known), start_child_span(parent, name, kind):
        yield


def start_child_span(
    parent: str, name: str, kind: trace.SpanKind = trace.SpanKind.SERVER
) -> contextlib.AbstractContextManager[object]:
    """Make a span below that of a traceparent, or the first of a trace; nothing when there is neither to go on with."""
    if parent:
        return _TRACER.start_as_current_span(name, context=_FORMAT.extract({"traceparent": parent}), kind=kind)
    return _TRACER.start_as_current_span(name, context=None, kind=kind) if is_enabled() else _NOTHING


def serialize_context() -> str:
    """Return what `serving` needs to go on elsewhere with the present work; empty when there is nothing."""
    request = _FIELDS.get().get(REQUEST, "")
    carrier: dict[str, str] = {}
    _FORMAT.inject(carrier)
    parent = carrier.get("traceparent", "")
    return f"{request or NONE} {parent}" if request or parent else ""


def span(name: str, kind: trace.SpanKind = trace.SpanKind.CLIENT) -> contextlib.AbstractContextManager[trace.Span]:
    """Make a span around a part of the present work."""
    present = trace.get_current_span()
    if not present.is_recording():
        return contextlib.nullcontext(present)
    return _TRACER.start_as_current_span(name, kind=kind, attributes=_attributes())


def record_span(server: str, seconds: float, what: str = "") -> None:
    """Make a span, named by server and what it did, of a part of the present work that has just ended."""
    if trace.get_current_span().is_recording():
        now = time.time_ns()
        name = f"{server} {what}".rstrip()
        begun = now - int(seconds * 1e9)
        _TRACER.start_span(name, kind=trace.SpanKind.CLIENT, start_time=begun, attributes=_attributes()).end(now)


def _attributes() -> dict[str, str]:
    """Return what a span says of whose work it is: the job, the guild, as in log lines."""
    return {name: str(value) for name, value in _FIELDS.get().items()}


def exemplar() -> dict[str, str] | None:
    """Return what links a measurement to the present trace; None when it is not recorded."""
    present = trace.get_current_span().get_span_context()
    if not present.is_valid or not present.trace_flags.sampled:
        return None
    return {"trace_id": trace.format_trace_id(present.trace_id)}
