"""Writes the ids of the training rows that are hardest for an original: those of the smallest margins.

python experiments/hard_rows.py experiments/configs/cifar10_jpeg_small.py --data_dir DIR --split 3 --train 30 \
    --count 1500 --out experiments/results/study/hard_rows.txt

The original is trained with another seed than those that are to forget the rows, on the same split, so that what is
hard is the rows and not one training.
"""

import argparse
from pathlib import Path


def main() -> None:
    """Parses the arguments, trains the original or finds it in the cache, writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--data_dir")
    parser.add_argument("--split", type=int, default=3, help="split seed of the runs that forget the rows")
    parser.add_argument("--train", type=int, default=30, help="training seed of the original: none of these runs'")
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    ids = hardest(args.config, args.data_dir, args.split, args.train, args.count, args.cache)
    args.out.write_text("\n".join(ids) + "\n")


def hardest(config: str, data_dir: str | None, split: int, train: int, count: int, cache: Path | None) -> list[str]:
    """The ids, the hardest first."""
    import jax.numpy as jnp
    import numpy as np

    from experiments.sweeping.configuring import configure
    from ltu_jax.core.margins import log_odds
    from ltu_jax.reporting.terminal import progress_for
    from ltu_jax.training.predict import EvalForward, predict
    from ltu_jax.unlearning.problem import prepare

    fields = {"seeds.split": split, "seeds.train": train, "evaluation.num_retrain": 0, "data.data_dir": data_dir}
    given = {name: value for name, value in fields.items() if value is not None}
    problem = prepare(configure(config, "ltu", given), cache=cache, progress=progress_for())
    rows, source, model = problem.splits.train, problem.source, problem.original
    forward, batch_size = EvalForward(model.apply_fn), problem.config.evaluation.batch_size
    logits = predict(forward, model.params, model.model_state, source.stored(rows), batch_size=batch_size)
    margins = np.asarray(log_odds(jnp.asarray(logits), jnp.asarray(source.labels[rows])))
    return source.ids[rows[np.argsort(margins, kind="stable")[:count]]].tolist()


if __name__ == "__main__":
    main()
