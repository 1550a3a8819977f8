"""Readers of the file formats, one module each; every one returns `Images` or raises a one-line `InputError`."""
