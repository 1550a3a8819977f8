"""The rules of docs/architecture.md and CONTRIBUTING.md that an abstract syntax tree can check, module by module."""

import ast
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "diffprob"
SCRIPTS = sorted(
    path.relative_to(ROOT).as_posix() for name in ("benchmarks", "examples") for path in ROOT.glob(f"{name}/*.py")
)
MODULES = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))

MAX_FILE, MAX_FUNCTION = 400, 60
EAGER = {"torch", "numpy", "safetensors", "diffprob"} | set(sys.stdlib_module_names)
EAGER_CLI = {"diffprob"} | set(sys.stdlib_module_names)
BANNED = {"torchvision", "timm", "torch_fidelity", "cleanfid", "pickle", "_pickle", "dill", "shelve", "marshal"}
BANNED_BELOW_7 = {"logging", "tqdm", "rich"}
# Files are opened, written and deleted by storage/files.py, which follows no link and bounds every size. Others that
# open files by themselves, and what they open: weights behind that module's look, the package's own files, the
# machine's description, and the user's own data, which have readers of their own.
OPENERS = {
    *(
        "storage/files.py",
        "storage/tensors.py",
        "reporting/html.py",
        "studio/pages.py",
        "tasks/cost.py",
        "tasks/machine.py",
        "training/optimise.py",
        "cli/main.py",
    ),
    *("data/sources.py", "data/kinds.py"),
}
READERS = "data/formats/"
OPENING = {"open", "read_text", "read_bytes", "write_text", "write_bytes", "memmap", "fromfile", "tofile", "safe_open"}
OPENING |= {
    "load_file",
    "save_file",
    "mkstemp",
    "TemporaryFile",
    "NamedTemporaryFile",
    "fdopen",
    "rmtree",
    "symlink_to",
}
SAFE_OPENERS = {"files", "Image", "Run", "RunWriter", "InceptionFeatures"}  # Image: of bytes, never of a path
# The signal that asks a training to stop is answered while something else may be printing, straight to the stream; and
# the face for Python, whose door stands in tasks, shows on a terminal how far things are.
STREAMS = {"tasks/progress.py", "tasks/signals.py"}
FOREIGN = {"data/formats/hub.py"}  # reads what another library, datasets, says of a split that it has not
READING = {"startswith", "endswith", "partition", "rpartition", "removeprefix", "removesuffix", "find", "index"}
BANNED_CALLS = {"eval", "exec", "__import__", "torch.load"}


def read_layers(text: str) -> dict[str, int]:
    """The table of docs/architecture.md: {package: layer}."""
    layers = {}
    for row in re.findall(r"^\| *(\d+) *\|(.*)\|$", text, re.MULTILINE):
        for package in re.findall(r"`(\w+)`:", row[1]):
            layers[package] = int(row[0])
    return layers


LAYERS = read_layers((ROOT / "docs" / "architecture.md").read_text())
TOP = 15  # __init__.py and __main__.py


def package(module: str) -> str:
    """Name of the package a file such as ``base/rng.py`` belongs to ('' at the top)."""
    return module.partition("/")[0] if "/" in module else ""


def imports(nodes: Iterator[ast.AST]) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of everything imported; ``from a import b`` counts as a.b."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            yield from ((f"{prefix}.{alias.name}", node.lineno) for alias in node.names)


