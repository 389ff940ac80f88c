"""Trained models on the Hugging Face Hub, or in folders as it keeps them. Needs huggingface_hub, which the extra `lm` brings."""

from pathlib import Path
from typing import Any, Self

from huggingface_hub import ModelCard, ModelHubMixin, hf_hub_download

from lgmamba.train.checkpoint import load_model, save_model
from lgmamba.trained import TrainedModel

WEIGHTS = "model.safetensors"

CARD = """\
---
{{{{ card_data }}}}
---

# A sequence model of study `{study}`, run `{run}`, seed {seed}

Task `{task}`, L0 = {L0} {steps}; {weights:,} weights. What it reaches is in the card that `lgmamba pack` writes for each run of a study.

```python
from lgmamba.hub import HubModel

model = HubModel.from_pretrained("folder or name/of-a-repository")
```

Weights and code: MIT. The data that it was trained on keep the licence of their source.
"""
"""For huggingface_hub, which fills in the head."""


class HubModel(TrainedModel, ModelHubMixin, library_name="lgmamba", license="mit", tags=["length-generalization"]):
    """A trained model with `from_pretrained`, `save_pretrained` and `push_to_hub`.

        model = HubModel.from_pretrained("folder or name/of-a-repository")
        model.reconstruct(image, "raster", [16, 64])

    What is kept is the checkpoint itself, one file that holds weights and configuration.
    """

    def _save_pretrained(self, save_directory: Path) -> None:
        save_model(self.model, self.run, save_directory / WEIGHTS)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """What `save_pretrained` and `push_to_hub` write as README.md; without this, huggingface_hub's own, which knows nothing of the model."""
        run = self.run
        own = {"study": run.study, "run": run.run, "seed": run.seed, "task": run.task.kind, "L0": run.L0}
        text = CARD.format(**own, steps=run.task.STEPS, weights=sum(p.numel() for p in self.model.parameters()))
        return ModelCard.from_template(self._hub_mixin_info.model_card_data, template_str=text)

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
