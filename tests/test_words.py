"""Identifiers speak the field's words: each that a table bans fails with the word that stands for it."""

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src" / "diffprob"

# Word: what to write for it.
BANNED = {
    **dict.fromkeys(("told", "_told"), "condition, conditional or requested"),
    "untold": "unconditional",
    "given_rows": "condition_rows",
    "found": "what it is: run, images, estimate, path",
    "said": "summary, notes or message",
    "facts": "settings or provenance",
    "asked": "requested, or the thing's name",
    "_asked": "_forward, or what it does",
    "settle": "tabulate_schedule, synchronise, recover or finalise",
    "settled": "tabulate_schedule, synchronise, recover or finalise",
    "reals": "splits",
    "lens": "features",
    "board": "tensorboard",
    "verdict": "the detection's result",
    "outcome": "the restored files",
    "flawed": "degradations",
    "Flaw": "Degradation",
    "Noisy": "Denoise",
    "Holed": "Inpaint",
    "Small": "SuperResolve",
    "uncut": "unclip",
    "carried": "ddib",
    "noised": "add_noise",
    "mixed": "interpolate_noised",
    "continued": "sample_from",
    "remaining": "times_from",
    "Degraded": "LowResolution",
    "digits_enlarged": "digits_superresolution",
    "Extrapolated": "AutoGuidance",
    "Observed": "ReconstructionGuidance",
    "Realistic": "RealismEnergy",
    "Faithful": "FaithfulnessEnergy",
    "experts": "egsde",
    "Limited": "ClippedMean",
    "moved": "clip_mean, replace_mean or what moved",
    "movable": "with_mean",
    "Recogniser": "NoisyClassifierRecipe",
    "RecogniserRun": "NoisyClassifierRun",
    "Recognition": "NoisyClassifierLoss",
    "recognised": "is_correct",
    "recognise": "noisy_classifier",
    "recognisers": "noisy_classifiers",
    "Trained": "PretrainedRun",
    "Kind": "AnyRecipe",
    "First": "Subset",
    "Part": "ParameterGroup",
    "Joined": "Concatenated",
    "Choice": "SamplingPlan",
    "Steered": "Guided",
    "steer": "apply_guidance",
    "Asked": "LikelihoodSetup",
    "Way": "the method's own name",
    "foretold": "predicted",
}


def identifiers(path: Path) -> Iterator[tuple[int, str]]:
    """(line, name) of every variable, argument, attribute, function, class, keyword and import; and the module."""
    yield 1, path.stem
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.alias(name=name, asname=other):
                yield from ((node.lineno, part) for part in (*name.split("."), *([other] if other else [])))
            case ast.ImportFrom(module=str(module)):
                yield from ((node.lineno, part) for part in module.split("."))
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield node.lineno, name
            case _:
                pass


def offences(root: Path) -> list[str]:
    """file:line and what to write, for every banned identifier below a folder."""
    return [
        f"{path.relative_to(root)}:{line}: {name}; write {BANNED[name]}"
        for path in sorted(root.rglob("*.py"))
        for line, name in sorted(identifiers(path))
        if name in BANNED
    ]


def test_identifiers_are_the_words_of_the_field() -> None:
    wrong = offences(SOURCE)
    assert not wrong, "\n".join(wrong)


def test_planted_words_fail(tmp_path: Path) -> None:
    (tmp_path / "recognise.py").write_text(
        "from a.lens import b as verdict\n\n\ndef settle(asked):\n    found = f(told=1).moved\n    return found\n"
    )
    wrong = offences(tmp_path)
    assert [line.partition(";")[0] for line in wrong] == [
        "recognise.py:1: lens",
        "recognise.py:1: recognise",
        "recognise.py:1: verdict",
        "recognise.py:4: asked",
        "recognise.py:4: settle",
        "recognise.py:5: found",
        "recognise.py:5: moved",
        "recognise.py:5: told",
        "recognise.py:6: found",
    ]
    assert wrong[4].endswith("write tabulate_schedule, synchronise, recover or finalise")
