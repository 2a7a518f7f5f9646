"""The acquire stage: a process that owns the microscope, and the light."""

from __future__ import annotations

from drivers.registry import open_driver
from pipeline.control import Control
from pipeline.ring import Ring
from pipeline.stages.acquisition import Acquisition
from pipeline.stages.context import StageContext, StageReporter, stage_life
from pipeline.stages.dose import DoseMeter, UnstoredLight
from pipeline.stages.light import LightGuard
from pipeline.stages.light_mark import LightMark
from pipeline.stages.orphan import watch_parent
from pipeline.store.steering_file import SteeringFile
from pipeline.telemetry import Telemetry


def acquire(context: StageContext, reporter: StageReporter) -> None:
    """Entry point of the process."""
    with stage_life(context, reporter) as stack:
        driver = open_driver(context.experiment)
        ring = stack.enter_context(Ring.attach(context.ring))
        control = stack.enter_context(Control.attach(context.control)).stage(context.index)
        telemetry = stack.enter_context(Telemetry.attach(context.telemetry))
        counters = telemetry.writer(context.stage)
        light = LightGuard(driver, counters, LightMark(context.run))
        watch_parent(light.off_for_good)
        light.watch_for_abort(control)
        stack.callback(light.end_watch)
        stack.callback(light.close)
        limit_s = context.experiment.safety.dose_limit_s
        dose = DoseMeter(context.plan, limit_s, context.light_spent_s)
        unstored = UnstoredLight(context.run)
        Acquisition(
            context.experiment,
            driver,
            light,
            ring,
            control,
            counters,
            reporter,
            dose,
            unstored,
            SteeringFile(context.run),
        ).run(context.todo)
