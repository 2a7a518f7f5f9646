"""Training data from through-focus recordings: TIE phase as the label, the binned frame as the input."""

from pipeline.training.recordings.fields import RecordedFields, recorded_fields
from pipeline.training.recordings.quality import has_truth, label_quality
from pipeline.training.recordings.settings import RecordingSettings

__all__ = ["RecordedFields", "RecordingSettings", "has_truth", "label_quality", "recorded_fields"]
