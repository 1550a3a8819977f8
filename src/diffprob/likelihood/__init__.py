"""Log densities of images, or bounds on them, by a trained model."""
