"""Trained models on the Hugging Face Hub, or in folders as it keeps them. Needs huggingface_hub, which the extra `lm` brings."""

from pathlib import Path
from typing import Self

from huggingface_hub import ModelHubMixin, hf_hub_download

from lgmamba.train.checkpoint import load_model, save_model
from lgmamba.trained import TrainedModel

WEIGHTS = "model.safetensors"


class HubModel(TrainedModel, ModelHubMixin, library_name="lgmamba", license="mit", tags=["length-generalization"]):
    """A trained model with `from_pretrained`, `save_pretrained` and `push_to_hub`.

        model = HubModel.from_pretrained("folder or name/of-a-repository")
        model.reconstruct(image, "raster", [16, 64])

    What is kept is the checkpoint itself, one file that holds weights and configuration.
    """

    def _save_pretrained(self, save_directory: Path) -> None:
        save_model(self.model, self.run, save_directory / WEIGHTS)

    @classmethod
    def _from_pretrained(  # type: ignore[override] # no options but these
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        device: str = "cpu",
    ) -> Self:
        path = Path(model_id)
        if not path.is_dir():
            path = Path(
                hf_hub_download(
                    model_id,
                    WEIGHTS,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    local_files_only=local_files_only,
                    token=token,
                )
            )
        return cls(*load_model(path if path.is_file() else path / WEIGHTS, device))
