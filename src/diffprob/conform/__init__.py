"""Does a component of your own do what its family has to? Checked against models whose answers are known exactly."""

from diffprob.conform.denoiser import check_denoiser
from diffprob.conform.process import check_process
from diffprob.conform.proxy import check_proxy
from diffprob.conform.sampler import check_sampler
from diffprob.conform.training import check_times

__all__ = ["check_denoiser", "check_process", "check_proxy", "check_sampler", "check_times"]
