"""Training: settings, the loop and what it needs."""
