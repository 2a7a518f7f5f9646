"""What made a run: software, weights, machine, experiment; and how to speak of it elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any

from pipeline.experiment import Experiment, dump_experiment
from pipeline.lifecycle.report.html import facts, folded
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunFolder
from pipeline.wording import clock

_WORDS = {
    "residual": "The <b>residual</b> is the reduced χ² of the light that the image predicts, held against the light "
    "that was measured: 1 means that nothing but the camera's noise is left, 3 that three times as much is. It finds "
    "dust, saturation, a wrong pattern and foreign detail; it hardly sees a wrong focus or wavelength, which change "
    "the scale of the phase and not its shape.",
    "scale": "The <b>scale uncertainty</b> is what the calibration of focus and light leaves open: every phase value "
    "may be wrong by this factor, all together. “Not known” means what it says: compare with a target of known height.",
    "zero": "Phase is zero in the background of each image, and unwrapped; only differences mean something.",
    "missing": "A missing frame is recorded with its reason and never filled in. An image made in spite of one says so "
    "by its valid share.",
    "truth": "Figures against the simulator's truth say how well the method does on what was simulated, and nothing "
    "about a real specimen.",
}


def provenance(folder: RunFolder, experiment: Experiment) -> dict[str, Any]:
    """The keys of `report.json` that say what the run was made with."""
    info = folder.info()
    return {
        "created_utc": info.get("created_utc"),
        "versions": info.get("versions", {}),
        "machine": info.get("machine") or {"system": info.get("system")},
        "weights_sha256": info.get("weights_sha256"),
        "fingerprint": experiment.fingerprint(),
        "source": info.get("source"),
    }


def made_with_html(report: dict[str, Any]) -> str:
    """Versions, weights and machine."""
    machine = report["machine"]
    rows = [
        (name, f"<code>{escape(str(version))}</code>")
        for name, version in report["versions"].items()
    ]
    weights = report["weights_sha256"]
    if report["method"] != "none":
        rows.append(
            (
                "weights, sha256",
                f'<code class="long">{escape(weights)}</code>'
                if weights
                else "the method has none",
            )
        )
    rows.append(
        (
            "fingerprint of the experiment",
            f'<code class="long">{report["fingerprint"]}</code>',
        )
    )
    for name, value in machine.items():
        if value:
            rows.append((_MACHINE.get(name, name), escape(_machine_value(name, value))))
    return facts(rows)


_MACHINE = {"memory_bytes": "memory", "cores": "processor cores", "gpus": "GPU"}


def _machine_value(name: str, value: Any) -> str:
    if name == "memory_bytes":
        return f"{value / 2**30:.1f} GiB"
    return ", ".join(value) if isinstance(value, list) else str(value)


def experiment_html(experiment: Experiment) -> str:
    """The experiment as it was resolved, folded."""
    text = dump_experiment(experiment)
    return folded(f"experiment.yaml, {text.count(chr(10))} lines", f"<pre>{escape(text)}</pre>")


def trust_words(report: dict[str, Any]) -> str:
    """What the figures mean, for somebody who meets them for the first time."""
    wanted = ["missing"]
    if report["reconstructed"]:
        wanted = ["residual", "scale", "zero", "missing"]
    if report.get("quality"):
        wanted.append("truth")
    return "".join(f"<p>{_WORDS[name]}</p>" for name in wanted)


def citing_html(experiment: Experiment, reader: RunReader, report: dict[str, Any]) -> str:
    """Sentences for a methods section, with this run's figures in."""
    plan, optics = reader.plan, experiment.optics
    version = report["versions"].get("livephase", "?")
    simulated = experiment.microscope.driver == "simulator"
    sentences = [
        f"{'Simulated' if simulated else 'Recorded'} frames of {plan.frame_shape[0]} × {plan.frame_shape[1]} pixels "
        f"(λ = {optics.wavelength_um:g} µm, NA {optics.numerical_aperture:g}, {optics.magnification:g}×) were acquired "
        f"and stored with livephase {version} (started {clock(report['created_utc'])})."
    ]
    if report["reconstructed"]:
        weights = report["weights_sha256"]
        with_weights = f", weights sha256 {weights[:16]}…" if weights else ""
        sentences.append(
            f"{report['reconstructed']:,} phase images of {reader.phase_pixel_um():.4g} µm pixels were reconstructed "
            f"by its method {report['method']}{with_weights}."
        )
        if report["residual"] is not None:
            sentences.append(f"The median residual (reduced χ²) was {report['residual']:.3g}.")
    sentences.append(
        f"{report['written']:,} of {report['planned']:,} planned frames were stored, {report['missing']:,} were lost "
        "and are marked as such."
    )
    sentences.append(f"The experiment's fingerprint is {report['fingerprint'][:16]}….")
    text = escape(" ".join(sentences))
    return f'<p class="note">For a methods section:</p><pre class="prose">{text}</pre>'
