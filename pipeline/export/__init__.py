"""A run taken elsewhere: as a movie, or as an OME-TIFF. The run itself is only read."""

from pipeline.export.movie import export_movie
from pipeline.export.ome_tiff import export_ome_tiff

__all__ = ["export_movie", "export_ome_tiff"]
