"""One command from nothing to a result, again from its cache, and again from its half."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

HERE = pathlib.Path(__file__).parent
CONFIG = """
from ltu_jax import config

BY_ATTACKERS = config.LTU(forget_by="attackers", relabel="step", order="second", learning_rate=0.01)

def get_config(method="ltu"):
    return config.Config(
        data=config.Data(train_size=100, forget_fraction=0.2),
        model=config.Model("mlp:build"),
        training=config.Training(epochs=3, batch_size=20),
        attackers=config.Attackers(names=("sorted", "metrics"), num_shadows=2, epochs=2, draws=1),
        method=BY_ATTACKERS if method == "ltu" else config.method_config(method),
        evaluation=config.Evaluation(num_retrain=1),
        save_every=5,
        eval_every=10,
    )
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("end_to_end")
    (path / "small.py").write_text(CONFIG)
    return path


def start(folder, *args):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE), str(HERE.parent), str(folder)))}
    if "whole" in args or "second" in args:
        del env["JAX_COMPILATION_CACHE_DIR"]  # the programs lie in the run's own cache then
    words = [sys.executable, "-m", "ltu_jax.unlearn", *([] if "--config" in args else ["--config", "small.py"]), *args]
    return subprocess.Popen(words, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(folder, *args):
    process = start(folder, *args)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


LONG = ["--config.method.epochs=10", "--config.method.batch_size=4", "--config.method.query_size=8"]  # 50 steps


@pytest.fixture(scope="module")
def whole(folder):
    code, out, err = run(folder, "--workdir", "whole", *LONG, "--show_images")
    assert code == 0, err
    return out, err


def result_of(folder, name):
    found = json.loads((folder / name / "result.json").read_text())
    for key in ("time", "provenance"):
        found.pop(key)
    for scores in (found["scores"], found["retrain"]):
        scores.pop("ut_minutes")
    for name in ("compile_s", "run_s"):
        found["cost"].pop(name)
    return found


@pytest.mark.smoke
def test_a_run_leaves_everything_that_is_promised(folder, whole):
    out, err = whole
    left = {p.name for p in (folder / "whole").iterdir()}
    assert left == {
        *("config.json", "result.json", "metrics.jsonl", "times.jsonl", "report.html", "checkpoints", "model")
    }
    assert "UA" in out and "Original" in out and "Retrain" in out and "shadow 1/2" in err
    rows = [json.loads(line) for line in (folder / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 51))
    assert {"cosine", "norm/remember_tune", "norm/forget_grad"} <= set(rows[0])
    assert [row["step"] for row in rows if "eval/distance" in row] == [10, 20, 30, 40, 50]
    page = (folder / "whole" / "report.html").read_text()
    assert page.count("data:image/png") >= 12 and "digits" in page


def test_the_unlearned_weights_are_those_that_were_scored(folder, whole):
    import numpy as np

    from ltu_jax import config
    from ltu_jax.training.checkpoint import load_tree
    from ltu_jax.unlearning.problem import load_problem

    weights, _ = load_tree(folder / "whole" / "model")
    settings = config.Config(data=config.Data(train_size=100, forget_fraction=0.2), model=config.Model("mlp:build"))
    source, splits, spec, _ = load_problem(config.resolve(settings))
    logits, _ = spec.apply_fn(weights["params"], {}, source.images[splits.forget] / np.float32(255), False)
    wrong = 100 * np.mean(np.asarray(logits).argmax(1) != source.labels[splits.forget])
    assert np.isclose(result_of(folder, "whole")["scores"]["ua"], wrong)


def test_the_same_command_again_says_that_it_is_done(folder, whole):
    before = (folder / "whole" / "result.json").stat().st_mtime_ns
    code, out, err = run(folder, "--workdir", "whole", *LONG)
    assert code == 0 and "already done" in out and "original" not in err and "unlearning" not in err
    assert (folder / "whole" / "result.json").stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["", '{"scores": {"ua'])
def test_what_a_power_cut_tore_is_made_anew_from_the_checkpoints(folder, whole, harm):
    shutil.copytree(folder / "whole", folder / "damaged", dirs_exist_ok=True)
    for name in ("result.json", "config.json", "metrics.jsonl"):
        (folder / "damaged" / name).write_text(harm)
    code, _, err = run(folder, "--workdir", "damaged", *LONG)
    assert code == 0, err
    assert "note: damaged/result.json cannot be read" in err
    assert "note: damaged/metrics.jsonl is not what was saved: written anew" in err
    assert result_of(folder, "damaged") == result_of(folder, "whole")
    for name in ("config.json", "metrics.jsonl"):
        assert (folder / "damaged" / name).read_text() == (folder / "whole" / name).read_text()


