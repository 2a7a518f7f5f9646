"""The report in a few lines, for the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.lifecycle.report.calibration import calibration_line
from pipeline.lifecycle.report.control import control_line
from pipeline.lifecycle.report.light import light_line
from pipeline.lifecycle.report.trust import trust_lines
from pipeline.store.run_folder import RunState
from pipeline.wording import figure


def report_text(
    folder: Path, state: RunState, report: dict[str, Any], page: Path | None = None
) -> str:
    """The lines, each a subject; the last names the page, `report.html` in the folder if not given."""
    lines = [
        f"run {state.value}: {folder}",
        f"  frames   planned {report['planned']}  written {report['written']}  missing {report['missing']}"
        + (f"  pending {report['pending']}" if report["pending"] else "")
        + (f"  taken again {report['reacquired']}" if report["reacquired"] else ""),
    ]
    if report["reconstructed"]:
        p50, p99 = report["latency_ms"]["p50"], report["latency_ms"]["p99"]
        latency = f"  latency {p50:.0f} ms (p99 {p99:.0f} ms)" if p50 is not None else ""
        first = report["first_result_s"]
        after = f", the first after {first:.1f} s" if first is not None else ""
        lines.append(f"  phase    {report['reconstructed']} images{after}{latency}")
    quality = report.get("quality")
    if quality:
        lines.append(
            f"  quality  SSIM {figure(quality['ssim'], '.3f')}  "
            f"PSNR {figure(quality['psnr_db'], '.1f', ' dB')}  "
            f"RMSE {figure(quality['rmse_rad'], '.3f', ' rad')} against the simulator's truth"
        )
    lines += [f"  {line}" for line in trust_lines(report)]
    lines.append(f"  light    {light_line(report)}")
    lines += [f"  control  {line}"] if (line := control_line(report)) else []
    lines.append(f"  calibration {calibration_line(report['calibration'])}")
    lines.append(f"  report   {page or folder / 'report.html'}")
    return "\n".join(lines)
