"""Snapshots and the live preview: the microscope looked through, without a run."""
