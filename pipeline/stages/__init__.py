"""The three stages of a run, each a process: acquire, record, reconstruct."""
