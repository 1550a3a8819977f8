"""Denoisers made of two, or of one and the gradient of an energy."""
