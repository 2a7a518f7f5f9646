"""One run's life: preflight, sessions, supervision, reports."""
