"""From encoded photographs to shards of source crops, and from shards to training batches."""
