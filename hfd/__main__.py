"""``python -m hfd``: the full command line if the pipeline's package is there, the codec's otherwise."""

from importlib import import_module
from importlib.util import find_spec

import_module("pipelines.cli" if find_spec("pipelines") else "hfd.cli.main").main()
