"""`/metrics`: the counters of the run that goes on, and what the service says of itself.

Every name is there before the first run, so that alerts and dashboards work from the start.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pipeline import __version__
from pipeline.server.service import Service
from pipeline.telemetry import Telemetry, TelemetryCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class ServiceCollector(Collector):
    """Of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._nothing = Telemetry.alone()

    def collect(self) -> Iterable[Metric]:
        """All metrics."""
        watch = self._service.watch
        telemetry = None if watch is None else watch.telemetry()
        yield from TelemetryCollector(telemetry or self._nothing).collect()
        yield GaugeMetricFamily(
            "livephase_page_clients", "Pages that are open.", self._service.clients
        )
        yield GaugeMetricFamily(
            "livephase_run_in_progress", "1 while a run goes on.", float(self._service.run_goes_on)
        )
        info = InfoMetricFamily("livephase_service", "The service.")
        info.add_metric([], {"version": __version__})
        yield info


class Metrics:
    """Rendered at each scrape."""

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(ServiceCollector(service))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self._registry)
