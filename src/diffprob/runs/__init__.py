"""Runs on disk: the folder that a training fills and everything else reads."""
