"""DL-SRQPI: phase four times finer than the camera's pixels from one defocused frame.

Zhou et al., "Deep learning-enabled pixel-super-resolved quantitative phase microscopy from
single-shot aliased intensity measurement", Laser Photonics Rev. 18, 2300488 (2024). Importing this
package costs no torch: the networks are imported when weights are loaded.
"""

from pipeline.methods.dl_srqpi.method import DlSrqpi

__all__ = ["DlSrqpi"]
