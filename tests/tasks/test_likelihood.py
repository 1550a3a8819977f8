"""What a likelihood costs, as it is foretold."""

import pytest
import torch

from diffprob.runs.folder import Run
from diffprob.tasks.bounds import ChainBound, map_batches
from diffprob.tasks.compute import Compute
from diffprob.tasks.images import ImageSelection
from diffprob.tasks.likelihood import ContinuousTimeBound, LikelihoodRequest, prepare_likelihood


@pytest.mark.parametrize(("n", "batch"), [(5, 4), (20, 8), (40, 8), (36, 3)])
@pytest.mark.parametrize("method", [ChainBound(terms=2), ContinuousTimeBound(terms=3)])
def test_network_calls_are_as_many_as_foretold(n, batch, method):
    """A bound fills its blocks up, so that there are more of them than the images alone would need."""
    request = LikelihoodRequest(images=ImageSelection(n=n), method=method, compute=Compute(batch=batch))
    prepared = prepare_likelihood(Run.open("digits"), request)
    made = []
    handle = prepared.setup.model.net.register_forward_hook(lambda *_: made.append(1))
    with torch.no_grad():
        map_batches(prepared.setup, prepared.measure, prepared.chunks)
    handle.remove()
    assert len(made) == prepared.calls(n)
