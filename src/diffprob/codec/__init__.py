"""Coding: what a chain says about images, as bytes and back."""
