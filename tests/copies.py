"""Processes that begin as copies of one that has the heavy packages loaded, so that a test that needs several loads them once."""

import multiprocessing
from multiprocessing.context import ForkServerContext

TRAINING = ("torch", "torch._dynamo")
TRACKING = ("mlflow.tracking", "sqlalchemy.orm", "alembic.command")
"""None of this project's, and nothing that starts threads which a copy would miss."""


def context(*packages: str) -> ForkServerContext:
    """Of `multiprocessing`; the process that is copied is started at first use, with the packages of then, and ends with this one."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(list(packages))
    return found
