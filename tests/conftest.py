"""What every test runs under: one thread for each process of pytest-xdist, reproducible examples, no network."""

import os

import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "diffprob",
    max_examples=25,
    deadline=None,
    derandomize=True,  # a red run must be red again
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("diffprob")

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["DIFFPROB_CONFIG"] = os.path.join(os.path.dirname(__file__), "no settings here")
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)
