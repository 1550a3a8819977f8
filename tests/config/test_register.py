"""Components of others: registered by hand or by an installed package, then known like ours."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from conform.components import example

import diffprob as dp
from diffprob.base.errors import InputError
from diffprob.cli.main import main
from diffprob.codec.bits_back import BitsBack
from diffprob.config import installed as packages
from diffprob.config import registry
from diffprob.config.recipe import Recipe, build_model
from diffprob.config.registry import ABILITIES, ALL, FAMILIES, register
from diffprob.config.spec import parse
from diffprob.data.sources import Digits
from diffprob.net.unet import UNetSpec
from diffprob.runs.folder import Run
from diffprob.runs.publish import write_run
from diffprob.sampling.ancestral import DDIM


@pytest.fixture(autouse=True)
def unchanged_tables() -> Iterator[None]:
    before, names = {family: list(table) for family, table in FAMILIES.items()}, list(ALL)
    yield
    for table, kept in ((ALL, names), *((FAMILIES[family], kept) for family, kept in before.items())):
        for name in [name for name in table if name not in kept]:
            del table[name]
    registry._REGISTERED.clear()


@dataclass(frozen=True)
class MyNet(UNetSpec):
    """A network."""


@dataclass(frozen=True)
class MyDigits(Digits):
    """A data source."""


@dataclass(frozen=True)
class MyDDIM(DDIM):
    """A sampler."""

    scale: float = 1.0


def test_own_components_have_the_required_abilities() -> None:
    assert set(ABILITIES) < set(FAMILIES)
    for family, abilities in ABILITIES.items():
        for component in FAMILIES[family].values():
            if component is not BitsBack:  # which codes a chain as a whole, where others code its steps
                packages.check_component(component, family, abilities)


def test_registered_component_is_available_everywhere(tmp_path: Path) -> None:
    for component, family in ((MyNet, "network"), (MyDigits, "source"), (MyDDIM, "sampler")):
        with pytest.raises(AttributeError):
            getattr(dp, component.__name__)
        assert register(component, family) is component
        assert getattr(dp, component.__name__) is component
    assert dp.samplers.MyDDIM is MyDDIM and "MyNet" in dir(dp.networks)
    small = example(Recipe).network
    recipe = replace(example(Recipe), network=MyNet(**vars(small)), data=MyDigits("test"))
    write_run(tmp_path / "run", recipe, build_model(recipe).state_dict())
    run = Run.open(tmp_path / "run")
    assert run.recipe == recipe and type(run.recipe.network) is MyNet
    assert torch.isfinite(run.load()(torch.zeros(1, 1, 8, 8), torch.tensor(0.5).double()).mean).all()
    with pytest.raises(InputError, match="did you mean 'MyDDIM'"):
        parse("MyDDMI()", FAMILIES["sampler"])


@dataclass(frozen=True)
class Demanding(MyDDIM):
    """A sampler whose order depends on a field without a default."""

    def __init__(self, p: int) -> None: ...

    @property
    def order(self) -> int:
        return 1


def test_registered_component_works_on_the_command_line(capsys: pytest.CaptureFixture) -> None:
    for component in (MyDDIM, Demanding):
        assert register(family="sampler")(component) is component
    assert main(["show", "samplers"]) == main(["show", "Demanding"]) == main(["show", "MyDDIM"]) == 0
    shown = capsys.readouterr().out
    assert "MyDDIM(eta=0.0, spread=False, scale=1.0)" in shown and "\nMyDDIM: A sampler.\n" in shown
    assert main(["sample", "digits", "-n", "2", "--sampler", "MyDDIM(scale=2)", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sampler"] == "MyDDIM(eta=0.0, spread=False, scale=2)"


def test_registration_may_be_repeated() -> None:
    def cell(family: str) -> type:
        @register(family=family)
        @dataclass(frozen=True)
        class Mine(DDIM):
            """Once more."""

            def load(self) -> None: ...

        return Mine

    cell("sampler")
    again = cell("sampler")
    assert dp.Mine is again is ALL["Mine"] is FAMILIES["sampler"]["Mine"]
    cell("source")
    assert "Mine" in FAMILIES["source"] and "Mine" not in FAMILIES["sampler"]


@dataclass
class Thawed:
    """Not frozen."""


@dataclass(frozen=True)
class Hidden:
    """A field that its repr hides."""

    secret: int = field(repr=False)


@dataclass(frozen=True)
class Shown:
    """A field that its constructor does not take."""

    found: int = field(default=1, init=False)


REFUSED = {
    "shown field": (Shown, "sampler", "Shown.found stands in the repr, but the constructor does not take it"),
    "no family": (MyDDIM, "sampelr", "'sampelr' is no family of components .*; did you mean 'sampler'"),
    "closed": (MyDDIM, "recipe", "'recipe' takes none but diffprob's own"),
    "taken": (type("DDIM", (DDIM,), {}), "sampler", "the name DDIM is taken, by diffprob.sampling.ancestral.DDIM"),
    "taken elsewhere": (type("Cosine", (DDIM,), {}), "sampler", "the name Cosine is taken, by diffprob.process"),
    "taken on the face": (type("Rng", (DDIM,), {}), "sampler", "the name Rng is taken, by diffprob.Rng; another"),
    "a family": (type("samplers", (DDIM,), {}), "sampler", "the name samplers is taken, by diffprob.samplers"),
    "no identifier": (type("a-b", (DDIM,), {}), "sampler", "'a-b' cannot name a component"),
    "a keyword": (type("lambda", (DDIM,), {}), "sampler", "'lambda' cannot name a component"),
    "a literal": (type("inf", (DDIM,), {}), "sampler", "'inf' cannot name a component"),
    "no class": (MyDDIM(), "sampler", "a component is a class, got MyDDIM"),
    "not frozen": (Thawed, "sampler", "Thawed is no frozen dataclass"),
    "hidden field": (Hidden, "sampler", "Hidden.secret does not stand in the repr"),
    "unable": (MyDigits, "sampler", "MyDigits cannot be a sampler: it lacks order, evaluations, step"),
    "not callable": (MyDigits, "objective", "MyDigits cannot be an objective: it lacks __call__"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_invalid_registration_is_a_one_line_error(case: str) -> None:
    component, family, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as caught:
        register(component, family)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert "MyDDIM" not in dict(FAMILIES["sampler"])


PACKAGE = '''
from dataclasses import dataclass
import diffprob as dp
print("imported")

@dp.register(family="sampler")
@dataclass(frozen=True)
class Guest(dp.DDIM):
    """From an installed package."""
'''


@pytest.fixture
def installed(tmp_path: Path) -> Callable:
    """Run code where two packages offer components, one of which cannot be imported."""
    site = tmp_path / "site"
    for name, module, text in (("guests", "guests", PACKAGE), ("broken", "broken_components", "import not_there\n")):
        about = site / f"{name}-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[{packages.GROUP}]\n{name} = {module}\n")
        (site / f"{module}.py").write_text(text)

    def run(code: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", f"import sys; sys.path.append({str(site)!r})\n{code}"]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)

    return run


def test_entry_point_package_is_imported_once_and_lazily(installed: Callable) -> None:
    code = """
