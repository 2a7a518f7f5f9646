"""The counters as Prometheus metrics, on this machine only unless told otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from wsgiref.simple_server import WSGIServer

import numpy as np
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from pipeline.errors import LivephaseError
from pipeline.telemetry.block import Telemetry
from pipeline.telemetry.metrics import BOUNDS_S, EXPORT_EVERY, METRICS, Metric


class TelemetryCollector(Collector):
    """Reads the shared counters at each scrape. Every name is there from the first one on."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def collect(self) -> Iterable[Family]:
        """All metrics, one family after the other."""
        families: dict[str, Family] = {}
        for metric in METRICS:
            family = families.get(metric.exported)
            if family is None:
                family = families[metric.exported] = _empty(metric)
            self._fill(family, metric)
        return families.values()

    def _fill(self, family: Family, metric: Metric) -> None:
        telemetry = self._telemetry
        if isinstance(family, HistogramMetricFamily):
            histogram = telemetry.histogram(metric.name)
            below = np.cumsum(histogram.counts)
            buckets = [
                (f"{BOUNDS_S[i]:.3g}", float(below[i]))
                for i in range(0, len(BOUNDS_S), EXPORT_EVERY)
            ]
            family.add_metric([], [*buckets, ("+Inf", float(below[-1]))], histogram.sum_s)
        elif isinstance(family, CounterMetricFamily | GaugeMetricFamily):
            for labels, value in self._samples(metric):
                family.add_metric(labels, value)

    def _samples(self, metric: Metric) -> Iterable[tuple[list[str], float]]:
        if metric.per_stage:
            for stage, value in self._telemetry.by_stage(metric.name).items():
                yield [stage], value
        elif metric.states:
            now = self._telemetry.value(metric.name)
            for index, state in enumerate(metric.states):
                yield [state], float(index == now)
        else:
            counter = metric.kind == "counter"
            read = self._telemetry.total if counter else self._telemetry.value
            yield [value for _, value in metric.labels], float(read(metric.name))


def _empty(metric: Metric) -> Family:
    labels = [name for name, _ in metric.labels]
    if metric.per_stage:
        labels = ["stage"]
    elif metric.states:
        labels = ["state"]
    if metric.kind == "counter":
        return CounterMetricFamily(metric.exported, metric.help, labels=labels)
    if metric.kind == "gauge":
        return GaugeMetricFamily(metric.exported, metric.help, labels=labels)
    return HistogramMetricFamily(metric.exported, metric.help, labels=labels)


def serve_metrics(
    telemetry: Telemetry, port: int, addr: str = "127.0.0.1"
) -> tuple[WSGIServer, int]:
    """Serve the metrics from a daemon thread.

    Parameters
    ----------
    port
        0: any free one.

    Returns
    -------
    server, port
        To be ended by ``server.shutdown()`` and ``server.server_close()``, before the telemetry
        is closed.

    Raises
    ------
    LivephaseError
        If the port is in use.
    """
    # A registry of our own: the default one holds this process's memory and garbage, not the run's.
    registry = CollectorRegistry()
    registry.register(TelemetryCollector(telemetry))
    try:
        server, _ = start_http_server(port, addr, registry)
    except OSError as error:
        raise LivephaseError(
            f"can't serve metrics on {addr}:{port} ({error})",
            "choose another output.prometheus_port, or 0 for any free one",
        ) from error
    return server, server.server_port
