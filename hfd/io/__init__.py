"""Files by URI, weights on disk, and where models lie."""
