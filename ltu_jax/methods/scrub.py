"""SCRUB: away from the original on forget rows, towards it on remaining ones, in turn (Kurmanji et al. 2023)."""

from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import optax

from ltu_jax.methods.descent import Context, DescentMethod, begin
from ltu_jax.methods.distillation import copied, kl_divergence
from ltu_jax.methods.streams import Draw, Stream, sequential_stream
from ltu_jax.types import ArrayTree, UnlearnState, Visible


@flax.struct.dataclass
class Scrub(DescentMethod):
    """SCRUB: up ``KL(original || student)`` on D_f, then down ``alpha KL + gamma CE`` on D_r.

    KL is at temperature T and times T^2, as the public code has it. The first ``max_epochs`` epochs begin with
    a pass over D_f; the rest only heal. The teacher answers in evaluation mode. The public code keeps two batch
    sizes and steps its rate down; here they are ``batch_size`` and ``schedule``, to which epochs are equal
    parts of the run, though the first ones, with two passes, are longer. Without BatchNorm the student begins
    equal to the teacher, where KL has no gradient: the first pass then moves by rounding alone.
    """

    forward_passes: ClassVar[int] = 2  # the teacher's and the student's

    @property
    def stream(self) -> Stream:
        """Each epoch first the forget rows, then the remaining ones."""
        return sequential_stream(self.settings, self.settings.max_epochs)

    def init(self, key: jax.Array, state: UnlearnState, visible: Visible) -> tuple[UnlearnState, Context]:
        """The student begins as the original; ``context.extra`` is the teacher."""
        teacher = copied(state.params, state.model_state)
        return begin(self.settings, state, key, self.num_steps(visible), extra=teacher)

    def sample(self, key: jax.Array, step: jax.Array, context: Context, visible: Visible) -> Draw:
        """A batch of one kind, and which kind it is."""
        return self.stream.augmented_draw(key, step, context.order_key, visible, self.augment)

    def loss(self, params: ArrayTree, state: UnlearnState, context: Context, draw: Draw) -> tuple[jax.Array, ArrayTree]:
        """Minus the distance to the teacher on forget rows; distance and cross-entropy, weighted, on remaining ones."""
        (images, labels), settings = draw.batch, self.settings
        logits, model_state = state.apply_fn(params, state.model_state, images, train=True)
        targets = jax.nn.softmax(context.extra.logits(state.apply_fn, images) / settings.temperature)
        distance = settings.temperature**2 * kl_divergence(targets, logits, settings.temperature)
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        kept = settings.distil_weight * distance + settings.label_weight * entropy
        return jnp.where(draw.is_forget, -distance, kept).mean(), model_state
