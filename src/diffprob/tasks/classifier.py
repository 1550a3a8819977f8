"""The classifier of labelled images: trained once and kept; it judges samples and gives features for them."""

from contextlib import ExitStack
from pathlib import Path

import torch

from diffprob.data.images import Images
from diffprob.evaluation.classifier import TrainedClassifier, classifier_for
from diffprob.evaluation.classify import FitProgress, FitSettings
from diffprob.tasks.reporter import SILENT, Progress, Reporter, when_interrupted

_LOST = "interrupted: nothing of the classifier is kept, and it begins anew"


def trained_classifier(
    images: Images,
    test: Images | None = None,
    settings: FitSettings | None = None,
    device: str | torch.device = "cpu",
    path: str | Path | None = None,
    reporter: Reporter = SILENT,
) -> TrainedClassifier:
    """`diffprob.evaluation.classifier.classifier_for`, whose progress and notes the reporter hears.

    Raises:
        InputError: no labels, too few images or classes, or a file of another classifier at ``path``.
    """
    bars: list[Progress] = []
    with ExitStack() as stack:
        stack.enter_context(when_interrupted(lambda: _LOST))

        def tell(progress: FitProgress) -> None:
            if not bars:  # what was trained before needs no bar
                bars.append(stack.enter_context(reporter.progress("classifier", progress.steps)))
            rate = f", {bars[0].rate:.3g} steps/s" if bars[0].rate > 0 else ""
            bars[0].update(progress.step, f"epoch {progress.epoch + 1}, loss {progress.loss:.3f}{rate}")

        made = classifier_for(images, test, settings, device, path, tell)
    for note in made.notes:
        reporter.note(note)
    return made
