"""One loop for both stages: budget, optimiser steps, checkpoints, exact resume."""
