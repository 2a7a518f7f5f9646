"""livephase: from camera to quantitative phase while the cells still move."""

__version__ = "0.1.0"
