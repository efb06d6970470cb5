r"""LTU's nearest relatives, each a call of ``meta_grad``: UAM, LUR and ROSU, as methods of one's own.

python -m ltu_jax.unlearn --config experiments/configs/digits.py --config.method.name=experiments.relatives:uam \
    --config.method.num_queries=1 --config.method.samplers=uniform --config.method.inner_learning_rate=1.0

For a study of where meta-optimization pays: they have LTU's settings, optimizer, schedule and draws, and differ in the
gradient alone. ``num_queries``, ``query_size`` and ``samplers`` say which remaining rows a step sees, and the losses of
its query sets are summed, as LTU's are. ``forget_weight`` and ``order`` are LUR's. ``tune_weight``, ``forget_by``,
``remember``, ``forget``, ``combine`` and ``relabel`` change nothing in what they compute: leave them at their defaults.
The forms are those of the papers as far as they could be read. Batches are passed apart, in training mode, and
BatchNorm keeps the statistics of the remaining rows' passes alone: both are ours.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from ltu_jax.core.losses import cross_entropy
from ltu_jax.core.meta import LossFn, MetaGrad, meta_grad
from ltu_jax.methods.base import MethodCost
from ltu_jax.methods.ltu import LTU, LTUContext, LTUDraw
from ltu_jax.training.cost import Cost
from ltu_jax.training.optimizers import set_hyperparams
from ltu_jax.training.schedule import learning_rate
from ltu_jax.types import ArrayTree, Batch, Metrics, UnlearnState, Visible

ROUNDING = 1e-5
"""A direction of which less than this share is left after a projection is noise of float32."""


@flax.struct.dataclass
class Relative(LTU):
    """LTU's draws and its outer step, on the gradient of ``descent``."""

    @property
    def sees_held_out(self) -> bool:
        """Where it compares margins."""
        return False

    def descent(self, state: UnlearnState, draw: LTUDraw, share: jax.Array) -> tuple[MetaGrad, ArrayTree]:
        """What a step descends, and the statistics of the remaining sets, leading axis N.

        Args:
          state: before the step.
          draw: of the step.
          share: f32[], this step's learning rate as a share of the peak.
        """
        raise NotImplementedError

    def step(self, state: UnlearnState, context: LTUContext, draw: LTUDraw) -> tuple[UnlearnState, Metrics]:
        """One step of the outer optimizer down ``descent``."""
        rate = learning_rate(context.schedule, state.step)
        meta, statistics = self.descent(state, draw, rate / context.schedule.peak)
        state = set_hyperparams(state, learning_rate=rate).apply_gradients(
            grads=meta.grad, model_state=jax.tree.map(lambda x: x.mean(axis=0), statistics)
        )
        metrics = {f"norm/{name}": value for name, value in meta.norms._asdict().items()}
        return state, metrics | {"loss/tune": meta.tune_loss, "loss/test": meta.query_losses.sum(), "rate/outer": rate}

    def passed(self, forget: int, remain: int) -> int:
        """Images a step passes forward and backward, of so many that it draws."""
        raise NotImplementedError

    def cost(self, visible: Visible) -> MethodCost:
        """``init`` passes each visible row once, as LTU's does; for a step see ``passed``."""
        settings, (num_forget, num_remain) = self.settings, (len(rows.labels) for rows in visible.both)
        forget, remain = min(settings.batch_size, num_forget), settings.num_queries * settings.query_size
        passed = self.passed(forget, remain)
        init = Cost(num_forget + num_remain, 0, num_remain, num_forget)
        return MethodCost(init, Cost(passed, passed, remain, forget))


@flax.struct.dataclass
class UAM(Relative):
    """UAM (Kim et al. 2025): the gradient of the remaining rows where the forget rows fit worse, taken at theta.

    ``theta <- SGD(grad L_r(theta + eps))``, ``eps = r g_f / |g_f|`` with g_f the gradient of the forget rows'
    cross-entropy, over the whole tree. r is ``inner_learning_rate`` and falls as the schedule does. As published there
    is one remaining batch, ``num_queries=1, samplers=("uniform",)``, of the size of the forget batch.

    To first order in r it adds ``r H_r g_f / |g_f|`` to FT's gradient, and descending that *lowers* the forget rows'
    loss unless H_r curves down along g_f: if it forgets, it does so by a large r.
    """

    def descent(self, state: UnlearnState, draw: LTUDraw, share: jax.Array) -> tuple[MetaGrad, ArrayTree]:
        """One call: the inner step is a normalized one up, not differentiated."""
        loss, remain = fit(state), (draw.queries, jnp.ones(self.settings.num_queries))
        inner = step_of_length(self.settings.inner_learning_rate * share, self.avoided(state, draw))
        up, more = (draw.forget, jnp.float32(-1)), {"tune_weight": 0.0, "save_memory": self.settings.save_memory}
        meta = meta_grad(loss, state.params, up, remain, inner, order="first", **more)
        return meta, meta.aux.queries

    def avoided(self, state: UnlearnState, draw: LTUDraw) -> ArrayTree | None:
        """The gradient along which the perturbation must not go."""
        return None

    def passed(self, forget: int, remain: int) -> int:
        """A gradient of each."""
        return forget + remain


