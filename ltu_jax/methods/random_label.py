"""RandL, random label: training goes on, forget rows with random labels (Golatkar et al. 2020, as SalUn runs it)."""

import flax.struct
import jax
import jax.numpy as jnp

from ltu_jax.core.support import relabel
from ltu_jax.data.batches import augmented
from ltu_jax.methods.descent import Context, DescentMethod, begin
from ltu_jax.methods.streams import Draw, Stream, mixed_stream, sequential_stream
from ltu_jax.types import Batch, UnlearnState, Visible


@flax.struct.dataclass
class RandomLabel(DescentMethod):
    """RandL: ``theta <- SGD(CE)`` on D_f with random labels and on D_r with its own.

    SalUn's public code is two algorithms: for CIFAR-10 ``order="sequential"`` with labels redrawn for
    each batch (the defaults), else ``order="mixed"`` with labels redrawn each epoch. LTU's text, labels
    assigned first and training after that, is ``mixed`` and ``once``. In all, a random label may be the
    true one. With ``once``, ``mixed``, ``allow_true=False`` and Adam it is what the bad-teaching and SSD
    code call amnesiac: the preset ``amnesiac_relabel``.
    """

    @property
    def stream(self) -> Stream:
        """The order of rows that ``settings.order`` names."""
        is_sequential = self.settings.order == "sequential"
        return sequential_stream(self.settings) if is_sequential else mixed_stream(self.settings)

    def init(self, key: jax.Array, state: UnlearnState, visible: Visible) -> tuple[UnlearnState, Context]:
        """``context.extra`` is the key of labels that are drawn once or once an epoch."""
        order_key, label_key = jax.random.split(key)
        return begin(self.settings, state, order_key, self.num_steps(visible), tx=self.tx, extra=label_key)

    def sample(self, key: jax.Array, step: jax.Array, context: Context, visible: Visible) -> Batch:
        """A batch whose forget rows have random labels."""
        label_key, augment_key = jax.random.split(key)
        draw, settings = self.stream.draw(context.order_key, step, visible), self.settings
        num_classes, allow_true = self.parts.num_classes, settings.allow_true
        if settings.relabel_when == "batch":
            random = relabel(label_key, draw.batch.labels, num_classes, allow_true=allow_true)
        else:
            epoch = draw.epoch if settings.relabel_when == "epoch" else jnp.zeros_like(draw.epoch)
            random = _labels_of_rows(context.extra, draw, epoch, num_classes, allow_true)
        labels = jnp.where(draw.is_forget, random, draw.batch.labels)
        return augmented(augment_key, draw.batch._replace(labels=labels), self.augment)


def _labels_of_rows(key: jax.Array, draw: Draw, epoch: jax.Array, num_classes: int, allow_true: bool) -> jax.Array:
    """A label for each row that depends on the row and the epoch alone: drawn once, seen again."""

    def one(row, epoch, label):
        row_key = jax.random.fold_in(jax.random.fold_in(key, epoch), row)
        return relabel(row_key, label[None], num_classes, allow_true=allow_true)[0]

    return jax.vmap(one)(draw.row, epoch, draw.batch.labels)
