# `include:` would not take over what is made by default.
workflow.include("workflow/Snakefile", overwrite_default_target=True)
