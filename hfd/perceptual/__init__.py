"""Features of pretrained classifiers: a metric (LPIPS), losses and a critic made of them."""
