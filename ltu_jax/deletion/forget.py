"""``ltu_jax.forget``: a deletion request as a function call, for use in a pipeline; the same as the command."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from ltu_jax.config import Config, needs, resolve
from ltu_jax.deletion.fulfil import fulfil
from ltu_jax.deletion.ledger import read_ledger
from ltu_jax.deletion.models import last_model
from ltu_jax.deletion.plan import Request, request_config
from ltu_jax.models.build import ModelSpec
from ltu_jax.setting import ConfigError
from ltu_jax.types import ApplyFn, ArrayTree, Progress, Source, silent


class Forgotten(NamedTuple):
    """A model after a request."""

    params: ArrayTree
    model_state: ArrayTree
    receipt: dict[str, Any]  # the contents of ``folder/receipt.json``
    folder: Path
    is_new: bool  # False if earlier requests had already forgotten all ids, so nothing was done
    shown: bool  # whether forgetting is shown (``receipt["claim"]``), by each receipt of a request on these ids


def forget(
    model: ModelSpec | ApplyFn,
    params: ArrayTree,
    source: Source,
    ids: Sequence[str],
    *,
    workdir: Path | str,
    model_state: ArrayTree | None = None,
    config: Config | None = None,
    sign: Path | str | None = None,
    keep_original: bool = False,
    operator: str | None = None,
    progress: Progress = silent,
) -> Forgotten:
    """Makes a trained model forget training rows, and writes a receipt.

    Args:
      model: ``apply_fn(params, model_state, images f32[B,H,W,3] in [0,1], train) -> (logits, model_state)``, or a
        ``ModelSpec``, which also has the features for finding similar rows (else the logits are used) and makes the
        untrained model that Retrain and BadT begin with.
      params: its trained parameters, nested dicts of arrays; they are not modified. A later request starts from the
        last model in ``workdir``; pass either that model or the first one.
      source: training part: the rows to forget and a sample of the remaining rows. Test part: six or more rows that
        the model was never trained on.
      ids: the ``source.ids`` to forget.
      workdir: folder of all requests on this model: ledger, salt and ``request-N/``.
      model_state: BatchNorm statistics; None means ``{}``.
      config: method, calibration and batch sizes; its data and weights are ignored. None means LTU, which sees
        ``data.remain_fraction`` 0.3 of the remaining rows. Set that to 1.0 if ``source`` has only a sample of them.
      sign: Ed25519 private key (PEM) that signs the receipt.
      keep_original: whether to keep the models from before this request, which still contain the forgotten rows.
      operator: who runs which model, as receipt and report shall name them.
      progress: reports the progress.

    Raises:
      ConfigError: if an id is not in the training part, or an argument is invalid; nothing is written then.
      LedgerError: if ledger or salt were altered.
      FloatingPointError: if every trial diverged.
    """
    config = config or Config()
    held_out = "train" if config.data.held_out == "train" else "test"
    data = dataclasses.replace(config.data, name=source.name, forget_kind="random", forget_class=0, held_out=held_out)
    attackers = dataclasses.replace(config.attackers, fitted_on="original")
    config = request_config(resolve(dataclasses.replace(config, data=data, attackers=attackers, weights=None)))
    original = {"params": params, **(model_state or {})}
    spec = model if isinstance(model, ModelSpec) else ModelSpec(_no_init, model)
    if spec.init is _no_init and "init_params" in needs(config.method):
        raise ConfigError(
            f"model: {config.method.name} begins with an untrained model, which a function alone cannot make;"
            " allowed: a ModelSpec, whose init makes one"
        )
    key = None if sign is None else Path(sign)
    request = Request(
        config, list(ids), Path(workdir), key, keep_original=keep_original, in_memory=True, operator=operator
    )
    done = fulfil(request, source, spec, original, progress=progress)
    # Where nothing was new the last request may be a later one than that which forgot these ids.
    rest = dict(done.weights or last_model(request.home, read_ledger(request.home)))
    return Forgotten(rest.pop("params"), rest, done.receipt, done.folder, done.is_new, not done.not_shown)


def _no_init(key: jax.Array) -> tuple[ArrayTree, ArrayTree]:
    """``ModelSpec.init`` of a function alone: always this one, so that the model is the same for the compiler."""
    raise ConfigError("model: a function alone makes no untrained model; allowed: a ModelSpec, whose init makes one")
