"""Pictures of what was trained and sampled."""
