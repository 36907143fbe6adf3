"""Features of pretrained classifiers, with a metric (LPIPS), losses and a critic that use them."""
