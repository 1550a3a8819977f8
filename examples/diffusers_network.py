"""A network of diffusers with its scheduler as a model (pip install diffusers)."""

from diffusers import DDPMScheduler, UNet2DModel

import diffprob as dp

net = UNet2DModel(
    sample_size=8, in_channels=1, out_channels=1, block_out_channels=(32, 32), layers_per_block=1,
    down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
)  # fmt: skip
model = dp.Model(net, shape=(1, 8, 8), levels=17, scheduler=DDPMScheduler())
print(model.sample(4, steps=10))
print(model.bits_per_dim(dp.Digits("test").load(), n=16, method=dp.ChainBound(steps=20)))
