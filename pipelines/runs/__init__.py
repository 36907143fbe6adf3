"""Work that is done once: steps, their parts, and the lease on a workspace."""
