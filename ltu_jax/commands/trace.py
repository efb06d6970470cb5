"""What ``python -m ltu_jax.difficulty`` does: trains the original with its losses recorded, and writes a table."""

import dataclasses
import sys
from pathlib import Path

from ltu_jax.auditing.difficulty import difficulty
from ltu_jax.commands import processes, shutdown
from ltu_jax.commands.options import Options
from ltu_jax.commands.run import FAILURES, read_source
from ltu_jax.config import Config
from ltu_jax.data import hardness
from ltu_jax.files import make_folder, write_whole
from ltu_jax.setting import plain
from ltu_jax.training.jobs import Trainer
from ltu_jax.unlearning.preparation import original_job
from ltu_jax.unlearning.problem import load_problem


def write_difficulty(config: Config, out: Path, options: Options) -> int:
    """Writes how hard each row is that the original of a configuration is trained on; 1 if the training fails, else 0.

    Raises:
      ConfigError: if settings do not fit the data; nothing is written then.
    """
    processes.use_devices(config, options)
    if config.data.forget_kind in ("hard", "easy"):  # the file that is to say which rows these are is made here
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, forget_kind="random"))
    with shutdown.catch_signals() as stop:
        progress = stop.watched(processes.progress())
        loaded = load_problem(config, progress, source=read_source(config))
        processes.keep_compiled(options.cache)
        trainer, job = Trainer(config, loaded.source, loaded.spec, options.cache, progress), original_job(loaded.splits)
        try:
            found = difficulty(trainer.traced(job)["losses"])
            make_folder(out.parent)
            write_whole(out, hardness.text_of(loaded.source.ids[job.rows].tolist(), *found))
        except FAILURES as error:
            print(plain(f"error: {out}: {error}"), file=sys.stderr)
            return 1
    print(plain(f"{len(job.rows)} rows in {out}; the training is kept in {options.cache}"))
    return 0
