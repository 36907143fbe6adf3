"""Modules that tests and benchmarks share: pictures, small networks and runs, servers, worker processes, oracles."""
