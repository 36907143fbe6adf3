"""Training: one loop for all tasks, with a budget, checkpoints and exact resumption."""
