"""AMUN: training on adversarial copies of the forget rows that are near to them (Ebrahimpour-Boroojeny et al. 2025)."""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from ltu_jax.devices import replicate
from ltu_jax.methods.base import MethodCost
from ltu_jax.methods.descent import Context, DescentMethod, begin
from ltu_jax.methods.streams import Stream, mixed_stream
from ltu_jax.training.cost import Cost
from ltu_jax.training.dispatch import compiled
from ltu_jax.training.predict import gathered
from ltu_jax.types import ApplyFn, ArrayTree, Batch, Rows, UnlearnState, Visible

EPSILON = 0.04
"""First bound on the L2 norm of a change, over all pixels in [0, 1]."""
DOUBLINGS = 8
"""How often the bound doubles at most, for rows that no smaller change makes wrong; the public code has no end."""
STEPS = 50
"""Steps at each bound, each a tenth of it long."""
ATTACK_BATCH = 256


@flax.struct.dataclass
class AMUN(DescentMethod):
    """AMUN: ``theta <- SGD(CE)`` on D_r, on D_f with true labels unless ``keep_true`` is off, and on D_A, all mixed.

    D_A holds, for each forget row, a near image that the original takes for another class, with that as its label; see
    ``adversarial``. It is not augmented. How many passes it takes depends on the images: ``cost`` states their
    largest number, a run counts them.
    """

    @property
    def stream(self) -> Stream:
        """All rows shuffled together; each forget row comes twice an epoch, once as itself."""
        return mixed_stream(self.settings, forget_copies=2 if self.settings.keep_true else 1)

    def init(self, key: jax.Array, state: UnlearnState, visible: Visible) -> tuple[UnlearnState, Context]:
        """``context.extra`` is D_A."""
        copies, passed = adversarial(state, visible.forget)
        begun, context = begin(self.settings, state, key, self.num_steps(visible), extra=copies)
        counted = Cost(passed, passed, 0, len(visible.forget.labels))
        return begun, dataclasses.replace(context, init_cost=jax.tree.map(jnp.float32, counted))

    def sample(self, key: jax.Array, step: jax.Array, context: Context, visible: Visible) -> Batch:
        """A batch, some of whose forget rows are replaced by their copies."""
        draw = self.stream.augmented_draw(key, step, context.order_key, visible, self.augment)
        is_copy = draw.is_forget & (draw.epoch % (2 if self.settings.keep_true else 1) == 0)
        row = jnp.where(is_copy, draw.row, 0)
        copies = Batch(*(x[row] for x in context.extra))
        images = jnp.where(is_copy[:, None, None, None], copies.images, draw.batch.images)
        return Batch(images, jnp.where(is_copy, copies.labels, draw.batch.labels))

    def cost(self, visible: Visible) -> MethodCost:
        """An image of a step once; the attack's largest number of passes."""
        num_forget = len(visible.forget.labels)
        size = min(ATTACK_BATCH, num_forget)
        most = (DOUBLINGS + 1) * STEPS * size * -(-num_forget // size)
        return super().cost(visible)._replace(init=Cost(most, most, 0, num_forget))


def adversarial(state: UnlearnState, rows: Rows) -> tuple[Batch, int]:
    """Near copies of images that a model, in evaluation mode, takes for another class.

    Each image goes up its own loss, by steps of a tenth of a bound on the L2 norm of the whole change, and stays where
    the model first errs; those for which ``STEPS`` steps were not enough go on from there at twice the bound. One that
    the model errs on from the start stays as it is.

    Args:
      state: the model.
      rows: u8[M,H,W,3] images and i32[M] true labels.

    Returns:
      The copies f32[M,H,W,3], with the class that the model takes each for i32[M], or where the largest bound was not
      enough the second best; and how many images were passed forward and back for it.
    """
    num_rows = len(rows.labels)
    if isinstance(rows.images, Tracer):  # only shapes are wanted
        return Batch(jnp.zeros(rows.images.shape, jnp.float32), rows.labels), 0
    images, labels = np.empty(rows.images.shape, np.float32), np.empty(num_rows, np.int32)
    left, passed, size = np.arange(num_rows), 0, min(ATTACK_BATCH, num_rows)
    for doublings in range(DOUBLINGS + 1):
        epsilon = np.float32(EPSILON * 2**doublings)
        is_wrong = np.zeros(num_rows, bool)
        for start in range(0, len(left), size):
            place = left[np.minimum(np.arange(start, start + size), len(left) - 1)]
            clean, done = gathered(rows, place), is_wrong[place]
            moved = images[place] if doublings else clean.images
            for _ in range(STEPS):
                args = state.params, state.model_state, clean, moved, epsilon
                moved, done, labels[place] = compiled(_nudge, *args, static=(state.apply_fn,))(*args)
                passed += size
                if np.all(done):
                    break
            images[place], is_wrong[place] = moved, done
        left = left[~is_wrong[left]]
    return Batch(jnp.asarray(images), jnp.asarray(labels)), passed


def _nudge(
    apply_fn: ApplyFn, params: ArrayTree, model_state: ArrayTree, clean: Batch, images: jax.Array, epsilon: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A step of the images f32[B,H,W,3] that the model is right on; whether it was wrong, and its best other class."""

    def excess(images: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        logits, _ = apply_fn(params, model_state, images, train=False)
        is_true = jax.nn.one_hot(clean.labels, logits.shape[1], dtype=bool)
        others = jnp.where(is_true, -jnp.inf, logits)
        true = jnp.sum(jnp.where(is_true, logits, 0), axis=1)
        # The loss is the softplus of this, so both have one direction; but the loss is flat where the model is sure.
        value = jax.nn.logsumexp(others, axis=1) - true
        return value.sum(), (jnp.max(others, axis=1) > true, jnp.argmax(others, axis=1).astype(jnp.int32))

    gradient, (is_wrong, other) = jax.grad(excess, has_aux=True)(images)
    length = jnp.sqrt(jnp.sum(gradient**2, axis=(1, 2, 3), keepdims=True))
    change = images + epsilon / 10 * gradient / (length + 1e-10) - clean.images
    change = jax.vmap(optax.projections.projection_l2_ball, (0, None))(change, epsilon)
    moved = jnp.where(is_wrong[:, None, None, None], images, jnp.clip(clean.images + change, 0, 1))
    return replicate((moved, is_wrong, other))
