"""Kinds of teachers, one module each, and the store of pre-trained ones."""
