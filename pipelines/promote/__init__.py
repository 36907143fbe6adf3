"""Compare a model with the champion of a registered model, and replace the champion if it is better."""

from pipelines.spec import MODEL, StepSpec

SPEC = StepSpec(
    name="promote",
    help="Compare the model with the champion of promote.model, and replace it if the model is better.",
    module="pipelines.promote.step",
    needs=("prepare", "train-autoencoder", MODEL, "evaluate"),
    setting="promote.model",
    extra="pipeline",
)
