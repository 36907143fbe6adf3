"""Steps that run once, their parts, and the lease on a workspace."""
