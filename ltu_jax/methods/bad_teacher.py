"""BadT: a student of two teachers, the original on remaining rows, an untrained one on forget rows."""

from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp

from ltu_jax.methods.descent import Context, DescentMethod, begin
from ltu_jax.methods.distillation import copied, kl_divergence
from ltu_jax.methods.streams import Draw, Stream, mixed_stream
from ltu_jax.types import ArrayTree, UnlearnState, Visible


@flax.struct.dataclass
class BadTeacher(DescentMethod):
    """BadT: ``theta <- Adam(mean KL(teacher || student))``, the teacher chosen row by row (Chundawat et al. 2023).

    The competent teacher is the original, the incompetent one has fresh random weights; both answer in
    evaluation mode. The public code shows 30 % of D_r (here ``data.remain_fraction`` or
    ``remain_per_forget``) and divides the loss by the number of classes too, which Adam does not notice.

    Needs ``parts.init_params``.
    """

    forward_passes: ClassVar[int] = 3  # both teachers see every row

    @property
    def stream(self) -> Stream:
        """Both kinds of rows shuffled together."""
        return mixed_stream(self.settings)

    def init(self, key: jax.Array, state: UnlearnState, visible: Visible) -> tuple[UnlearnState, Context]:
        """The student begins as the original; ``context.extra`` holds the competent and the incompetent teacher."""
        order_key, teacher_key = jax.random.split(key)
        assert self.parts.init_params is not None  # build
        teachers = copied(state.params, state.model_state), copied(*self.parts.init_params(teacher_key))
        return begin(self.settings, state, order_key, self.num_steps(visible), extra=teachers)

    def sample(self, key: jax.Array, step: jax.Array, context: Context, visible: Visible) -> Draw:
        """A batch, and which of its rows are to be forgotten."""
        return self.stream.augmented_draw(key, step, context.order_key, visible, self.augment)

    def loss(self, params: ArrayTree, state: UnlearnState, context: Context, draw: Draw) -> tuple[jax.Array, ArrayTree]:
        """Mean KL to the teacher of each row."""
        images, temperature = draw.batch.images, self.settings.temperature
        good, bad = (teacher.logits(self.parts.apply_fn, images) for teacher in context.extra)
        targets = jax.nn.softmax(jnp.where(draw.is_forget[:, None], bad, good) / temperature)
        logits, model_state = state.apply_fn(params, state.model_state, images, train=True)
        return kl_divergence(targets, logits, temperature).mean(), model_state
