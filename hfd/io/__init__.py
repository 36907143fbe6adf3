"""Files by URI, weights on disk, and model folders."""
