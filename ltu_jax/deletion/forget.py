"""``ltu_jax.forget``: a deletion request as one call, for use inside a pipeline. The same as the command does."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ltu_jax.config import Config, resolve
from ltu_jax.deletion.fulfil import fulfil
from ltu_jax.deletion.ledger import read_ledger
from ltu_jax.deletion.models import last_model
from ltu_jax.deletion.plan import Request, request_config
from ltu_jax.models.build import ModelSpec
from ltu_jax.types import ApplyFn, ArrayTree, Progress, Source, silent


class Forgotten(NamedTuple):
    """A model after a request."""

    params: ArrayTree
    model_state: ArrayTree
    receipt: dict[str, Any]  # what ``folder/receipt.json`` holds
    folder: Path
    is_new: bool  # False where earlier requests had forgotten all of these ids: nothing was done


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
    progress: Progress = silent,
) -> Forgotten:
    """Makes a trained model forget training rows, and leaves a receipt.

    Args:
      model: ``apply_fn(params, model_state, images f32[B,H,W,3] in [0,1], train) -> (logits, model_state)``, or a
        ``ModelSpec`` that also has the features by which near rows are found (else the logits are taken).
      params: its trained parameters, nested dicts of arrays; not consumed. A later request starts from the model that
        the last one left in ``workdir``; given here may be that, or the first.
      source: the rows to forget and a sample of those that stay (training part), and rows that the model was never
        trained on (test part, six or more).
      ids: what is to be forgotten, as ``source.ids`` names it.
      workdir: folder of all requests on this model: ledger, salt and ``request-N/``.
      model_state: BatchNorm statistics; None is ``{}``.
      config: method, calibration and batch sizes; where data and weights lie is not read from it. None is LTU, which
        sees ``data.remain_fraction`` 0.3 of the remaining rows: 1.0 where they are a sample already.
      sign: Ed25519 private key (PEM) that signs the receipt.
      keep_original: whether the models that earlier requests left stay in ``workdir``: they know what is forgotten now.
      progress: told about every finished step.

    Returns:
      ``Forgotten``.

    Raises:
      ConfigError: if an id is not in the training part, or anything else does not fit; nothing is written then.
      LedgerError: if ledger or salt were altered.
      FloatingPointError: if every trial diverged.
    """
    config = config or Config()
    held_out = "train" if config.data.held_out == "train" else "test"
    data = dataclasses.replace(config.data, name=source.name, forget_kind="random", held_out=held_out)
    attackers = dataclasses.replace(config.attackers, fitted_on="original")
    config = request_config(resolve(dataclasses.replace(config, data=data, attackers=attackers, weights=None)))
    original = {"params": params, **(model_state or {})}
    spec = model if isinstance(model, ModelSpec) else _spec(model, original)
    key = None if sign is None else Path(sign)
    request = Request(config, list(ids), Path(workdir), key, keep_original=keep_original)
    done = fulfil(request, source, spec, original, progress=progress)
    rest = dict(last_model(request.home, read_ledger(request.home)))  # of a later request than forgot these ids, maybe
    return Forgotten(rest.pop("params"), rest, done.receipt, done.folder, done.is_new)


def _spec(apply_fn: ApplyFn, original: ArrayTree) -> ModelSpec:
    def init(key: jax.Array) -> tuple[ArrayTree, ArrayTree]:
        """The same shapes: nothing is trained from scratch for a request."""
        rest = jax.tree.map(jnp.zeros_like, dict(original))
        return rest.pop("params"), rest

    return ModelSpec(init, apply_fn)
