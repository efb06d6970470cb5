"""The words of README.md and docs/ hold: examples run, links lead somewhere, what they name is there."""

import pathlib
import re

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))}
README = PAGES["README.md"]
OTHERS = ("CONTRIBUTING.md", "CHANGELOG.md", "experiments/README.md", "experiments/results/README.md")


def example(page, which=0):
    """The names that a Python block of a page defines."""
    code = re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL)[which]
    names = {}
    exec(compile(code, page, "exec"), names)
    return names


def logits_of(names, params, rows):
    return np.asarray(names["apply"](params, names["images"][rows]))


def error(names, params, rows):
    return 100 * np.mean(logits_of(names, params, rows).argmax(1) != np.asarray(names["labels"][rows]))


def auc(names, params, rows, others):
    """Of the margin, computed pair by pair."""

    def margins(rows):
        z, y = logits_of(names, params, rows).astype(float), np.asarray(names["labels"][rows])
        p = np.exp(z - np.logaddexp.reduce(z, axis=1, keepdims=True))
        return np.log(p[np.arange(len(y)), y]) - np.log(np.where(np.arange(10) == y[:, None], 0, p).sum(1))

    return np.mean(margins(rows)[:, None] > margins(others))


@pytest.mark.smoke
def test_the_example_of_the_readme_forgets_and_remembers():
    names = example("README.md")
    forget, remain, unused = slice(0, 60), slice(60, 300), slice(600, 1797)
    before, after = names["params"], names["unlearned"]
    assert error(names, before, forget) == error(names, before, remain) == 0
    assert error(names, after, forget) > 15 and error(names, after, remain) < 1
    assert abs(error(names, after, forget) - error(names, after, unused)) < 6
    assert error(names, after, unused) < error(names, before, unused) + 6
    assert auc(names, before, forget, unused) > 0.64 and abs(auc(names, after, forget, unused) - 0.5) < 0.05


@pytest.mark.smoke
def test_the_long_example_forgets_and_remembers():
    names = example("docs/functional.md")
    forget, remain, held_out = slice(0, 60), slice(60, 300), slice(300, 1797)
    before, after = names["params"], names["unlearned"]
    assert error(names, before, forget) == error(names, before, remain) == 0
    assert error(names, after, forget) > 15
    assert error(names, after, remain) < 3
    assert abs(error(names, after, forget) - error(names, after, held_out)) < 12


@pytest.mark.smoke
def test_the_inner_adam_is_not_finite_without_eps_root_and_is_with_it():
    names = example("docs/functional.md", 1)
    assert np.isnan(names["broken"]["w1"]).any() and np.isfinite(names["mended"]["w1"]).all()
    x, y, w1, w2 = (np.asarray(one, np.float64) for one in (names["x"], names["y"], *names["params"].values()))

    def loss_and_gradient(w1, labels):
        hidden = np.maximum(x @ w1, 0)
        p = np.exp(hidden @ w2)
        p, right = p / p.sum(1, keepdims=True), np.eye(2)[labels.astype(int)]
        d = (p - right) / len(x)
        return -np.log((p * right).sum(1)).mean(), x.T @ (d @ w2.T * (x @ w1 > 0)), hidden.T @ d

    def objective(w1):  # the support's loss, and the queries' after the first step of AdamW
        loss, *gradients = loss_and_gradient(w1, y)
        step = [g / (np.sqrt(g**2 + 1e-8) + 1e-8) + 1e-4 * w for g, w in zip(gradients, (w1, w2), strict=True)]
        hidden = np.maximum(x @ (w1 - 1e-3 * step[0]), 0)
        logits = hidden @ (w2 - 1e-3 * step[1])
        return loss + np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(x)), 1 - y.astype(int)])

    for i, j in np.ndindex(4, 5):
        moved = np.zeros_like(w1)
        moved[i, j + 1] = 1e-6  # but for the dead unit, which stands at a kink
        difference = (objective(w1 + moved) - objective(w1 - moved)) / 2e-6
        assert np.isclose(names["mended"]["w1"][i, j + 1], difference, rtol=1e-3, atol=1e-5)


def test_the_configuration_that_is_shown_is_the_embedded_default():
    from ltu_jax.default import get_config

    shown = example("docs/configuration.md")["get_config"]
    for method in ("ltu", "salun"):
        assert shown(method) == get_config(method)


def test_the_readme_is_short():
    lines = README.splitlines()
    assert len(lines) <= 130
    without_links = [re.sub(r"\]\([^)]*\)", "]", text) for text in lines if not text.startswith(("|", "<img"))]
    assert not [text for text in without_links if len(text) > 120]


def prose(text):
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def anchors(text):
    """The names that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", [*sorted(PAGES), *OTHERS])
def test_every_link_leads_to_a_file_and_to_a_heading(page):
    text, broken = prose((ROOT / page).read_text()), []
    for link in re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", text):
        target = link[0] or link[1]
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        file = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        if not file.exists() or not file.is_relative_to(ROOT):
            broken.append(target)
        elif anchor and anchor not in anchors(file.read_text()):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", sorted(PAGES))
def test_a_page_has_one_title(page):
    assert PAGES[page].startswith("# ") and len(re.findall(r"^# ", prose(PAGES[page]), re.MULTILINE)) == 1


def test_the_index_lists_every_page():
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", PAGES["docs/index.md"]))
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}


@pytest.mark.smoke
def test_every_file_that_a_page_names_is_there():
    text = "\n".join(PAGES.values())
    named = set(re.findall(r"(?:experiments|ltu_jax|tests)/[\w/.]+?\.py", text))
    assert len(named) > 10
    assert not [path for path in named if not (ROOT / path).exists()]


def test_every_command_method_and_setting_that_a_page_names_is_there():
    from ltu_jax import config, setting

    text = "\n".join(PAGES.values())
    for name in re.findall(r"python -m ltu_jax\.(\w+)", text):
        assert (ROOT / "ltu_jax" / f"{name}.py").exists() or name == "NAME", name
    for name in re.findall(r"digits\.py:(\w+)", text):
        config.method_config(name)
    every = [config.Config(method=make()) for make in config.METHOD_CONFIGS.values()]
    known = {name for one in every for name, _, _ in setting.settings(one)}
    rooms = "method|data|attackers|training|model|evaluation|calibration|seeds"
    named = re.findall(rf"(?:config\.|`)({rooms})\.(\w+)\b(?!\.py)", text)
    assert len(named) > 50
    assert {f"{room}.{name}" for room, name in named if f"config.{room}.{name}" not in known} <= {"model.pth"}
