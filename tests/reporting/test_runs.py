"""Runs read from folders, and what is put together with what."""

import json

import numpy as np
import pytest
from made_audit import finding, made_audit
from made_runs import MEASURES, made_result, write_run

from ltu_jax.auditing.registry import AUDITS
from ltu_jax.reporting.runs import Group, compare, read_run
from ltu_jax.setting import ConfigError


@pytest.fixture
def runs(tmp_path):
    """Writes runs and reads them back: each is (folder name, result) and settings."""

    def write(*given):
        return [read_run(write_run(tmp_path / name, result, **settings)) for name, result, settings in given]

    return write


def labels(runs):
    (comparison,) = compare(runs)
    return {group.label: [run.path.name for run in group.runs] for group in comparison.groups}


def test_runs_that_differ_in_their_seeds_are_one_group(runs):
    given = [(f"a{'x' * seed}", made_result(seed=seed), {"learning_rate": 0.1}) for seed in range(3)]
    assert labels(runs(*given)) == {"ltu": ["a", "ax", "axx"]}


def test_a_setting_is_named_where_it_is_not_as_in_most_variants_of_a_method(runs):
    given = [("full", made_result(), {"remember": True, "order": "second"})]
    given += [("no_r", made_result(), {"remember": False, "order": "second"})]
    given += [("none", made_result(), {"remember": True, "order": "none"})]
    given += [("ft", made_result("finetune"), {"epochs": 3})]
    assert set(labels(runs(*given))) == {"ltu", "ltu (remember False)", "ltu (order none)", "finetune"}


def test_of_two_variants_both_are_named(runs):
    given = [
        (f"{rate}", made_result("salun"), {"learning_rate": rate, "samplers": ["a", "b"]}) for rate in (0.01, 0.02)
    ]
    assert set(labels(runs(*given))) == {"salun (learning_rate 0.01)", "salun (learning_rate 0.02)"}


def test_settings_of_one_name_are_told_apart(runs, tmp_path):
    given = [(f"{rate}", made_result("salun"), {"learning_rate": rate}) for rate in (0.01, 0.02)]
    runs(*given)
    file = tmp_path / "0.02" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"training": {"learning_rate": 0.3}}))
    assert set(labels([read_run(tmp_path / f"{rate}") for rate in (0.01, 0.02)])) == {
        "salun (method.learning_rate 0.01, training.learning_rate 0.1)",
        "salun (method.learning_rate 0.02, training.learning_rate 0.3)",
    }


def test_rho_is_what_the_result_says(runs):
    given = [(f"{rho}", made_result(rho=rho), {"epochs": 7}) for rho in (0.1, 0.3, 1.0)]
    assert set(labels(runs(*given))) == {"ltu (rho 0.1)", "ltu (rho 0.3)", "ltu (rho 1.0)"}


def test_without_a_configuration_the_method_and_rho_must_do(runs):
    given = [(f"{seed}", made_result(seed=seed), {}) for seed in range(3)]
    assert labels(runs(*given)) == {"ltu": ["0", "1", "2"]}
    assert set(labels(runs(("3", made_result(seed=3, rho=1.0), {}), ("4", made_result(seed=4), {})))) == {
        "ltu (rho 0.3)",
        "ltu (rho 1.0)",
    }


def test_runs_with_and_without_a_configuration_are_not_pooled(runs):
    given = [("a", made_result(seed=0), {"epochs": 7}), ("b", made_result(seed=1), {})]
    assert set(labels(runs(*given))) == {"ltu", "ltu, settings unknown"}


def test_a_second_run_of_the_same_seeds_is_no_further_seed(runs, tmp_path):
    given = [(name, made_result(seed=seed), {"epochs": 7}) for name, seed in (("a", 0), ("b", 1), ("c", 1))]
    assert set(labels(runs(*given))) == {f"ltu in {tmp_path / name}" for name in "abc"}


def test_the_smallest_mean_gap_is_first_and_none_at_all_last(runs):
    given = [("none", made_result("none", gap=None, retrain=None), {})]
    given += [(f"{gap}", made_result(f"gap-{gap}", gaps=(gap, 0, 0, 0)), {}) for gap in (8.0, 2.0, 4.0)]
    assert list(labels(runs(*given))) == ["gap-2.0", "gap-4.0", "gap-8.0", "none"]


