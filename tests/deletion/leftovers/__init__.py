"""A package, so that its test_pixels and test_tables are other modules than those of data and experiments."""
