"""CIFAR-100, ResNet-18. For a GPU.

python -m ltu_jax.unlearn --config experiments/configs/cifar100_resnet18.py --workdir runs/cifar100
python -m ltu_jax.unlearn --config experiments/configs/cifar100_resnet18.py --workdir runs/rocket \
    --config.data.forget_kind=subclass --config.data.forget_class=69

The second command forgets the fine class *rocket* of a model of the 20 coarse classes. CIFAR-100 is fetched
and prepared on first use. Not run here.
"""

from ltu_jax.config import Config, Data, Model, Training, method_config


def get_config(method: str = "ltu") -> Config:
    return Config(
        data=Data("cifar100", train_size=None, augment="crop_flip"),
        model=Model("resnet18", width=64),
        training=Training(epochs=182, batch_size=256, schedule="multistep", milestones=(91, 136), warmup_epochs=0.0),
        method=method_config(method),
    )
