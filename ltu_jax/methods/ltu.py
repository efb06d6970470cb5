"""LTU: two gradients a step, one to remember and one to forget, harmonized. Sec. 3.

To forget, the attackers' answers are turned to *non-member* (Eq. 11), or the margins of the forget rows, which such
attackers look at, are brought to those of held-out rows (``core.margins``).
"""

import itertools
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from ltu_jax.attackers.fit import attacked_loss
from ltu_jax.core.harmonize import COMBINERS, Harmonized
from ltu_jax.core.losses import cross_entropy
from ltu_jax.core.margins import log_odds, matched_margins, matched_weights
from ltu_jax.core.meta import LossFn, MetaGrad, after, meta_grad
from ltu_jax.core.queries import SAMPLERS, QueryPool, draw_queries, make_query_pool
from ltu_jax.core.support import draw_pair, relabel
from ltu_jax.data.batches import augmented, epoch_rows, gather
from ltu_jax.methods.base import MethodCost, SettingsMethod
from ltu_jax.training.cost import Cost
from ltu_jax.training.dispatch import compiled
from ltu_jax.training.optimizers import OPTIMIZERS, set_hyperparams
from ltu_jax.training.predict import EvalForward, predict
from ltu_jax.training.schedule import Schedule, learning_rate, make_schedule
from ltu_jax.types import ArrayTree, AuditTask, Batch, Metrics, Rows, UnlearnState, Visible

FEATURE_BATCH = 500

FEW = 20
"""With fewer forget rows a step of theirs alone would normalise by them alone, and damage the model.

``deletion.few`` has the same limit for what a request can show of them; the pages tell both as one."""


class Matching(NamedTuple):
    """What forgetting by margins compares with: the original's margins, in evaluation mode, as it is served."""

    targets: jax.Array  # f32[F], what the margin of each forget row would be, were it held out
    held_out: jax.Array  # f32[M], of the held-out rows


@flax.struct.dataclass
class LTUContext:
    """What LTU reads and does not change."""

    pool: QueryPool
    order_key: jax.Array  # shuffles the epochs over the forget set
    labels_once: jax.Array | None  # i32[F], the random labels where they are drawn once
    schedule: Schedule
    matching: Matching | None  # None where the attackers say what is forgotten


class Compared(NamedTuple):
    """What forgetting by margins compares, unaugmented."""

    forget: Batch  # the same samples
    targets: jax.Array  # f32[B], of their margins
    held_out: Batch
    before: jax.Array  # the original's margins of these held-out rows, one each


class LTUDraw(NamedTuple):
    """All the randomness of one step.

    Remembering and forgetting share one copy of the forget batch: where the compiler sees that their
    images are the same, it passes them forward once.
    """

    forget: Batch  # B forget samples with their true labels
    random_labels: jax.Array | None  # i32[B]; None without a support set
    queries: Batch  # leading axis N: k remaining samples each (Eq. 7)
    attackers: tuple[jax.Array, jax.Array] | None  # i32[] each: i of the support, and j != i of the query
    compared: Compared | None  # where margins say what is forgotten
    along: jax.Array | None = None  # f32[k,H,W,3], where forget rows are few: remaining ones, which normalise with them

    @property
    def support(self) -> Batch | None:
        """The forget samples with random labels. Eq. 6."""
        return None if self.random_labels is None else self.forget._replace(labels=self.random_labels)