@pytest.mark.slow
def test_a_second_start_compiles_nothing_wherever_the_programs_were_moved(folder, whole):
    programs = folder / "moved" / "compiled"
    shutil.copytree(folder / "cache" / "compiled", programs)
    before = {path.name for path in programs.iterdir()}
    code, _, err = run(folder, "--workdir", "second", "--cache", "moved", *LONG, "--show_images")
    assert code == 0 and "original" in err and len(before) > 50, err
    assert {path.name for path in programs.iterdir()} == before
    assert result_of(folder, "second") == result_of(folder, "whole")


@pytest.mark.slow
def test_given_weights_are_what_is_unlearned_and_come_back_in_their_form(folder, whole):
    import flax.serialization
    import jax
    import numpy as np

    from ltu_jax.training.checkpoint import load_tree

    weights, _ = load_tree(folder / "whole" / "model")  # another model than the original that the cache holds
    given = {"params": jax.tree.map(np.asarray, weights["params"])}
    (folder / "mine.msgpack").write_bytes(flax.serialization.msgpack_serialize(given))
    words = [
        "--workdir",
        "given",
        "--cache",
        "cache",
        "--config.weights=mine.msgpack",
        "--config.data.held_out=train",
        *LONG,
    ]
    code, out, err = run(folder, *words)
    assert code == 0 and "original:" not in err and "weights/" in out, err
    found, wanted = result_of(folder, "given"), result_of(folder, "whole")
    for measure, score in found["original"].items():
        assert score == wanted["scores"][measure]
    assert found["retrain"] == wanted["retrain"] and found["original"] != wanted["original"]
    back = flax.serialization.msgpack_restore((folder / "given" / "weights" / "mine.msgpack").read_bytes())
    unlearned, _ = load_tree(folder / "given" / "model")
    for name, value in unlearned["params"].items():
        np.testing.assert_array_equal(back["params"][name], value)
    assert not np.array_equal(back["params"]["w1"], given["params"]["w1"])

    (folder / "mine.msgpack").write_bytes(flax.serialization.msgpack_serialize(back))
    code, _, err = run(folder, *words)
    assert code == 2 and "holds a run on other data, ids or weights" in err
    code, _, err = run(folder, "--workdir", "none", "--config.weights=mine.msgpack")
    assert code == 2 and "nothing says which rows the weights never saw" in err.splitlines()[-1]
    (folder / "mine.msgpack").write_bytes(b"no weights")
    code, _, err = run(folder, *words[2:], "--workdir", "none")
    assert code == 2 and "error: config.weights: 'mine.msgpack' cannot be read" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not (folder / "none").exists()


def test_another_run_in_the_same_folder_is_refused(folder, whole):
    code, _, err = run(folder, "--workdir", "whole", *LONG, "--config.method.learning_rate=0.5")
    assert code == 2 and "config.method.learning_rate was 0.01, is 0.5" in err and len(err.splitlines()) == 1


@pytest.mark.slow
def test_the_same_command_with_other_ids_is_no_longer_done(folder):
    ids = folder / "ids.txt"
    request = ["--config.data.forget_kind=ids", "--config.data.forget_ids=ids.txt", "--config.method.epochs=1"]
    train = trained_ids()
    ids.write_text("\n".join(train[:5]))
    code, _, err = run(folder, "--workdir", "ids", *request)
    assert code == 0, err
    assert json.loads((folder / "ids" / "result.json").read_text())["forget"]["count"] == 5
    ids.write_text("\n".join(train[:6]))
    code, _, err = run(folder, "--workdir", "ids", *request)
    assert code == 2 and "holds a run on other data, ids or weights" in err


def trained_ids():
    from ltu_jax import config
    from ltu_jax.unlearning.problem import load_problem

    settings = config.Config(data=config.Data(train_size=100, forget_fraction=0.2), model=config.Model("mlp:build"))
    source, splits, *_ = load_problem(config.resolve(settings))
    return list(source.ids[splits.train])


@pytest.mark.slow
def test_prepare_makes_what_every_run_of_the_problem_needs_and_nothing_else(folder):
    code, out, err = run(folder, "--prepare", "--cache", "prepared", "--config.seed=5", "--workdir", "never")
    assert code == 0 and "prepared" in out and "original" in err and "shadow 2/2" in err, err
    assert not (folder / "never").exists()
    code, _, err = run(
        folder, "--cache", "prepared", "--config.seed=5", "--workdir", "after", "--config.method.epochs=1"
    )
    assert code == 0 and "original" not in err and "retrain" not in err and "shadow" not in err


