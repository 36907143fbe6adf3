"""Scripts that measure; start each from the root of the checkout: ``python -m benchmarks.NAME``."""
