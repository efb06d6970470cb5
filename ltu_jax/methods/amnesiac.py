"""Amnesiac unlearning: takes back what training did at batches with forget rows (Graves et al. 2021)."""

import flax.struct
import jax
import optax

from ltu_jax.methods.descent import Context
from ltu_jax.methods.finetune import Finetune
from ltu_jax.types import UnlearnState, Visible


@flax.struct.dataclass
class Amnesiac(Finetune):
    """Amnesiac: ``theta <- theta - sum of the recorded updates``, then optionally FT to heal.

    The trainer recorded them for a forget set that was known before training: this is no answer to a
    request that comes later. At random rows nearly every batch holds one of them, so that without a
    limit all of training is taken back: ``recorded_epochs`` limits it to the last epochs. Parameters
    alone are taken back, not BatchNorm's statistics, as in the public code. What other repositories call
    amnesiac is training on random labels: the preset ``amnesiac_relabel``, see ``random_label``.

    Needs ``parts.updates``.
    """

    def init(self, key: jax.Array, state: UnlearnState, visible: Visible) -> tuple[UnlearnState, Context]:
        """Takes the updates back."""
        state = state.replace(params=optax.tree.sub(state.params, self.parts.updates))
        return super().init(key, state, visible)

    def num_steps(self, visible: Visible) -> int:
        """Those of FT; none where there are no epochs."""
        return super().num_steps(visible) if self.settings.epochs else 0
