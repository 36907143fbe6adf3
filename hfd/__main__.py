"""``python -m hfd``."""

from pipelines.cli import main

main()
