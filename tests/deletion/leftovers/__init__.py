"""A package, so that its test_cache is another module than the one above."""
