"""Tasks: what a sequence shows, what is predicted from it, and how that is judged. One folder for each.

    configs.py    the kinds of `task:` in params.yaml, and `registry.py` their classes: one line in each for a new task
    base.py       what a task is
    batch.py      training batches: lengths, supervised steps, state passing
    <name>/       config.py (no torch), task.py, and what they need

Importing this package, and `configs`, imports no torch. How to add one: docs/add_a_task.md.
"""
