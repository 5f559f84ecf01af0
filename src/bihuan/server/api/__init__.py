"""The HTTP face: ``/api/v1`` with its OpenAPI document.

In comes a request; its caller is identified, its permission checked, its scope compiled into the
unit of work; out goes what a use case returned, or a problem in words.
"""
