"""Traces, if OpenTelemetry is installed and on: each call of a listener is a span.

Its parent is the span that emitted the event, in this process or another one: a published event
carries that span, as CloudEvents' distributed tracing extension says.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from app import bus
from app.events import Event
from app.messaging.cloudevents import trace as carried

try:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    trace = None  # type: ignore[assignment]


class Tracing(bus.Middleware):
    def emitted(self, event: Event) -> None:
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)
        carried.set(carrier)

    async def dispatch(self, call_next: bus.CallNext, listener: bus.Listener, event: Event) -> Any:
        context, kind = None, trace.SpanKind.INTERNAL
        if not trace.get_current_span().get_span_context().is_valid:  # it came from a broker
            context = TraceContextTextMapPropagator().extract(carrier := carried.get() or {})
            kind = trace.SpanKind.CONSUMER if carrier else kind
        name = f"{type(event).__name__} {bus.name_of(listener)}"
        with trace.get_tracer("app").start_as_current_span(name, context, kind):
            return await call_next(event)


def traced() -> AbstractContextManager[None]:
    """Trace what happens while the block runs, if a tracer provider is set."""
    on = trace and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    return Tracing() if on else nullcontext()
