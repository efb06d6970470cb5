"""Section 3 of the paper as pure functions: no I/O, no configuration, no Flax."""
