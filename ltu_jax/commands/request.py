"""What ``python -m ltu_jax.unlearn --forget`` does: carries out a deletion request, or says what it would cost."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ltu_jax.commands import processes, shutdown
from ltu_jax.commands.options import Options
from ltu_jax.commands.run import FAILURES, read_source
from ltu_jax.config import Config
from ltu_jax.data.splits import read_ids
from ltu_jax.deletion.fulfil import fulfil
from ltu_jax.deletion.ledger import LedgerError
from ltu_jax.deletion.plan import Fulfilled, Request, load_given_model, plan, request_config
from ltu_jax.deletion.printing import print_request
from ltu_jax.deletion.removal import models_before
from ltu_jax.deletion.rows import rows_to_calibrate_by
from ltu_jax.deletion.set_up import check_set_up
from ltu_jax.setting import plain, to_dict
from ltu_jax.types import Progress
from ltu_jax.unlearning.estimate import estimate, request_seconds
from ltu_jax.unlearning.problem import Loaded

NOT_SHOWN = 4
"""Exit status of a request that is done, but whose forgetting is not shown: the model should not be served."""


def carry_out(config: Config, forget: str, options: Options) -> int:
    """Forgets the rows of a file of ids and leaves a receipt.

    Returns:
      The exit status: 0 where it is done and shown, ``NOT_SHOWN`` where it is done and the receipt of this or of an
      earlier request on these ids does not show it, else 1.

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
    request = Request(config, ids, home, key, options.show_images, options.keep_original, operator=options.operator)
    source = read_source(config)
    spec, weights = load_given_model(config, source, home)
    todo = plan(request, source, weights)
    checked = None if isinstance(todo, Fulfilled) else check_set_up(request, todo, source, spec, weights)
    if checked is not None:
        for line in checked.warnings:
            print(plain(f"warning: {line}"), file=sys.stderr)
        # A nightly job keeps what is printed: the ids of forgotten rows are not.
        if any(len(one.rows) for one in checked.copies.values()) and not options.dry_run:
            print("--dry_run names the first copies", file=sys.stderr)
    if options.dry_run:
        cost: dict[str, Any] = {"is_new": False}
        if checked is not None and not isinstance(todo, Fulfilled):
            loaded = Loaded(source, todo.splits, spec, weights)
            num_unseen = len(rows_to_calibrate_by(todo.splits, config.seed_for("split")))
            seconds = request_seconds(config, loaded, num_unseen)
            cost = estimate(config, loaded) | {"seconds": seconds} | checked.as_json(source.ids)
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
    done = fulfil(request, source, spec, weights, todo=todo, checked=checked, cache=options.cache, progress=progress)
    print_request(done.receipt, done.folder, done.is_new)
    for line in still_there(config, ids, models_before(home, done.number)):
        print(plain(line))
    for number in done.not_shown:
        print(plain(f"request {number}: its receipt does not show forgetting"), file=sys.stderr)
    if done.not_shown:
        print("serve the model from before; what to do: docs/forget-my-data.md, Is it shown?", file=sys.stderr)
    return NOT_SHOWN if done.not_shown else 0


def still_there(config: Config, ids: Sequence[str], kept: Sequence[Path] = ()) -> list[str]:
    """What still knows the forgotten images when a request is done, and is for its operator to delete; names no id.

    Args:
      config: its configuration.
      ids: the forgotten ids.
      kept: models from before, kept because its forgetting is not shown, or because that was asked for.
    """
    lines, root = [f"{path}: a model from before" for path in kept], config.data.data_dir
    if config.weights is not None and os.path.exists(config.weights):
        lines.append(f"{config.weights}: the model from before (config.weights), and copies of it where it is served")
    files = [os.path.join(root, name) for name in ids] if root and config.data.name == "folder" else []
    there = sum(map(os.path.isfile, files))
    where = f"in {root}" if there else f"of {config.data.name!r}, where they are not gone"
    lines.append(f"the {there or len(ids)} images {where}")
    if config.data.memory_map is not None:
        lines.append(f"{config.data.memory_map} (config.data.memory_map): the pixels of all images; it is made anew")
    lines.append("backups and logs; python -m ltu_jax.verify --leftovers FOLDER --forget IDS.txt searches any folder")
    return ["still there, and yours to delete once the receipt is checked:", *(f"- {line}" for line in lines)]
