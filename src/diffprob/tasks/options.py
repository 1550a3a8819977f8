"""How the door spells options: `diffprob.base.options`, which every layer may ask."""

from diffprob.base.options import Spelling, option, spelt

__all__ = ["Spelling", "option", "spelt"]
