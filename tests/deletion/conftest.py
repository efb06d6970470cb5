"""A trained toy model with rows to forget, a sample that stays and held-out rows: what a deployer has."""

import jax
import jax.numpy as jnp
import mlp
import numpy as np
import pytest
from read_notice import remembering, rendered
from small_request import MODEL, request_settings

from ltu_jax import config
from ltu_jax.deletion import notice_plots
from ltu_jax.deletion.fulfil import fulfil
from ltu_jax.deletion.plan import Request
from ltu_jax.training.supervised import train


@pytest.fixture(scope="session")
def source():
    return mlp.toy_source(num_rows=160, num_test=120)


@pytest.fixture(scope="session")
def spec(source):
    return mlp.build(MODEL, source.num_classes, source.images.shape[1:])


@pytest.fixture(scope="session")
def original(source, spec):
    """Knows its training rows by heart."""
    params, model_state = spec.init(jax.random.key(0))
    recipe = config.Training(epochs=150, batch_size=40, learning_rate=0.2, weight_decay=0.0)
    rows = source.rows(np.arange(source.num_train))
    state = train(spec.apply_fn, params, model_state, rows, recipe, jax.random.key(1)).state
    return {"params": jax.tree.map(jnp.asarray, state.params)}


@pytest.fixture(scope="session")
def ids(source):
    return [str(name) for name in source.ids]


@pytest.fixture(scope="session")
def home(tmp_path_factory, source, spec, original, ids):
    """Two requests: rows 0..29, and rows 20..39, of which ten are repeated."""
    home = tmp_path_factory.mktemp("requests") / "out"
    for asked in (ids[:30], ids[20:40]):
        fulfil(Request(request_settings(), asked, home), source, spec, original)
    return home


@pytest.fixture(scope="module")
def drawn_once():
    """A figure of the same data is drawn once for all tests of a notice: drawing is most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("tries_curve", "sureness_histograms", "hits_ranges"):
            patch.setattr(notice_plots, name, remembering(getattr(notice_plots, name)))
        yield


@pytest.fixture(scope="module")
def page(drawn_once):
    """The whole notice of the invented request."""
    return rendered()
