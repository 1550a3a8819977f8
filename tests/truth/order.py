"""Order of convergence by regression: the library's own, which `diffprob.conform` checks samplers with."""

from diffprob.conform.expectations import check_order as assert_order
from diffprob.conform.expectations import slopes

__all__ = ["assert_order", "slopes"]
