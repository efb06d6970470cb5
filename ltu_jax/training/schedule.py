"""Learning-rate schedules as arrays: another rate or number of steps compiles nothing."""

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class Schedule:
    """A learning-rate schedule whose numbers are arrays; only its kind is static."""

    peak: jax.Array  # f32[]
    num_steps: jax.Array  # f32[]
    warmup_steps: jax.Array  # f32[]
    milestones: jax.Array  # f32[m], steps at which multistep divides by ten
    epochs: jax.Array  # f32[], in these steps
    kind: str = flax.struct.field(pytree_node=False)


def make_schedule(
    kind: str,
    peak: float,
    num_steps: float,
    *,
    warmup_steps: float = 0.0,
    milestones: tuple[float, ...] = (),
    epochs: float = 1.0,
) -> Schedule:
    """A schedule of a kind, see ``learning_rate``; counts in steps, and ``epochs`` are those of all steps."""
    return Schedule(
        peak=jnp.float32(peak),
        num_steps=jnp.float32(num_steps),
        warmup_steps=jnp.float32(warmup_steps),
        milestones=jnp.asarray(milestones, jnp.float32),
        epochs=jnp.float32(epochs),
        kind=kind,
    )


def learning_rate(schedule: Schedule, step: jax.Array) -> jax.Array:
    """The rate of step ``step`` i32[], f32[]: linear warm-up, then by kind.

    ``"constant"``; ``"cosine"``, to zero; ``"multistep"``, a tenth from each milestone on; ``"step"``, a tenth after
    each epoch; ``"triangular"``, epoch by epoch up to the peak in the middle and down again.
    """
    rate = schedule.peak
    if schedule.kind == "cosine":
        span = jnp.maximum(schedule.num_steps - schedule.warmup_steps, 1)
        progress = jnp.clip((step - schedule.warmup_steps) / span, 0, 1)
        rate = rate * 0.5 * (1 + jnp.cos(jnp.pi * progress))
    elif schedule.kind == "multistep":
        rate = rate * 0.1 ** jnp.sum(step >= schedule.milestones)
    elif schedule.kind == "step":
        rate = rate * 0.1 ** epoch(schedule, step)
    elif schedule.kind == "triangular":
        now, last = epoch(schedule, step) + 1, schedule.epochs + 1
        middle = jnp.maximum(jnp.floor(last / 2), 1)
        rate = rate * jnp.minimum(now / middle, (last - now) / (last - middle))
    return rate * jnp.minimum(1, (step + 1) / jnp.maximum(schedule.warmup_steps, 1))


def epoch(schedule: Schedule, step: jax.Array) -> jax.Array:
    """The epoch that most of a step is in, from 0, f32[]."""
    # From the middle of the step: its edges are where rounding would decide.
    return jnp.floor((step + 0.5) * schedule.epochs / schedule.num_steps)
