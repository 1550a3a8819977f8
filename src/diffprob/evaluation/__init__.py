"""Measurements on samples: distances between sets of images, and judgements by a classifier."""
