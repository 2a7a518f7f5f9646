"""The methods of a live run on what is already recorded, on this machine or a dask cluster."""

from pipeline.reprocess.run import reconstruct

__all__ = ["reconstruct"]
