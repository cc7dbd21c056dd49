"""
Context of the current work: log fields and trace, carried through calls, the queue, logs and metrics.

Spans are created only below a span that records: without tracing they cost one context lookup, and background tasks
create none. OpenTelemetry is configured by its own standard variables.
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
"""Placeholder for a missing request id."""
_FIELDS: contextvars.ContextVar[Mapping[str, object]] = contextvars.ContextVar("fields", default={})  # noqa: B039 -- read only
_TRACER = trace.get_tracer("discord-channel-indexer")
_FORMAT = tracecontext.TraceContextTextMapPropagator()
_NOTHING = contextlib.nullcontext()
_PROVIDERS: list[trace.TracerProvider] = []
"""What records spans: one, or none. The library would look into the environment at each call."""


def configure(service: str) -> None:
    """Export spans to OTEL_EXPORTER_OTLP_ENDPOINT, as OTEL_SERVICE_NAME or else *service*."""
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
    use(provider)


def use(provider: trace.TracerProvider) -> None:
    """Record spans with a provider, the first one of the process."""
    trace.set_tracer_provider(provider)
    _PROVIDERS.append(provider)


class bound:  # noqa: N801 -- used like the functions of this module
    """
    Add log fields to the current context, for the block and the tasks that it starts.

    `structlog.contextvars.bound_contextvars` costs a short gRPC call 5 to 8 % more CPU (measured with grpcio 1.85).
    """

    __slots__ = ("_fields", "_token")

    def __init__(self, **fields: object) -> None:
        self._fields = fields

    def __enter__(self) -> None:
        """Add the fields."""
        self._token = _FIELDS.set({**_FIELDS.get(), **self._fields})

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, where: TracebackType | None
    ) -> None:
        """Remove the fields."""
        _FIELDS.reset(self._token)


def add(**fields: object) -> None:
    """Add log fields to the current context, until the enclosing `bound` ends."""
    _FIELDS.set({**_FIELDS.get(), **fields})


def fields() -> Mapping[str, object]:
    """Return the log fields of the current context."""
    return _FIELDS.get()


@contextlib.contextmanager
def continue_trace(name: str, serialized: str = "", kind: trace.SpanKind = trace.SpanKind.SERVER) -> Iterator[None]:
    """Restore a context that `serialize_context` returned, in this or another process, and start a span in it."""
    request_id, _, parent = serialized.rpartition(" ")
    restored = {REQUEST: request_id} if request_id not in {"", NONE} else {}
    with bound(**restored), start_child_span(parent, name, kind):
        yield


def start_child_span(
    parent: str, name: str, kind: trace.SpanKind = trace.SpanKind.SERVER
) -> contextlib.AbstractContextManager[object]:
    """Start a span below a traceparent, or a root span without one. With neither parent nor tracing, do nothing."""
    if parent:
        return _TRACER.start_as_current_span(name, context=_FORMAT.extract({"traceparent": parent}), kind=kind)
    return _TRACER.start_as_current_span(name, context=None, kind=kind) if _PROVIDERS else _NOTHING


def serialize_context() -> str:
    """Return the current context for `continue_trace`, empty without any."""
    request_id = _FIELDS.get().get(REQUEST, "")
    carrier: dict[str, str] = {}
    _FORMAT.inject(carrier)
    parent = carrier.get("traceparent", "")
    return f"{request_id or NONE} {parent}" if request_id or parent else ""


def span(name: str, kind: trace.SpanKind = trace.SpanKind.CLIENT) -> contextlib.AbstractContextManager[trace.Span]:
    """Start a span around a part of the current work."""
    current = trace.get_current_span()
    if not current.is_recording():
        return contextlib.nullcontext(current)
    return _TRACER.start_as_current_span(name, kind=kind, attributes=_attributes())


def record_span(server: str, seconds: float, operation: str = "") -> None:
    """Record a span, named by server and operation, for a call that has just ended after *seconds*."""
    if trace.get_current_span().is_recording():
        now = time.time_ns()
        name = f"{server} {operation}".rstrip()
        started = now - int(seconds * 1e9)
        _TRACER.start_span(name, kind=trace.SpanKind.CLIENT, start_time=started, attributes=_attributes()).end(now)


def _attributes() -> dict[str, str]:
    """Return the log fields as span attributes."""
    return {name: str(value) for name, value in _FIELDS.get().items()}


def exemplar() -> dict[str, str] | None:
    """Return the exemplar that links a measurement to the current trace; None when the trace is not sampled."""
    current = trace.get_current_span().get_span_context()
    if not current.is_valid or not current.trace_flags.sampled:
        return None
    return {"trace_id": trace.format_trace_id(current.trace_id)}