@flax.struct.dataclass
class LTU(SettingsMethod):
    """LTU, Sec. 3: descends the meta-gradients of remembering and of forgetting, harmonized.

    By attackers it needs ``parts.bank``, at least two of them, and by margins ``visible.held_out``;
    ``parts.features`` is F of Eq. 8, the logits if None.
    """

    @property
    def sees_held_out(self) -> bool:
        """Where it forgets by margins."""
        return self.settings.forget and self.settings.forget_by == "margins"

    def step(self, state: UnlearnState, context: LTUContext, draw: LTUDraw) -> tuple[UnlearnState, Metrics]:
        """One step: remember, forget, harmonize, update."""
        remember = self.remember(state, draw) if self.settings.remember else None
        forget = None
        if self.settings.forget:
            forget = self.match(state, draw) if self.sees_held_out else self.forget(state, draw, remember)
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
            logits, model_state = _forward(state, params, task.batch.images, draw.along)
            return attacked_loss(self.parts.bank, task.attacker, logits, task.batch.labels), model_state

        # One half at a time: what both keep for their second derivatives need not be in memory at once. The
        # forward pass of the forget images is shared all the same, unless memory is dearer than time.
        done = remember.grad if remember else optax.tree.zeros_like(state.params)
        params = after(state.params, done) if self.settings.save_memory else state.params
        assert draw.attackers is not None
        i, j = draw.attackers
        support, query = AuditTask(draw.forget, after(i, done)), AuditTask(draw.forget, j)
        return self.meta(attacked, params, support, jax.tree.map(lambda x: x[None], query))

    def match(self, state: UnlearnState, draw: LTUDraw) -> MetaGrad:
        """The forgetting feedback by margins: the gradient of ``distance``, one statistic, hence no support set."""
        distance, forget = self.distance(state, draw)
        return self.meta(distance, state.params, None, jax.tree.map(lambda x: x[None], forget))

    def distance(self, state: UnlearnState, draw: LTUDraw) -> tuple[LossFn, Any]:
        """The Huber loss of the margins to where held-out rows are by now, and the task that it takes.

        The targets follow the held-out rows, whose margins the run moves too: what the model learns better on its
        way would else leave the forget rows behind. How far a row is from its target is seen in evaluation mode, as the
        model is served; the direction is that of training mode.
        """
        assert draw.compared is not None
        forget, targets, held_out, before = draw.compared

        def served(batch: Batch) -> jax.Array:
            logits, _ = state.apply_fn(state.params, state.model_state, batch.images, train=False)
            return log_odds(logits, batch.labels)

        targets, now = targets + jnp.mean(served(held_out) - before), served(forget)

        def distance(params, task):
            batch, targets, now = task
            logits, model_state = _forward(state, params, batch.images, draw.along)
            margins = log_odds(logits, batch.labels)
            margins += jax.lax.stop_gradient(now - margins)
            return optax.huber_loss(margins, targets).mean(), model_state

        return distance, (draw.forget, targets, now)

    def meta(self, loss: LossFn, params: ArrayTree, support: Any, queries: Any, **more: Any) -> MetaGrad:
        """Eqs. 1-5, the same for both halves; without a support set the gradient of the queries alone."""
        inner, settings = optax.sgd(self.settings.inner_learning_rate), self.settings
        order = "none" if support is None else settings.order
        return meta_grad(loss, params, support, queries, inner, order=order, save_memory=settings.save_memory, **more)

    def sample(self, key: jax.Array, step: jax.Array, context: LTUContext, visible: Visible) -> LTUDraw:
        """All that is random in a step."""
        settings, num_classes = self.settings, self.parts.num_classes
        label_key, query_key, pair_key, forget_aug, query_aug = jax.random.split(key, 5)
        anchors = epoch_rows(context.order_key, step, len(visible.forget.labels), settings.batch_size)
        as_stored = gather(visible.forget, anchors)
        forget = augmented(forget_aug, as_stored, self.augment)
        labels = None
        if context.labels_once is not None:
            labels = context.labels_once[anchors]
        elif settings.relabel == "step":
            labels = relabel(label_key, forget.labels, num_classes, allow_true=settings.allow_true)
        names = itertools.islice(itertools.cycle(settings.samplers), settings.num_queries)
        samplers = tuple(SAMPLERS[name] for name in names)
        few = len(visible.forget.labels) < FEW
        index = draw_queries(query_key, samplers, anchors, context.pool, settings.query_size, repeat=not few)
        queries = augmented(query_aug, gather(visible.remain, index), self.augment)
        along = queries.images[-1] if few else None
        if context.matching is None:
            by_attackers = settings.forget_by == "attackers"
            attackers = draw_pair(pair_key, len(self.parts.bank.names)) if by_attackers else None
            return LTUDraw(forget, labels, queries, attackers, None, along)
        held_out, matching = _held_out(visible), context.matching
        size = min(settings.batch_size, len(held_out.labels))
        index = jax.random.choice(pair_key, len(held_out.labels), (size,), replace=False)
        compared = Compared(
            as_stored,
            matching.targets[anchors],
            gather(held_out, index),
            matching.held_out[index],
        )
        return LTUDraw(forget, labels, queries, None, compared, along)

    def init(self, key: jax.Array, state: UnlearnState, visible: Visible) -> tuple[UnlearnState, LTUContext]:
        """Computes the features of all visible rows, by which query sets are drawn."""
        settings, parts, (order_key, label_key) = self.settings, self.parts, jax.random.split(key)
        forward = parts.features or EvalForward(parts.apply_fn)
        forget_features, remain_features = (
            jax.device_put(predict(forward, state.params, state.model_state, rows.images, batch_size=FEATURE_BATCH))
            for rows in visible.both
        )
        known = forget_features, visible.forget.labels, remain_features, visible.remain.labels
        static = parts.num_classes, settings.num_neighbours, settings.label_vectors
        asked = label_key, visible.forget.labels
        labels_once = None
        if settings.relabel == "once":
            labels_once = compiled(_relabel, *asked, static=(parts.num_classes, settings.allow_true))(*asked)
        context = LTUContext(
            pool=compiled(_query_pool, *known, static=static)(*known),
            order_key=order_key,
            labels_once=labels_once,
            schedule=make_schedule(settings.schedule, settings.learning_rate, self.num_steps(visible)),
            matching=self.matching(state, visible) if self.sees_held_out else None,
        )
        # The steps donate the state: without a copy they would consume the caller's original.
        tx = OPTIMIZERS[settings.optimizer]
        state = jax.tree.map(jnp.copy, state.replace(tx=tx, opt_state=tx.init(state.params)))
        return set_hyperparams(state, momentum=settings.momentum), context

    def matching(self, state: UnlearnState, visible: Visible) -> Matching:
        """The original's margins, and by them what each forget row is brought to."""
        forward, model, known = EvalForward(self.parts.apply_fn), (state.params, state.model_state), []
        for rows in (visible.forget, _held_out(visible)):
            known += [jax.device_put(predict(forward, *model, rows.images, batch_size=FEATURE_BATCH)), rows.labels]
        return compiled(_matching, *known, static=(self.parts.num_classes,))(*known)

    def num_steps(self, visible: Visible) -> int:
        """Epochs of the forget rows."""
        num_forget = len(visible.forget.labels)
        return max(1, round(self.settings.epochs * num_forget / min(self.settings.batch_size, num_forget)))

    @property
    def support_passes(self) -> int:
        """Of the support set in a step: its gradient, and its Hessian product, which counts as two passes each way."""
        # The double backward and save_memory make the gradient once more.
        return {"second": 3 + int(self.settings.save_memory), "naive": 4, "first": 1, "none": 1}[self.settings.order]

    def cost(self, visible: Visible) -> MethodCost:
        """``init`` passes each visible row once, by margins forget rows twice; for a step see ``meta_grad``."""
        settings, (num_forget, num_remain) = self.settings, (len(rows.labels) for rows in visible.both)
        size, queries = min(settings.batch_size, num_forget), settings.num_queries * settings.query_size
        asked = size + (num_forget < FEW) * settings.query_size  # forget rows with what is passed along
        tune = self.support_passes * size
        remember = settings.remember * ((settings.relabel != "never") * tune + queries)
        forget = settings.forget * ((not self.sees_held_out) * self.support_passes * asked + asked)
        passed, init = remember + forget, num_forget + num_remain
        step = Cost(passed, passed, settings.remember * queries, size)
        if self.sees_held_out and visible.held_out is not None:
            num_held_out = len(visible.held_out.labels)
            init += num_forget + num_held_out
            compared = size + min(settings.batch_size, num_held_out)
            step = step._replace(forward=passed + settings.forget * compared)
        return MethodCost(Cost(init, 0, num_remain, num_forget), step)


