"""How probable an array of images is: bits per dimension, and log p of each."""

import numpy as np

import diffprob as dp

model = dp.load("digits")
test = model.data(split="test", n=20)  # an array of 17 grey levels, uint8 (20, 1, 8, 8)
print(model.bits_per_dim(test))

noise = np.random.default_rng(0).integers(0, 17, (20, 1, 8, 8), dtype=np.uint8)
print("of noise:", model.bits_per_dim(dp.Images(noise, levels=17)).mean)
print("log p of the first test image, in nats:", model.log_prob(test)[0])
