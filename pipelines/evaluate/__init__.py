"""Step evaluate: real files, decoded and measured, and the report."""