@pytest.mark.slow
def test_another_setting_reuses_original_retrain_and_attackers(folder, whole):
    code, _, err = run(folder, "--workdir", "other", "--config.method.epochs=1")
    assert code == 0, err
    assert "original" not in err and "shadow" not in err and "retrain" not in err
    for name in ("original", "retrain", "attackers"):
        found = [result_of(folder, folder_name)[name] for folder_name in ("whole", "other")]
        for rows in found if name == "attackers" else []:
            for row in rows:
                row.pop("auc_unlearned")
        assert found[0] == found[1]


def killed_when(process, number, is_time):
    """Sends a signal as soon as ``is_time()``; returns the exit status and standard error."""
    deadline = time.time() + 200
    while time.time() < deadline and not is_time() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    return process.returncode, err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_killed_in_the_middle_goes_on_to_the_same_result(folder, whole, number):
    workdir = f"killed-{number}"
    metrics, second = folder / workdir / "metrics.jsonl", []

    def is_time():
        if not metrics.exists() or len(metrics.read_text().splitlines()) < 15:
            return False
        return second or second.append(start(folder, "--workdir", workdir, *LONG)) or True

    code, err = killed_when(start(folder, "--workdir", workdir, *LONG), number, is_time)
    assert not (folder / workdir / "result.json").exists(), "it was done before it could be killed"
    second[0].kill()
    second[0].communicate()
    if number == signal.SIGTERM:
        assert code == 143 and err.endswith("stopped by SIGTERM; saved: the same command again goes on from there\n")
        saved = max(int(path.name) for path in (folder / workdir / "checkpoints").iterdir() if path.name.isdigit())
        assert saved == len(metrics.read_text().splitlines())  # nothing that was computed is lost
    code, _, err = run(folder, "--workdir", workdir, *LONG)
    assert code == 0, err
    assert result_of(folder, workdir) == result_of(folder, "whole")
    assert metrics.read_text() == (folder / "whole" / "metrics.jsonl").read_text()


@pytest.mark.slow
def test_a_second_process_is_refused_while_a_first_one_runs(folder, whole):
    first = start(folder, "--workdir", "busy", *LONG)
    while not (folder / "busy" / "lock").exists():
        assert first.poll() is None
        time.sleep(0.01)
    code, out, err = run(folder, "--workdir", "busy", *LONG)
    assert code == 2 and err.splitlines()[-1].startswith("error: --workdir: 'busy' is in use by another process")
    out, err = first.communicate(timeout=300)
    assert first.returncode == 0 and not (folder / "busy" / "lock").exists(), err


@pytest.mark.slow
def test_a_training_that_is_stopped_goes_on_where_it_was(folder, whole):
    words = ["--workdir", "trained", "--cache", "c3", "--config.training.epochs=100", "--config.method.epochs=1"]
    words += ["--config.eval_every=5", "--config.save_seconds=0"]
    under_way = lambda: list((folder / "c3").glob("original-*.under_way/checkpoints/[0-9]*"))  # noqa: E731
    code, err = killed_when(start(folder, *words), signal.SIGTERM, under_way)
    assert code == 143 and "saved: the same command again goes on" in err
    assert 0 < max(int(path.name) for path in under_way() if path.name.isdigit()) < 500
    code, _, err = run(folder, *words)
    assert code == 0 and not under_way(), err
    code, _, err = run(folder, "--workdir", "undisturbed", "--cache", "c4", *words[4:-1])
    assert code == 0 and result_of(folder, "trained") == result_of(folder, "undisturbed"), err


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_run_goes_on_from_the_one_before(folder, whole):
    shutil.copytree(folder / "whole", folder / "harmed")
    (folder / "harmed" / "result.json").unlink()
    steps = folder / "harmed" / "checkpoints"
    before, newest = sorted((path for path in steps.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    victim = max((path for path in newest.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-1] + b"?")
    code, _, err = run(folder, "--workdir", "harmed", *LONG, "--show_images")
    assert code == 0 and f"note: harmed/checkpoints/{newest.name} is damaged" in err and "going on without it" in err
    assert result_of(folder, "harmed") == result_of(folder, "whole") and before.name == "45"


@pytest.mark.slow
def test_a_disk_without_room_is_refused_before_anything_is_trained(folder, whole):
    (folder / "sitecustomize.py").write_text(
        "import shutil, types\nshutil.disk_usage = lambda path: types.SimpleNamespace(free=1000)\n"
    )
    try:
        code, _, err = run(folder, "--workdir", "full", *LONG)
        assert code == 2 and "error: --workdir: 'full' is on a disk with 0.0 MB free" in err.splitlines()[-1]
        assert not (folder / "full").exists()
        (folder / "full").mkdir()
        code, _, err = run(folder, "--workdir", "full", *LONG)
        assert code == 1 and "MB are needed and 0.0 MB are free; what was saved before is intact" in err
    finally:
        (folder / "sitecustomize.py").unlink()
    code, _, err = run(folder, "--workdir", "full", *LONG)
    assert code == 0 and result_of(folder, "full") == result_of(folder, "whole"), err


@pytest.mark.slow
def test_retrain_is_a_method_of_the_same_command(folder, whole):
    process = subprocess.run(
        [sys.executable, "-m", "ltu_jax.unlearn", "--config", "small.py:retrain", "--workdir", "retrain"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE), str(HERE.parent)))},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    found = json.loads((folder / "retrain" / "result.json").read_text())
    assert found["method"] == "retrain" and found["attackers"] == [] and "shadow" not in process.stderr