import warnings
from diffprob.config.registry import ALL, SAMPLERS
from diffprob.config.spec import parse
from diffprob.cli.main import main
assert repr(parse("DDIM()", SAMPLERS, ALL)) == "DDIM(eta=0.0, spread=False)" and SAMPLERS["DDIM"] is ALL["DDIM"]
print("nothing yet")
assert main(["sample", "digits", "-n", "1", "--sampler", "Guest()", "--dry-run"]) == 0
import diffprob as dp
assert dp.Guest is ALL["Guest"] and "Guest" in list(SAMPLERS)
assert main(["show", "NotThere"]) == 2
"""
    done = installed(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("nothing yet\nimported\n") and done.stdout.count("imported") == 1
    (note,) = [line for line in done.stderr.splitlines() if "note:" in line]
    why = "ModuleNotFoundError: No module named 'not_there'"
    assert note == f"note: components of broken are left out, {why}"


def test_broken_entry_point_package_warns_in_python(installed: Callable) -> None:
    done = installed("import diffprob as dp; print(dp.Guest())")
    assert done.returncode == 0 and "Guest(eta=0.0, spread=False)" in done.stdout
    assert "UserWarning: components of broken are left out" in done.stderr


def test_unknown_name_does_not_import_a_module_of_that_name(installed: Callable) -> None:
    done = installed(
        "import json, warnings; warnings.simplefilter('ignore')\n"
        "from diffprob.config.registry import ALL\nfrom diffprob.config.spec import parse\n"
        "try:\n    parse('antigravity()', ALL)\nexcept Exception as error:\n"
        "    print(json.dumps([str(error), 'antigravity' in sys.modules]))"
    )
    message, loaded = json.loads(done.stdout.splitlines()[-1])
    assert "unknown name 'antigravity'" in message and not loaded
