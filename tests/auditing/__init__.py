"""A package, so that its modules are others than those of the same name elsewhere."""
