"""Training of neuph: simulated fields under an experiment's own LEDs, asked at random coordinates."""
