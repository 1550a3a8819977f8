"""Do samples drawn for captions obey them? Read slot by slot by a classifier of real digits.

    python benchmarks/captions.py runs/captioned_digits -n 1000 --steps 25 --weights 0 1 2 --picture captions.png

Captions are those of the test scenes, which training did not see as images. A slot is empty where no pixel reaches a
third of the grey levels; else one classifier, trained on the slots of training scenes whose captions name all their
digits alike, says which digit it is and whether it is large. An image obeys if its four slots are what its caption
says (`obeys`). "real" are the test scenes themselves, judged in the same way: what a perfect model would get.
"""

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality import answer, finish

import diffprob as dp
from diffprob.data.captioned import DIGITS, PLURALS, SIZES, CaptionedDigits, slots
from diffprob.evaluation.classify import FitSettings, classify, fit_classifier
from diffprob.net.classifier import ClassifierSpec
from diffprob.sampling.exponential import DPMppSDE

LEAST = 0.95  # of the samples that must obey, at the best weight
Seen = tuple[tuple[str, int] | None, ...]


def obeys(caption: str, four: Seen) -> bool:
    """Whether the slots top left, top right, bottom left, bottom right hold what the caption says."""
    filled = {k: what for k, what in enumerate(four) if what is not None}
    pairs = {"at the top": [{0, 1}], "at the bottom": [{2, 3}], "at the left": [{0, 2}], "at the right": [{1, 3}]}
    pairs[""] = [each[0] for each in pairs.values()]
    if found := re.fullmatch(r"two (small|large) (\w+) ?(at the \w+)?", caption):
        size, plural, where = found.groups("")
        return set(filled) in pairs[where] and set(filled.values()) == {(size, PLURALS.index(plural))}
    if found := re.fullmatch(r"a (small|large) (\w+) (left of|right of|above|below) a (small|large) (\w+)", caption):
        size, digit, relation, other_size, other = found.groups()
        step = {"left of": ((0, 1), (2, 3)), "right of": ((1, 0), (3, 2)), "above": ((0, 2), (1, 3))}
        step["below"] = ((2, 0), (3, 1))
        one, two = (size, DIGITS.index(digit)), (other_size, DIGITS.index(other))
        return any(filled == {a: one, b: two} for a, b in step[relation])
    found = re.fullmatch(r"a (small|large) (\w+)(?: at the (top|bottom) (left|right))?", caption)
    assert found, caption
    size, digit, height, side = found.groups()
    corner = None if height is None else 2 * (height == "bottom") + (side == "right")
    return list(filled.values()) == [(size, DIGITS.index(digit))] and corner in (None, *filled)


class Reader:
    """What stands in the slots of scenes, by a classifier of 10 digits in 2 sizes."""

    def __init__(self) -> None:
        scenes = CaptionedDigits("train").load()
        tiles, labels = [], []
        for four, caption in zip(slots(scenes.pixels), scenes.captions or (), strict=True):
            found = re.match(r"(?:a|two) (small|large) (\w+)", caption)
            if found is None or " a " in caption:
                continue
            names = DIGITS if found[2] in DIGITS else PLURALS
            own = four[four.reshape(4, -1).max(1) > 0]
            tiles.append(own)
            labels += [10 * SIZES.index(found[1]) + names.index(found[2])] * len(own)
        pixels = np.concatenate(tiles)[:, None]
        spec = ClassifierSpec(1, classes=20)
        self.net = fit_classifier(pixels, np.array(labels), spec, FitSettings(epochs=10, shift=0), 17)

    def __call__(self, pixels: np.ndarray) -> list[Seen]:
        """The four slots of each scene: (size, digit), or None where it is empty."""
        four = slots(pixels)
        flat = four.reshape(-1, 1, 8, 8)
        read = classify(self.net, flat, 17).argmax(1).numpy()
        full = flat.reshape(len(flat), -1).max(1) >= 16 / 3
        said = [(SIZES[k // 10], int(k % 10)) if here else None for k, here in zip(read, full, strict=True)]
        return [tuple(said[i : i + 4]) for i in range(0, len(said), 4)]


def main() -> int:
    """Draw, read, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("run", nargs="?", default="runs/captioned_digits")
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--weights", nargs="+", type=float, default=(0.0, 1.0, 2.0))
    parser.add_argument("--picture", type=Path, help="a grid of 32 samples at the last weight")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    run, read, scenes = dp.Run.open(arguments.run), Reader(), CaptionedDigits("test", count=arguments.n).load()
    captions = scenes.captions or ()
    rows: list[dict[str, Any]] = [{"w": "real", **_shares(captions, read(scenes.pixels))}]
    net, condition = run.load(precision=arguments.precision), run.recipe.condition
    captioned = torch.cat([condition.tokens(caption) for caption in captions])  # pyright: ignore[reportOptionalMemberAccess]
    times = dp.Trailing(bend=-0.6)(net.process, arguments.steps)
    levels = np.zeros(0, np.uint8)
    for weight in arguments.weights:
        model = dp.Clip(dp.ClassifierFree(net, captioned, weight))
        streams = dp.Rng.of(arguments.seed, arguments.n)
        levels = run.space.to_data(dp.draw(model, DPMppSDE(2), times, streams, run.space.shape)).numpy()
        rows.append({"w": weight, **_shares(captions, read(levels))})
        print(rows[-1], flush=True)
    if arguments.picture:
        dp.save_grid(levels[:32], arguments.picture, columns=8, scale=4, levels=17)
        print("\n".join(captions[:32]))
    best = max(row["obey"] for row in rows[1:])
    settings = {"run": arguments.run, "n": arguments.n, "steps": arguments.steps, "seed": arguments.seed}
    return finish(rows, best >= LEAST, settings, arguments.out)


def _shares(captions: tuple[str, ...], seen: list[Seen]) -> dict[str, float]:
    """Shares that obey: of all, and of each kind of caption."""
    right = np.array([obeys(caption, four) for caption, four in zip(captions, seen, strict=True)])
    kinds = np.array([_kind(caption) for caption in captions])
    return {
        "obey": float(right.mean()),
        **{kind: float(right[kinds == kind].mean()) for kind in sorted(set(kinds.tolist()))},
    }


def _kind(caption: str) -> str:
    if caption.startswith("two"):
        return "two somewhere" if " at " not in caption else "two placed"
    return "related" if caption.count("a ") > 1 else "one placed" if " at " in caption else "one"


if __name__ == "__main__":
    raise SystemExit(answer(main))
