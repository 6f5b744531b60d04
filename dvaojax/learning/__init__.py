"""From experience to updates: optimiser, gradients, the policy's loss, the step, the warm start."""
