"""Trains the originals in ``experiments/starters/``, weights to start from at once, each with what it is in JSON.

TFDS_DATA_DIR=... python experiments/starters.py

They are the originals that ``--config digits`` and ``--config experiments/configs/cifar10_jpeg_small.py`` train at seed
0, with these settings: the same rows, so that the same forget set is among what they were trained on.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from ltu_jax.files import write_whole

STARTERS = {"digits": "digits", "cifar10_jpeg_small": "experiments/configs/cifar10_jpeg_small.py"}
FOLDER = Path(__file__).parent / "starters"


def main() -> None:
    """Parses the arguments, trains each original and writes it with its description."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=STARTERS, help="this one alone; unset: all")
    parser.add_argument("--out", type=Path, default=FOLDER)
    args = parser.parse_args()
    for name in [args.only] if args.only else STARTERS:
        weights, told = trained(STARTERS[name])
        file = args.out / f"{name}.safetensors"
        write_safetensors(file, weights)
        told |= {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        write_whole(file.with_suffix(".json"), json.dumps(told, indent=2) + "\n")
        print(json.dumps(told))


def trained(config: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The original of a configuration at seed 0, ``{"params": ..., **model_state}``, and what it is."""
    from ltu_jax.evaluation.scores import measure
    from ltu_jax.reporting.terminal import progress_for
    from ltu_jax.setting import to_dict
    from ltu_jax.sweeping.configuring import configure
    from ltu_jax.training.jobs import Trainer
    from ltu_jax.unlearning.preparation import original_job
    from ltu_jax.unlearning.problem import load_problem
    from ltu_jax.unlearning.result import now, provenance

    started, settings = now(), configure(config, "ltu", {"seed": 0})
    source, splits, spec, _ = load_problem(settings)
    trainer = Trainer(settings, source, spec, None, progress_for())
    model = dict(trainer.model(original_job(splits)))
    state = trainer.state_of(model)
    rows = {"train": splits.train, "test": splits.test}
    found = measure(state, source, rows, settings.evaluation.batch_size)
    accuracy = {name: round(100 * float(one.correct.mean()), 2) for name, one in found.items()}
    groups = {name: to_dict(settings)[name] for name in ("data", "model", "training", "seeds")}
    told = {"config": config, "dataset": source.name, "accuracy_percent": accuracy, "settings": groups}
    told["settings"]["data"].pop("data_dir")  # of this machine
    return {"params": model["params"], **model["model_state"]}, told | {"provenance": provenance(started)}


def write_safetensors(file: Path, weights: dict[str, Any]) -> None:
    """Writes the leaves of a tree under their names, ``params.head.kernel``."""
    from flax import traverse_util
    from safetensors.numpy import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: np.ascontiguousarray(leaf) for name, leaf in traverse_util.flatten_dict(weights, sep=".").items()}
    save_file(tensors, file)


if __name__ == "__main__":
    main()
