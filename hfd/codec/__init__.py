"""The ``.hfd`` file: its container (bytes only) and the codec that fills and reads it."""
