"""The house holds: imports point down, the evaluation is out of the methods' reach, public means documented."""

import ast
import functools
import inspect
import pathlib
import re

import pytest

import ltu_jax

ROOT = pathlib.Path(ltu_jax.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# A room may import itself and what stands above it in this list; rooms of one line do not know each other.
# A list of names is a room of its own: the configuration knows it, and what they stand for knows the configuration.
LEVELS = [
    {"types", "setting", "safe_reading"},
    {"files", "config_file", "devices"},
    {"methods.registry", "models.families"},
    {"config"},
    {"core", "models", "interop", "data", "overrides"},
    {"training"},
    {"attackers"},
    {"methods", "evaluation"},
    {"unlearning"},
    {"auditing"},
    {"reporting"},
    {"deletion", "tabling"},
    {"default", "commands"},
    {"sweeping"},
    {"unlearn", "report", "verify", "cache", "difficulty", "audit", "sweep", "tune", "tables"},
]
LEVEL = {room: i for i, rooms in enumerate(LEVELS) for room in rooms}
CORE_MAY_IMPORT = {"jax", "optax", "chex", "collections", "functools", "typing", "ltu_jax"}


def room_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts) if ".".join(parts) in LEVEL else parts[0]


def room_imported(name):
    """The room of a module, or of a name in one."""
    parts = name.split(".")[1:3]
    return ".".join(parts) if ".".join(parts) in LEVEL else parts[0]


def imported(path):
    """Every module that a file imports, at any depth of it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def arrows():
    """Each import of ours: the file, its room, the room that it imports."""
    files = [path for path in FILES if path != ROOT / "__init__.py"]
    ours = [(path, name) for path in files for name in imported(path) if name.startswith("ltu_jax.")]
    return [(path, room_of(path), room_imported(name)) for path, name in ours]


def test_every_file_has_a_room():
    assert {room_of(p) for p in FILES} - {"__init__"} <= set(LEVEL)


def test_imports_only_point_down():
    upward = [
        f"{path.relative_to(ROOT)} imports {target}"
        for path, room, target in arrows()
        if room != target and LEVEL[target] >= LEVEL[room]
    ]
    assert not upward


def test_methods_cannot_reach_the_evaluation():
    reaches = {room: {target for _, r, target in arrows() if r == room} for room in LEVEL}
    seen, todo = set(), {"methods"}
    while todo:
        seen |= todo
        todo = set().union(*(reaches[room] for room in todo)) - seen
    assert "evaluation" not in seen


def test_the_core_imports_jax_optax_and_chex_only():
    names = {name.split(".")[0] for p in FILES if room_of(p) == "core" for name in imported(p)}
    assert names <= CORE_MAY_IMPORT
    inside = {target for _, room, target in arrows() if room == "core"}
    assert inside <= {"core"}


def test_heavy_packages_are_imported_where_they_are_used():
    heavy = (
        "tensorflow_datasets",
        "matplotlib",
        "sklearn",
        "orbax",
        "rich",
        "jinja2",
        "markupsafe",
        "PIL",
        "optuna",
        "cryptography",
        "pyarrow",
        "jax_privacy",
    )
    builders = {"cifar.py", "tiny_imagenet.py"}  # define TFDS builders; imported only to prepare a data set
    early = []
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            early += [f"{path.name}: {n}" for n in names if n.startswith(heavy) and path.name not in builders]
    assert not early


LATE = {
    "cache.py",
    "audit.py",
    "difficulty.py",
    "unlearn.py",
    "verify.py",
    "commands/shutdown.py",
    "data/sources.py",
    "deletion/leftovers/look.py",
    "models/build.py",
}
"""Import rooms of ours within a function: what answers without JAX, and readers and models that few commands need."""


def test_our_own_imports_stand_at_the_top_of_a_file():
    late = set()
    for path in FILES:
        module = ast.parse(path.read_text())
        inside = [node for node in ast.walk(module) if isinstance(node, ast.ImportFrom) and node.col_offset]
        typing = [node for one in module.body if isinstance(one, ast.If) for node in ast.walk(one)]
        if any(str(node.module).startswith("ltu_jax") for node in inside if node not in typing):
            late.add(path.relative_to(ROOT).as_posix())
    assert late <= LATE


PLAIN = ("plain", "printable", "json.dumps", "_help")


def test_what_is_printed_is_plain():
    """Names of files, ids and classes come from outside: an escape in one would clear the screen, or write a line."""
    wrong = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            name = isinstance(node, ast.Call) and getattr(node.func, "id", None)
            if name not in ("print", "Text") or not node.args:
                continue
            first = node.args[0]
            is_safe = isinstance(first, ast.Constant) or isinstance(first, ast.Name) and first.id.isupper()
            if not is_safe and ast.unparse(first).partition("(")[0] not in PLAIN:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}")
    assert not wrong


TAG = re.compile(r"</?(?!frozen )[a-z][a-z0-9]*[ >/]")  # Python itself writes "<frozen importlib"


def strings(module):
    """The text constants of a module, those within f-strings too; no docstrings."""
    docstrings = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node


def test_html_is_written_in_templates_only():
    """But for the two tags by which Markdown folds the commands under a table."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.value[:60]!r}"
        for path in FILES
        for node in strings(ast.parse(path.read_text()))
        if TAG.search(node.value) and "details>" not in node.value
    ]
    assert not wrong


def test_tensorflow_is_never_imported():
    for path in FILES:
        assert not [n for n in imported(path) if re.match(r"tensorflow(\.|$)", n)], path


def public_functions():
    for path in FILES:
        module = ast.parse(path.read_text())
        for node in module.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                yield path, node
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                for item in node.body:
                    if isinstance(item, ast.FunctionDef) and not item.name.startswith("_"):
                        yield path, item


def test_every_public_function_is_annotated_and_documented():
    wrong = []
    for path, node in public_functions():
        where = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        arguments = [a for a in node.args.args + node.args.kwonlyargs if a.arg not in ("self", "cls")]
        if not ast.get_docstring(node):
            wrong.append(f"{where} has no docstring")
        if node.returns is None or any(a.annotation is None for a in arguments):
            wrong.append(f"{where} is not annotated")
    assert not wrong


def test_every_file_says_what_it_is_for():
    silent = [
        p.relative_to(ROOT) for p in FILES if p.read_text().strip() and not ast.get_docstring(ast.parse(p.read_text()))
    ]
    assert not silent


def test_no_file_is_a_drawer():
    names = {p.stem for p in ROOT.parent.rglob("*.py") if ".venv" not in p.parts}
    assert not names & {"utils", "helpers", "common", "misc", "util"}


def test_the_public_names_are_there():
    for name in ltu_jax.__all__:
        assert getattr(ltu_jax, name) is not None
    assert not inspect.isroutine(getattr(ltu_jax, "unlearn", None)), "would shadow python -m ltu_jax.unlearn"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        ltu_jax.nothing  # noqa: B018


def test_tests_mirror_the_package():
    tests = {p.relative_to(ROOT.parent / "tests") for p in (ROOT.parent / "tests").rglob("test_*.py")}
    missing = [
        p.relative_to(ROOT)
        for p in FILES
        if p.name != "__init__.py"
        and p.read_text().strip()
        and p.relative_to(ROOT).with_name(f"test_{p.name}") not in tests
        and room_of(p) not in ("types", "default")
    ]
    assert not missing, f"no test file for {missing}"
