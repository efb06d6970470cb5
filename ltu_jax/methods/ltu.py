"""LTU: two meta-gradients a step, one to remember and one to forget, harmonized. Sec. 3."""

import functools
import itertools
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from ltu_jax import config
from ltu_jax.attackers.bank import Bank
from ltu_jax.attackers.fit import attacked_loss
from ltu_jax.core.harmonize import COMBINERS
from ltu_jax.core.losses import cross_entropy
from ltu_jax.core.meta import MetaGrad, after, meta_grad
from ltu_jax.core.queries import SAMPLERS, QueryPool, draw_queries, make_query_pool
from ltu_jax.core.support import draw_pair, relabel
from ltu_jax.data.batches import augmented, epoch_rows, gather
from ltu_jax.methods.base import Method, MethodCost
from ltu_jax.training.cost import Cost
from ltu_jax.training.optimizers import SGD, set_hyperparams
from ltu_jax.training.predict import eval_forward, predict
from ltu_jax.training.schedule import Schedule, learning_rate, make_schedule
from ltu_jax.types import AuditTask, Batch, Metrics, Parts, UnlearnState, Visible

FEATURE_BATCH = 500


@flax.struct.dataclass
class LTUContext:
    """What LTU only reads. Its numbers are arrays: another trial of them compiles nothing."""

    bank: Bank
    pool: QueryPool
    order_key: jax.Array  # shuffles the epochs over the forget set
    labels_once: jax.Array  # i32[F], the random labels when they are drawn once
    schedule: Schedule
    inner_rate: jax.Array  # f32[], alpha of Eq. 2
    tune_weight: jax.Array  # f32[]
    forget_weight: jax.Array  # f32[]


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


