"""Hosts as network namespaces of this machine, and faults of the network between them."""
