"""RandL, random label: training goes on, forget rows with random labels (Golatkar et al. 2020, as SalUn runs it)."""

import jax
import jax.numpy as jnp
import optax

from ltu_jax import config
from ltu_jax.core.support import relabel
from ltu_jax.data.batches import augmented
from ltu_jax.methods.base import Method
from ltu_jax.methods.descent import Context, begin, descend, label_loss
from ltu_jax.methods.streams import Draw, Stream, mixed_stream, sequential_stream
from ltu_jax.training.dispatch import SampleFn
from ltu_jax.types import Parts, UnlearnState


def build(settings: config.RandomLabel, parts: Parts) -> Method:
    """RandL: ``theta <- SGD(CE)`` on D_f with random labels and on D_r with its own.

    SalUn's public code is two algorithms: for CIFAR-10 ``order="sequential"`` with labels redrawn for
    each batch (the defaults), else ``order="mixed"`` with labels redrawn each epoch. LTU's text, labels
    assigned first and training after that, is ``mixed`` and ``once``. In all, a random label may be the
    true one. With ``once``, ``mixed``, ``allow_true=False`` and Adam it is what the bad-teaching and SSD
    code call amnesiac: the preset ``amnesiac_relabel``.

    Args:
      settings: see ``config.RandomLabel``.
      parts: the model, its classes and its augmentation.

    Returns:
      ``Method``.
    """
    stream = make_stream(settings)

    def init(key, state, visible):
        return begin_relabelling(settings, state, key, stream.num_steps(visible))

    sample = make_sample(settings, parts, stream)
    return Method(init, sample, descend(label_loss), stream.num_steps, cost=stream.cost())


def make_stream(settings: config.RandomLabel) -> Stream:
    """The order of rows that ``settings.order`` names."""
    return sequential_stream(settings) if settings.order == "sequential" else mixed_stream(settings)


def begin_relabelling(
    settings: config.RandomLabel,
    state: UnlearnState,
    key: jax.Array,
    num_steps: int,
    tx: optax.GradientTransformation | None = None,
) -> tuple[UnlearnState, Context]:
    """``descent.begin`` whose ``extra`` is the key of labels that are drawn once or once an epoch."""
    order_key, label_key = jax.random.split(key)
    return begin(settings, state, order_key, num_steps, tx=tx, extra=label_key)


def make_sample(settings: config.RandomLabel, parts: Parts, stream: Stream) -> SampleFn:
    """A ``Method.sample`` of batches whose forget rows have random labels."""
    augment = parts.augment if settings.augment else "none"

    def sample(key, step, context, visible):
        label_key, augment_key = jax.random.split(key)
        draw = stream.draw(context.order_key, step, visible)
        if settings.relabel_when == "batch":
            random = relabel(label_key, draw.batch.labels, parts.num_classes, allow_true=settings.allow_true)
        else:
            epoch = draw.epoch if settings.relabel_when == "epoch" else jnp.zeros_like(draw.epoch)
            random = _labels_of_rows(context.extra, draw, epoch, parts.num_classes, settings.allow_true)
        labels = jnp.where(draw.is_forget, random, draw.batch.labels)
        return augmented(augment_key, draw.batch._replace(labels=labels), augment)

    return sample


def _labels_of_rows(key: jax.Array, draw: Draw, epoch: jax.Array, num_classes: int, allow_true: bool) -> jax.Array:
    """A label for each row that depends on the row and the epoch alone: drawn once, seen again."""

    def one(row, epoch, label):
        row_key = jax.random.fold_in(jax.random.fold_in(key, epoch), row)
        return relabel(row_key, label[None], num_classes, allow_true=allow_true)[0]

    return jax.vmap(one)(draw.row, epoch, draw.batch.labels)
