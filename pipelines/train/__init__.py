"""Steps train-autoencoder, reconstruct, train-decoder and finetune-decoder: crops to a model."""
