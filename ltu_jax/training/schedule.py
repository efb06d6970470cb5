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
    kind: str = flax.struct.field(pytree_node=False)


def make_schedule(
    kind: str, peak: float, num_steps: float, *, warmup_steps: float = 0.0, milestones: tuple[float, ...] = ()
) -> Schedule:
    """A schedule of ``kind`` ``"cosine"`` (to zero), ``"multistep"`` or ``"constant"``; all counts in steps."""
    return Schedule(
        peak=jnp.float32(peak),
        num_steps=jnp.float32(num_steps),
        warmup_steps=jnp.float32(warmup_steps),
        milestones=jnp.asarray(milestones, jnp.float32),
        kind=kind,
    )


def learning_rate(schedule: Schedule, step: jax.Array) -> jax.Array:
    """The rate of step ``step`` i32[], f32[]: linear warm-up, then by kind."""
    rate = schedule.peak
    if schedule.kind == "cosine":
        span = jnp.maximum(schedule.num_steps - schedule.warmup_steps, 1)
        progress = jnp.clip((step - schedule.warmup_steps) / span, 0, 1)
        rate = rate * 0.5 * (1 + jnp.cos(jnp.pi * progress))
    elif schedule.kind == "multistep":
        rate = rate * 0.1 ** jnp.sum(step >= schedule.milestones)
    return rate * jnp.minimum(1, (step + 1) / jnp.maximum(schedule.warmup_steps, 1))