@flax.struct.dataclass
class ROSU(UAM):
    """ROSU (Cai et al. 2026): UAM with eps orthogonal to the remaining rows' gradient at theta, whatever its sign.

    ``eps = r p / |p|``, ``p = g_f - (g_f . g_r / |g_r|^2) g_r``, the solution of the paper's problem for eps. Its
    "transported" outer update could not be read; this is the plain one.
    """

    def avoided(self, state: UnlearnState, draw: LTUDraw) -> ArrayTree:
        """g_r, of the query sets that the step descends."""
        remain = draw.queries, jnp.ones(self.settings.num_queries)
        return self.meta(fit(state), state.params, None, remain).grad

    def passed(self, forget: int, remain: int) -> int:
        """As UAM, and the remaining sets' gradient at theta."""
        return forget + 2 * remain


@flax.struct.dataclass
class LUR(Relative):
    """LUR (Patel & Qiu 2025): ``L_r(theta) + lambda L_f(theta - alpha grad L_r(theta))``, L_f = -CE, without a bound.

    lambda is ``forget_weight``, alpha ``inner_learning_rate``, and ``order="second"`` keeps the second order as the
    paper does; ``"none"`` is NegGrad+ with weights 1 and lambda. Weights are not redrawn beforehand.
    """

    def descent(self, state: UnlearnState, draw: LTUDraw, share: jax.Array) -> tuple[MetaGrad, ArrayTree]:
        """One call: the support are the remaining sets, the only query the forget batch."""
        (forget_loss, forget), weight = self.forgetting(state, draw), self.settings.forget_weight

        def loss(params: ArrayTree, task: Any) -> tuple[jax.Array, ArrayTree]:
            if isinstance(task, Batch):  # the support
                losses, statistics = jax.vmap(lambda batch: fit(state)(params, (batch, 1.0)))(task)
                return losses.sum(), statistics
            value, statistics = forget_loss(params, task)
            return weight * value, statistics

        meta = self.meta(loss, state.params, draw.queries, jax.tree.map(lambda x: x[None], forget))
        return meta, meta.aux.support

    def forgetting(self, state: UnlearnState, draw: LTUDraw) -> tuple[LossFn, Any]:
        """L_f and its task, a tuple."""
        return fit(state), (draw.forget, jnp.float32(-1))

    def passed(self, forget: int, remain: int) -> int:
        """As LTU's remembering half, with the two kinds of rows exchanged."""
        return self.support_passes * remain + forget


@flax.struct.dataclass
class LURByMargins(LUR):
    """LUR whose L_f is LTU's: how far the forget rows' margins are from those of held-out rows, which has a floor.

    With ``order="none"`` it is LTU without random labels that adds its two gradients.
    """

    @property
    def sees_held_out(self) -> bool:
        """Its margins are what it compares with."""
        return True

    def forgetting(self, state: UnlearnState, draw: LTUDraw) -> tuple[LossFn, Any]:
        """See ``LTU.distance``."""
        return self.distance(state, draw)

    def cost(self, visible: Visible) -> MethodCost:
        """The comparison comes on top, forward only: forget and held-out rows, in ``init`` and in each step."""
        (init, step), settings = super().cost(visible), self.settings
        num_forget, num_held_out = (0 if rows is None else len(rows.labels) for rows in visible[::2])
        compared = sum(min(settings.batch_size, count) for count in (num_forget, num_held_out))
        return MethodCost(init.plus(Cost(forward=num_forget + num_held_out)), step.plus(Cost(forward=compared)))


uam, rosu, lur, lur_by_margins = UAM.build, ROSU.build, LUR.build, LURByMargins.build


def fit(state: UnlearnState) -> LossFn:
    """The weighted cross-entropy of true labels in training mode; a task is ``(Batch, f32[] weight)``."""

    def loss(params: ArrayTree, task: tuple[Batch, jax.Array]) -> tuple[jax.Array, ArrayTree]:
        batch, weight = task
        logits, statistics = state.apply_fn(params, state.model_state, batch.images, train=True)
        return weight * cross_entropy(logits, batch.labels), statistics

    return loss


def step_of_length(radius: jax.Array, avoided: ArrayTree | None) -> optax.GradientTransformation:
    """The steepest step of this length down a gradient, orthogonal to another if there is one; none where it is 0."""

    def update(grad: ArrayTree, params: ArrayTree | None) -> ArrayTree:
        direction = grad
        if avoided is not None:
            square = jnp.asarray(optax.tree.vdot(avoided, avoided))
            along = optax.tree.vdot(grad, avoided) / jnp.where(square > 0, square, 1)
            direction = optax.tree.add_scale(grad, -along, avoided)
        norm = optax.tree.norm(direction)
        is_one = norm > ROUNDING * optax.tree.norm(grad)
        return optax.tree.scale(jnp.where(is_one, -radius / jnp.where(is_one, norm, 1), 0), direction)

    return optax.stateless(update)
