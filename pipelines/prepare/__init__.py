"""Step prepare: photographs to shards of source crops."""
