"""The numbers: pixels to tensors, tensors to int8. NumPy only."""
