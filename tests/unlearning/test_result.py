"""result.json: the fields that others read, and their arithmetic."""

import json

import numpy as np

from ltu_jax.training.saving import History
from ltu_jax.unlearning.result import make_result, now


def test_the_result_holds_what_the_schema_promises(problem):
    cost = {"forward": 300.0, "backward": 100.0, "remain": 60.0, "forget": 40.0}
    history = History(init_s=3.0, steps_s=57.0, compile_s=9.0, warnings=["w"], rho=0.3, cost=cost)
    result = json.loads(json.dumps(make_result(problem, problem.retrains[0], history, now())))
    assert result["schema_version"] == 2 and result["method"] == "ltu" and result["dataset"] == "digits"
    assert result["seeds"] == {"train": 0, "split": 0, "unlearn": 0} and result["rho"] == 0.3
    assert result["forget"]["kind"] == "random" and result["forget"]["count"] == 16
    assert result["forget"]["fraction"] == 0.2 and result["ratio"] == 1.5
    assert result["scores"]["ut_minutes"] == 1.0
    assert result["cost"]["remain_images"] == 60.0 and result["cost"]["run_s"] == 60.0
    # Two dense layers: a multiply and an add for each weight forward; twice that backward, less the images' gradient.
    forward, backward = (2 * (8 * 8 * 3 * 16 * one + 16 * 10 * two) for one, two in ((1, 1), (1, 2)))
    assert np.isclose(result["cost"]["flops"], 300 * forward + 100 * backward, rtol=0.1)
    assert result["time"]["compile_s"] == 9.0 and result["time"]["unlearn_s"] == 60.0
    assert {"original_s", "attackers_s", "retrain_s"} <= set(result["time"])
    assert {"commit", "versions", "device", "started", "config_sha256"} <= set(result["provenance"])
    assert result["warnings"][0] == "w" and result["audits"] == {}

    one, two = (problem.score(r) for r in problem.retrains)
    assert np.isclose(result["retrain"]["ua"], (one.ua + two.ua) / 2)
    assert np.isclose(result["retrain_spread"]["ta"], abs(one.ta - two.ta))
    for name in ("ua", "ra", "ta", "mi"):  # a Retrain model is half the spread away from the mean of two
        assert np.isclose(result["gap"][name], result["retrain_spread"][name] / 2)
    assert np.isclose(result["gap"]["mean"], np.mean([result["gap"][n] for n in ("ua", "ra", "ta", "mi")]))
    blind = [row["name"] for row in result["attackers"] if row["auc_shadow"] <= 0.55]
    assert all(name in result["warnings"][-1] for name in blind)
