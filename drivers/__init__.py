"""Where frames come from. Knows nothing of pipelines; see `drivers.driver` for the contract."""
