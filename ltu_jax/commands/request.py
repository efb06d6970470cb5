"""What ``python -m ltu_jax.unlearn --forget`` does: carries out a deletion request, or says what it would cost."""

import json
import sys
from pathlib import Path

from ltu_jax.commands import processes, shutdown
from ltu_jax.commands.options import Options
from ltu_jax.commands.run import FAILURES, read_source
from ltu_jax.config import Config
from ltu_jax.data.splits import read_ids
from ltu_jax.deletion.fulfil import fulfil
from ltu_jax.deletion.ledger import LedgerError
from ltu_jax.deletion.plan import Fulfilled, Request, load_given_model, plan, request_config
from ltu_jax.deletion.printing import print_request
from ltu_jax.setting import plain, to_dict
from ltu_jax.types import Progress
from ltu_jax.unlearning.estimate import estimate
from ltu_jax.unlearning.problem import Loaded

NOT_SHOWN = 4
"""Exit status of a request that is done, but whose forgetting is not shown: the model should not be served."""


def carry_out(config: Config, forget: str, options: Options) -> int:
    """Forgets the rows of a file of ids and leaves a receipt.

    Returns:
      The exit status: 0 where it is done and shown, ``NOT_SHOWN`` where it is done, else 1.

    Raises:
      ConfigError: before anything is written, if something asked for does not fit.
    """
    processes.use_devices(config, options)
    try:
        with shutdown.catch_signals() as stop:
            return _carry_out(request_config(config), forget, options, stop.watched(processes.progress()))
    except (*FAILURES, LedgerError) as error:
        if options.debug:
            raise
        print(plain(f"error: {options.workdir}: {error}"), file=sys.stderr)
        return 1


def _carry_out(config: Config, forget: str, options: Options, progress: Progress) -> int:
    ids, home = read_ids(forget, "--forget"), options.workdir
    key = Path(options.sign) if options.sign else None
    request = Request(config, ids, home, key, options.show_images, options.keep_original)
    source = read_source(config)
    spec, weights = load_given_model(config, source, home)
    todo = plan(request, source, weights)
    if options.dry_run:
        is_done = isinstance(todo, Fulfilled)
        cost = {"is_new": False} if is_done else estimate(config, Loaded(source, todo.splits, spec, weights))
        print(json.dumps({"config": to_dict(config), "request": todo.number, **cost}, indent=2))
        return 0
    if not isinstance(todo, Fulfilled):
        processes.keep_compiled(options.cache)
        splits = todo.splits
        line = (
            f"request {todo.number}: {len(splits.forget)} rows to forget, {len(splits.visible)} of"
            f" {len(splits.remain)} remaining rows used; held out: {len(splits.reserve)} to guide it,"
            f" {len(splits.validation)} to calibrate by, {len(splits.test)} for the evidence"
        )
        print(plain(line), file=sys.stderr)
    done = fulfil(request, source, spec, weights, todo=todo, cache=options.cache, progress=progress)
    print_request(done.receipt, done.folder, done.is_new)
    if (mapped := config.data.memory_map) is not None:
        print(plain(f"note: {mapped} (config.data.memory_map) holds the pixels of all images: delete it with the data"))
    return 0 if done.receipt.get("claim", {"shown": True})["shown"] else NOT_SHOWN
