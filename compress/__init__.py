"""The workshop: a model in, a smaller model out, sealed as a bundle. Host only."""
