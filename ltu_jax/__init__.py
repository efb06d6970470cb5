"""Learning to Unlearn (LTU): machine unlearning for image classifiers in JAX.

The public names below are imported when they are first used (PEP 562), so that ``--help`` need not
wait for JAX.
"""

import importlib
from typing import Any

_WHERE = {
    "METHODS": "methods",
    "Attackers": "config",
    "AuditTask": "types",
    "Bank": "attackers.bank",
    "Batch": "types",
    "Config": "config",
    "Data": "config",
    "Calibration": "config",
    "Evaluation": "config",
    "LTU": "config",
    "MetaGrad": "core.meta",
    "Method": "methods.base",
    "Model": "config",
    "ModelSpec": "models.build",
    "Outputs": "attackers.fit",
    "Parts": "types",
    "Problem": "unlearning.problem",
    "Retrain": "config",
    "Rows": "types",
    "SGD": "training.optimizers",
    "Scores": "types",
    "Source": "types",
    "Splits": "types",
    "Training": "config",
    "UnlearnState": "types",
    "Visible": "types",
    "audit_outputs": "auditing.outputs",
    "build_method": "methods",
    "build_model": "models.build",
    "check_receipt": "deletion.verification",
    "draw_queries": "core.queries",
    "evaluate": "evaluation.scores",
    "fit_bank": "attackers.fit",
    "forget": "deletion.forget",
    "harmonize": "core.harmonize",
    "load_model": "unlearning.finished",
    "load_problem": "unlearning.problem",
    "load_run": "unlearning.finished",
    "load_weights": "interop.weights",
    "make_query_pool": "core.queries",
    "make_state": "types",
    "meta_grad": "core.meta",
    "method_config": "config",
    "nearest_feature": "core.queries",
    "nearest_label": "core.queries",
    "prepare": "unlearning.problem",
    "resolve": "config",
    "run_problem": "unlearning.loop",
    "run_unlearning": "unlearning.loop",
    "save_weights": "interop.weights",
    "uniform": "core.queries",
}

__all__ = sorted(_WHERE)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'ltu_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ltu_jax.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
