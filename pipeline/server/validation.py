"""Is an experiment all right, and what will it need? Asked before anything moves."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from pipeline.errors import LivephaseError
from pipeline.experiment import Problem, experiment_problems, read_experiment
from pipeline.instrument import resolve_calibration, resolve_exposures
from pipeline.lifecycle.preflight import check_calibration, check_disk, estimate
from pipeline.server.home import Home
from pipeline.server.models import Example, FieldProblem, Verdict


def verdict(text: str, home: Home) -> Verdict:
    """What is wrong with an experiment's YAML, key by key, or what its run will need."""
    problems = experiment_problems(text, home.experiments)
    if problems:
        return Verdict(ok=False, errors=[_field(p) for p in problems])
    try:
        experiment = resolve_exposures(read_experiment(text, home.experiments))
        need = estimate(experiment, home.runs)
        check_disk(need)
        remarks = check_calibration(experiment, resolve_calibration(experiment))
    except LivephaseError as error:
        return Verdict(ok=False, errors=[FieldProblem(path="", message=str(error))])
    return Verdict(
        ok=True,
        needs=need.as_dict(),
        text=need.text().splitlines(),
        warnings=[*need.warnings, *remarks],
    )


def _field(problem: Problem) -> FieldProblem:
    """At the key that is unknown, where one is: that is what has to be changed."""
    path = ".".join(part for part in (problem.path, problem.key) if part)
    return FieldProblem(path=path, message=problem.message, line=problem.line)


def examples(home: Home) -> list[Example]:
    """The demonstrations that come with livephase, and the experiments that were run here."""
    packaged = resources.files("pipeline") / "demos"
    found = [
        _example(file.name.removesuffix(".yaml"), file.read_text(encoding="utf-8"))
        for file in sorted(packaged.iterdir(), key=lambda f: f.name)
        if file.name.endswith(".yaml")
    ]
    kept = [p for p in home.experiments.glob("*.yaml") if not p.name.startswith(".")]
    own = sorted(kept, key=lambda p: -p.stat().st_mtime)
    return found + [_example(path.stem, _read(path)) for path in own[:50]]


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _example(name: str, text: str) -> Example:
    titles = [
        line.removeprefix("name:").strip() for line in text.splitlines() if line.startswith("name:")
    ]
    return Example(name=name, title=titles[0] if titles else name, yaml=text)
