"""What a training is for: an experiment's optics, and how far around them."""

from __future__ import annotations

from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment
from pipeline.methods.dl_srqpi.fit import true_conditions
from pipeline.methods.dl_srqpi.method import check_light
from pipeline.methods.dl_srqpi.record import OpticsRecord
from pipeline.training import Scope

# Around the experiment's own: a lens that drifts, a diaphragm that is opened a little.
_OWN_Z, _OWN_S = 0.10, 0.05
# The paper's 1 … 13 µm around its 4 µm, and its coherences.
_ALL_Z, _ALL_S = (0.25, 3.25), 0.4


def training_optics(
    experiment: Experiment, calibration: Calibration | None = None, scope: Scope = "own"
) -> OpticsRecord:
    """The optics and conditions of a training.

    Parameters
    ----------
    calibration
        Corrects pixel and defocus, where known.
    scope
        own: the experiment's defocus ± 10 % and coherence ± 0.05. all: a quarter of its defocus to 3.25
        times it (1 to 13 µm around 4 µm), S from 0 to 0.4.

    Raises
    ------
    ExperimentError
        If there is no defocused focus, or several, or it lies upstream.
    """
    check_light(experiment)
    foci = [i for i, z in enumerate(experiment.sequence.foci_um) if z != 0]
    if len(foci) != 1:
        raise ExperimentError(
            f"the experiment has the foci {list(experiment.sequence.foci_um)}, weights are for one",
            "leave one defocus in sequence.foci_um (0 may stay)",
        )
    here = true_conditions(experiment, calibration, foci[0])
    if not here.z_um > 0:
        raise ExperimentError(
            f"the plane in focus lies {-here.z_um:g} µm upstream of the specimen",
            "focus on the downstream side: a positive focus in sequence.foci_um",
        )
    if scope == "all":
        z_min, z_max = (round(factor * here.z_um, 6) for factor in _ALL_Z)
        s_min, s_max = 0.0, max(_ALL_S, here.coherence)
    else:
        z_min, z_max = here.z_um * (1 - _OWN_Z), here.z_um * (1 + _OWN_Z)
        s_min = max(0.0, here.coherence - _OWN_S)
        s_max = min(1.0, here.coherence + _OWN_S)
    return OpticsRecord(
        wavelength_um=here.wavelength_um,
        numerical_aperture=here.numerical_aperture,
        refractive_index=here.refractive_index,
        pixel_um=here.pixel_um,
        z_um=here.z_um,
        z_min_um=z_min,
        z_max_um=z_max,
        coherence_min=s_min,
        coherence_max=s_max,
    )


def weights_name(network: str, optics: OpticsRecord) -> str:
    """``dl_srqpi_base_na0.4_550nm_2.6um.safetensors``."""
    return (
        f"dl_srqpi_{network}_na{optics.numerical_aperture:g}_{1000 * optics.wavelength_um:.0f}nm"
        f"_{optics.pixel_um:.3g}um.safetensors"
    )
