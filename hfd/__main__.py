"""``python -m hfd``: the full command line if ``pipelines`` is installed, otherwise the codec's."""

from importlib import import_module
from importlib.util import find_spec

import_module("pipelines.cli" if find_spec("pipelines") else "hfd.cli.main").main()
