"""Learning from experience: policy loss, gradients, optimiser, train step and warm start."""
