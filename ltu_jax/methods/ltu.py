"""LTU: two meta-gradients a step, one to remember and one to forget, harmonized. Sec. 3."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from ltu_jax.attackers.fit import attacked_loss
from ltu_jax.core.harmonize import COMBINERS, Harmonized
from ltu_jax.core.losses import cross_entropy
from ltu_jax.core.meta import MetaGrad, after, meta_grad
from ltu_jax.core.queries import SAMPLERS, QueryPool, draw_queries, make_query_pool
from ltu_jax.core.support import draw_pair, relabel
from ltu_jax.data.batches import augmented, epoch_rows, gather
from ltu_jax.methods.base import MethodCost, SettingsMethod
from ltu_jax.training.cost import Cost
from ltu_jax.training.dispatch import compiled
from ltu_jax.training.optimizers import SGD, set_hyperparams
from ltu_jax.training.predict import EvalForward, predict
from ltu_jax.training.schedule import Schedule, learning_rate, make_schedule
from ltu_jax.types import ArrayTree, AuditTask, Batch, Metrics, UnlearnState, Visible

FEATURE_BATCH = 500


@flax.struct.dataclass
class LTUContext:
    """What LTU reads and does not change."""

    pool: QueryPool
    order_key: jax.Array  # shuffles the epochs over the forget set
    labels_once: jax.Array  # i32[F], the random labels when they are drawn once
    schedule: Schedule


class LTUDraw(NamedTuple):
    """All the randomness of one step.

    Remembering and forgetting share one copy of the forget batch: where the compiler sees that their
    images are the same, it passes them forward once.
    """

    forget: Batch  # B forget samples with their true labels
    random_labels: jax.Array  # i32[B]
    queries: Batch  # leading axis N: k remaining samples each (Eq. 7)
    i: jax.Array  # i32[], the attacker of the support
    j: jax.Array  # i32[], that of the query, j != i

    @property
    def support(self) -> Batch:
        """The forget samples with random labels. Eq. 6."""
        return self.forget._replace(labels=self.random_labels)

    @property
    def audit_i(self) -> AuditTask:
        """The forget samples and attacker i."""
        return AuditTask(self.forget, self.i)

    @property
    def audit_j(self) -> AuditTask:
        """The forget samples and attacker j, with a leading axis 1."""
        return jax.tree.map(lambda x: x[None], AuditTask(self.forget, self.j))


@flax.struct.dataclass
class LTU(SettingsMethod):
    """LTU, Sec. 3: descends the meta-gradients of remembering and of forgetting, harmonized.

    Needs ``parts.bank``, at least two attackers; ``parts.features`` is F of Eq. 8, the logits if None.
    """

    def step(self, state: UnlearnState, context: LTUContext, draw: LTUDraw) -> tuple[UnlearnState, Metrics]:
        """One step: remember, forget, harmonize, update."""
        remember = self.remember(state, draw) if self.settings.remember else None
        forget = self.forget(state, draw, remember) if self.settings.forget else None
        zero = optax.tree.zeros_like(state.params)
        g_remember = remember.grad if remember else zero
        g_forget = optax.tree.scale(self.settings.forget_weight, forget.grad) if forget else zero
        harmonized = COMBINERS[self.settings.combine](g_remember, g_forget, state.step)

        rate = learning_rate(context.schedule, state.step)
        state = set_hyperparams(state, learning_rate=rate).apply_gradients(
            grads=harmonized.grad, model_state=_statistics(remember or forget, state.model_state)
        )
        return state, _metrics(remember, forget, harmonized) | {"rate/outer": rate}

    def remember(self, state: UnlearnState, draw: LTUDraw) -> MetaGrad:
        """The remembering feedback g_r: the support has random labels (Eq. 6), the queries their own (Eq. 7)."""

        def relabelled_loss(params, batch):
            logits, model_state = _forward(state, params, batch.images)
            return cross_entropy(logits, batch.labels), model_state

        weight = self.settings.tune_weight
        return self.meta(relabelled_loss, state.params, draw.support, draw.queries, tune_weight=weight)

    def forget(self, state: UnlearnState, draw: LTUDraw, remember: MetaGrad | None) -> MetaGrad:
        """The forgetting feedback g_f: support and query are two attackers who are asked about the forget rows."""

        def attacked(params, task):
            logits, model_state = _forward(state, params, task.batch.images)
            return attacked_loss(self.parts.bank, task.attacker, logits, task.batch.labels), model_state

        # One half at a time: what both keep for their second derivatives need not be in memory at once. The
        # forward pass of the forget images is shared all the same, unless memory is dearer than time.
        done = remember.grad if remember else optax.tree.zeros_like(state.params)
        params = after(state.params, done) if self.settings.save_memory else state.params
        audit_i = draw.audit_i._replace(attacker=after(draw.i, done))
        return self.meta(attacked, params, audit_i, draw.audit_j)

    def meta(self, loss: Callable[..., Any], params: ArrayTree, support: Any, queries: Any, **more: Any) -> MetaGrad:
        """Eqs. 1-5, the same for both halves."""
        inner, settings = optax.sgd(self.settings.inner_learning_rate), self.settings
        return meta_grad(
            loss, params, support, queries, inner, order=settings.order, save_memory=settings.save_memory, **more
        )

    def sample(self, key: jax.Array, step: jax.Array, context: LTUContext, visible: Visible) -> LTUDraw:
        """All that is random in a step."""
        settings, num_classes = self.settings, self.parts.num_classes
        label_key, query_key, pair_key, forget_aug, query_aug = jax.random.split(key, 5)
        anchors = epoch_rows(context.order_key, step, len(visible.forget.labels), settings.batch_size)
        forget = augmented(forget_aug, gather(visible.forget, anchors), self.augment)
        labels = context.labels_once[anchors]
        if settings.relabel == "step":
            labels = relabel(label_key, forget.labels, num_classes, allow_true=settings.allow_true)
        names = itertools.islice(itertools.cycle(settings.samplers), settings.num_queries)
        samplers = tuple(SAMPLERS[name] for name in names)
        index = draw_queries(query_key, samplers, anchors, context.pool, settings.query_size)
        queries = augmented(query_aug, gather(visible.remain, index), self.augment)
        return LTUDraw(forget, labels, queries, *draw_pair(pair_key, len(self.parts.bank.names)))

    def init(self, key: jax.Array, state: UnlearnState, visible: Visible) -> tuple[UnlearnState, LTUContext]:
        """Computes the features of all visible rows, by which query sets are drawn."""
        settings, parts, (order_key, label_key) = self.settings, self.parts, jax.random.split(key)
        forward = parts.features or EvalForward(parts.apply_fn)
        forget_features, remain_features = (
            jax.device_put(predict(forward, state.params, state.model_state, rows.images, batch_size=FEATURE_BATCH))
            for rows in visible
        )
        known = forget_features, visible.forget.labels, remain_features, visible.remain.labels
        static = parts.num_classes, settings.num_neighbours, settings.label_vectors
        asked = label_key, visible.forget.labels
        context = LTUContext(
            pool=compiled(_query_pool, *known, static=static)(*known),
            order_key=order_key,
            labels_once=compiled(_relabel, *asked, static=(parts.num_classes, settings.allow_true))(*asked),
            schedule=make_schedule(settings.schedule, settings.learning_rate, self.num_steps(visible)),
        )
        # The steps donate the state: without a copy they would consume the caller's original.
        state = jax.tree.map(jnp.copy, state.replace(tx=SGD, opt_state=SGD.init(state.params)))
        return set_hyperparams(state, momentum=settings.momentum), context

    def num_steps(self, visible: Visible) -> int:
        """Epochs of the forget rows."""
        num_forget = len(visible.forget.labels)
        return max(1, round(self.settings.epochs * num_forget / min(self.settings.batch_size, num_forget)))

    def cost(self, visible: Visible) -> MethodCost:
        """``init`` passes each visible row once; for a step see ``meta_grad``."""
        settings, (num_forget, num_remain) = self.settings, (len(rows.labels) for rows in visible)
        size, queries = min(settings.batch_size, num_forget), settings.num_queries * settings.query_size
        # The support's gradient, and its Hessian product; the double backward and save_memory make it once more.
        again = int(settings.save_memory)
        tune = {"second": 3 + again, "naive": 4, "first": 1, "none": 1}[settings.order] * size
        passed = settings.remember * (tune + queries) + settings.forget * (tune + size)
        features = Cost(num_forget + num_remain, 0, num_remain, num_forget)
        return MethodCost(features, Cost(passed, passed, settings.remember * queries, size))


def _query_pool(num_classes: int, num_neighbours: int, label_vectors: str, *known: jax.Array) -> QueryPool:
    return make_query_pool(*known, num_classes=num_classes, num_neighbours=num_neighbours, label_vectors=label_vectors)


def _relabel(num_classes: int, allow_true: bool, key: jax.Array, labels: jax.Array) -> jax.Array:
    return relabel(key, labels, num_classes, allow_true=allow_true)


def _forward(state: UnlearnState, params: ArrayTree, images: jax.Array) -> tuple[jax.Array, ArrayTree]:
    """Batch statistics in every pass: with running ones the same rates diverge (README)."""
    return state.apply_fn(params, state.model_state, images, train=True)


def _statistics(meta: MetaGrad | None, before: ArrayTree) -> ArrayTree:
    """BatchNorm's: those of the true-label query passes, never of the random-label pass."""
    return before if meta is None else jax.tree.map(lambda x: x.mean(axis=0), meta.aux.queries)


def _metrics(remember: MetaGrad | None, forget: MetaGrad | None, harmonized: Harmonized) -> Metrics:
    """Losses per query set and the norms of the parts: they show which loss dominates the others."""
    metrics = {}
    for half, meta in (("remember", remember), ("forget", forget)):
        if meta is not None:
            metrics[f"loss/{half}_tune"] = meta.tune_loss
            metrics |= {f"loss/{half}_query_{i}": loss for i, loss in enumerate(meta.query_losses)}
            metrics |= {f"norm/{half}_{name}": value for name, value in meta.norms._asdict().items()}
    metrics |= {"cosine": harmonized.cosine, "conflict": harmonized.conflict.astype(jnp.float32)}
    return metrics | {"norm/update": optax.tree.norm(harmonized.grad)}
