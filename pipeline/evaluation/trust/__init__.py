"""What the figures of trust are worth: `evaluate_trust` asks the live path about good and bad frames."""