@pytest.mark.slow
def test_the_default_workdir_names_data_set_method_and_seed(folder, whole):
    code, out, err = run(folder, "--cache", "cache", "--config.method.epochs=1", "--config.seed=0")
    assert code == 0, err
    assert (folder / "runs" / "digits-ltu-0" / "result.json").exists() and not (folder / "runs" / "cache").exists()


@pytest.mark.slow
def test_a_run_that_diverges_says_so_in_one_line_with_status_1(folder, whole):
    grows = ["--config.method.learning_rate=1000", "--config.method.weight_decay=1000", "--config.method.epochs=10"]
    code, _, err = run(folder, "--config", "small.py:finetune", "--workdir", "diverged", *grows)
    last = err.splitlines()[-1]
    assert code == 1 and "not finite in steps" in last and "try a smaller config.method.learning_rate" in last
    assert not (folder / "diverged" / "result.json").exists()


@pytest.mark.slow
def test_seeds_run_together_are_the_seeds_run_alone(folder):
    code, out, err = run(folder, "--workdir", "seeds", "--cache", "c2", "--config.num_seeds=2", "--config.at_once=2")
    assert code == 0, err
    assert "3 models" not in err and "2 models" in err and out.count("result in seeds") == 2
    for seed in (0, 1):
        code, _, err = run(folder, "--workdir", f"alone-{seed}", "--cache", "c1", f"--config.seed={seed}")
        assert code == 0, err
        found, wanted = (result_of(folder, name) for name in (f"seeds/seed-{seed}", f"alone-{seed}"))
        assert found["splits_sha256"] == wanted["splits_sha256"] and found["seeds"] == wanted["seeds"]
        for scores in ("scores", "original", "retrain"):
            assert found[scores] == pytest.approx(wanted[scores], abs=1.01 * 100 / 20)  # at most one forget row
    code, out, _ = run(folder, "--workdir", "seeds", "--cache", "c2", "--config.num_seeds=2")
    assert code == 0 and out.count("already done") == 2
    (folder / "seeds" / "seed-1" / "result.json").unlink()
    code, _, err = run(folder, "--workdir", "seeds/seed-1", "--cache", "c2", "--config.seed=1")
    assert code == 2 and "was begun with 2 models in one program, now it is 1" in err
    code, out, err = run(folder, "--workdir", "seeds", "--cache", "c2", "--config.num_seeds=2", "--config.at_once=2")
    assert code == 0 and "models" not in err and result_of(folder, "seeds/seed-1")["scores"] == found["scores"], err


@pytest.mark.slow
def test_seeds_whose_requests_differ_in_size_run_one_after_another(folder):
    words = ["--config.data.forget_kind=class", "--config.num_seeds=2", "--config.at_once=2", "--config.eval_every=0"]
    code, _, err = run(folder, "--config", "small.py:finetune", "--workdir", "classes", "--cache", "c2", *words)
    counts = {result_of(folder, f"classes/seed-{seed}")["forget"]["count"] for seed in (0, 1)}
    assert code == 0 and len(counts) == 2, err


@pytest.mark.slow
def test_images_on_the_host_and_mapped_from_a_file_change_nothing(folder, whole):
    words = ["--config.data.stream=host", "--config.data.memory_map=pixels", *LONG]
    code, _, err = run(folder, "--workdir", "streamed", *words)
    assert code == 0, err
    found, wanted = result_of(folder, "streamed"), result_of(folder, "whole")
    assert found == wanted
    assert [p.name[:7] for p in (folder / "pixels").iterdir()] == ["images-"]
