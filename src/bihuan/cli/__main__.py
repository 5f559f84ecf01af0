"""``python -m bihuan.cli``: the command line without its script."""

from bihuan.cli.main import main

if __name__ == "__main__":  # further processes of the service import this file too
    main()
