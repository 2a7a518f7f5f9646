"""How labels are made of a through-focus recording, and which of its slots are left out."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, PositiveFloat

from pipeline.experiment import Strict


class RecordingSettings(Strict):
    """Of a training on recordings; the defaults suit cell cultures."""

    regularisation: float = Field(default=1e-5, ge=0, le=1)
    """As `TieSettings.regularisation`, but less: what drifts at low frequencies, `background_um` flattens."""
    background_um: PositiveFloat = 6.0
    """Standard deviation of the window in which the label's background is found: about a quarter of a cell."""
    margin_um: NonNegativeFloat = 20.0
    """Border that is cut off: there a cell that the edge cuts makes TIE wrong, about as far in as the cell is large."""
    validation_share: float = Field(default=0.2, gt=0, lt=1)
    """Of the positions (of the timepoints, where there are few positions), never trained on."""
    most_saturated: float = Field(default=1e-3, ge=0, le=1)
    """Share of a frame's pixels: a slot with a frame beyond is left out."""
    least_content: float = Field(default=0.02, ge=0, le=1)
    """Share of the label above 0.15 rad: a slot with less is left out."""
    most_unexplained: PositiveFloat = 0.5
    """Of the input's contrast, root mean square: a slot whose label predicts its frame worse is left out."""
