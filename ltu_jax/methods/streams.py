"""In which order a method sees forget and remaining rows: endless shuffled streams, cut into steps.

Every stream is a function of a key and the step. An epoch of the remaining rows is the whole rho
subset once, or ``remain_per_forget`` images for each forget row, the subset repeated or cut as needed:
without that a small rho starves whatever counts in epochs.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ltu_jax.config import Descent
from ltu_jax.data.batches import augmented, epoch_rows, gather
from ltu_jax.methods.base import MethodCost
from ltu_jax.training.cost import Cost
from ltu_jax.types import Batch, Rows, Visible


class Draw(NamedTuple):
    """The rows of a step, not yet augmented."""

    batch: Batch  # with their true labels
    is_forget: jax.Array  # bool[B]
    row: jax.Array  # i32[B], which row of its set
    epoch: jax.Array  # i32[B], in which pass over its set


class Stream(NamedTuple):
    """An order of rows."""

    draw: Callable[[jax.Array, jax.Array, Visible], Draw]  # (key, step, visible)
    num_steps: Callable[[Visible], int]
    images: Callable[[Visible], tuple[float, float]]  # forget and remaining images a step, on average

    def augmented_draw(
        self, key: jax.Array, step: jax.Array, order_key: jax.Array, visible: Visible, augment: str
    ) -> Draw:
        """The rows of a step; ``key`` augments them, ``order_key`` is that of the whole run."""
        draw = self.draw(order_key, step, visible)
        return draw._replace(batch=augmented(key, draw.batch, augment))

    def cost(self, visible: Visible, *, forward: int = 1) -> MethodCost:
        """The cost of steps that pass each image ``forward`` times and back once, where ``init`` passes none."""
        forget, remain = self.images(visible)
        size = forget + remain
        return MethodCost(Cost(), Cost(forward * size, size, remain, forget))


def remain_stream(settings: Descent) -> Stream:
    """Remaining rows alone."""
    return _one_kind(settings, is_forget=False)


def forget_stream(settings: Descent) -> Stream:
    """Forget rows alone."""
    return _one_kind(settings, is_forget=True)


def _one_kind(settings: Descent, *, is_forget: bool) -> Stream:
    def rows(visible: Visible) -> Rows:
        return visible.forget if is_forget else visible.remain

    def size(visible: Visible) -> int:
        return min(settings.batch_size, _count(rows(visible)))

    def draw(key: jax.Array, step: jax.Array, visible: Visible) -> Draw:
        return _draw_from(rows(visible), key, step, size(visible), is_forget=is_forget)

    def num_steps(visible: Visible) -> int:
        epoch = _count(visible.forget) if is_forget else _remain_epoch(settings, visible)
        return max(1, round(settings.epochs * epoch / size(visible)))

    def images(visible: Visible) -> tuple[float, float]:
        return (size(visible), 0) if is_forget else (0, size(visible))

    return Stream(draw, num_steps, images)


def sequential_stream(settings: Descent, forget_epochs: float = float("inf")) -> Stream:
    """Each epoch first the forget rows, then the remaining ones; the forget pass in the first epochs only.

    A step holds rows of one kind; a batch is at most as large as the smaller set. Passes are rounded
    to whole steps.
    """

    def passes(visible: Visible) -> tuple[int, int, int]:
        """Rows a step, and steps of the two passes."""
        size = min(settings.batch_size, _count(visible.forget), _count(visible.remain))
        num_forget = max(1, round(_count(visible.forget) / size))
        num_remain = max(1, round(_remain_epoch(settings, visible) / size))
        return size, num_forget, num_remain

    def draw(key: jax.Array, step: jax.Array, visible: Visible) -> Draw:
        size, num_forget, num_remain = passes(visible)
        epochs = jnp.ceil(jnp.minimum(settings.epochs, forget_epochs)).astype(jnp.int32)  # with a forget pass; traced
        epoch, at = step // (num_forget + num_remain), step % (num_forget + num_remain)
        both = epoch < epochs
        is_forget = both & (at < num_forget)
        remain_step = jnp.where(both, epoch * num_remain + at, step - epochs * num_forget) - both * num_forget
        forget_key, remain_key = jax.random.split(key)
        forget = _draw_from(visible.forget, forget_key, epoch * num_forget + at, size, is_forget=True)
        remain = _draw_from(visible.remain, remain_key, jnp.maximum(remain_step, 0), size, is_forget=False)
        return jax.tree.map(lambda f, r: jnp.where(is_forget, f, r), forget, remain)

    def num_steps(visible: Visible) -> int:
        _, num_forget, num_remain = passes(visible)
        epochs = math.ceil(min(settings.epochs, forget_epochs))
        return max(1, round(min(settings.epochs, epochs) * num_forget + settings.epochs * num_remain))

    def images(visible: Visible) -> tuple[float, float]:
        size, num_forget, num_remain = passes(visible)
        epochs = math.ceil(min(settings.epochs, forget_epochs))
        steps, whole = num_steps(visible), num_forget + num_remain
        forget = min(steps // whole, epochs) * num_forget
        forget += min(steps % whole, num_forget) if steps // whole < epochs else 0
        return size * forget / steps, size * (steps - forget) / steps

    return Stream(draw, num_steps, images)


def alternating_stream(settings: Descent) -> Stream:
    """A forget batch, then remaining ones of its size, and so on; ``epochs`` count the forget rows.

    ``remain_per_forget``, rounded, is how many remaining batches come after each; unset it is five.
    """
    num_remain = 5 if settings.remain_per_forget is None else max(1, round(settings.remain_per_forget))

    def size(visible: Visible) -> int:
        return min(settings.batch_size, _count(visible.forget), _count(visible.remain))

    def draw(key: jax.Array, step: jax.Array, visible: Visible) -> Draw:
        turn, at = step // (1 + num_remain), step % (1 + num_remain)
        forget_key, remain_key = jax.random.split(key)
        forget = _draw_from(visible.forget, forget_key, turn, size(visible), is_forget=True)
        remain_step = jnp.maximum(turn * num_remain + at - 1, 0)
        remain = _draw_from(visible.remain, remain_key, remain_step, size(visible), is_forget=False)
        return jax.tree.map(lambda f, r: jnp.where(at == 0, f, r), forget, remain)

    def num_steps(visible: Visible) -> int:
        return (1 + num_remain) * max(1, round(settings.epochs * _count(visible.forget) / size(visible)))

    def images(visible: Visible) -> tuple[float, float]:
        forget = size(visible) / (1 + num_remain)
        return forget, size(visible) - forget

    return Stream(draw, num_steps, images)


def mixed_stream(settings: Descent, forget_copies: int = 1) -> Stream:
    """Forget and remaining rows shuffled together; each forget row ``forget_copies`` times an epoch."""

    def sizes(visible: Visible) -> tuple[int, int, int]:
        num_forget, num_remain = forget_copies * _count(visible.forget), _remain_epoch(settings, visible)
        return num_forget, num_remain, min(settings.batch_size, num_forget + num_remain)

    def draw(key: jax.Array, step: jax.Array, visible: Visible) -> Draw:
        num_forget, num_remain, size = sizes(visible)
        epoch_key, subset_key = jax.random.split(key)
        entry, epoch = _next_rows(epoch_key, step, num_forget + num_remain, size)
        is_forget = entry < num_forget
        # Where an epoch is no whole number of passes over the subset, the next goes on where it ended;
        # in an order of its own, since rows may be stored class by class.
        place = (epoch * num_remain + entry - num_forget) % _count(visible.remain)
        copy, forget_row = entry // _count(visible.forget), entry % _count(visible.forget)
        row = jnp.where(is_forget, forget_row, jax.random.permutation(subset_key, _count(visible.remain))[place])
        epoch = jnp.where(is_forget, forget_copies * epoch + copy, epoch)
        forget, remain = (gather(rows, jnp.minimum(row, _count(rows) - 1)) for rows in visible.both)
        of_images = jnp.expand_dims(is_forget, range(1, forget.images.ndim))
        images = jnp.where(of_images, forget.images, remain.images)
        return Draw(Batch(images, jnp.where(is_forget, forget.labels, remain.labels)), is_forget, row, epoch)

    def num_steps(visible: Visible) -> int:
        num_forget, num_remain, size = sizes(visible)
        return max(1, round(settings.epochs * (num_forget + num_remain) / size))

    def images(visible: Visible) -> tuple[float, float]:
        num_forget, num_remain, size = sizes(visible)
        forget = size * num_forget / (num_forget + num_remain)
        return forget, size - forget

    return Stream(draw, num_steps, images)


def _count(rows: Rows) -> int:
    return len(rows.labels)


def _remain_epoch(settings: Descent, visible: Visible) -> int:
    """Remaining images of an epoch."""
    if settings.remain_per_forget is None:
        return _count(visible.remain)
    return max(1, round(settings.remain_per_forget * _count(visible.forget)))


def _next_rows(key: jax.Array, step: jax.Array, num_rows: int, size: int) -> tuple[jax.Array, jax.Array]:
    """Rows of a step and the epoch that each belongs to."""
    epoch = (step * size + jnp.arange(size)) // num_rows
    return epoch_rows(key, step, num_rows, size), epoch


def _draw_from(rows: Rows, key: jax.Array, step: jax.Array, size: int, *, is_forget: bool) -> Draw:
    row, epoch = _next_rows(key, step, _count(rows), size)
    return Draw(gather(rows, row), jnp.full(size, is_forget), row, epoch)