def test_only_runs_with_one_original_and_one_retrain_share_a_problem(runs):
    other = made_result("scrub", seed=0)
    other["retrain"]["ua"] += 1
    given = [(f"{method}{seed}", made_result(method, seed), {}) for method in ("ltu", "salun") for seed in (0, 1)]
    given += [("other", other, {})]
    given += [("unlearn", made_result("ssd", 0, seeds={"train": 0, "split": 0, "unlearn": 9}), {})]
    given += [("train", made_result("fisher", 0, seeds={"train": 9, "split": 0, "unlearn": 0}), {})]
    (comparison,) = compare(runs(*given))
    problems = [{group.label for group in problem} for problem in comparison.problems]
    assert problems == [{"ltu", "salun", "ssd"}, {"ltu", "salun"}, {"scrub"}, {"fisher"}]
    assert [len(problem[0].runs) for problem in comparison.problems] == [1] * 4
    assert [model["retrain"]["ua"] for model in comparison.models] == [10, 11, 11, 10]


@pytest.mark.parametrize(
    "change", [{"dataset": "x"}, {"model": "x"}, {"forget": {"count": 1}}, {"forget": {"kind": "x"}}]
)
def test_other_requests_are_compared_apart(runs, change):
    other = made_result()
    other |= {name: other[name] | value if isinstance(value, dict) else value for name, value in change.items()}
    assert [len(comparison.groups) for comparison in compare(runs(("a", made_result(), {}), ("b", other, {})))] == [
        1,
        1,
    ]


def test_gaps_are_taken_run_by_run_and_averaged_over_the_problems(runs):
    rng = np.random.default_rng(0)
    gaps = rng.uniform(0, 9, (4, 4))
    given = [(f"{seed}", made_result(seed=seed, gaps=gaps[seed].tolist()), {}) for seed in range(4)]
    (comparison,) = compare(runs(*given))
    (group,) = comparison.groups
    np.testing.assert_allclose(group.gaps("ua", "mi"), gaps[:, [0, 3]].mean(axis=1))
    np.testing.assert_allclose(group.gaps("mean"), gaps.mean(axis=1))
    assert comparison.average("original_gap") == {"ua": 11.5, "ra": 1, "ta": 3, "mi": 41, "mean": (55 + 1.5) / 4}
    assert comparison.average("nothing") == dict.fromkeys((*MEASURES, "mean"))


def test_what_a_run_does_not_know_is_left_out(runs):
    one, two, three = made_result(flops=3.0), made_result(seed=1, gap=None), made_result(seed=2)
    three["gap"]["mi"] = None
    group = Group("ltu", runs(("a", one, {}), ("b", two, {}), ("c", three, {})))
    assert group.gaps("ua", "mi") == [2.5]
    assert group.gaps("ua") == [1.0, 1.0]
    assert group.costs("flops") == [3.0]


