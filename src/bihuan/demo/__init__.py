"""What ``make demo`` runs: two turns on real data, through the workspace alone.

:mod:`~bihuan.demo.replay` decides a real outbound campaign anew, month by month, knowing only the
past. :mod:`~bihuan.demo.retention` turns the whole loop on real customers whose reaction the twin
simulates, and shows the estimated effect beside the true one.
"""

from bihuan.demo.run import DemoResult, run
from bihuan.demo.serve import serve

__all__ = ["run", "serve", "DemoResult"]
