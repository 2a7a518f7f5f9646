"""What a person looks at: a line through a cell, and the images of a few fields side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pipeline.quality import align_piston

Image = NDArray[np.float32]

# Phase pixels along a profile, and along the edges of a sheet's images.
_LENGTH_PX = 224
_WHOLE_PX = 512
_CROP_PX = 160


@dataclass(frozen=True)
class Profile:
    """Phase along a horizontal line, pistons aligned over the whole field.

    Parameters
    ----------
    x_um
        ``[N]``, from the field's left edge.
    y_um
        The line's distance from the field's upper edge.
    phases_rad
        ``[N]`` by name; `truth` among them.
    """

    family: str
    y_um: float
    x_um: NDArray[np.float64]
    phases_rad: Mapping[str, NDArray[np.float64]]

    def as_dict(self) -> dict[str, object]:
        """For JSON, to a tenth of a milliradian."""
        return {
            "family": self.family,
            "y_um": round(self.y_um, 3),
            "x_um": [round(float(x), 3) for x in self.x_um],
            "phases_rad": {
                name: [round(float(v), 4) for v in values]
                for name, values in self.phases_rad.items()
            },
        }


@dataclass(frozen=True)
class Sheet:
    """Images of one field: whole ones made smaller, and a crop of each at full resolution."""

    family: str
    frame: Image
    frame_crop: Image
    whole: Mapping[str, Image]
    crop: Mapping[str, Image]


def profile_place(truth: Image) -> tuple[int, int]:
    """(y, x) of the thickest place that is not near the field's edge: inside a cell."""
    smooth = gaussian_filter(truth, 3)
    y, x = truth.shape
    inner = smooth[y // 4 : 3 * y // 4, x // 4 : 3 * x // 4]
    row, column = np.unravel_index(int(inner.argmax()), inner.shape)
    return int(row) + y // 4, int(column) + x // 4


def take_profile(
    family: str,
    place: tuple[int, int],
    truth: Image,
    images: Mapping[str, Image],
    pixel_um: float,
) -> Profile:
    """Through a place ``(y, x)`` of phase pixels, of the truth and of all images."""
    row = place[0]
    along = _around(place[1], _LENGTH_PX, truth.shape[1])
    lines = {"truth": truth[row, along].astype(np.float64)}
    lines |= {name: align_piston(image, truth)[row, along] for name, image in images.items()}
    x_um = (np.arange(truth.shape[1], dtype=np.float64)[along] + 0.5) * pixel_um
    return Profile(family, (row + 0.5) * pixel_um, x_um, lines)


def sheet(
    family: str,
    place: tuple[int, int],
    frame: Image,
    truth: Image,
    images: Mapping[str, Image],
) -> Sheet:
    """Pistons are aligned."""
    all_images = {"truth": truth} | {
        name: align_piston(image, truth).astype(np.float32) for name, image in images.items()
    }
    crop = tuple(_around(p, _CROP_PX, n) for p, n in zip(place, truth.shape, strict=True))
    coarse = truth.shape[0] // frame.shape[0]
    seen = tuple(slice(c.start // coarse, -(-c.stop // coarse)) for c in crop)
    step = max(1, truth.shape[0] // _WHOLE_PX)
    return Sheet(
        family,
        frame,
        frame[seen].copy(),
        {name: _smaller(image, step) for name, image in all_images.items()},
        {name: image[crop].copy() for name, image in all_images.items()},
    )


def _around(middle: int, length: int, size: int) -> slice:
    start = max(0, min(middle - length // 2, size - length))
    return slice(start, min(start + length, size))


def _smaller(image: Image, step: int) -> Image:
    y, x = (n // step for n in image.shape)
    blocks = image[: y * step, : x * step].reshape(y, step, x, step)
    return np.asarray(blocks.mean((1, 3)), np.float32)
