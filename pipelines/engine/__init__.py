"""Where work runs: this process, threads, or a Ray cluster."""
