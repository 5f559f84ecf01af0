"""``python -m bihuan.cli``: the command line without its script."""

from bihuan.cli.main import main

main()
