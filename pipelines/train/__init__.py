"""Train a model from crops: both stages, the reconstructions between them, and fine-tuning."""

from pipelines.spec import StepSpec

AUTOENCODER = StepSpec(
    name="train-autoencoder",
    help="Train stage 1: an autoencoder for MSE under a rate penalty.",
    module="pipelines.train.autoencoder",
    needs=("prepare",),
)
RECONSTRUCT = StepSpec(
    name="reconstruct",
    help="Store the frozen autoencoder's reconstruction of every crop.",
    module="pipelines.train.reconstruct",
    needs=("prepare", "train-autoencoder"),
)
DECODER = StepSpec(
    name="train-decoder",
    help="Train stage 2: the score-based decoder.",
    module="pipelines.train.decoder",
    needs=("reconstruct", "train-autoencoder"),
    makes_model=True,
)
FINETUNE = StepSpec(
    name="finetune-decoder",
    help="Fine-tune a few-step sampler of stage 2 with an adversarial loss (settings in decoder.adversarial).",
    module="pipelines.train.finetune",
    needs=("reconstruct", "train-autoencoder", "train-decoder"),
    setting="decoder.adversarial",
    makes_model=True,
)
SPECS = (AUTOENCODER, RECONSTRUCT, DECODER, FINETUNE)
