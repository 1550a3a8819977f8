"""Networks: plain functions of (x, t) that know nothing of diffusion."""

from diffprob.net.layers import Output
from diffprob.net.unet import UNet, UNetSpec

__all__ = ["Output", "UNet", "UNetSpec"]
