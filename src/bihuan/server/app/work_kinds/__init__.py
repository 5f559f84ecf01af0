"""What the service's jobs do: one module per stage of the loop, each with its ``KINDS``.

In comes a running job with its checked arguments; out goes a small result, plain JSON. The work
itself is the workspace's.
"""

from bihuan.server.app.job import register
from bihuan.server.app.work_kinds import (
    audience,
    campaign,
    data,
    deployment,
    model,
    plan,
    upkeep,
)

for _module in (data, audience, model, campaign, upkeep, deployment, plan):
    for _kind in _module.KINDS:
        register(_kind)
