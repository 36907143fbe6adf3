"""Stage 2: schedule, objective, network, sampler and weights of the score-based decoder."""