def eager(node: ast.AST) -> Iterator[ast.AST]:
    """What runs on import: everything outside functions and outside ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from eager(child)


def import_problems(module: str, tree: ast.Module) -> Iterator[str]:
    own, layer = package(module), LAYERS.get(package(module), TOP)
    for name, line in imports(ast.walk(tree)):
        first = name.split(".")[0]
        if name.startswith("."):
            yield f"line {line}: relative import {name}"
        if first in BANNED or (first in BANNED_BELOW_7 and layer < 7):
            yield f"line {line}: imports {first}"
        if first != "diffprob" or layer == TOP:
            continue
        other = name.split(".")[1]
        if other not in LAYERS:
            if other != "__version__":
                yield f"line {line}: imports {name} from the top of the package"
        elif other != own and LAYERS[other] >= layer:
            yield f"line {line}: layer {layer} imports {other} of layer {LAYERS[other]}"
    allowed = EAGER_CLI if own == "cli" or layer == TOP else EAGER | {"fastapi"} if own == "studio" else EAGER
    for name, line in imports(eager(tree)):
        if name.split(".")[0] not in allowed and not name.startswith("."):
            yield f"line {line}: imports {name} eagerly"
        if layer == TOP and module == "__init__.py" and name.startswith("diffprob"):
            yield f"line {line}: importing diffprob must stay lazy"


def file_problems(module: str, tree: ast.Module) -> Iterator[str]:
    """Calls that open, make or delete a file without storage/files.py."""
    if module in OPENERS or module.startswith(READERS):
        return
    ours = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("diffprob.")
        for alias in node.names
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        owner, _, name = ast.unparse(node.func).rpartition(".")
        if name in OPENING and not (owner in SAFE_OPENERS or (not owner and name in ours)):
            yield f"line {node.lineno}: calls {owner + '.' if owner else ''}{name} instead of storage/files.py"
        first = ast.unparse(node.args[0]) if node.args else ""
        if name in {"savefig", "savez"} and "path" in first:
            yield f"line {node.lineno}: {name} to a path instead of storage/files.py"


def code_problems(module: str, tree: ast.Module) -> Iterator[str]:
    layer = LAYERS.get(package(module), TOP)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in BANNED_CALLS:
                yield f"line {node.lineno}: calls {name}"
            if any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords):
                yield f"line {node.lineno}: allows pickles"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION:
                yield f"line {node.lineno}: {node.name} has {length} lines, at most {MAX_FUNCTION}"
            if node.args.kwarg and layer < 12 and f"**{node.args.kwarg.arg})" in "\n".join(map(ast.unparse, node.body)):
                yield f"line {node.lineno}: {node.name} passes **{node.args.kwarg.arg} through"


def door_problems(module: str, tree: ast.Module) -> Iterator[str]:
    """What belongs to the command line, outside of it: arguments, printing, and messages read back as data."""
    if package(module) == "cli":
        return
    for name, line in imports(ast.walk(tree)):
        if name.split(".")[0] == "argparse":
            yield f"line {line}: imports argparse outside cli"
        if name.startswith("diffprob.cli") and module != "__main__.py":
            yield f"line {line}: imports {name}"
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        hint = ast.unparse(node.annotation) if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation else ""
        if re.search(r"\bNamespace\b", hint):
            yield f"line {line}: takes a Namespace outside cli"
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"print", "builtins.print"}:
            yield f"line {line}: prints outside cli"
        name = ast.unparse(node) if isinstance(node, ast.Attribute) and module not in STREAMS else ""
        if re.fullmatch(r"sys\.(__)?std(out|err)(__)?", name):
            yield f"line {line}: uses {name} outside cli"
        if isinstance(node, ast.ExceptHandler) and node.name and module not in FOREIGN:
            yield from message_problems(node)


def message_problems(handler: ast.ExceptHandler) -> Iterator[str]:
    """Uses of the text of an error as data: its type or a field of its own is to say what happened."""
    texts = {f"str({handler.name})", f"{handler.name}.args[0]"}
    for node in ast.walk(handler):
        compared = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        if texts & set(map(ast.unparse, compared)):
            yield f"line {node.lineno}: decides by the text of an error"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value)
            searched = owner == "re" and texts & set(map(ast.unparse, node.args))
            if searched or (node.func.attr in READING and owner in texts):
                yield f"line {node.lineno}: takes the text of an error apart"


def script_problems(text: str) -> Iterator[str]:
    """Uses of the command line by a benchmark or an example, which is to ask a task or the face."""
    tree = ast.parse(text)
    for name, line in imports(ast.walk(tree)):
        if name.startswith("diffprob.cli") or name == "diffprob.__main__":
            yield f"line {line}: imports {name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.List | ast.Tuple | ast.Call):
            parts = node.args if isinstance(node, ast.Call) else node.elts
            texts = [part.value if isinstance(part, ast.Constant) else None for part in parts]
            started = any(pair == ("-m", "diffprob") for pair in itertools.pairwise(texts))
            called = isinstance(node, ast.Call) and re.search(r"subprocess|os\.system", ast.unparse(node.func))
            typed = called and any(isinstance(part, str) and part.startswith("diffprob ") for part in texts)
            if started or typed or (isinstance(node, ast.List) and texts[:1] == ["diffprob"]):
                yield f"line {node.lineno}: starts diffprob"


def undocumented(node: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[str]:
    """Public classes, functions and methods without a docstring."""
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            # forward is described by its class; overloads and setters by what they belong to.
            shared = child.name == "forward" or any(
                re.search(r"overload|override|\.setter", ast.unparse(d)) for d in child.decorator_list
            )
            if ast.get_docstring(child) is None and not shared:
                yield f"line {child.lineno}: {prefix}{child.name} has no docstring"
            if isinstance(child, ast.ClassDef):
                yield from undocumented(child, f"{child.name}.")


def problems(module: str, text: str) -> list[str]:
    """Every broken rule of one module, as readable lines."""
    tree, lines = ast.parse(text), text.count("\n")
    violations = [*import_problems(module, tree), *code_problems(module, tree), *undocumented(tree)]
    violations += [*file_problems(module, tree), *door_problems(module, tree)]
    if lines > MAX_FILE:
        violations.append(f"{lines} lines, at most {MAX_FILE}")
    if text.strip() and ast.get_docstring(tree) is None:
        violations.append("the module has no docstring")
    return violations


@pytest.mark.parametrize("module", MODULES)
def test_module_follows_the_rules(module: str) -> None:
    violations = problems(module, (SOURCE / module).read_text())
    assert not violations


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_asks_tasks(script: str) -> None:
    assert not list(script_problems((ROOT / script).read_text()))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("from diffprob.cli.main import main as diffprob\n", "imports diffprob.cli.main.main"),
        ("def f():\n    import diffprob.cli\n", "imports diffprob.cli"),
        ("import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'diffprob', *words])\n", "starts diffprob"),
        ("command = ['diffprob', 'sample', 'digits']\n", "starts diffprob"),
        ("import subprocess\nsubprocess.run('diffprob sample digits', shell=True)\n", "starts diffprob"),
    ],
)
def test_planted_script_mistake_is_detected(code: str, expected: str) -> None:
    assert any(expected in line for line in script_problems(code))
    assert not list(script_problems("import diffprob as dp\n\nprint('diffprob sample', dp.load('digits'))\n"))


def test_every_package_has_a_layer() -> None:
    packages = {package(module) for module in MODULES} - {""}
    assert packages <= set(LAYERS), "docs/architecture.md must name the layer of every package"


def test_layers_are_in_the_documented_order() -> None:
    order = ["base", "process", "denoise", "guidance", "sampling", "likelihood", "density", "data", "config", "runs"]
    order += ["recipes", "reporting", "cli"]
    numbers = [LAYERS[name] for name in order]
    assert numbers == sorted(set(numbers))
    assert LAYERS["net"] == LAYERS["process"] == LAYERS["storage"] == LAYERS["conditions"]
    assert LAYERS["training"] == LAYERS["data"] == LAYERS["evaluation"] == LAYERS["conform"]


def test_every_module_is_in_the_api_reference() -> None:
    """autodoc lists every documented public object of a module that docs/api.md names."""
    listed = re.findall(r"automodule:: ([\w.]+)", (ROOT / "docs" / "api.md").read_text())
    assert len(listed) == len(set(listed)), "a module is listed twice"
    public = [module for module in MODULES if package(module) != "cli"]  # which has a page of its own
    names = {"diffprob." + module.removesuffix(".py").replace("/", ".") for module in public if "__" not in module}
    packages = {"diffprob." + module.split("/")[0] for module in public if module.endswith("/__init__.py")}
    assert names <= set(listed), f"docs/api.md lacks {sorted(names - set(listed))}"
    assert set(listed) <= names | packages | {"diffprob"}, f"no such module: {sorted(set(listed) - names - packages)}"


def circles(sources: dict[str, str]) -> list[str]:
    """Modules that import each other in a loop, each as one line; lazy imports and those for types are counted."""
    wanted = {module.removesuffix(".py").replace("/", "."): ast.parse(text) for module, text in sources.items()}
    graph: dict[str, list[str]] = {}
    for module, tree in wanted.items():
        names = (name.removeprefix("diffprob.") for name, _ in imports(ast.walk(tree)) if name.startswith("diffprob."))
        known = {name if name in wanted else name.rpartition(".")[0] for name in names}
        graph[module] = sorted(known & set(wanted) - {module})
    loops, left = [], {module: set(others) for module, others in graph.items()}
    while free := [module for module, others in left.items() if not others & set(left)]:
        for module in free:
            del left[module]
    # What is left imports into a loop; walking on from anywhere ends inside one.
    while left:
        trail = [next(iter(left))]
        while trail[-1] not in trail[:-1]:
            trail.append(min(left[trail[-1]] & set(left)))
        loop = trail[trail.index(trail[-1]) :]
        loops.append(" -> ".join(loop))
        for module in loop[:-1]:
            left.pop(module, None)
        while free := [module for module, others in left.items() if not others & set(left)]:
            for module in free:
                del left[module]
    return loops


def test_no_circular_imports() -> None:
    assert not circles({module: (SOURCE / module).read_text() for module in MODULES})


def test_planted_circular_import_is_detected() -> None:
    a = "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from diffprob.base.b import B\n"
    b = "def f():\n    from diffprob.base import c\n"
    sources = {"base/a.py": a, "base/b.py": b, "base/c.py": "import diffprob.base.a\n", "base/d.py": a}
    assert circles(sources) == ["base.a -> base.b -> base.c -> base.a"]
    assert not circles({**sources, "base/c.py": ""})


HEADER = '"""A module."""\n'
PLANTED = {
    "upward": ("process/x.py", "from diffprob.sampling import simulate\n", "layer 1 imports sampling of layer 4"),
    "upward and lazy": ("base/x.py", "def _f():\n    import diffprob.net.unet\n", "layer 0 imports net"),
    "sibling": (
        "net/x.py",
        "from diffprob.process.linear import LinearProcess\n",
        "layer 1 imports process of layer 1",
    ),
    "through the top": ("sampling/x.py", "from diffprob import simulate\n", "from the top of the package"),
    "relative": ("sampling/x.py", "from .simulate import simulate\n", "relative import"),
    "eager scipy": ("evaluation/x.py", "import scipy.linalg\n", "imports scipy.linalg eagerly"),
    "eager in a branch": ("denoise/x.py", "try:\n    import PIL\nexcept ImportError:\n    PIL = None\n", "PIL eagerly"),
    "eager torch in the cli": ("cli/x.py", "import torch\n", "imports torch eagerly"),
    "eager top": ("__init__.py", "from diffprob.base.rng import Rng\n", "must stay lazy"),
    "torchvision": ("data/x.py", "def _f():\n    from torchvision import io\n", "imports torchvision"),
    "pickle": ("runs/x.py", "import pickle\n", "imports pickle"),
    "torch.load": ("runs/x.py", "import torch\n\n_x = torch.load('x')\n", "calls torch.load"),
    "pickled arrays": ("data/x.py", "import numpy as np\n\n_x = np.load('x', allow_pickle=True)\n", "allows pickles"),
    "eval": ("runs/x.py", "_x = eval('1')\n", "calls eval"),
    "a file opened": ("runs/x.py", "def _f(path):\n    return path.open()\n", "calls path.open instead of"),
    "a file read": ("cli/x.py", "def _f(path):\n    return path.read_text()\n", "calls path.read_text instead of"),
    "a folder deleted": ("cli/x.py", "import shutil\n\nshutil.rmtree('x')\n", "calls shutil.rmtree instead of"),
    "a figure to a path": ("reporting/x.py", "def _f(f, path):\n    f.savefig(path)\n", "savefig to a path"),
    "progress bar": ("sampling/x.py", "def _f():\n    import rich\n", "imports rich"),
    "arguments parsed": ("tasks/x.py", "def _f():\n    import argparse\n", "imports argparse outside cli"),
    "arguments taken": ("tasks/x.py", "def _f(args: 'argparse.Namespace'): ...\n", "takes a Namespace outside cli"),
    "the command line imported": (
        "tasks/x.py",
        "def _f():\n    from diffprob.cli import main\n",
        "imports cli of layer",
    ),
    "the command line at the top": ("api.py", "from diffprob.cli.main import main\n", "imports diffprob.cli.main.main"),
    "printed": ("tasks/x.py", "def _f():\n    print('done')\n", "prints outside cli"),
    "written to a stream": ("tasks/x.py", "import sys\n\nsys.stderr.write('x')\n", "uses sys.stderr outside cli"),
    "a message searched": (
        *("data/x.py", "try:\n    f()\nexcept ValueError as error:\n    if 'size' in str(error):\n        raise\n"),
        "decides by the text of an error",
    ),
    "a message taken apart": (
        *("data/x.py", "try:\n    f()\nexcept ValueError as error:\n    name = str(error).partition(' ')[0]\n"),
        "takes the text of an error apart",
    ),
    "kwargs": ("net/x.py", "def _f(**options):\n    return g(**options)\n", "passes **options"),
    "long function": ("net/x.py", "def _f():\n" + "    pass\n" * 60, "61 lines, at most 60"),
    "long file": ("net/x.py", "_x = 1\n" * 400, "401 lines, at most 400"),
    "no docstring": ("net/x.py", "class Net:\n    def features(self): ...\n", "Net.features has no docstring"),
}


@pytest.mark.parametrize("case", PLANTED)
def test_planted_rule_violation_is_detected(case: str) -> None:
    module, code, expected = PLANTED[case]
    assert any(expected in line for line in problems(module, HEADER + code)), problems(module, HEADER + code)


def test_clean_module_passes() -> None:
    code = 'import torch\n\nfrom diffprob.base.rng import Rng\n\n\ndef f(x: torch.Tensor) -> Rng:\n    """Ours."""\n'
    body = "    model = g(x).eval()\n    import scipy\n    return scipy.f(model)\n"
    assert problems("evaluation/x.py", HEADER + code + body) == []


# Whole commands to be typed at a terminal, and another program's option.
COMMANDS = {"reporting/repeat.py", "runs/card.py", "runs/fits.py", "runs/folder.py"}
COMMAND = re.compile(r"(diffprob|detect RUN|translate RUN|torchrun)\b.*")


def test_below_tasks_no_message_spells_an_option() -> None:
    """The door spells it: `base.options.option`."""
    for name in MODULES:
        if name.startswith(("tasks/", "studio/", "cli/")) or name in COMMANDS:
            continue
        tree = ast.parse((SOURCE / name).read_text())
        documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        texts = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents
        ]
        for text in texts:
            assert not re.search(r"(^|[\s`'(])--[a-z]", COMMAND.sub("", text.value)), f"{name}:{text.lineno}"


def test_the_command_line_stays_small() -> None:
    """Text, options, files and progress alone: what decides a number is a task."""
    lines = sum(len(path.read_text().splitlines()) for path in (ROOT / "src" / "diffprob" / "cli").glob("*.py"))
    assert lines <= 3755, f"cli has {lines:,} lines: what is no text, option, file or progress belongs into tasks"
