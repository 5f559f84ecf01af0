"""Use cases: plain functions that take a unit of work and plain values.

In come an actor's wishes, checked against named permissions; out go rows changed in one
transaction, with an audit entry for each. No HTTP, no job queue.
"""