def build(settings: config.LTU, parts: Parts) -> Method:
    """LTU as a method.

    Args:
      settings: see ``config.LTU``.
      parts: needs ``bank``, at least two attackers; ``features`` is F of Eq. 8, the logits if None.

    Returns:
      ``Method``.

    Raises:
      ValueError: if the attackers are missing.
    """
    if parts.bank is None:
        raise ValueError("ltu: parts.bank is missing; allowed: a bank of at least two attackers (attackers.fit)")
    augment = parts.augment if settings.augment else "none"
    samplers = tuple(
        SAMPLERS[name] for name in itertools.islice(itertools.cycle(settings.samplers), settings.num_queries)
    )
    combine, bank = COMBINERS[settings.combine], parts.bank

    def num_steps(visible: Visible) -> int:
        num_forget = len(visible.forget.labels)
        return max(1, round(settings.epochs * num_forget / min(settings.batch_size, num_forget)))

    def init(key: jax.Array, state: UnlearnState, visible: Visible) -> tuple[UnlearnState, LTUContext]:
        order_key, label_key = jax.random.split(key)
        forward = parts.features or eval_forward(parts.apply_fn)
        forget_features, remain_features = (
            jnp.asarray(predict(forward, state.params, state.model_state, rows.images, batch_size=FEATURE_BATCH))
            for rows in visible
        )
        pool = _make_query_pool(
            forget_features,
            visible.forget.labels,
            remain_features,
            visible.remain.labels,
            num_classes=parts.num_classes,
            num_neighbours=settings.num_neighbours,
            label_vectors=settings.label_vectors,
        )
        context = LTUContext(
            bank=bank,
            pool=pool,
            order_key=order_key,
            labels_once=relabel(label_key, visible.forget.labels, parts.num_classes, allow_true=settings.allow_true),
            schedule=make_schedule(settings.schedule, settings.learning_rate, num_steps(visible)),
            inner_rate=jnp.float32(settings.inner_learning_rate),
            tune_weight=jnp.float32(settings.tune_weight),
            forget_weight=jnp.float32(settings.forget_weight),
        )
        # The steps donate the state: without a copy they would consume the caller's original.
        state = jax.tree.map(jnp.copy, state.replace(tx=SGD, opt_state=SGD.init(state.params)))
        return set_hyperparams(state, momentum=settings.momentum), context

    def sample(key: jax.Array, step: jax.Array, context: LTUContext, visible: Visible) -> LTUDraw:
        label_key, query_key, pair_key, forget_aug, query_aug = jax.random.split(key, 5)
        anchors = epoch_rows(context.order_key, step, len(visible.forget.labels), settings.batch_size)
        forget = augmented(forget_aug, gather(visible.forget, anchors), augment)
        labels = context.labels_once[anchors]
        if settings.relabel == "step":
            labels = relabel(label_key, forget.labels, parts.num_classes, allow_true=settings.allow_true)
        index = draw_queries(query_key, samplers, anchors, context.pool, settings.query_size)
        queries = augmented(query_aug, gather(visible.remain, index), augment)
        return LTUDraw(forget, labels, queries, *draw_pair(pair_key, len(bank.names)))

    def step(state: UnlearnState, context: LTUContext, draw: LTUDraw) -> tuple[UnlearnState, Metrics]:
        def forward(params, images):
            # Batch statistics in every pass: with running ones the same rates diverge (README).
            return state.apply_fn(params, state.model_state, images, train=True)

        def relabelled_loss(params, batch):
            logits, model_state = forward(params, batch.images)
            return cross_entropy(logits, batch.labels), model_state

        def audit_loss(params, task):
            logits, model_state = forward(params, task.batch.images)
            return attacked_loss(context.bank, task.attacker, logits, task.batch.labels), model_state

        meta = functools.partial(
            meta_grad,
            inner_tx=optax.sgd(context.inner_rate),
            order=settings.order,
            save_memory=settings.save_memory,
        )
        remember = forget = None
        g_remember = g_forget = optax.tree.zeros_like(state.params)
        if settings.remember:
            remember = meta(relabelled_loss, state.params, draw.support, draw.queries, tune_weight=context.tune_weight)
            g_remember = remember.grad
        if settings.forget:
            # One half at a time: what both keep for their second derivatives need not be in memory at once. The
            # forward pass of the forget images is shared all the same, unless memory is dearer than time.
            params = after(state.params, g_remember) if settings.save_memory else state.params
            audit_i = draw.audit_i._replace(attacker=after(draw.i, g_remember))
            forget = meta(audit_loss, params, audit_i, draw.audit_j)
            g_forget = optax.tree.scale(context.forget_weight, forget.grad)
        harmonized = combine(g_remember, g_forget, state.step)

        rate = learning_rate(context.schedule, state.step)
        # Statistics of the true-label query passes are kept, never those of the random-label pass.
        model_state = state.model_state
        if kept := remember or forget:
            model_state = jax.tree.map(lambda x: x.mean(axis=0), kept.aux.queries)
        state = set_hyperparams(state, learning_rate=rate).apply_gradients(
            grads=harmonized.grad, model_state=model_state
        )
        metrics = _metrics("remember", remember) | _metrics("forget", forget)
        metrics |= {"cosine": harmonized.cosine, "conflict": harmonized.conflict.astype(jnp.float32)}
        return state, metrics | {"norm/update": optax.tree.norm(harmonized.grad), "rate/outer": rate}

    def cost(visible: Visible) -> MethodCost:
        num_forget, num_remain = (len(rows.labels) for rows in visible)
        size, queries = min(settings.batch_size, num_forget), settings.num_queries * settings.query_size
        # The support's gradient, and its Hessian product; the double backward and save_memory make it once more.
        again = int(settings.save_memory)
        tune = {"second": 3 + again, "naive": 4, "first": 1, "none": 1}[settings.order] * size
        passed = settings.remember * (tune + queries) + settings.forget * (tune + size)
        features = Cost(num_forget + num_remain, 0, num_remain, num_forget)
        return MethodCost(features, Cost(passed, passed, settings.remember * queries, size))

    return Method(init, sample, step, num_steps, cost=cost)


_make_query_pool = jax.jit(make_query_pool, static_argnames=("num_classes", "num_neighbours", "label_vectors"))


def _metrics(half: str, meta: MetaGrad | None) -> Metrics:
    """Losses per query set and the norms of the parts: without them nobody sees who drowns whom."""
    if meta is None:
        return {}
    queries = {f"loss/{half}_query_{i}": loss for i, loss in enumerate(meta.query_losses)}
    norms = {f"norm/{half}_{name}": value for name, value in meta.norms._asdict().items()}
    return {f"loss/{half}_tune": meta.tune_loss} | queries | norms
