"""The only code of a peer that touches files."""
