"""What a run counts: shared memory that the stages write and one exporter reads.

A number that a killed process wrote stays readable, and its successor goes on counting from it.
Reports count from the ledgers; this is for watching.
"""

from pipeline.telemetry.block import StageWriter, Telemetry
from pipeline.telemetry.exporter import TelemetryCollector, serve_metrics
from pipeline.telemetry.metrics import METRICS, Metric

__all__ = ["METRICS", "Metric", "StageWriter", "Telemetry", "TelemetryCollector", "serve_metrics"]
