"""The task: patches of one image, in some visiting order, for some length; no model code."""
