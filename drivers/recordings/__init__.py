"""What was recorded before, in any of several formats, by planned frame key."""

from drivers.recordings.opening import DATA_VARIABLE, find_source, is_run_folder, open_recording
from drivers.recordings.planned import PlannedRecording
from drivers.recordings.recording import RecordedFrame, Recording

__all__ = [
    "DATA_VARIABLE",
    "PlannedRecording",
    "RecordedFrame",
    "Recording",
    "find_source",
    "is_run_folder",
    "open_recording",
]
