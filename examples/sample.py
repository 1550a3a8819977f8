"""Draw digits from a packaged run, and follow the chain that drew them."""

import diffprob as dp

model = dp.load("digits")
samples = model.sample(64, seed=0)
print(samples)
samples.save("digits.png")

for state in model.chain(4, steps=10):
    print(f"t = {float(state.t):.3f}, values from {float(state.x.min()):.2f} to {float(state.x.max()):.2f}")
