"""Commands of `hfd` as jobs on a Ray cluster."""
