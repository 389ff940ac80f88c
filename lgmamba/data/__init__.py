"""From image files to one array: sources, decoding, splits, and the artefact that training reads.

    build.build_dataset   sources -> decode -> split -> artefact (needs Pillow and the source's reader)
    dataset.load_dataset  artefact -> tensors (needs torch and safetensors only)

Nothing is imported here, so that a machine which only loads an artefact needs nothing that builds one.
"""
