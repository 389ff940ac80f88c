"""Metadata of a study's images and frames as JSON-LD, in the vocabulary Croissant 1.0 of MLCommons."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lgmamba import __version__
from lgmamba.config.study import Params
from lgmamba.data.artefact import MANIFEST, Manifest
from lgmamba.files import file_digest

CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
MIT = "https://spdx.org/licenses/MIT.html"
PARQUET = "application/x-parquet"


def frames_metadata(params: Params, files: Sequence[Path], day: str) -> dict[str, Any]:
    """Of the frames of a study: every Parquet file with its columns.

    Args:
        params: the study.
        files: its frames, .parquet.
        day: on which it is published, 2026-01-31.
    """
    about = f"Measurements of study {params.study}: {params.report.question}"
    return _dataset(f"{params.study}-frames", about, MIT, day) | {
        "distribution": [_file(path, PARQUET) for path in files],
        "recordSet": [_records(path) for path in files],
    }


def images_metadata(params: Params, manifest: Manifest, data: Path, day: str) -> dict[str, Any]:
    """Of the images of a study: the artefact's two files, what its tensors hold, and where the images came from.

    Croissant has no reader for safetensors, so that tensors are told of in words. No licence is claimed: it is that of the sources.
    """
    C, H, W = manifest.image_shape
    sources = ", ".join(source.url or source.name for source in manifest.sources)
    splits = ", ".join(f"{name} {n}" for name, n in manifest.counts.items())
    about = (
        f"{manifest.n_images} images of study {params.study}, {C} x {H} x {W}, from {sources}; splits: {splits}. "
        f"{manifest.file} holds images uint8 (N, C, H, W), labels int64 (N,), split uint8 (N,), id_hash int64 (N,), mean_image float32 (C, H, W)."
    )
    return _dataset(f"{params.study}-images", about, f"that of the sources: {sources}", day) | {
        "distribution": [
            _file(data / MANIFEST, "application/json"),
            _file(data / manifest.file, "application/octet-stream"),
        ],
        "recordSet": [],
    }


def _dataset(name: str, about: str, licence: str, day: str) -> dict[str, Any]:
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": name,
        "description": about,
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": licence,
        "url": "https://arxiv.org/abs/2603.12499",
        "citeAs": "The lgmamba authors: lgmamba; the task is that of arXiv:2603.12499",
        "creator": {"@type": "sc:Organization", "name": "The lgmamba authors"},
        "datePublished": day,
        "version": __version__,
    }


def _file(path: Path, form: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": path.name,
        "name": path.name,
        "contentUrl": path.name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": form,
        "sha256": file_digest(path),
    }


def _records(path: Path) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": path.stem,
        "name": path.stem,
        "field": [_field(path, field) for field in pq.read_schema(path)],
    }


def _field(path: Path, field: pa.Field) -> dict[str, Any]:
    many = pa.types.is_list(field.type) or pa.types.is_large_list(field.type)
    found = {
        "@type": "cr:Field",
        "@id": f"{path.stem}/{field.name}",
        "name": field.name,
        "dataType": _type(field.type.value_type if many else field.type),
        "source": {"fileObject": {"@id": path.name}, "extract": {"column": field.name}},
    }
    return found | ({"repeated": True} if many else {})


def _type(type_: pa.DataType) -> str:
    if pa.types.is_boolean(type_):
        return "sc:Boolean"
    if pa.types.is_integer(type_):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(type_) else "sc:Text"
