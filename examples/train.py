"""Train on a numpy array, and hear about every step."""

import numpy as np

import diffprob as dp
from diffprob.tasks.reporter import Silent, SilentProgress


class Steps(SilentProgress):
    def update(self, done: int, detail: str = "") -> None:
        super().update(done, detail)
        print(f"step {done}: {detail}")


class Callback(Silent):
    def progress(self, what: str, total: int | None, unit: str = "step", done: int = 0) -> Steps:
        return Steps(done)


y, x = np.mgrid[:8, :8]
waves = [np.uint8(127.5 + 127.5 * np.sin(x * (1 + k % 3) + k)) for k in range(100)]
np.save("waves.npy", np.stack(waves)[:, None])  # a run finds its images again where they lie

model = dp.train("waves.npy", out="waves", steps=20, overrides={"training.batch": 8}, reporter=Callback())
model.sample(16, steps=10).save("waves.png")
print(model.bits_per_dim(n=10, method=dp.ChainBound(steps=10)))
