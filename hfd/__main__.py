"""``python -m hfd``."""

from hfd.cli import main

main()
