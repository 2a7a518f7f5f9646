"""How `livephase evaluate` measures trust: under conditions that the weights know."""

import pytest
from dl_srqpi_weights import experiment, write

from pipeline.errors import MethodError
from pipeline.evaluation.trust.evaluate import evaluate_trust
from pipeline.evaluation.trust.instrument import Conditions, LiveInstrument
from pipeline.evaluation.trust.plan import CAMERAS, QUICK_TRUST


@pytest.mark.parametrize(("trained", "used"), [((0.15, 0.25), 0.15), ((0.0, 0.42), 0.0)])
def test_trust_is_measured_in_light_that_the_weights_know(tmp_path, trained, used):
    path = write(tmp_path / "w.safetensors", coherence_min=trained[0], coherence_max=trained[1])
    told = []

    def run(jobs):
        told.extend(setting for _, (setting, _) in jobs)
        return []

    with pytest.raises(MethodError, match="no field"):
        evaluate_trust(experiment(), path, plan=QUICK_TRUST, run=run)
    assert {setting.plan.coherence for setting in told} == {used}
    conditions = Conditions(4.0, told[0].plan.coherence, CAMERAS["10000_electrons"])
    LiveInstrument(experiment(), path, 48, conditions)  # refuses light that it does not know
