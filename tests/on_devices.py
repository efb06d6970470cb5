"""A run of LTU on a ResNet with BatchNorm, on as many devices and processes as asked; leaves its numbers in a file.

python tests/on_devices.py OUT.npz --devices 8 [--steps 20 --float64 --streamed --coordinator HOST:PORT --process_id 0]
    [--forget_by margins]
"""

import argparse

import jax
import jax.numpy as jnp
import mlp
import numpy as np

from ltu_jax.attackers.bank import init_bank
from ltu_jax.config import LTU, Training
from ltu_jax.data.batches import gather
from ltu_jax.devices import device_mesh
from ltu_jax.methods import build_method
from ltu_jax.models.build import from_module
from ltu_jax.models.classifier import Classifier
from ltu_jax.models.resnet import ResNet
from ltu_jax.training.optimizers import SGD
from ltu_jax.training.predict import EvalForward, predict
from ltu_jax.training.supervised import train
from ltu_jax.types import Parts, Source, Splits, StoredImages, make_state
from ltu_jax.unlearning.loop import run_unlearning


def main() -> None:
    """Parses the arguments, runs, writes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--devices", type=int, default=1, help="of this process")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--float64", action="store_true")
    parser.add_argument("--streamed", action="store_true")
    parser.add_argument("--forget_by", default="attackers", choices=("attackers", "margins"))
    parser.add_argument("--coordinator")
    parser.add_argument("--process_id", type=int)
    args = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", args.devices)
    jax.config.update("jax_enable_x64", args.float64)
    if args.coordinator:
        jax.distributed.initialize(args.coordinator, 2, args.process_id)
    if jax.device_count() > 1:
        jax.set_mesh(device_mesh())
    leaves = run(args.steps, args.streamed, jnp.float64 if args.float64 else jnp.float32, args.forget_by)
    if jax.process_index() == 0:
        images = gather(mlp.toy_source().rows(np.arange(16)), jnp.arange(16)).images
        here = images.addressable_shards[0].data.shape[0]
        np.savez(args.out, *map(np.asarray, leaves), share=here / 16, read=sorted(map(str, READ)))


READ = set()  # the shapes, without the images' own, in which this process asked for images, by whichever thread


class Counted(StoredImages):
    """Counts what is asked for."""

    def __getitem__(self, index):
        found = super().__getitem__(index)
        READ.add(found.shape[:-3])
        return found


class CountedSource(Source):
    """One whose images are counted."""

    def stored(self, index):
        return Counted(self.images, index)


def run(num_steps: int, streamed: bool, dtype: type, forget_by: str) -> list:
    """A model trained for three steps and unlearned for ``num_steps``: parameters, statistics, logits."""
    source = mlp.toy_source(num_rows=96, num_test=20, side=8)
    source = CountedSource(**{**vars(source), "streamed": streamed})
    rest = np.arange(0)
    splits = Splits(np.arange(16), np.arange(16, 80), rest, np.arange(96, 116), np.arange(80, 96), rest)
    spec = from_module(Classifier(ResNet((1,), 4), 4), (8, 8, 3))
    cast = lambda tree: jax.tree.map(lambda x: x.astype(dtype), tree)  # noqa: E731
    recipe = Training(epochs=1, batch_size=32, learning_rate=0.02, warmup_epochs=0)
    params, model_state = cast(spec.init(jax.random.key(0)))
    rows = source.rows(splits.train)
    trained = train(spec.apply_fn, params, model_state, rows, recipe, jax.random.key(1), augment="crop_flip").state
    bank = init_bank(jax.random.key(2), ("sorted", "metrics"), 4)
    parts = Parts(spec.apply_fn, 4, features=spec.features, bank=bank, augment="crop_flip")
    meta = {"relabel": "step", "order": "second"} if forget_by == "attackers" else {"relabel": "never", "order": "none"}
    rates = {"optimizer": "sgd", "learning_rate": 0.01, "epochs": 7.0, "forget_weight": 1.0}
    method = build_method(LTU(batch_size=16, query_size=16, forget_by=forget_by, **rates, **meta), parts)
    original = make_state(spec.apply_fn, trained.params, trained.model_state, SGD, jax.random.key(3))
    state, history = run_unlearning(method, original, splits, source, num_steps=num_steps)
    forward = EvalForward(spec.apply_fn)
    logits = predict(forward, state.params, state.model_state, source.stored(splits.test), batch_size=8)
    conflicts = np.array([row["conflict"] for row in history.rows])
    return [*jax.tree.leaves((state.params, state.model_state)), logits, conflicts]


if __name__ == "__main__":
    main()