def _query_pool(num_classes: int, num_neighbours: int, label_vectors: str, *known: jax.Array) -> QueryPool:
    return make_query_pool(*known, num_classes=num_classes, num_neighbours=num_neighbours, label_vectors=label_vectors)


def _relabel(num_classes: int, allow_true: bool, key: jax.Array, labels: jax.Array) -> jax.Array:
    return relabel(key, labels, num_classes, allow_true=allow_true)


def _held_out(visible: Visible) -> Rows:
    """The rows to compare with.

    Raises:
      ValueError: if there are none.
    """
    if visible.held_out is None or not len(visible.held_out.labels):
        raise ValueError("ltu: visible.held_out has no rows; allowed: one or more, or forget_by attackers")
    return visible.held_out


def _matching(num_classes: int, *known: jax.Array) -> Matching:
    """Of logits and labels of the forget rows, then of the held-out rows."""
    forget_logits, forget_labels, logits, labels = known
    held_out = log_odds(logits, labels)
    weights = matched_weights(labels, forget_labels, num_classes)
    return Matching(matched_margins(log_odds(forget_logits, forget_labels), held_out, weights), held_out)


def _forward(
    state: UnlearnState, params: ArrayTree, images: jax.Array, along: jax.Array | None = None
) -> tuple[jax.Array, ArrayTree]:
    """Batch statistics in every pass, ``along`` among them: with running ones the same rates diverge."""
    if along is None:
        return state.apply_fn(params, state.model_state, images, train=True)
    together = jnp.concatenate([images, along])
    logits, model_state = state.apply_fn(params, state.model_state, together, train=True)
    return logits[: len(images)], model_state


def _statistics(meta: MetaGrad | None, before: ArrayTree) -> ArrayTree:
    """BatchNorm's: those of the true-label query passes, never of the random-label pass."""
    return before if meta is None else jax.tree.map(lambda x: x.mean(axis=0), meta.aux.queries)


def _metrics(remember: MetaGrad | None, forget: MetaGrad | None, harmonized: Harmonized) -> Metrics:
    """Losses per query set and the norms of the parts: they show which loss dominates the others."""
    metrics = {}
    for half, meta in (("remember", remember), ("forget", forget)):
        if meta is not None:
            metrics |= {} if meta.tune_loss is None else {f"loss/{half}_tune": meta.tune_loss}
            metrics |= {f"loss/{half}_query_{i}": loss for i, loss in enumerate(meta.query_losses)}
            norms = meta.norms._asdict().items()
            metrics |= {f"norm/{half}_{name}": value for name, value in norms if value is not None}
    metrics |= {"cosine": harmonized.cosine, "conflict": harmonized.conflict.astype(jnp.float32)}
    return metrics | {"norm/update": optax.tree.norm(harmonized.grad)}
