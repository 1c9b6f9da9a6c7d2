"""Balancers that see the tasks' gradients on the shared parameters, or their Gramian."""
