"""The embedded default, in the form of a configuration file: LTU on digits, nothing to download."""

from ltu_jax.config import Config, method_config


def get_config(method: str = "ltu") -> Config:
    """The default problem with a method by name."""
    return Config(method=method_config(method))
