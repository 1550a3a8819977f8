"""What a denoiser can take beside x_t: labels, words, smaller images."""
