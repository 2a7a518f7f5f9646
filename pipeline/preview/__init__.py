"""Snapshots and the live preview: the microscope looked through, without a run.

`looking` takes a slot and makes figures and pictures of it, `snap` and `live` are the verbs; what a person sees
is drawn by `terminal` (half-block characters), `picture` (PNG) and `files` (TIFF, NumPy).
"""
