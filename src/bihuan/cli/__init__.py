"""The command line: the workspace's methods, with bars, tables and exit codes.

Exit codes: 0 done, 1 something failed, 2 the user can mend it, 70 our defect, 130 stopped.
"""

from bihuan.cli.main import command_names, main

__all__ = ["main", "command_names"]
