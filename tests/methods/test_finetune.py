"""FT is SGD on the remaining rows, and no forget row is ever read."""

from by_hand import check_steps, is_finite, label_gradient, parts, poisoned, rows_of, run_all

from ltu_jax.config import Finetune
from ltu_jax.methods import finetune

SETTINGS = Finetune(epochs=2, batch_size=20, learning_rate=0.25, momentum=0.5, weight_decay=0.125)
METHOD = finetune.Finetune.build(SETTINGS, parts())


def test_steps_are_sgd_on_the_remaining_rows(x64):
    draws = check_steps(METHOD, SETTINGS, label_gradient)
    seen = [rows_of(draw.images) for draw in draws]
    assert [len(rows) for rows in seen] == [20] * 6
    wanted = [("remain", row) for row in range(60)]
    assert sorted(sum(seen[:3], [])) == sorted(sum(seen[3:], [])) == wanted  # two epochs


def test_no_forget_row_is_ever_read():
    assert is_finite(run_all(METHOD, poisoned("forget")))
    assert not is_finite(run_all(METHOD, poisoned("remain")))  # the poison works
