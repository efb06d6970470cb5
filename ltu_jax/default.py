"""The embedded default, in the form of a configuration file: LTU on digits, nothing to download.

Few images, no augmentation, no weight decay: the original knows its 300 images by heart, so that
having forgotten 90 of them shows.
"""

from ltu_jax.config import LTU, Config, Data, Evaluation, Model, Training, method_config


def get_config(method: str = "ltu") -> Config:
    """The default problem with a method by name."""
    tuned = LTU(learning_rate=0.003, epochs=26.0)  # on seeds 10, 11 and 12
    return Config(
        data=Data("digits", train_size=300, forget_fraction=0.3),
        model=Model("resnet8", width=8),
        training=Training(learning_rate=0.01, weight_decay=0.0),
        method=tuned if method == "ltu" else method_config(method),
        evaluation=Evaluation(num_retrain=2),
    )
