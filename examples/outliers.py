"""Which images of a tensor do not belong: conformal p-values among held-out digits."""

import torch

import diffprob as dp

model = dp.load("digits")
test = model.data(split="test", n=60)
noise = torch.randint(0, 256, (4, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
digits = (torch.from_numpy(test.images[:4]) * (255 / 16)).round().to(torch.uint8)  # 17 levels on the scale of 256
result = model.detect(torch.cat([digits, noise]), n=60, resize=True)
print(result)
print("flagged:", sorted(result.rankings[0].flagged.tolist()))
