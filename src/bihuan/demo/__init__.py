"""What ``make demo`` runs: two turns on real data, and a service over them.

:mod:`~bihuan.demo.replay` decides a real outbound campaign anew, month by month, knowing only the
past. :mod:`~bihuan.demo.retention` turns the whole loop on real customers whose reaction the twin
simulates, and shows the estimated effect beside the true one. :mod:`~bihuan.demo.service` lays out
the people of a simulated province and plans in every state.
"""

from bihuan.demo.run import DemoResult, run
from bihuan.demo.service import LaidOut, lay_out_service

__all__ = ["run", "DemoResult", "lay_out_service", "LaidOut"]
