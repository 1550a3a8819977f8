"""What a denoiser can be told beside x_t: labels, words, smaller images."""
