"""Put finished evaluations side by side on one page: ``hfd report``."""
