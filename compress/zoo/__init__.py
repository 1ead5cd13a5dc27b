"""Small reference nets, rebuilt in PyTorch from a description of their channel counts."""
