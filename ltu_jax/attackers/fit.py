"""Fits the attackers on predictions of known membership, and measures their AUC."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from ltu_jax.attackers.bank import Bank, init_bank, membership
from ltu_jax.attackers.networks import find_network
from ltu_jax.config import Attackers
from ltu_jax.core.losses import nonmember_bce
from ltu_jax.data.batches import augmented
from ltu_jax.devices import replicate
from ltu_jax.training.dispatch import compiled
from ltu_jax.training.predict import gathered
from ltu_jax.types import ApplyFn, ArrayTree, Batch, Rows


class Outputs(NamedTuple):
    """Predictions with known membership."""

    logits: jax.Array  # f32[M, C]
    labels: jax.Array  # i32[M]
    is_member: jax.Array  # f32[M], 1 or 0


# These are programs of ``compiled``: of what JAX itself compiles for each number of rows it keeps thousands.
def _order(num_rows: int, key: jax.Array) -> jax.Array:
    return replicate(jax.random.permutation(key, num_rows))


def _join(*parts: Outputs) -> Outputs:
    return replicate(jax.tree.map(lambda *x: jnp.concatenate(x), *parts))


def _training_logits(
    apply_fn: ApplyFn, augment: str, params: ArrayTree, model_state: ArrayTree, key: jax.Array, batch: Batch
) -> jax.Array:
    """Logits as the attackers see them during unlearning: in training mode, on augmented images."""
    return replicate(apply_fn(params, model_state, augmented(key, batch, augment).images, train=True)[0])


def collect_outputs(
    apply_fn: ApplyFn,
    params: ArrayTree,
    model_state: ArrayTree,
    members: Rows,
    others: Rows,
    key: jax.Array,
    *,
    batch_size: int,
    augment: str,
    draws: int = 1,
) -> Outputs:
    """A model's predictions on its training rows and on other rows, computed as during unlearning.

    BatchNorm sees batches of members only or of others only. So it does during unlearning, where a batch of
    the forget set is all members.

    Args:
      apply_fn: the model.
      params: its parameters.
      model_state: its BatchNorm statistics or ``{}``.
      members: rows it was trained on.
      others: rows it was not trained on.
      key: shuffles and augments.
      batch_size: most rows per batch.
      augment: see ``data.augment``.
      draws: augmented passes over the rows.

    Returns:
      Equally many predictions on members and on others.
    """
    num_rows = min(len(members.labels), len(others.labels))
    num_batches = math.ceil(num_rows / batch_size)
    size = num_rows // num_batches  # equal batches
    parts = []
    for side, rows in ((1.0, members), (0.0, others)):
        for draw in range(draws):
            draw_key = jax.random.fold_in(jax.random.fold_in(key, draw), int(side))
            order_key, augment_key = jax.random.split(draw_key)
            order = np.asarray(compiled(_order, order_key, static=(len(rows.labels),))(order_key))
            for i in range(num_batches):
                batch = gathered(rows, order[i * size : (i + 1) * size])
                args = (params, model_state, jax.random.fold_in(augment_key, i), batch)
                logits = compiled(_training_logits, *args, static=(apply_fn, augment))(*args)
                parts.append(Outputs(logits, batch.labels, jax.device_put(np.full(size, side, np.float32))))
    return joined(parts)


def joined(parts: Sequence[Outputs]) -> Outputs:
    """All rows of several outputs."""
    return compiled(_join, *parts)(*parts)


def fit_bank(outputs: Outputs, settings: Attackers, num_classes: int, key: jax.Array) -> Bank:
    """Fits every attacker of ``settings.names`` by Adam on the binary cross-entropy of membership.

    Their training processes differ (sec. 3.2): each has its own initialization and its own bootstrap
    sample of the outputs.

    Args:
      outputs: predictions of known membership.
      settings: names, epochs, batch size and learning rate.
      num_classes: C.
      key: PRNG key.
    """
    init_key, fit_key = jax.random.split(key)
    bank = init_bank(init_key, settings.names, num_classes)
    batch_size = min(settings.batch_size, len(outputs.labels))
    num_steps = max(1, settings.epochs * len(outputs.labels) // batch_size)
    keys = jax.random.split(fit_key, len(bank.names))
    params = {}
    for name, one_key in zip(bank.names, keys, strict=True):
        args = (bank.params[name], outputs, one_key)
        static = (find_network(name), batch_size, num_steps, settings.learning_rate)
        params[name] = compiled(_fit, *args, static=static)(*args)
    return Bank(params, bank.names)


def _fit(
    network: nn.Module,
    batch_size: int,
    num_steps: int,
    learning_rate: float,
    params: ArrayTree,
    outputs: Outputs,
    key: jax.Array,
) -> ArrayTree:
    """The parameters of one network, fitted on its own bootstrap sample of the outputs."""
    tx = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))
    sample_key, steps_key = jax.random.split(key)
    sample = jax.random.randint(sample_key, outputs.labels.shape, 0, len(outputs.labels))

    def step(carry, step_key):
        params, opt_state = carry
        index = sample[jax.random.randint(step_key, (batch_size,), 0, len(sample))]
        logits, labels, is_member = (x[index] for x in outputs)

        def loss_fn(params):
            answers = network.apply(params, logits, labels)
            return optax.sigmoid_binary_cross_entropy(answers, is_member).mean()

        updates, opt_state = tx.update(jax.grad(loss_fn)(params), opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    # Without convolutions, a scan is as fast as separate calls, also on a CPU.
    return jax.lax.scan(step, (params, tx.init(params)), jax.random.split(steps_key, num_steps))[0][0]


def attacker_auc(bank: Bank, outputs: Outputs) -> dict[str, float]:
    """Area under the ROC curve of each attacker on predictions of known membership; 0.5 is chance."""
    from sklearn.metrics import roc_auc_score

    auc = {}
    for k, name in enumerate(bank.names):
        args = (bank, jnp.int32(k), outputs.logits, outputs.labels)
        auc[name] = float(roc_auc_score(outputs.is_member, compiled(membership, *args)(*args)))
    return auc


def auc_noise(num_members: int, num_others: int) -> float:
    """How far chance alone takes the AUC of an attacker that knows nothing from 0.5: two standard errors.

    The AUC is Mann and Whitney's U (1947) over the number of pairs, whose variance under the null hypothesis is
    (m + n + 1) / (12 m n); Hanley and McNeil (1982) show that the two are one.

    Args:
      num_members: m, predictions on members.
      num_others: n, predictions on others.
    """
    return 2 * math.sqrt((num_members + num_others + 1) / (12 * num_members * num_others))


def attacked_loss(bank: Bank, attacker: jax.Array, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Eq. 11: the loss of one attacker against the answer *non-member*, f32[]; descend it to forget."""
    return nonmember_bce(membership(bank, attacker, logits, labels))