FAULTS = {
    "scores": (lambda r: r.pop("scores"), "scores"),
    "a score": (lambda r: r["scores"].update(ua="high"), "scores.ua"),
    "cost": (lambda r: r["cost"].update(flops=[]), "cost.flops"),
    "gap": (lambda r: r.update(gap=3), "gap"),
    "closeness": (lambda r: r.update(closeness=[]), "closeness"),
    "closeness of a model": (lambda r: r.update(closeness={"original": 3}), "closeness.original"),
    "a figure of closeness": (lambda r: r.update(closeness={"original": {"ks": "3"}}), "closeness.original.ks"),
    "too deep": (lambda r: r.update(closeness={"original": {"ks": {"x": 3}}}), "closeness.original.ks"),
    "a figure of one's own": (lambda r: r.update(measures={"unlearned": {"x": "3"}}), "measures.unlearned.x"),
    "rho": (lambda r: r.update(rho="0.3"), "rho"),
    "ratio": (lambda r: r.update(ratio="0.3"), "ratio"),
    "an empty ratio": (lambda r: r.update(ratio={}), "ratio"),
    "seeds": (lambda r: r.update(seeds=[0, 1]), "seeds"),
    "a seed": (lambda r: r["seeds"].update(train="0"), "seeds.train"),
    "forget": (lambda r: r["forget"].pop("sha256"), "forget.sha256"),
    "splits": (lambda r: r.pop("splits_sha256"), "splits_sha256"),
    "method": (lambda r: r.update(method=None), "method"),
    "warnings": (lambda r: r.update(warnings="one"), "warnings"),
    "schema": (lambda r: r.update(schema_version=3), "schema_version 3 is none of"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_result_is_told_in_one_line_that_names_the_part(tmp_path, fault):
    damage, named = FAULTS[fault]
    result = made_result(flops=1.0)
    damage(result)
    folder = write_run(tmp_path / "a", result)
    with pytest.raises(ConfigError) as error:
        read_run(folder)
    assert str(error.value).startswith(f"folder: {str(folder)!r} holds a damaged result.json ({named}")
    assert "; allowed: " in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00", "null"])
@pytest.mark.parametrize("name", ["result.json", "config.json"])
def test_a_file_that_holds_no_object_is_damaged(tmp_path, name, text):
    folder = write_run(tmp_path / "a", made_result(), epochs=7)
    (folder / name).write_text(text)
    with pytest.raises(ConfigError, match=f"holds a damaged {name}"):
        read_run(folder)


def test_a_folder_without_a_result_is_no_run(tmp_path):
    with pytest.raises(ConfigError, match="holds no result.json; allowed: "):
        read_run(tmp_path)
    with pytest.raises(ConfigError, match="holds no result.json; allowed: "):
        read_run(tmp_path / "nowhere")


def test_numbers_that_are_not_finite_are_not_known(tmp_path):
    result = made_result()
    result["gap"]["mean"] = float("nan")
    run = read_run(write_run(tmp_path / "a", result))
    assert run.result["gap"]["mean"] is None
    assert Group("ltu", [run]).gaps("mean") == []


def test_a_run_is_named_by_its_folder_or_its_result_file(tmp_path):
    folder = write_run(tmp_path / "a", made_result(), epochs=7)
    (folder / "report.html").write_text("<p>")
    one, other = read_run(folder), read_run(folder / "result.json")
    assert (one.result, one.settings, one.report) == (other.result, other.settings, other.report)
    assert one.report == folder / "report.html"
    assert one.settings == {"rho": 0.3, "method.epochs": 7, "training.learning_rate": 0.1}


def test_what_lies_beside_a_copied_result_is_not_its_own(tmp_path):
    folder = write_run(tmp_path / "a", made_result(), epochs=7)
    (folder / "report.html").write_text("<p>")
    (folder / "seed-0.json").write_text((folder / "result.json").read_text())
    run = read_run(folder / "seed-0.json")
    assert (run.settings, run.report) == ({"rho": 0.3}, None)


@pytest.mark.parametrize(
    "path, value",
    [
        ("provenance.versions", ["jax"]),
        ("forget.fraction", []),
        ("scores.ua", {}),
        ("retrain.ra", {"of": 3.0}),
        ("gap.mean", "1"),
    ],
)
def test_parts_that_no_page_can_be_made_of_are_named(tmp_path, path, value):
    result = made_result()
    part, _, name = path.partition(".")
    result[part][name] = value
    with pytest.raises(ConfigError, match=rf"holds a damaged result.json \({path}[\w.]* missing or not of its kind\)"):
        read_run(write_run(tmp_path / "a", result))


def audited(folder, result, **changes):
    """Writes what an audit of this run found."""
    run = {"method": result["method"], "request_sha256": result.get("request_sha256")}
    (folder / "audit.json").write_text(json.dumps(made_audit(run=run, **changes)))


def test_the_main_figures_of_an_audit_are_read_beside_the_result(tmp_path):
    result = made_result(request_sha256="ab")
    folder = write_run(tmp_path / "a", result)
    assert read_run(folder).audits == {}
    findings = made_audit()["findings"]
    findings[5] |= {"not_done": "no Retrains"}
    audited(folder, result, findings=[*findings, finding("of a later version", 1.0, 0.1, 0.1)])
    audits = read_run(folder).audits
    assert set(audits) == set(AUDITS) - {"iam"}
    assert audits["rmia"] == (0.443, 0.991, (0.488, 0.516)) and audits["klom"] == (4.4, None, (3.8, 3.9))
    copy = folder / "copy.json"  # may be the result of another run
    copy.write_text((folder / "result.json").read_text())
    assert read_run(copy).audits == {}


OURS = {"run": {"method": "ltu"}}
DAMAGED = {
    "torn": ("{", "Expecting property"),
    "empty": ({}, "'run'"),
    "other": (made_audit(), "it is of another run"),
    "half": (OURS | {"findings": [{"audit": "rmia"}]}, "'not_done'"),
    "list": (OURS | {"findings": [{"audit": []}]}, "unhashable"),
    "one end": (OURS | {"findings": [finding("rmia", 0, 1, 1, floor=[1.0])]}, "not enough values"),
    "text": (OURS | {"findings": [finding("rmia", 0, 1, 1, floor=["a", 1])]}, "rmia is no number"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_audit_is_refused_in_one_line(tmp_path, name):
    content, why = DAMAGED[name]
    folder = write_run(tmp_path / "a", made_result())
    (folder / "audit.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ConfigError, match=f"^folder: .*: a damaged audit.json .*{why}.*; allowed: ") as error:
        read_run(folder)
    assert "\n" not in str(error.value)
