"""What a run amounts to: `report.json` for programs, `report.html` for people.

Frames are counted from the ledgers, never from telemetry: the report is true of what is on the disk, also of
a run that goes on, was cut short or failed.
"""

from pipeline.lifecycle.report.text import report_text
from pipeline.lifecycle.report.write import make_report, write_report

__all__ = ["make_report", "report_text", "write_report"]
