"""Train on a numpy array, hear about every step, and stop early."""

import numpy as np

import diffprob as dp


def hear(at):
    print(f"step {at.step} of {at.steps}: loss {at.loss:.4f}, {at.images_per_second:,.0f} images/s")
    if at.loss < 1e-3:
        at.stop()


y, x = np.mgrid[:8, :8]
waves = [np.uint8(127.5 + 127.5 * np.sin(x * (1 + k % 3) + k)) for k in range(100)]
np.save("waves.npy", np.stack(waves)[:, None])  # a run finds its images again where they lie

model = dp.train("waves.npy", out="waves", steps=20, overrides={"training.batch": 8}, callback=hear)
model.sample(16, steps=10).save("waves.png")
print(model.bits_per_dim(n=10, method=dp.ChainBound(steps=10)))
