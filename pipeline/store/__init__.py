"""Run folders, ledgers and OME-Zarr: the only place that knows Zarr."""
