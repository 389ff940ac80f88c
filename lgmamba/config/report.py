"""`report` of params.yaml: what a study asks, and which of its runs are drawn one by one."""

from typing import Literal

from pydantic import Field

from lgmamba.config.base import Name, Strict


class WordsConfig(Strict):
    """What a study asks, in its own words."""

    title: str = Field(
        "How Mamba's reconstruction strategy depends on the lengths it was trained on", min_length=1, max_length=150
    )
    question: str = Field(
        "A Mamba model reads an image patch by patch and must reconstruct the whole image from what it has read. How does its "
        "strategy depend on the sequence lengths that it was trained on, and what happens when a sequence is longer than all of them? "
        "Does it help to tell the model the length?",
        min_length=1,
        max_length=1000,
    )


class ReportConfig(WordsConfig):
    """The report of a study of runs."""

    shown: list[Name] | None = Field(
        None,
        min_length=1,
        exclude_if=lambda shown: shown is None,  # files of studies without it stay what they are, to the byte
        description="runs that figures draw one by one, that sentences and the explorer are about; tables have all. null: all",
    )
    retention: Literal["maps", "none"] = Field(
        "maps",
        exclude_if=lambda retention: retention == "maps",
        description="whether retention maps of the runs are gathered, drawn and told; with none the trainings' retention.parquet need not be there",
    )
