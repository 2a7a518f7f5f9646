"""A calibration session: the steps that an experiment needs, one after the other, each kept as soon as it is measured.

folder locked ─► for each step: subject under the objective ─► measured ─► saved
                                    │ refused: said with its fix; what rests on it is left out
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from math import isclose
from pathlib import Path

from drivers.taking import Microscope
from pipeline.calibrate.history import CalibrationFolder
from pipeline.calibrate.nominal_light import brightfield_channels, lit_channels
from pipeline.calibrate.registry import STEPS, open_step
from pipeline.calibrate.result import Answer, Outcome, SessionResult, StepResult
from pipeline.calibrate.step import CalibrationRefusedError, Finding, Step, Subject
from pipeline.calibration import Calibration
from pipeline.errors import DriverError, ExperimentError, LivephaseError
from pipeline.experiment import (
    Experiment,
    MicroManagerMicroscope,
    ReplayMicroscope,
    load_experiment,
)
from pipeline.instrument import (
    apply_exposures,
    check_fit,
    conditions,
    missing_aspects,
    overview,
)
from pipeline.stages.interrupt import ended_like_ctrl_c

REQUESTS: dict[Subject, str] = {
    "empty field": "put an empty field under the objective (the same dish and medium, no cells), in focus",
    "specimen": "put a specimen under the objective, in focus: cells that do not fill the field",
    "grating": "put the grating or ruler under the objective, in focus",
}

# An exposure that moved by more than this makes a dark that was measured before it one of other conditions.
_SAME = 0.01
# With more of another frame's light than this, what is measured with a channel is not the channel's.
_FOREIGN_LIGHT = 0.1


def calibrate(
    experiment: Experiment | Path | str,
    out: Path | str | None = None,
    *,
    steps: Sequence[str] = (),
    options: Mapping[str, Mapping[str, str]] | None = None,
    ask: Callable[[str], Answer] | None = None,
    say: Callable[[str], None] | None = None,
) -> SessionResult:
    """Measure what an experiment's results rest on, and keep it.

    Parameters
    ----------
    experiment
        Which microscope, light and channels; or the path of its file.
    out
        The calibration folder; that of ``calibration.folder`` if not given. What it holds of other steps stays,
        and what it held before this session is kept in its history.
    steps
        Which, in the session's own order; all that the experiment has a use for if empty.
    options
        Step → option → value as text.
    ask
        Called with a request ("put an empty field under the objective") before each change of subject. Without
        it nobody is asked: the subject is taken to be there, which a simulator sees to by itself.
    say
        Called with each line for the person who waits.

    Raises
    ------
    LivephaseError
        If the session can't begin, or the microscope fails; what was measured is kept. A step that refuses its
        data raises nothing: it is in the result.
    """
    if not isinstance(experiment, Experiment):
        experiment = load_experiment(Path(experiment))
    folder = CalibrationFolder(_folder(experiment, out))
    opened = _open_steps(steps, options or {})
    with folder.lock():
        known = _of_this_instrument(experiment, folder, say or _nobody, anew=not steps)
        with ended_like_ctrl_c(), Microscope(experiment) as microscope:
            running = _Session(experiment, folder, microscope, known, ask or _ready, say or _nobody)
            return running.run(opened, guided=not steps, options=options or {})


class _Session:
    """The state of one session."""

    def __init__(
        self,
        experiment: Experiment,
        folder: CalibrationFolder,
        microscope: Microscope,
        known: Calibration,
        ask: Callable[[str], Answer],
        say: Callable[[str], None],
    ) -> None:
        self._asked_for = experiment
        self._folder = folder
        self._microscope = microscope
        self._known = known
        self._ask = ask
        self._say = say
        self._subject: Subject = "anything"
        self._kept = False  # what was there before this session
        self._results: dict[str, StepResult] = {}

    def run(
        self, steps: Sequence[Step], *, guided: bool, options: Mapping[str, Mapping[str, str]]
    ) -> SessionResult:
        """Every step in its order; `guided`: those that the experiment has a use for."""
        stopped = False
        try:
            for step in steps:
                result = self._attempt(step, steps, self._needless(step, guided, options))
                if result is None:
                    stopped = True
                    break
                self._note(step, result)
                if step.name == "exposure" and result.outcome is Outcome.MEASURED:
                    self._dark_again(steps)
        except KeyboardInterrupt:
            # The shot has put the light out on its way here.
            self._say("stopped: the light is off, what was measured is kept")
            stopped = True
        except DriverError:
            if self._kept:
                self._say(f"what was measured is kept in {self._folder.path}")
            raise
        missing = missing_aspects(self._experiment(), self._known)
        return SessionResult(self._folder.path, self._known, dict(self._results), missing, stopped)

    def _experiment(self) -> Experiment:
        """As the run will take it: with the balanced exposures, where it asks for them."""
        if self._asked_for.calibration.exposures != "calibrated":
            return self._asked_for
        return apply_exposures(self._asked_for, self._known)

    def _needless(
        self, step: Step, guided: bool, options: Mapping[str, Mapping[str, str]]
    ) -> StepResult | None:
        """What becomes of a step that is of no use here; None if it is of some."""
        reason = step.needed(self._asked_for)
        if reason is None and not self._can_be_had(step.name):
            reason = "a recording has only the frames that it has"
        tool = STEPS[step.name].tool
        if reason is not None and not guided:
            return _refused(f"{step.name} is of no use here: {reason}", "leave it out")
        if reason is None and guided and tool and tool[0] not in options.get(step.name, {}):
            reason = tool[1]
        return None if reason is None else StepResult(Outcome.NOT_NEEDED, reason)

    def _attempt(
        self, step: Step, steps: Sequence[Step], needless: StepResult | None
    ) -> StepResult | None:
        """Measure it if it can be; None if the person ends the session."""
        self._say(f"\n{step.name}: {step.purpose}")
        unmeasured = needless or self._obstacle(step, steps)
        if unmeasured is not None:
            return unmeasured
        answer = self._change_subject(self._subject_of(step))
        if answer is Answer.READY:
            return self._measure(step)
        return None if answer is Answer.STOP else StepResult(Outcome.SKIPPED, "by the user")

    def _obstacle(self, step: Step, steps: Sequence[Step]) -> StepResult | None:
        """What becomes of a step that rests on something unknown; None if nothing is in its way."""
        lacking = [name for name in STEPS[step.name].after if not self._have(name)]
        if not lacking:
            return None
        reason = f"it rests on {' and '.join(lacking)}"
        if lacking[0] in {other.name for other in steps}:
            return StepResult(Outcome.SKIPPED, reason)
        return _refused(f"{step.name} can't be measured yet, {reason}", f"add {lacking[0]}")

    def _have(self, name: str) -> bool:
        """Whether what a step rests on is known, by this session or one before."""
        if name == "timing":
            return _shows_its_own_light(self._known)
        result = self._results.get(name)
        needless = result is not None and result.outcome is Outcome.NOT_NEEDED
        if needless or not self._can_be_had(name):
            return True
        return name in {aspect.step for aspect in overview(self._known)}

    def _can_be_had(self, name: str) -> bool:
        """Whether this microscope can take the frames of a step at all."""
        recording = isinstance(self._asked_for.microscope, ReplayMicroscope)
        return STEPS[name].recorded or not recording

    def _dark_again(self, steps: Sequence[Step]) -> None:
        """Measure the dark once more where the run will not have the exposures that it was measured with."""
        lights = self._experiment().illumination.channels
        moved = [
            name
            for name, exposure_ms in self._known.exposure_ms.items()
            if name in lights and not isclose(lights[name].exposure_ms, exposure_ms, rel_tol=_SAME)
        ]
        dark = next((step for step in steps if step.name == "dark"), None)
        if not moved or dark is None or dark.name not in self._known.steps:
            return
        self._say("\ndark: once more, with the exposures that were found")
        self._note(dark, self._measure(dark))

    def _subject_of(self, step: Step) -> Subject:
        """What has to lie there. Backgrounds are as well seen without a specimen: that spares two changes."""
        if step.name != "exposure":
            return step.subject
        lit = lit_channels(self._asked_for)
        bright = brightfield_channels(self._asked_for, self._known)
        return "empty field" if bright == lit else step.subject

    def _change_subject(self, subject: Subject) -> Answer:
        """Have the right thing put under the objective, once for all steps in a row that need it."""
        # A simulator has every subject, a recording the one it has.
        there = not isinstance(self._asked_for.microscope, MicroManagerMicroscope)
        if there or subject in ("anything", self._subject):
            return Answer.READY
        answer = self._ask(REQUESTS[subject])
        if answer is Answer.READY:
            self._subject = subject
        return answer

    def _measure(self, step: Step) -> StepResult:
        try:
            finding = step.measure(self._microscope, self._experiment(), self._known)
        except DriverError:
            raise
        except LivephaseError as error:
            return StepResult(Outcome.REFUSED, error=error)
        finally:
            for message in self._microscope.driver.messages():
                self._say(f"  {message}")
        self._keep(step, finding)
        return StepResult(Outcome.MEASURED, finding.summary, finding.warnings, finding.figures)

    def _keep(self, step: Step, finding: Finding) -> None:
        """Add to the finding how it came about, and save it."""
        now = time.time()
        entry = {
            "time_utc": round(now, 3),
            "livephase": version("livephase"),
            "experiment": self._asked_for.name,
            "camera": self._microscope.camera.name,
            "conditions": conditions(self._experiment()),
            "summary": finding.summary,
            "figures": finding.figures,
            "warnings": list(finding.warnings),
        }
        camera = self._microscope.camera.name or self._asked_for.microscope.driver
        when = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M UTC")
        calibration = replace(
            finding.calibration,
            steps={**finding.calibration.steps, step.name: entry},
            source=f"livephase calibrate, {when}, {_user()}, camera {camera}, "
            f"experiment '{self._asked_for.name}'",
        )
        if not self._kept:
            self._folder.keep()
            self._kept = True
        try:
            calibration.save(self._folder.path)
        except KeyboardInterrupt:
            # Two files make a calibration: both of this step, or both of the one before.
            calibration.save(self._folder.path)
            raise
        finally:
            self._known = calibration

    def _note(self, step: Step, result: StepResult) -> None:
        """Remember what became of a step, and tell it."""
        self._results[step.name] = result
        if result.error is not None:
            self._say(f"  refused: {result.error}")
        elif result.outcome in (Outcome.SKIPPED, Outcome.NOT_NEEDED):
            self._say(f"  left out: {result.summary}")
        elif result.outcome is Outcome.MEASURED:
            self._say(f"  {result.summary}")
        for warning in result.warnings:
            self._say(f"  warning: {warning}")


def _shows_its_own_light(known: Calibration) -> bool:
    """Whether a frame shows its own channel, but for a little of the next; so until a test says otherwise."""
    if known.timing in (None, "in step"):
        return True
    figures = known.steps.get("timing", {}).get("figures", {})
    foreign = sum(abs(figures.get(name, 0.0)) for name in ("mixed_share", "rolling_share"))
    blended = all(fault.startswith(("mixed", "rolling")) for fault in str(known.timing).split("; "))
    return blended and foreign <= _FOREIGN_LIGHT


def _refused(cause: str, fix: str) -> StepResult:
    return StepResult(Outcome.REFUSED, error=CalibrationRefusedError(cause, fix))


def _open_steps(names: Sequence[str], options: Mapping[str, Mapping[str, str]]) -> list[Step]:
    """The steps in the session's order, with their options."""
    for name in (*names, *options):
        if name not in STEPS:
            open_step(name, {})  # raises, with the nearest name
    chosen = [name for name in STEPS if not names or name in names]
    idle = [name for name in options if name not in chosen]
    if idle:
        raise ExperimentError(
            f"an option is given for {idle[0]}, which is not among the steps",
            f"add the step {idle[0]}, or leave the option out",
        )
    return [open_step(name, dict(options.get(name, {}))) for name in chosen]


def _folder(experiment: Experiment, out: Path | str | None) -> Path:
    if out is not None:
        return Path(out)
    if experiment.calibration.folder is None:
        raise ExperimentError("the experiment names no calibration folder", "give --out FOLDER")
    return Path(experiment.calibration.folder)


def _of_this_instrument(
    experiment: Experiment, folder: CalibrationFolder, say: Callable[[str], None], *, anew: bool
) -> Calibration:
    """What the folder knows of this experiment's instrument.

    That of another instrument is refused, or left to the history where all is measured `anew`.
    """
    known = folder.load()
    try:
        for warning in check_fit(experiment, known):
            say(f"warning: {warning}")
    except ExperimentError as error:
        if not anew:
            raise ExperimentError(
                f"{folder.path} holds the calibration of another instrument: {error.cause}",
                "give another folder as --out, or calibrate without naming steps, which begins anew",
            ) from error
        say(f"the calibration in {folder.path} goes into its history: {error.cause}")
        return Calibration()
    return known


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        # A service account may have no name.
        return "unknown"


def _ready(_request: str) -> Answer:
    return Answer.READY


def _nobody(_line: str) -> None:
    pass
