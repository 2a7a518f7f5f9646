"""Calibration: each step measures one thing of the instrument, or refuses the data with a reason.

A step is a file of its own with two halves: a pure estimator (frames in, figures with uncertainty out),
and a `Step` that takes the frames it needs and puts the figures into a `Calibration`.
"""
