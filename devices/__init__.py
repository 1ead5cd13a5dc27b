"""The facts: what a board is, allows and costs. Standard library and msgspec only."""
