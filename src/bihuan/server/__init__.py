"""The service: people, levels, approvals, jobs, and everything that moves.

``control`` keeps what moves (tables, migrations), ``app`` holds the use cases, ``api`` and
``worker`` are the two ways in: HTTP and durable jobs. ``node`` puts them together.
"""
