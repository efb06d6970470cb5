"""The paper's Table 1, top: CIFAR-10, ResNet-18. For a GPU; 50 % with --config.data.forget_fraction=0.5.

python -m ltu_jax.unlearn --config experiments/configs/cifar10_resnet18.py --workdir runs/cifar10

CIFAR-10 is fetched and prepared on first use. Not run here: the recipe is SalUn's, which the paper follows.
"""

from ltu_jax.config import Config, Data, Model, Training, method_config


def get_config(method: str = "ltu") -> Config:
    return Config(
        data=Data("cifar10", train_size=None, augment="crop_flip"),
        model=Model("resnet18", width=64),
        training=Training(epochs=182, batch_size=256, schedule="multistep", milestones=(91, 136), warmup_epochs=0.0),
        method=method_config(method),
    )
