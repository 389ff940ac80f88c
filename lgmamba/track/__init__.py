"""Recording of trainings in MLflow, as a viewer: every number is also in the run's own files.

    tracker = open_tracker(store, run_config, work_dir, tags)      # store=None: a tracker that does nothing
    tracker.log(step, {"loss": 0.1, metric_name("val_psnr", 16): 20.3})   # often; buffered; the names of history.parquet
    tracker.finish(train_dir)                                      # or tracker.fail("NaN at step 12")

Nothing that goes wrong here ends a training: it warns once and goes on. `import_run` adds a finished run afterwards.
MLflow takes two seconds to import, so only functions import it.
"""

from lgmamba.track.tracker import NullTracker, Tracker, metric_name, open_tracker

__all__ = ["NullTracker", "Tracker", "metric_name", "open_tracker"]
