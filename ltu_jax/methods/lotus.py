"""LoTUS: the original's own predictions as targets, with noise on forget rows (Spartalis et al. 2025)."""

import math
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from ltu_jax.data.batches import gather
from ltu_jax.methods.base import MethodCost
from ltu_jax.methods.descent import Context, DescentMethod, begin, descend
from ltu_jax.methods.distillation import copied
from ltu_jax.methods.streams import Draw, Stream, mixed_stream
from ltu_jax.training.cost import Cost
from ltu_jax.training.optimizers import OPTIMIZERS
from ltu_jax.training.predict import EvalForward, predict
from ltu_jax.training.schedule import epoch
from ltu_jax.types import ArrayTree, Batch, Metrics, UnlearnState, Visible

STOP_BELOW = -0.01
"""Excess of accuracy at which a run stops."""
PREDICT_BATCH = 500


class Watch(NamedTuple):
    """What a run knows of its forget rows; it goes on from step to step as a part of the optimizer's state."""

    temperature: jax.Array  # f32[], of this epoch
    is_going: jax.Array  # bool[], whether it has not stopped
    correct: jax.Array  # f32[], forget rows looked at in this epoch that were right
    seen: jax.Array  # f32[], that were looked at


class NoisyDraw(NamedTuple):
    """What a step draws."""

    rows: Draw
    noise: jax.Array  # f32[B, C], Gumbel
    watched: Batch  # forget rows, as they are


_watch = optax.GradientTransformation(
    lambda params: Watch(jnp.float32(1), jnp.array(True), jnp.float32(0), jnp.float32(0)),
    lambda updates, state, params=None: (updates, state),
)
WATCHED = {name: optax.chain(tx, _watch) for name, tx in OPTIMIZERS.items()}
"""The optimizers, with a ``Watch`` beside their state."""


@flax.struct.dataclass
class LoTUS(DescentMethod):
    """LoTUS: ``theta <- AdamW(mean CE(q, student))`` on all rows mixed, q from the original's logits z.

    z is of evaluation mode. With n standard Gumbel noise, q is ``softmax((z + n) / tau)`` on a forget row and
    ``one_hot(argmax(z + n))``, a label drawn from the original's distribution, on a remaining one; true labels do not
    count. ``tau = exp(alpha d)``, d the accuracy on forget rows minus ``target_accuracy``; at d <= -0.01 the run stops,
    its later steps change nothing. d is the original's in the first epoch; after that it is measured in the epoch
    before: each step looks at its share of the forget rows, unaugmented and in evaluation mode. The public code passes
    all at the start of an epoch, at the same cost.
    """

    @property
    def stream(self) -> Stream:
        """Both kinds of rows shuffled together."""
        return mixed_stream(self.settings)

    @property
    def tx(self) -> optax.GradientTransformation:
        """The optimizer, watched."""
        return WATCHED[self.settings.optimizer]

    def init(self, key: jax.Array, state: UnlearnState, visible: Visible) -> tuple[UnlearnState, Context]:
        """The student begins as the original; ``context.extra`` is the teacher."""
        teacher, forget = copied(state.params, state.model_state), visible.forget
        logits = predict(
            EvalForward(state.apply_fn), state.params, state.model_state, forget.images, batch_size=PREDICT_BATCH
        )
        accuracy = jnp.mean(jnp.argmax(jnp.asarray(logits), axis=1) == forget.labels)
        state, context = begin(self.settings, state, key, self.num_steps(visible), tx=self.tx, extra=teacher)
        return state.replace(opt_state=(state.opt_state[0], self._next_epoch(accuracy, jnp.array(True)))), context

    def _next_epoch(self, accuracy: jax.Array, is_going: jax.Array) -> Watch:
        """The watch of an epoch before which the forget rows had this accuracy."""
        excess = accuracy - self.settings.target_accuracy / 100
        temperature = jnp.exp(self.settings.alpha * excess).astype(jnp.float32)
        return Watch(temperature, is_going & (excess > STOP_BELOW), jnp.float32(0), jnp.float32(0))

    def sample(self, key: jax.Array, step: jax.Array, context: Context, visible: Visible) -> NoisyDraw:
        """A batch, its noise, and the forget rows that the step looks at."""
        augment_key, noise_key = jax.random.split(key)
        draw = self.stream.augmented_draw(augment_key, step, context.order_key, visible, self.augment)
        noise = jax.random.gumbel(noise_key, (len(draw.batch.labels), self.parts.num_classes))
        num_watched, num_forget = self._num_watched(visible), len(visible.forget.labels)
        watched = gather(visible.forget, (step * num_watched + jnp.arange(num_watched)) % num_forget)
        return NoisyDraw(draw, noise, watched)

    def _num_watched(self, visible: Visible) -> int:
        """Forget rows that a step looks at, so that an epoch sees all: as many as its batch has, rounded up."""
        forget, _ = self.stream.images(visible)
        return min(math.ceil(forget - 1e-6), len(visible.forget.labels))

    def loss(
        self, params: ArrayTree, state: UnlearnState, context: Context, draw: NoisyDraw
    ) -> tuple[jax.Array, ArrayTree]:
        """Mean cross-entropy with the noisy targets."""
        images = draw.rows.batch.images
        noisy = context.extra.logits(state.apply_fn, images) + draw.noise
        soft = jax.nn.softmax(noisy / state.opt_state[1].temperature)
        drawn = jax.nn.one_hot(jnp.argmax(noisy, axis=1), noisy.shape[1], dtype=soft.dtype)
        targets = jnp.where(draw.rows.is_forget[:, None], soft, drawn)
        logits, model_state = state.apply_fn(params, state.model_state, images, train=True)
        return optax.softmax_cross_entropy(logits, targets).mean(), model_state

    def step(self, state: UnlearnState, context: Context, draw: NoisyDraw) -> tuple[UnlearnState, Metrics]:
        """A step down the loss unless the run has stopped, and a look at some forget rows."""
        watch, (images, labels) = state.opt_state[1], draw.watched
        logits, _ = state.apply_fn(state.params, state.model_state, images, train=False)
        correct, seen = watch.correct + jnp.sum(jnp.argmax(logits, axis=1) == labels), watch.seen + len(labels)
        fresh = self._next_epoch(correct / seen, watch.is_going)
        is_last = epoch(context.schedule, state.step + 1) > epoch(context.schedule, state.step)
        looked = _where(is_last, fresh, watch._replace(correct=correct, seen=seen))

        after, metrics = descend(self.loss, state, context, draw)
        moved, still = ((s.params, s.model_state, s.opt_state[0]) for s in (after, state))
        params, model_state, inner = _where(watch.is_going, moved, still)
        after = after.replace(params=params, model_state=model_state, opt_state=(inner, looked))
        return after, metrics | {"rate/outer": jnp.where(watch.is_going, metrics["rate/outer"], 0)}

    def cost(self, visible: Visible) -> MethodCost:
        """Student and teacher pass the batch forward, the student the watched rows too; ``init`` the forget rows."""
        (forget, remain), watched = self.stream.images(visible), self._num_watched(visible)
        size, num_forget = forget + remain, len(visible.forget.labels)
        init = Cost(forward=num_forget, forget=num_forget)
        return MethodCost(init, Cost(2 * size + watched, size, remain, forget + watched))


def _where(condition: jax.Array, new: ArrayTree, old: ArrayTree) -> ArrayTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
